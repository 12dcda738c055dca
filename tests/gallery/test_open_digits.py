"""The show-piece: digits are known, a heart is not, until five hearts are enrolled.

tests/gallery/open_digits has the weights and the thresholds of experiments/open_digits, as
`make demo-open` trained it; `python -m benchmarks.keep_open_digits` wrote them. The gallery here
has 5 000 of the 50 000 training images.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.record_page import answered, draw_by_mouse, page_at, serving
from benchmarks.strangers import DIGITS, draw, drawings
from src.data.loading import load_data
from src.embeddings.open_set_evaluation import auroc
from src.experiment.experiment import Experiment
from src.gallery import Gallery
from src.gallery.building import build, from_split, identity_of
from src.gallery.gallery import load_embedder
from src.gallery.store import open_store
from src.gallery.verdict import Calibration
from src.params.reading import load_params

KEPT = Path(__file__).parent / "open_digits"
SHAPES = ("heart", "star", "triangle", "A")
SEED = 11


@pytest.fixture(scope="module")
def splits(request):
    params = Experiment(KEPT).trained_params()
    return load_data(params, request.config.rootpath / "data").splits


@pytest.fixture(scope="module")
def experiment(splits, tmp_path_factory):
    found = Experiment(shutil.copytree(KEPT, tmp_path_factory.mktemp("kept") / "open_digits"))
    params, shape = found.trained_params(), found.image_shape()
    embed = load_embedder(found, params, shape)
    identity = identity_of(found, params, shape, embed)
    calibration = Calibration.from_metrics(found.metrics(), "metrics.json").to_json()
    train = splits["train"].take(np.arange(0, 50_000, 10))
    with open_store(found.gallery_path, create=True) as store:
        build(store, identity, calibration, from_split(train, "train", "mnist"), embed, len(train))
    return found


@pytest.fixture(scope="module")
def model(experiment):
    """The network, started once."""
    with Gallery(experiment.model_dir) as opened:
        yield opened


@pytest.fixture
def gallery(experiment, model, tmp_path):
    copy = shutil.copy(experiment.gallery_path, tmp_path / "gallery.sqlite")
    with Gallery(experiment.model_dir, copy) as opened:
        opened.embed = model.embed
        yield opened


@pytest.fixture(scope="module")
def digits(splits):
    return np.asarray(splits["test"].take(np.arange(0, 10_000, 10)).images)


def names(gallery, images, far=None):
    return np.array([answer.class_name or "unknown" for answer in gallery.query(images, far=far)])


def scores(gallery, images):
    return np.array([answer.distance / answer.threshold for answer in gallery.query(images)])


def test_the_kept_weights_are_of_the_experiment(request):
    params = load_params(request.config.rootpath / "experiments" / "open_digits" / "params.json")
    assert Experiment(KEPT).trained_params() == params


def test_digits_are_told_from_strangers(gallery, digits, splits):
    known = scores(gallery, digits)
    for shape in SHAPES:
        assert auroc(known, scores(gallery, draw(shape, 100, SEED))) > 0.985, shape
    labels = splits["test"].labels[::10].astype(str)
    assert (names(gallery, digits, 0.1) == labels).mean() > 0.9
    assert (names(gallery, digits) == labels).mean() > 0.75


@pytest.mark.parametrize("shape", SHAPES)
def test_five_are_enough(gallery, digits, shape):
    five, others = np.split(draw(shape, 55, SEED), [5])
    before = names(gallery, digits, 0.1)
    assert (names(gallery, others, 0.1) == "unknown").mean() >= 0.9
    gallery.add(shape, five)
    assert (names(gallery, others, 0.1) == shape).mean() >= 0.95
    after = names(gallery, digits, 0.1)
    assert (after == shape).mean() <= 0.01
    assert (before == after).mean() >= 0.98


@pytest.mark.system
def test_drawn_in_a_browser(experiment):
    if not (shutil.which("chromium") or shutil.which("chromium-browser")):
        assert not os.environ.get("REQUIRE_BROWSER"), "no Chromium is installed"
        pytest.skip("no Chromium is installed")
    with serving(experiment.model_dir) as address, page_at(address) as page:
        page.set_default_timeout(20_000)

        def says(drawing):
            page.click("#clear")
            draw_by_mouse(page, drawing)
            answered(page)
            return page.locator("#verdict").inner_text()

        assert says(drawings("7", 1, SEED)[0]) == "7"
        found = [says(drawings(digit, 1, SEED)[0]) for digit in DIGITS]
        assert sum(map(str.__eq__, found, DIGITS)) >= 8, found
        first, *hearts = drawings("heart", 8, SEED)
        assert says(first) == "unknown"
        for heart in hearts[:5]:
            says(heart)
            page.fill("#name", "heart")
            page.click("#add-button")
            page.locator("#verdict").filter(has_text="heart").wait_for()
        assert [says(heart) for heart in hearts[5:]] == ["heart", "heart"]
        assert says(drawings("7", 1, SEED)[0]) == "7"
