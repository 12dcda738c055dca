"""Weights of a file in a training: loaded once, frozen as far as asked, refused where wrong."""

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from small_application import preprocess_input, small_application
from tiny import TINY, write_params

import train
from model.backbone import APPLICATION_LAYER
from model.estimator import keras, tf
from model.network import build_network
from model.pretrained import InitialWeights, read_weights
from src.data.pretrained_weights import find_weights
from src.errors import UserError
from src.params.applications import APPLICATIONS
from src.params.schema import Params
from src.registry import NETWORKS, look_up

RNG = np.random.default_rng(0)
# Of different colours, so that their features differ by more than noise.
IMAGES = (RNG.random((5, 1, 1, 3)) * RNG.random((5, 32, 32, 3))).astype(np.float32)
MOBILENET = Params(network="keras_application", application="MobileNet")


def randomize(application, seed=0):
    """Random values in every weight, moving statistics among them."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        if len(shape) < 2:
            return rng.uniform(0.5, 1, shape)  # variances are among them
        return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)

    for layer in application.layers:
        layer.set_weights([draw(weight.shape) for weight in layer.get_weights()])
    return application


def random_application(name):
    function = getattr(keras.applications, name)
    return randomize(
        function(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")
    )


def random_small_application():
    return randomize(
        small_application(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")
    )


@pytest.fixture(scope="module")
def file_of_small(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.h5"
    random_small_application().save_weights(path)
    return path


@pytest.fixture
def weights_file(file_of_small, monkeypatch):
    """A file for MobileNet, for which a smaller network stands."""
    monkeypatch.setattr(keras.applications, "MobileNet", small_application)
    return file_of_small


def checkpoint_of(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


class Pretrained(NamedTuple):
    """An experiment that was trained for one epoch from a file of weights.

    Attributes:
        model_dir: its directory.
        arguments: those of `train.main`.
        file: the file of weights, outside the directory.
        weights: the values of the file, by the names of the variables.
    """

    model_dir: Path
    arguments: list[str]
    file: Path
    weights: dict[str, np.ndarray]

    def write_params(self, **changes):
        """Write the params anew, with changes."""
        params = json.loads((self.model_dir / "params.json").read_text())
        write_params(self.model_dir, {**params, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """An experiment to copy."""
    folder = tmp_path_factory.mktemp("pretrained")
    application = randomize(
        small_application(include_top=False, weights=None, input_shape=None, pooling="avg")
    )
    application.save_weights(folder / "weights.h5")
    model_dir = write_params(
        folder / "model",
        {
            **{key: value for key, value in TINY.items() if key != "num_channels"},
            "network": "keras_application",
            "application": "VGG16",
            "weights": str(folder / "weights.h5"),
            "frozen_layers": "norm_1",
            "input_size": 16,
            "num_epochs": 1,
        },
    )
    arguments = ["--model_dir", str(model_dir), "--data_dir", str(data_dir)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.applications, "VGG16", small_application)
        train.main(arguments)
    weights = {w.name.removesuffix(":0"): w.numpy() for w in application.weights}
    return Pretrained(model_dir, arguments, folder / "weights.h5", weights)


@pytest.fixture
def pretrained(trained, tmp_path, monkeypatch):
    """A copy of the experiment; its file of weights can be moved away."""
    monkeypatch.setattr(keras.applications, "VGG16", small_application)
    shutil.copytree(trained.model_dir, tmp_path / "model")
    content = trained.file.read_bytes()
    arguments = ["--model_dir", str(tmp_path / "model"), *trained.arguments[2:]]
    yield trained._replace(model_dir=tmp_path / "model", arguments=arguments)
    trained.file.write_bytes(content)


def test_training_starts_from_the_file_and_leaves_the_frozen_layers_bit_for_bit(pretrained):
    """Through train.main: untrained = the file, trained = the file where frozen; and resumed."""
    model_dir, expected = pretrained.model_dir, pretrained.weights
    frozen = {name for name in expected if name.split("/")[0] in ("conv_1", "norm_1")}
    assert len(frozen) == 6 and len(expected) == 12
    untrained = checkpoint_of(model_dir / "untrained" / "model.ckpt-0")
    trained = checkpoint_of(model_dir / "model.ckpt-7")
    for name, value in expected.items():
        np.testing.assert_array_equal(untrained[name], value, err_msg=name)
        assert np.array_equal(trained[name], value) == (name in frozen), name
    # Adam has no slots for what it does not train.
    slots = {name.removesuffix("/Adam") for name in trained if name.endswith("/Adam")}
    trainable = {name for name in expected if "moving" not in name}
    assert slots == trainable - frozen | {"embedding/kernel", "embedding/bias"}

    # A network that cannot be built takes nothing from what is there.
    pretrained.write_params(frozen_layers="norm_3")
    with pytest.raises(UserError, match='frozen_layers: found "norm_3"'):
        train.main([*pretrained.arguments, "--overwrite"])
    assert checkpoint_of(model_dir / "model.ckpt-7").keys() == trained.keys()

    # Going on, it does not go back to the file, which may be gone by now.
    pretrained.write_params(frozen_layers="norm_1", num_epochs=2)
    pretrained.file.unlink()
    with pytest.raises(UserError, match=r"weights\.h5: weights: No such file"):
        train.main([*pretrained.arguments, "--overwrite"])
    train.main(pretrained.arguments)
    resumed = checkpoint_of(model_dir / "model.ckpt-14")
    for name, value in expected.items():
        assert np.array_equal(resumed[name], value) == (name in frozen), name


def test_a_run_that_begins_again_starts_from_the_file(pretrained, capsys):
    """All its checkpoints are damaged, which shows only once they are read."""
    model_dir, elsewhere = pretrained.model_dir, pretrained.file.with_name("elsewhere.h5")
    for damaged in model_dir.glob("model.ckpt-*.data-*"):
        os.truncate(damaged, 100)
    (model_dir / "untrained" / "model.ckpt-0.index").unlink()  # to be written anew
    pretrained.file.rename(elsewhere)
    with pytest.raises(UserError, match=r"weights\.h5: weights: No such file"):
        train.main(pretrained.arguments)
    elsewhere.rename(pretrained.file)
    train.main(pretrained.arguments)
    assert "no intact checkpoint is left; starting afresh" in capsys.readouterr().out
    untrained = checkpoint_of(model_dir / "untrained" / "model.ckpt-0")
    for name, value in pretrained.weights.items():
        np.testing.assert_array_equal(untrained[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("name", "first_activation"),
    [
        ("MobileNet", "conv1_relu"),
        ("EfficientNetB0", "stem_activation"),
    ],
)
def test_the_same_as_the_keras_network_with_the_weights_that_it_fetches(
    name, first_activation, tmp_path, monkeypatch
):
    """Preprocessing and loading, in the Estimator's kind of graph.

    By the first activation, for in a deep network of random weights the signal dies away. MobileNet
    scales pixels before its first layer, EfficientNetB0 in its layers. The means that VGG16
    subtracts: tests/networks/test_networks.py.
    """
    path = tmp_path / "weights.h5"
    function = getattr(keras.applications, name)
    module = sys.modules[function.__module__]
    if name == "EfficientNetB0":  # two of its seven kinds of blocks: 238 layers are built slowly
        monkeypatch.setattr(module, "DEFAULT_BLOCKS_ARGS", module.DEFAULT_BLOCKS_ARGS[:2])
    random_application(name).save_weights(path)
    monkeypatch.setattr(module.data_utils, "get_file", lambda *args, **kwargs: str(path))

    def until_first_activation(application):
        return keras.Model(application.input, application.get_layer(first_activation).output)

    params = Params(network="keras_application", application=name, weights="imagenet")
    values = read_weights(params, "imagenet")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network = look_up(NETWORKS, params.network)(params, (32, 32, 3))
        application = network.get_layer(APPLICATION_LAYER)
        preprocessed = network.get_layer("preprocess")(tf.constant(IMAGES))
        activations = until_first_activation(application)(preprocessed, training=False)
        session.run(tf.compat.v1.global_variables_initializer())
        InitialWeights(network, values)(None, session)
        found, weights = session.run(
            [activations, [layer.weights for layer in application.layers if layer.weights]]
        )

    original = function(include_top=False, weights="imagenet", pooling="avg")
    expected = until_first_activation(original)(
        module.preprocess_input(IMAGES * 255), training=False
    ).numpy()
    assert expected.std(axis=0).max() > 0.01 * expected.max()  # the images can be told apart
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())
    expected_weights = [layer.get_weights() for layer in original.layers if layer.weights]
    if name == "EfficientNetB0":  # a factor that Keras has as an op
        expected_weights[0][1] *= np.float32([0.229, 0.224, 0.225])
    for mine, theirs in zip(weights, expected_weights, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_network_in_half_precision_takes_them_in_float32(monkeypatch, dtype):
    monkeypatch.setattr(keras.applications, "MobileNet", small_application)
    params = Params(
        network="keras_application",
        application="MobileNet",
        input_size=32,
        compute_dtype=dtype,
    )
    original = random_small_application()
    values = [layer.get_weights() for layer in original.layers if layer.weights]
    expected = original(preprocess_input(IMAGES * 255), training=False).numpy()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network = build_network(params, (32, 32, 3))
        application = network.get_layer(APPLICATION_LAYER)
        preprocessed = network.get_layer("preprocess")(tf.constant(IMAGES))
        features = tf.cast(application(preprocessed, training=False), tf.float32)
        session.run(tf.compat.v1.global_variables_initializer())
        InitialWeights(network, values)(None, session)
        found, weights = session.run([features, application.weights])
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.02 * np.abs(expected).max())
    assert {weight.dtype for weight in weights} == {np.dtype(np.float32)}
    loaded, given = (
        np.sort(np.concatenate([array.ravel() for array in arrays]))
        for arrays in (weights, [array for layer in values for array in layer])
    )
    np.testing.assert_array_equal(loaded, given)


def test_weights_by_path_are_those_of_the_file(weights_file):
    values = read_weights(MOBILENET, weights_file)
    expected = [x.get_weights() for x in random_small_application().layers if x.weights]
    for mine, theirs in zip(values, expected, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def message(path, application="MobileNet"):
    with pytest.raises(UserError) as caught:
        read_weights(Params(network="keras_application", application=application), path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_of_another_network_is_refused_by_layer_and_shapes(weights_file):
    assert message(weights_file, "VGG16") == (
        f"{weights_file}: weights: layer 1 with weights: found conv_1 (3, 3, 3, 6), (6,), but "
        "VGG16 has block1_conv1 (3, 3, 3, 64), (64,); accepted: weights of VGG16 without its "
        'classifier (`notop`), as tf_keras saves them: save_weights("weights.h5")'
    )


def test_a_file_with_the_classifier_is_refused(tmp_path):
    path = tmp_path / "with_top.h5"
    keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3)).save_weights(path)
    text = message(path)
    assert "found conv_preds (1, 1, 1024, 1000), (1000,), but MobileNet has no layer" in text
    assert "without its classifier" in text


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_weights_that_are_not_finite_are_refused(weights_file, tmp_path, value):
    path = tmp_path / "weights.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        places = []
        file.visititems(lambda name, one: places.append(name) if hasattr(one, "shape") else None)
        content = file[places[0]][()].astype(np.float64)
        content.flat[0] = value
        del file[places[0]]
        file[places[0]] = content
    assert "found numbers that are not finite; accepted: " in message(path)


def test_a_long_list_of_layers_that_keras_has_split(weights_file, tmp_path):
    """Above 64 KiB, as of ResNetRS350."""
    path = tmp_path / "split.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        layers = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = layers[:3], layers[3:]
    found, expected = (read_weights(MOBILENET, one) for one in (path, weights_file))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_equal(one, other)


def test_a_file_that_ends_too_early(weights_file, tmp_path):
    path = tmp_path / "short.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:4]
    assert (
        "layer 3 with weights: found no layer, but MobileNet has conv_2 (3, 3, 6, 6), (6,)"
    ) in message(path)


def test_a_layer_of_which_one_weight_has_another_shape(weights_file, tmp_path):
    path = tmp_path / "bias.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        del file["conv_1/conv_1/bias:0"]
        file["conv_1/conv_1/bias:0"] = np.zeros(7, np.float32)
    assert "found conv_1 (3, 3, 3, 6), (7,), but MobileNet has conv_1 (3, 3, 3, 6), (6,)" in (
        message(path)
    )


@pytest.mark.parametrize("content", ["empty", "other", "truncated"])
def test_files_without_weights_of_keras(content, weights_file, tmp_path):
    path = tmp_path / "wrong.h5"
    if content == "truncated":
        path.write_bytes(weights_file.read_bytes()[:5000])
    else:
        with h5py.File(path, "w") as file:
            if content == "other":
                file["data"] = np.zeros(3)
    assert message(path).startswith(f"{path}: weights: cannot be read (")


def soft_link(file, path, secret):
    file[path] = h5py.SoftLink("/norm_1/norm_1/gamma:0")


def link_to_another_file(file, path, secret):
    file[path] = h5py.ExternalLink(secret, "data")


def bytes_of_another_file(file, path, secret):
    size = os.path.getsize(secret) // 4 * 4
    file.create_dataset(path, (size // 4,), "float32", external=[(str(secret), 0, size)])


def values_of_another_file(file, path, secret):
    layout = h5py.VirtualLayout((3,), "float32")
    layout[:] = h5py.VirtualSource(str(secret), "data", (3,))
    file.create_virtual_dataset(path, layout)


ELSEWHERE = [soft_link, link_to_another_file, bytes_of_another_file, values_of_another_file]


@pytest.mark.parametrize("link", ELSEWHERE, ids=lambda link: link.__name__)
@pytest.mark.parametrize("path", ["conv_1/conv_1/kernel:0", "deep/er/\x1b[2J"])
def test_a_file_that_leads_out_of_itself_is_refused(weights_file, tmp_path, link, path):
    """Anywhere in it, and before anything of it is read."""
    secret, target = tmp_path / "secret.h5", tmp_path / "weights.h5"
    with h5py.File(secret, "w") as file:
        file["data"] = np.float32([1, 2, 3])
    target.write_bytes(weights_file.read_bytes())
    with h5py.File(target, "a") as file:
        if path in file:
            del file[path]
        link(file, path, secret)
        file["again"] = file["conv_1"]  # hard links, in a circle, are of the file itself
        file["conv_1/root"] = file["/"]
    text = message(target)
    shown = path.replace("\x1b", "\\x1b")
    assert shown.rpartition("/")[2] in text and " stored outside the file, as a link or " in text
    assert text.isprintable()


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), "S4", "complex64", h5py.ref_dtype])
def test_values_that_are_no_numbers(weights_file, tmp_path, dtype):
    path = tmp_path / "weights.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        shape = file["conv_1/conv_1/kernel:0"].shape
        del file["conv_1/conv_1/kernel:0"]
        file.create_dataset("conv_1/conv_1/kernel:0", shape, dtype)
    assert "layer 1 with weights: found values of type " in message(path)


def test_a_huge_shape_is_not_allocated(weights_file, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        del file["conv_1/conv_1/kernel:0"]
        file.create_dataset("conv_1/conv_1/kernel:0", (2**40, 2**10), "float32", chunks=(2**10, 1))
    assert "found conv_1 (1099511627776, 1024), (6,), but MobileNet has conv_1 (3, 3, 3, 6)" in (
        message(path)
    )


def test_damaged_values_are_one_line(weights_file, tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        values = file["conv_1/conv_1/kernel:0"][()]
        del file["conv_1/conv_1/kernel:0"]
        packed = file.create_dataset("conv_1/conv_1/kernel:0", data=values, compression="gzip")
        start = packed.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    assert message(path).startswith(f"{path}: weights: cannot be read (")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_whole_models_hold_weights_too(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.applications, "MobileNet", small_application)
    path = tmp_path / "model.h5"
    application = random_small_application()
    application.save(path)
    values = read_weights(MOBILENET, path)
    np.testing.assert_array_equal(values[0][0], application.layers[1].get_weights()[0])


def test_imagenet_offline_is_one_line_with_the_address(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    text = message("imagenet", "VGG16")
    assert text.startswith(
        'weights: found "imagenet", but https://storage.googleapis.com/tensorflow/'
        "keras-applications/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 cannot be "
        "fetched ("
    )
    assert "Name or service not known" in text
    assert "the path of that file in data_dir" in text
    assert socket.getdefaulttimeout() is None


def test_imagenet_damaged_on_the_way(monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("Incomplete or corrupted file detected. The md5 file hash\ndiffers.")

    monkeypatch.setattr(
        sys.modules[keras.applications.VGG16.__module__].data_utils, "get_file", fail
    )
    text = message("imagenet", "VGG16")
    assert "the file in ~/.keras/models is damaged (Incomplete or corrupted file detected" in text


def test_find_weights(tmp_path, weights_file):
    assert find_weights(None, tmp_path) is None
    assert find_weights("imagenet", tmp_path) == "imagenet"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.h5").write_bytes(weights_file.read_bytes())
    assert find_weights("sub/w.h5", tmp_path) == tmp_path / "sub" / "w.h5"
    assert find_weights(str(weights_file), tmp_path) == weights_file
    (tmp_path / "text.h5").write_text("not weights")
    os.mkfifo(tmp_path / "pipe")
    for name, fault in (
        ("absent.h5", "No such file or directory"),
        ("sub", "a directory"),
        ("pipe", "a named pipe"),
        ("text.h5", "not an HDF5 file"),
    ):
        with pytest.raises(UserError) as caught:
            find_weights(name, tmp_path)
        assert str(caught.value).startswith(f"{tmp_path / name}: weights: {fault}; accepted: ")


def test_the_names_of_the_applications_are_those_of_keras():
    names = {name for name in dir(keras.applications) if name[0].isupper()}
    assert names == APPLICATIONS
