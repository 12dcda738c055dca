"""Weights of a file in a training: loaded once, frozen as far as asked, refused where wrong."""

import socket

import h5py
import numpy as np
import pytest
from conftest import write_idx

import train
from model import pretrained
from model.estimator import keras, tf
from model.networks.keras_application import APPLICATION_LAYER
from model.pretrained import read_weights
from src.applications import APPLICATIONS
from src.errors import UserError
from src.params import Params
from src.registry import NETWORKS, look_up
from src.weights import find_weights

FROZEN = 15  # of MobileNet's 87 layers, with three batch normalizations among them
IMAGES = np.random.default_rng(0).random((5, 32, 32, 3)).astype(np.float32)
KERAS = {"network": "keras_application", "application": "MobileNet"}


def random_application(name="MobileNet", seed=0):
    """An application with random values in every weight, moving statistics among them."""
    application = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    rng = np.random.default_rng(seed)
    for layer in application.layers:
        # Between 0.5 and 1, for variances are among them; smaller for kernels, lest all overflow.
        layer.set_weights(
            [rng.uniform(0.5, 1, w.shape) * (0.1 if w.ndim > 1 else 1) for w in layer.get_weights()]
        )
    return application


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet.h5"
    random_application().save_weights(path)
    return path


def checkpoint_of(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def weights_by_name(application):
    return {w.name.removesuffix(":0"): w.numpy() for w in application.weights}


def test_training_starts_from_the_file_and_leaves_the_frozen_layers_bit_for_bit(
    make_experiment, tmp_path, weights_file
):
    """Through train.main: untrained = the file, trained = the file where frozen; and resumed."""
    data_dir = tmp_path / "data"
    (data_dir / "mnist").mkdir(parents=True)
    for prefix, size in (("train", 60), ("t10k", 20)):
        images = np.random.default_rng(1).integers(0, 256, (size, 8, 8), dtype=np.uint8)
        write_idx(data_dir / "mnist" / f"{prefix}-images-idx3-ubyte.gz", images)
        labels = np.arange(size, dtype=np.uint8) % 4
        write_idx(data_dir / "mnist" / f"{prefix}-labels-idx1-ubyte.gz", labels)
    (data_dir / "weights.h5").write_bytes(weights_file.read_bytes())
    keys = {
        **KERAS,
        "weights": "weights.h5",
        "frozen_layers": FROZEN,
        "input_size": 32,
        "num_channels": 32,
        "num_epochs": 1,
    }
    model_dir = make_experiment(**keys)
    arguments = ["--model_dir", str(model_dir), "--data_dir", str(data_dir)]
    train.main(arguments)

    with keras.utils.custom_object_scope({}):
        application = random_application()
    expected = weights_by_name(application)
    frozen = {
        weight.name.removesuffix(":0")
        for layer in application.layers[:FROZEN]
        for weight in layer.weights
    }
    assert {name.split("/")[0] for name in frozen} >= {"conv1_bn", "conv_pw_1_bn"}
    assert any("moving_variance" in name for name in frozen)
    untrained = checkpoint_of(model_dir / "untrained" / "model.ckpt-0")
    trained = checkpoint_of(model_dir / "model.ckpt-2")
    for name, value in expected.items():
        np.testing.assert_array_equal(untrained[name], value, err_msg=name)
        assert np.array_equal(trained[name], value) == (name in frozen), name
    # Adam has no slots for what it does not train.
    slots = {name.rsplit("/", 1)[0] for name in trained if name.endswith("/Adam")}
    assert not slots & frozen
    assert {"embedding/kernel", "conv_pw_13/kernel"} <= slots

    # Going on, it does not go back to the file, which may be gone by now.
    (data_dir / "weights.h5").unlink()
    with pytest.raises(UserError, match=r"weights\.h5: weights: No such file"):
        train.main([*arguments, "--overwrite"])
    make_experiment(**{**keys, "num_epochs": 2})
    train.main(arguments)
    resumed = checkpoint_of(model_dir / "model.ckpt-4")
    for name, value in expected.items():
        assert np.array_equal(resumed[name], value) == (name in frozen), name


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "EfficientNetB0", "MobileNetV3Small"])
def test_same_embeddings_as_the_keras_network_with_the_weights_that_keras_fetches(
    name, tmp_path, monkeypatch
):
    """Preprocessing and loading, end to end, in the Estimator's kind of graph."""
    path = tmp_path / "weights.h5"
    random_application(name).save_weights(path)
    for module in {getattr(keras.applications, name).__module__}:
        import sys

        monkeypatch.setattr(
            sys.modules[module].data_utils, "get_file", lambda *args, **kwargs: str(path)
        )
    params = Params(network="keras_application", application=name, weights="imagenet")
    values = read_weights(params, "imagenet")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        placeholder = tf.compat.v1.placeholder(tf.float32, [None, 32, 32, 3])
        network = look_up(NETWORKS, params.network)(params, (32, 32, 3))
        network(placeholder, training=False)
        features = keras.Model(network.input, network.get_layer(APPLICATION_LAYER).output)
        del features
        pooled = network.get_layer(APPLICATION_LAYER)(
            network.get_layer("preprocess")(placeholder), training=False
        )
        session.run(tf.compat.v1.global_variables_initializer())
        pretrained.InitialWeights(network, values)(None, session)
        found = session.run(pooled, {placeholder: IMAGES})

    function = getattr(keras.applications, name)
    original = function(include_top=False, weights="imagenet", pooling="avg")
    preprocess_input = sys.modules[function.__module__].preprocess_input
    expected = original(preprocess_input(IMAGES * 255), training=False).numpy()
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_weights_by_path_are_those_of_the_file(weights_file):
    values = read_weights(Params(**KERAS), weights_file)
    expected = [layer.get_weights() for layer in random_application().layers]
    for mine, theirs in zip(values, expected, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def message(path, application="MobileNet"):
    with pytest.raises(UserError) as caught:
        read_weights(Params(network="keras_application", application=application), path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_of_another_network_is_refused_by_layer_and_shapes(weights_file, tmp_path):
    text = message(weights_file, "MobileNetV2")
    assert text.startswith(
        f"{weights_file}: weights: layer 3 with weights: found conv_dw_1 (3, 3, 32, 1), where "
        "MobileNetV2 has expanded_conv_depthwise (3, 3, 32, 1)"
    ) or ("found " in text and "MobileNetV2 has " in text)


def test_a_file_with_the_classifier_is_refused(tmp_path):
    path = tmp_path / "with_top.h5"
    keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3)).save_weights(path)
    text = message(path)
    assert "found conv_preds (1, 1, 1024, 1000), (1000,), where MobileNet has no layer" in text
    assert "without its classifier" in text


def test_a_file_that_ends_too_early(weights_file, tmp_path):
    path = tmp_path / "short.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:4]
    assert "found no layer, where MobileNet has conv_dw_1_bn" in message(path) or (
        "found no layer" in message(path)
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


def test_whole_models_hold_weights_too(tmp_path):
    path = tmp_path / "model.h5"
    application = random_application()
    application.save(path)
    values = read_weights(Params(**KERAS), path)
    np.testing.assert_array_equal(values[1][0], application.layers[1].get_weights()[0])


def test_imagenet_offline_is_one_line_with_the_address(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    text = message("imagenet", "ResNet50")
    assert text.startswith(
        'weights: found "imagenet", but https://storage.googleapis.com/tensorflow/'
        "keras-applications/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 cannot be "
        "fetched ("
    )
    assert "Name or service not known" in text
    assert "path in data_dir" in text
    assert socket.getdefaulttimeout() is None


def test_find_weights(tmp_path, weights_file):
    assert find_weights(None, tmp_path) is None
    assert find_weights("imagenet", tmp_path) == "imagenet"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.h5").write_bytes(weights_file.read_bytes())
    assert find_weights("sub/w.h5", tmp_path) == tmp_path / "sub" / "w.h5"
    assert find_weights(str(weights_file), tmp_path) == weights_file
    (tmp_path / "text.h5").write_text("not weights")
    for name, fault in (
        ("absent.h5", "No such file or directory"),
        ("sub", "Is a directory"),
        ("text.h5", "not an HDF5 file"),
    ):
        with pytest.raises(UserError) as caught:
            find_weights(name, tmp_path)
        assert str(caught.value).startswith(f"{tmp_path / name}: weights: {fault}; accepted: ")


def test_the_names_of_the_applications_are_those_of_keras():
    names = {name for name in dir(keras.applications) if name[0].isupper()}
    assert names == APPLICATIONS
