"""EfficientNet-Lite0: its layers, and its ImageNet weights where they are."""

import importlib.util
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from small_application import shorten_lite0

from model.backbone import APPLICATION_LAYER
from model.estimator import keras, tf
from model.networks.efficientnet_lite0 import build, build_application, preprocess
from model.pretrained import read_weights
from src.data.download_efficientnet_lite0 import classifier, keras_layers, write_weights
from src.errors import UserError
from src.params.applications import LITE0_WEIGHTS
from src.params.schema import Params

WEIGHTS = Path(__file__).parents[2] / "data" / LITE0_WEIGHTS
PARAMS = Params(network="efficientnet_lite0")
needs_weights = pytest.mark.skipif(
    not WEIGHTS.is_file(), reason="make weights-efficientnet-lite0 was not run"
)


@cache
def application():
    with tf.init_scope():
        return build_application((None, None, 3))


def state_dict():
    """Random tensors with PyTorch's names, and shapes from the Keras layers."""
    rng = np.random.default_rng(0)
    tensors = {"_fc.weight": rng.random((1000, 1280)), "_fc.bias": rng.random(1000)}
    kinds = {"expand": "0", "depthwise": "1", "project": "2"}
    for layer in application().layers:
        if not layer.weights:
            continue
        place, _, kind = layer.name.rpartition("_")
        if place in ("stem", "head"):
            convolution, norm = f"_conv_{place}", {"stem": "_bn0", "head": "_bn1"}[place]
        else:
            _, number, part = place.split("_")
            before = f"_blocks.{int(number) - 1}."
            convolution, norm = f"{before}_{part}_conv", f"{before}_bn{kinds[part]}"
        shape = tuple(layer.weights[0].shape)
        if kind == "conv":
            axes = (2, 3, 0, 1) if "depthwise" in place else (3, 2, 0, 1)
            tensors[f"{convolution}.weight"] = rng.random([shape[axis] for axis in axes])
        else:
            for name in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"{norm}.{name}"] = 0.5 + rng.random(shape)
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def forward(x, tensors):
    """The network as a NumPy loop over one image, [H, W, 3], from PyTorch's tensors."""

    def conv(x, name, stride=1, depthwise=False):
        weights = tensors[f"{name}.weight"].astype(float)  # [O, I, k, k], or [C, 1, k, k]
        k = weights.shape[2]
        height, width = (-(-side // stride) for side in x.shape[:2])
        # TensorFlow's SAME, which these weights were trained with: the odd pixel comes last.
        pads = [
            max((out - 1) * stride + k - side, 0)
            for out, side in zip((height, width), x.shape[:2], strict=True)
        ]
        x = np.pad(x, [*((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
        out = np.zeros((height, width, weights.shape[0]))
        for i in range(k):
            for j in range(k):
                part = x[i : i + stride * height : stride, j : j + stride * width : stride]
                part = part[:height, :width]
                tap = weights[:, :, i, j]
                out += part * tap[:, 0] if depthwise else part @ tap.T
        return out

    def norm(x, name):
        gamma, beta, mean, variance = (
            tensors[f"{name}.{part}"].astype(float)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def relu6(x):
        return np.clip(x, 0, 6)

    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    x = relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    for number, stride in enumerate(strides):
        block, before = f"_blocks.{number}", x
        if number:
            x = relu6(norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0"))
        x = conv(x, f"{block}._depthwise_conv", stride, depthwise=True)
        x = relu6(norm(x, f"{block}._bn1"))
        x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
        if stride == 1 and before.shape == x.shape:
            x = x + before
    return relu6(norm(conv(x, "_conv_head"), "_bn1")).mean(axis=(0, 1))


def features(path, images):
    """The application's features, [B, 1280], with the weights of a file."""
    with tf.init_scope():
        layers = [layer for layer in application().layers if layer.weights]
        for layer, values in zip(layers, read_weights(PARAMS, path), strict=True):
            layer.set_weights(values)
        return application()(tf.constant(images, tf.float32), training=False).numpy()


def test_converted_weights_give_the_numbers_of_the_definition(tmp_path):
    """Also of odd sizes, where padding before and after differ."""
    tensors = state_dict()
    # Of random weights, the activations would soon be 6 everywhere.
    tensors = {
        name: value / np.prod(value.shape[1:]) - 0.2 / np.prod(value.shape[1:])
        if value.ndim == 4
        else value
        for name, value in tensors.items()
    }
    path = tmp_path / "weights.h5"
    write_weights(path, keras_layers(tensors), classifier(tensors))
    images = np.random.default_rng(1).uniform(-1, 1, (2, 45, 38, 3))
    expected = np.array([forward(image, tensors) for image in images])
    assert np.ptp(expected, axis=1).min() > 0.1 and (expected < 6).mean() > 0.5
    np.testing.assert_allclose(features(path, images), expected, rtol=1e-3, atol=1e-3)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["classifier/kernel"][()], tensors["_fc.weight"].T)
    del tensors["_blocks.3._bn1.bias"]
    with pytest.raises(UserError, match=r"state dict: found no _blocks.3._bn1.bias; accepted"):
        write_weights(path, keras_layers(tensors), classifier(tensors))


def test_it_has_the_parameters_of_the_paper():
    """4.65 million with the classifier, as published; the moving statistics are further numbers."""
    trainable = sum(np.prod(weight.shape) for weight in application().trainable_weights)
    assert trainable + 1280 * 1000 + 1000 == 4_652_008


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "weights.h5"
    write_weights(path, iter([("conv", {"kernel": np.zeros((3, 3, 3, 8))})]), {})
    expected = (
        r"layer 1 with weights: found conv \(3, 3, 3, 8\), but efficientnet_lite0 has stem_conv "
        r"\(3, 3, 3, 32\); accepted: the file that `make weights-efficientnet-lite0` writes"
    )
    with pytest.raises(UserError, match=expected):
        read_weights(PARAMS, path)


def test_images_that_are_too_small():
    with tf.Graph().as_default(), pytest.raises(UserError) as caught:
        build(PARAMS, (28, 28, 1))
    assert str(caught.value) == (
        "input_size: found nothing, and images of 28 x 28 pixels; accepted: at least 32, for "
        "efficientnet_lite0"
    )


def test_frozen_layers_are_those_of_the_name(monkeypatch):
    shorten_lite0(monkeypatch)
    params = Params(network="efficientnet_lite0", frozen_layers="block_2_project_norm")
    with tf.Graph().as_default():
        network = build(params, (32, 32, 1))
    layers = network.get_layer(APPLICATION_LAYER).layers
    names = [layer.name for layer in layers if layer.weights and layer.trainable]
    assert names[0] == "block_3_expand_conv" and names[-1] == "head_norm"


def test_layers_that_are_left_out_leave_the_others_their_weights(tmp_path, monkeypatch):
    shorten_lite0(monkeypatch)
    params = PARAMS.model_copy(update={"last_layer": "block_2_project_norm", "pooling": "none"})
    path, rng = tmp_path / "weights.h5", np.random.default_rng(0)
    with tf.init_scope():
        whole = build_application((None, None, 3))
        layers = [layer for layer in whole.layers if layer.weights]
        for layer in layers:
            layer.set_weights([rng.uniform(0.5, 1, w.shape) for w in layer.get_weights()])
        of_names = (
            (layer.name, {w.name.split("/")[1].split(":")[0]: w.numpy() for w in layer.weights})
            for layer in layers
        )
        write_weights(path, of_names, {})
        cut = build_application((32, 32, 3), params.last_layer, params.pooling)
        used = [layer for layer in cut.layers if layer.weights]
        for layer, values in zip(used, read_weights(params, path), strict=True):
            layer.set_weights(values)
        assert used[-1].name == "block_2_project_norm"
        for one, other in zip(used, layers[: len(used)], strict=True):
            assert one.name == other.name
            for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
                np.testing.assert_array_equal(mine, theirs)
        inner = keras.Model(whole.input, whole.get_layer("block_2_project_norm").output)
        images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0])
        expected = np.reshape(inner(images, training=False), [2, 8 * 8 * 8])
        assert expected.std(axis=1).min() > 0
        np.testing.assert_allclose(cut(images, training=False), expected, rtol=1e-5, atol=1e-5)


def test_a_last_layer_that_is_none():
    params = PARAMS.model_copy(update={"last_layer": "block_5_ad"})
    with tf.Graph().as_default(), pytest.raises(UserError) as caught:
        build(params, (32, 32, 1))
    assert str(caught.value) == (
        'last_layer: found "block_5_ad"; accepted: a layer of efficientnet_lite0, such as '
        "'block_15_add' or 'head_relu'; did you mean 'block_5_add'?"
    )


def installed(package, name):
    """A sample picture of an installed package; skips the test if there is none."""
    found = importlib.util.find_spec(package)
    path = Path(found.origin).parent / name if found and found.origin else None
    if path is None or not path.is_file():
        pytest.skip(f"{package} is not installed, or has no {name}")
    return path


@needs_weights
@pytest.mark.parametrize(
    ("package", "name", "classes"),
    [
        ("sklearn", "datasets/images/china.jpg", {698: "palace"}),
        ("sklearn", "datasets/images/flower.jpg", {985: "daisy"}),
        (
            "matplotlib",
            "mpl-data/sample_data/grace_hopper.jpg",
            {400: "academic gown", 652: "military uniform", 667: "mortarboard"},
        ),
        ("skimage", "data/coffee.png", {967: "espresso", 968: "cup"}),
        (
            "skimage",
            "data/chelsea.png",
            {281: "tabby", 282: "tiger cat", 285: "Egyptian cat"},
        ),
        ("skimage", "data/rocket.jpg", {657: "missile", 744: "projectile", 812: "space shuttle"}),
    ],
)
def test_top_1_is_what_a_person_would_say(package, name, classes):
    """As the authors evaluate: the middle square, 224 of 256 of the shorter side, bicubic."""
    with Image.open(installed(package, name)) as picture:
        picture = picture.convert("RGB")
        side = int(min(picture.size) * 224 / 256)
        left, top = ((length - side) // 2 for length in picture.size)
        picture = picture.crop((left, top, left + side, top + side))
        pixels = np.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC))
    images = np.asarray(preprocess(pixels[None].astype(np.float32) / 255))
    with h5py.File(WEIGHTS) as file:
        kernel, bias = (file[f"classifier/{part}"][()] for part in ("kernel", "bias"))
    logits = features(WEIGHTS, images) @ kernel + bias
    assert int(logits.argmax()) in classes
