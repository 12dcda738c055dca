"""Galleries from Python: enrol, query, follow what others change."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from gallery_experiment import (
    IMAGE_SHAPE,
    THRESHOLD,
    calibration_of,
    quadrant,
    write_experiment,
    write_gallery,
)

from src.embeddings.open_set import CLASS_BY
from src.errors import UserError
from src.gallery import Gallery
from src.gallery.building import build, from_gallery, identity_of
from src.gallery.gallery import load_embedder
from src.gallery.record import NewPicture
from src.gallery.store import open_store
from src.gallery.verdict import Calibration

DOCUMENTATION = Path(__file__).parent.parent.parent / "docs" / "gallery.md"


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    return write_gallery(tmp_path / "x", monkeypatch)


@pytest.fixture
def gallery(experiment):
    with Gallery(experiment.model_dir) as opened:
        yield opened


def test_the_example_of_the_documentation(tmp_path, monkeypatch, capsys):
    write_gallery(tmp_path / "experiments" / "demo", monkeypatch, image_shape=(28, 28, 1))
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    exec(code, {})  # black is known by now
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["None None None"] * 2
    assert lines[2:4] == [f"black 0.0 {THRESHOLD}", "   black 0.0 given as an array"]


@pytest.mark.parametrize("class_by", CLASS_BY)
def test_small_galleries_know_strangers(experiment, class_by):
    """Of one picture or one class, or of equal embeddings."""
    metrics = experiment.metrics()
    metrics["open_set"].update(class_by=class_by)
    experiment.metrics_path.write_text(json.dumps(metrics))
    with open_store(experiment.gallery_path) as store:
        calibration = Calibration.from_metrics(metrics, "metrics.json").to_json()
        store.replace(store.identity(), calibration, [])
    equal = np.stack([np.full((8, 8, 1), value, np.uint8) for value in (90, 90, 90)])
    with Gallery(experiment.model_dir) as gallery:
        for name, enrolled in (("one", images(0)), ("one", images(0, 0)), ("equal", equal)):
            gallery.add(name, enrolled)
            answers = gallery.query(np.concatenate([images(0), images(1)]), neighbours=1000)
            assert [answer.class_name for answer in answers] == ["one", None]
            for answer in answers:
                json.dumps(answer.as_json("a"), allow_nan=False)


@pytest.mark.parametrize(
    "given, kept",
    [
        ("7", "7"),
        ("07", "07"),
        ("cafe\u0301", "caf\xe9"),
        ("Caf\xe9", "Caf\xe9"),
        ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
        ("a\nb", "a b"),
        ("\u202a\u0300", "\\u202\xe0"),
    ],
)
def test_a_class_is_found_by_the_name_that_is_shown(gallery, given, kept):
    gallery.add(given, images(0))
    ((shown, _),) = gallery.store.classes()
    assert shown == kept
    assert [picture.class_name for picture in gallery.store.iterate(shown)] == [kept]
    assert gallery.query(images(0))[0].class_name == kept
    assert gallery.store.remove_class(shown) == 1


def test_ten_thousand_classes(gallery):
    rng = np.random.default_rng(0)
    many = rng.integers(0, 256, (10_000, *IMAGE_SHAPE), dtype=np.uint8)
    pictures = [
        NewPicture(f"class {i}", x, image, b"", "a")
        for i, (x, image) in enumerate(zip(gallery.embed(many), many, strict=True))
    ]
    gallery.store.add(gallery.identity, pictures)
    answers = gallery.query(many[:50])
    assert [answer.class_name for answer in answers] == [f"class {i}" for i in range(50)]


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


@pytest.mark.parametrize("name", ["", "  ", "\u200b", "x" * 201, ".", ".."])
def test_wrong_names_are_refused(gallery, name):
    with pytest.raises(UserError, match="class name: found .*; accepted: "):
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
    identity = identity_of(experiment, experiment.trained_params(), experiment.image_shape(), embed)
    with open_store(experiment.gallery_path) as store:
        build(store, identity, calibration_of(experiment), from_gallery(store), embed, 1)
    with Gallery(experiment.model_dir) as gallery:
        assert gallery.query(images(0, first=3))[0].class_name == "one"


def test_of_a_checkpoint_that_was_replaced_before_the_first_query(gallery, experiment, monkeypatch):
    write_experiment(experiment.model_dir, monkeypatch, b"trained on")
    with pytest.raises(UserError, match="whose weights are not those of the best checkpoint of"):
        gallery.query(images(0))


def test_thresholds_of_a_new_build_are_not_passed_over(gallery, experiment):
    gallery.add("one", images(0))
    identity, pictures = gallery.identity, list(gallery.store.iterate())
    metrics = experiment.metrics()
    metrics["open_set"]["at"]["fpir_1e-2"]["threshold"] = 0.01
    calibration = Calibration.from_metrics(metrics, "metrics.json").to_json()
    gallery.store.replace(identity, calibration, pictures)
    with pytest.raises(UserError, match="built anew with other thresholds since this program"):
        gallery.query(images(0))


def test_with_a_calibration_of_another_version(experiment):
    with Gallery(experiment.model_dir) as gallery:
        gallery.add("one", images(0))
        identity, pictures = gallery.identity, list(gallery.store.iterate())
        gallery.store.replace(identity, {"score": "nearest", "k": 5}, pictures)
    with pytest.raises(UserError, match=r"gallery.sqlite: calibration: found other keys .*rebuild"):
        Gallery(experiment.model_dir)
    with open_store(experiment.gallery_path) as store:
        assert store.classes() == [("one", 1)]


def test_only_an_index_is_approximate(experiment):
    with pytest.raises(UserError, match=r"--approximate: .*gallery.sqlite has no index; accepted"):
        Gallery(experiment.model_dir, approximate=True)


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
    with pytest.raises(UserError, match=r"found 0.0001 \(too few negative pairs\); accepted: 0"):
        gallery.verify(*same, far=1e-4)
