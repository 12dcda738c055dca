"""Galleries from Python: enrol, query, follow what others change."""

import numpy as np
import pytest
from gallery_experiment import THRESHOLD, calibration_of, quadrant, write_experiment

from src.errors import UserError
from src.gallery import Gallery
from src.gallery.building import build, from_gallery, identity_of
from src.gallery.gallery import load_embedder
from src.gallery.store import open_store


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    made = write_experiment(tmp_path / "x", monkeypatch)
    embed = load_embedder(made, made.trained_params(), made.image_shape())
    identity = identity_of(made, made.trained_params(), made.image_shape(), embed.embedding_size)
    with open_store(made.gallery_path, create=True) as store:
        build(store, identity, calibration_of(made), [], embed, 0)
    return made


@pytest.fixture
def gallery(experiment):
    with Gallery(experiment.model_dir) as opened:
        yield opened


def images(*positions, first=0):
    return np.stack([quadrant(p, seed=first + i) for i, p in enumerate(positions)])


def test_a_new_class_is_known_at_once_and_forgotten_when_removed(gallery):
    gallery.add("one", images(0, 0, 0))
    (answer,) = gallery.query(images(1, first=50))
    assert answer.class_name is None
    assert answer.distance > THRESHOLD == answer.threshold
    assert [near.class_name for near in answer.neighbours] == ["one"] * 3
    gallery.add("two", images(1))
    (answer,) = gallery.query(images(1, first=50))
    assert answer.class_name == "two"
    assert answer.distance == answer.neighbours[0].distance < THRESHOLD
    gallery.store.remove_class("two")
    (answer,) = gallery.query(images(1, first=50))
    assert answer.class_name is None


def test_distances_are_those_of_the_embeddings(gallery):
    known, asked = images(0, 1, 2), images(3, 0, first=10)
    gallery.add("known", known)
    for answer, x in zip(gallery.query(asked, neighbours=3), gallery.embed(asked), strict=True):
        expected = np.linalg.norm(gallery.embed(known).astype(float) - x, axis=1)
        found = {near.id: near.distance for near in answer.neighbours}
        assert list(found.values()) == sorted(found.values())
        np.testing.assert_allclose([found[i] for i in (1, 2, 3)], expected, rtol=1e-5)


def test_as_many_neighbours_as_asked_for(gallery):
    gallery.add("one", images(0, 0, 0, 0, 0, 0, 0))
    for asked, listed in ((1, 1), (5, 5), (100, 7)):
        (answer,) = gallery.query(images(0, first=9), neighbours=asked)
        assert len(answer.neighbours) == listed


def test_an_empty_gallery_knows_nothing(gallery):
    (answer,) = gallery.query(images(0))
    assert (answer.class_name, answer.distance, answer.neighbours) == (None, None, ())
    assert answer.as_json("x.png")["class"] is None


def test_the_same_image_twice_is_stored_once(gallery):
    (first,) = gallery.add("one", images(0))
    (again,) = gallery.add("one", images(0))
    assert (first.is_new, again.is_new, again.id) == (True, False, first.id)
    (other,) = gallery.add("two", images(0))
    assert other.is_new and other.also_in == ("one",)


def test_what_another_process_enrols_is_seen_by_the_next_query(gallery, experiment):
    gallery.query(images(0))
    with Gallery(experiment.model_dir) as other:
        other.add("one", images(0))
    assert gallery.query(images(0, first=5))[0].class_name == "one"


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 9, 8, 1), np.uint8), np.zeros((1, 8, 8, 1)), np.zeros((8, 8, 1), np.uint8)],
)
def test_wrong_images_are_named(gallery, wrong):
    with pytest.raises(ValueError, match=r"accepted: uint8 \[N, 8, 8, 1\]"):
        gallery.query(wrong)


@pytest.mark.parametrize("name", ["", "  ", "\u200b", "x" * 201])
def test_wrong_names_are_refused(gallery, name):
    with pytest.raises(UserError, match="class name: found .*; accepted: 1 to 200"):
        gallery.add(name, images(0))
    assert gallery.store.classes() == []


@pytest.mark.parametrize("far, threshold", [(None, THRESHOLD), (0.01, THRESHOLD), (0.1, 0.6)])
def test_thresholds_by_rate(gallery, far, threshold):
    gallery.add("one", images(0))
    (answer,) = gallery.query(images(0, first=3), far=far)
    assert answer.threshold == threshold
    assert answer.far == (far or 0.01)


@pytest.mark.parametrize("far, text", [(0.001, "needs 1000 strangers"), (0.5, "0.5")])
def test_a_rate_that_was_not_measured_is_refused(gallery, far, text):
    gallery.add("one", images(0))
    with pytest.raises(UserError, match=f"{text}.*accepted: 0.1, 0.01"):
        gallery.query(images(0), far=far)


def test_of_another_checkpoint(experiment, monkeypatch):
    with Gallery(experiment.model_dir) as gallery:
        gallery.add("one", images(0))
    write_experiment(experiment.model_dir, monkeypatch, b"other weights")
    with pytest.raises(UserError, match="step 7 of .*gallery.py rebuild --model_dir"):
        Gallery(experiment.model_dir)
    embed = load_embedder(experiment, experiment.trained_params(), experiment.image_shape())
    identity = identity_of(experiment, experiment.trained_params(), experiment.image_shape(), 4)
    with open_store(experiment.gallery_path) as store:
        build(store, identity, calibration_of(experiment), from_gallery(store), embed, 1)
    with Gallery(experiment.model_dir) as gallery:
        assert gallery.query(images(0, first=3))[0].class_name == "one"


def test_without_a_gallery(tmp_path, monkeypatch):
    experiment = write_experiment(tmp_path / "y", monkeypatch)
    with pytest.raises(UserError, match="one that gallery.py build has written"):
        Gallery(experiment.model_dir)
    assert not experiment.gallery_path.exists()


def test_pairs(gallery):
    same, different = images(0, 0), images(0, 1)
    result = gallery.verify(*same)
    assert result.is_same and result.distance < result.threshold == THRESHOLD
    assert not gallery.verify(*different).is_same
    assert gallery.verify(*same, far=0.1).threshold == 0.6
    with pytest.raises(UserError, match="found 0.0001; accepted: 0.1, 0.01, 0.001"):
        gallery.verify(*same, far=1e-4)
