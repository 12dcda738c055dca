"""Every dataset of the registry, the embedded MNIST, and files that do not belong together."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from src.data.loading import load_data
from src.data.split import SPLITS
from src.datasets import fashion_mnist, mnist
from src.errors import UserError
from src.params.schema import Params
from src.registry import DATASETS, PICTURE_DATASETS, look_up

DATA = Path(__file__).parents[2] / "data"
PARAMS = Params()
MNIST_LAYOUT = {"mnist": mnist.load, "fashion_mnist": fashion_mnist.load}

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture
def debian_folder(monkeypatch, tmp_path):
    """A folder, absent at first: whether the package is installed must not decide a test."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    return tmp_path / "debian"


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def arrays(num_examples, size=4, seed=0):
    """Images uint8 [N, size, size] whose every pixel is the label, and labels uint8 [N]."""
    labels = np.random.default_rng(seed).integers(10, size=num_examples, dtype=np.uint8)
    return np.tile(labels[:, None, None], (1, size, size)), labels


def write_layout(folder, *, num_train=60, num_test=20, spelling="{}.gz", seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", num_train), ("t10k", num_test)):
        images, labels = arrays(count, seed=seed)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / spelling.format(f"{prefix}-{name}-ubyte")
            content = idx(array)
            path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def message(load, data_dir, params=PARAMS):
    with pytest.raises(UserError) as caught:
        load(data_dir, params)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", DATASETS)
def test_registered_dataset(name):
    try:
        keys = {"image_size": 8} if name in PICTURE_DATASETS else {}
        keys |= {"tfds": {"tfds_name": "mnist"}, "hugging_face": {"hf_name": "x.parquet"}}.get(
            name, {}
        )
        dataset = look_up(DATASETS, name)(DATA, Params(dataset=name, **keys))
    except UserError as error:
        assert name != "mnist", error  # embedded
        pytest.skip(f"not on this machine: {error}")
    assert {"train"} <= set(dataset.splits) <= set(SPLITS)
    assert dataset.origins.keys() == dataset.splits.keys()
    for examples in dataset.splits.values():
        assert examples.images.dtype == np.uint8 and examples.labels.dtype == np.int32
        num_examples, height, width, channels = examples.images.shape
        assert examples.labels.shape == (num_examples,) and len(examples) == num_examples > 0
        assert height > 0 and width > 0 and channels in (1, 3)
        assert examples.labels.min() >= 0 and examples.labels.max() < len(examples.class_names)
        assert len(set(examples.class_names)) == len(examples.class_names)


@pytest.mark.parametrize("name", MNIST_SHA256)
def test_embedded_mnist_is_the_original(name):
    content = gzip.decompress((DATA / "mnist" / f"{name}.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == MNIST_SHA256[name]


def test_embedded_mnist_by_both_folders():
    for data_dir in (DATA, DATA / "mnist"):
        splits = load_data(PARAMS, data_dir).splits
        counts = {
            split: np.bincount(examples.labels, minlength=10) for split, examples in splits.items()
        }
        assert splits["train"].images.shape == (50_000, 28, 28, 1)
        assert splits["validation"].images.shape == (10_000, 28, 28, 1)
        assert splits["test"].images.shape == (10_000, 28, 28, 1)
        assert (counts["train"] + counts["validation"]).tolist() == MNIST_TRAIN_COUNTS
        assert counts["test"].tolist() == MNIST_TEST_COUNTS
        assert np.abs(counts["validation"] - np.array(MNIST_TRAIN_COUNTS) / 6).max() < 1
        assert splits["test"].class_names == tuple("0123456789")


def test_names_of_fashion_mnist():
    assert len(fashion_mnist.CLASS_NAMES) == 10
    assert fashion_mnist.CLASS_NAMES[0] == "T-shirt/top"
    assert fashion_mnist.CLASS_NAMES[9] == "Ankle boot"


@pytest.mark.parametrize("spelling", ["{}", "{}.gz", "dot", "dot.gz"])
@pytest.mark.parametrize("name", MNIST_LAYOUT)
def test_spellings_of_the_file_names(tmp_path, name, spelling):
    write_layout(tmp_path / name)
    if spelling.startswith("dot"):
        for path in list((tmp_path / name).iterdir()):
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    if not spelling.endswith(".gz"):
        for path in list((tmp_path / name).iterdir()):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    dataset = MNIST_LAYOUT[name](tmp_path, PARAMS)
    for split, count in (("train", 60), ("test", 20)):
        examples = dataset.splits[split]
        assert examples.images.shape == (count, 4, 4, 1)
        np.testing.assert_array_equal(examples.images[:, 0, 0, 0], examples.labels)
    dot, gz = "." if "dot" in spelling else "-", ".gz" if spelling.endswith(".gz") else ""
    assert dataset.origins["test"] == f"t10k-images{dot}idx3-ubyte{gz}"


def num_test(load, data_dir):
    return len(load(data_dir, PARAMS).splits["test"])


@pytest.mark.parametrize("name", MNIST_LAYOUT)
def test_data_dir_may_be_the_folder_of_the_dataset(tmp_path, name):
    write_layout(tmp_path / name, num_test=20)
    write_layout(tmp_path / "my_files", num_test=21)
    assert num_test(MNIST_LAYOUT[name], tmp_path / name) == 20
    assert num_test(MNIST_LAYOUT[name], tmp_path / "my_files") == 21


def test_own_folder_comes_before_data_dir(tmp_path):
    write_layout(tmp_path, num_test=21)
    write_layout(tmp_path / "mnist", num_test=20)
    assert num_test(mnist.load, tmp_path) == 20


@pytest.mark.parametrize(
    ("name", "other"),
    [("mnist", "fashion_mnist"), ("mnist", "fashion-mnist"), ("fashion_mnist", "mnist")],
)
def test_folder_of_another_dataset_is_not_taken(tmp_path, monkeypatch, debian_folder, name, other):
    write_layout(tmp_path / other)
    assert "missing" in message(MNIST_LAYOUT[name], tmp_path / other)
    monkeypatch.chdir(tmp_path / other)
    assert "missing" in message(MNIST_LAYOUT[name], Path("."))


def test_debian_package_is_the_last_resort(tmp_path, debian_folder):
    write_layout(debian_folder, num_test=21)
    assert num_test(fashion_mnist.load, tmp_path) == 21
    write_layout(tmp_path / "fashion_mnist", num_test=20)
    assert num_test(fashion_mnist.load, tmp_path) == 20


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("mnist", ["git checkout data/mnist"]),
        (
            "fashion_mnist",
            ["python -m src.download fashion_mnist --data_dir", "31 MB", "dataset-fashion-mnist"],
        ),
    ],
)
def test_missing_files_name_the_folders_and_what_to_do(tmp_path, debian_folder, name, advice):
    text = message(MNIST_LAYOUT[name], tmp_path)
    folders = [str(tmp_path / name), str(tmp_path)]
    if name == "fashion_mnist":
        folders.append(str(debian_folder))
    assert text.startswith(
        f"{', '.join(folders)}: train-images-idx3-ubyte and train-labels-idx1-ubyte missing;"
    )
    assert all(words in text for words in advice)


def test_one_missing_file_is_named_alone(tmp_path):
    write_layout(tmp_path / "mnist")
    (tmp_path / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    assert ": train-labels-idx1-ubyte missing;" in message(mnist.load, tmp_path)


def test_images_and_labels_of_different_folders_are_not_paired(tmp_path):
    write_layout(tmp_path)
    write_layout(tmp_path / "mnist")
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    (tmp_path / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    assert ": no folder has both files;" in message(mnist.load, tmp_path)


def replace(folder, name, array):
    (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        ("train-labels-idx1-ubyte", np.zeros(59, np.uint8), "found 59 labels; accepted: 60"),
        ("train-labels-idx1-ubyte", np.zeros((60, 2), np.uint8), "found sizes 60 x 2; accepted: N"),
        ("train-images-idx3-ubyte", np.zeros(60, np.uint8), "found sizes 60; accepted: N x H x W"),
        (
            "train-images-idx3-ubyte",
            np.zeros((60, 0, 4), np.uint8),
            "byte 4: found sizes 60 x 0 x 4;",
        ),
        (
            "train-images-idx3-ubyte",
            np.zeros((0, 4, 4), np.uint8),
            "byte 4: found sizes 0 x 4 x 4;",
        ),
        (
            "train-labels-idx1-ubyte",
            np.array([9] * 17 + [12] * 43, np.uint8),
            "label 17: found 12; accepted: 0 to 9",
        ),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, name, array, expected):
    folder = tmp_path / "mnist"
    write_layout(folder)
    replace(folder, name, array)
    assert message(mnist.load, tmp_path).startswith(f"{folder / name}.gz: {expected}")


@pytest.mark.parametrize(("split", "fraction"), [("validation", 0.001), ("train", 0.999)])
def test_empty_split(tmp_path, split, fraction):
    write_layout(tmp_path / "mnist")
    with pytest.raises(UserError) as caught:
        load_data(Params(validation_fraction=fraction), tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'mnist'}: split {split}: found 0 examples (validation_fraction {fraction} "
        "of 60); accepted: at least 1"
    )


def test_same_seed_same_split(tmp_path):
    write_layout(tmp_path / "mnist", num_train=600)
    first, again, other = (
        load_data(Params(validation_fraction=0.5, seed=seed), tmp_path).splits["validation"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)


def test_images_of_two_sizes(tmp_path):
    write_layout(tmp_path / "mnist")
    replace(tmp_path / "mnist", "t10k-images-idx3-ubyte", arrays(20, size=5)[0])
    text = message(mnist.load, tmp_path)
    assert "t10k-images-idx3-ubyte.gz: found images of 5 x 5 pixels; accepted: 4 x 4, the" in text
