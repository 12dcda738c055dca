"""With TensorFlow: a picture's file has the embedding that evaluation gave to its image."""

import io
import json
import shutil

import numpy as np
import pytest
import raw_pictures
from PIL import Image, ImageDraw

import gallery
import query
import train
from model.training.embedding import embed
from src.experiment.data_record import load_recorded
from src.experiment.experiment import Experiment
from src.gallery import Gallery
from src.gallery.sources import Place, preparation, read

PARAMS = {
    "num_epochs": 1,
    "num_channels": 4,
    "embedding_size": 8,
    "batch_size": 16,
    "l2_normalize": True,
}


def trained(model_dir, data_dir, **params):
    """Train a tiny experiment for one epoch, and return its directory."""
    model_dir.mkdir()
    (model_dir / "params.json").write_text(json.dumps({**PARAMS, **params}))
    train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir)])
    return model_dir


def evaluated(experiment, data_dir):
    """All splits of an experiment, and their embeddings as evaluation computes them."""
    params = experiment.trained_params()
    loaded = load_recorded(params, data_dir, experiment, begins=False, keeps_splits=False)
    splits = loaded.data.splits
    return splits, {name: embed(experiment, params, split) for name, split in splits.items()}


@pytest.fixture(scope="module")
def mnist(tmp_path_factory, data_dir, finished):
    """The tiny MNIST, trained, with a gallery of its training images."""
    model_dir = shutil.copytree(finished, tmp_path_factory.mktemp("gallery") / "x")
    gallery.main(["build", "--model_dir", str(model_dir), "--data_dir", str(data_dir)])
    return model_dir


def test_a_test_image_enrolled_and_queried_as_png(mnist, data_dir, tmp_path, capsys):
    splits, embeddings = evaluated(Experiment(mnist), data_dir)
    image, expected = splits["test"].images[5], embeddings["test"][5]
    path = str(tmp_path / "5.png")
    Image.fromarray(image[:, :, 0]).save(path)
    gallery.main(["add", "mine", path, "--model_dir", str(mnist)])
    with Gallery(mnist) as opened:
        (kept,) = opened.store.iterate("mine")
    np.testing.assert_allclose(kept.embedding, expected, atol=1e-6)
    capsys.readouterr()
    query.main([path, "--json", "--model_dir", str(mnist)])
    nearest = json.loads(capsys.readouterr().out)["neighbours"][0]
    assert (nearest["class"], nearest["source"]) == ("mine", path)
    assert nearest["distance"] < 1e-6


def test_two_pictures_are_verified(mnist, tmp_path, capsys):
    """`metrics.json` as evaluation writes it has thresholds at more than rates."""
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for value, path in zip((0, 255), paths, strict=True):
        Image.new("L", (8, 8), value).save(path)
    query.main(["--verify", *paths, "--far", "0.1", "--json", "--model_dir", str(mnist)])
    assert json.loads(capsys.readouterr().out)["far"] == 0.1


def scribble(rng, mode="RGB"):
    """A picture that is not square, of which no two sides are alike."""
    picture = Image.fromarray(rng.integers(0, 256, (41, 23, 3), np.uint8))
    ImageDraw.Draw(picture).rectangle((0, 0, 12, 8), fill=(250, 10, 40))
    return picture.convert(mode)


def turned(path, rng):
    exif = Image.Exif()
    exif[0x0112] = 6
    scribble(rng).save(path.with_suffix(".jpg"), exif=exif)


def transparent(path, rng):
    picture = scribble(rng, "RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(path.with_suffix(".png"))


def deep(path, rng):
    samples = rng.integers(0, 2**16, (30, 20, 3))
    path.with_suffix(".png").write_bytes(raw_pictures.png(samples, 16))


def printed(path, rng):
    scribble(rng, "CMYK").save(path.with_suffix(".jpg"))


def with_a_faulty_comment(path, rng):
    file = io.BytesIO()
    scribble(rng).save(file, "PNG")
    start, _, rest = file.getvalue().partition(b"IDAT")
    chunk = raw_pictures.chunk(b"iTXt", b"no text")
    path.with_suffix(".png").write_bytes(start[:-4] + chunk + start[-4:] + b"IDAT" + rest)


@pytest.mark.parametrize("resize", ["scale", "pad"])
def test_colour_pictures_have_the_embedding_that_evaluation_gave(tmp_path, resize):
    folder = tmp_path / "data" / "image_folder"
    rng = np.random.default_rng(0)
    for kind in (turned, transparent, deep, printed, with_a_faulty_comment):
        (folder / kind.__name__).mkdir(parents=True)
        for number in range(10):
            kind(folder / kind.__name__ / str(number), rng)
    model_dir = trained(
        tmp_path / "x",
        tmp_path / "data",
        dataset="image_folder",
        image_size=16,
        image_resize=resize,
        test_fraction=0.3,
    )
    experiment = Experiment(model_dir)
    splits, embeddings = evaluated(experiment, tmp_path / "data")
    gallery.main(["build", "--model_dir", str(model_dir), "--pictures", str(folder)])
    with Gallery(model_dir) as opened:
        stored = {picture.source: picture.embedding for picture in opened.store.iterate()}
        prepare = preparation(opened.params, opened.identity.image_shape)
        assert len(stored) == sum(map(len, splits.values())) == 50
        for name, split in splits.items():
            paths = [folder / path for path in split.paths]
            given = list(read([Place(path) for path in paths], prepare))
            found = opened.embed(np.stack([one.image for one in given]))
            np.testing.assert_allclose(found, embeddings[name], atol=1e-6)
            enrolled = np.stack([stored[str(path)] for path in paths])
            np.testing.assert_allclose(enrolled, embeddings[name], atol=1e-6)
