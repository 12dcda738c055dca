"""The pictures of a running training, in real ones on a tiny dataset."""

import json

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TINY, train_only, write_params

import train
from model.hooks.live_figures import LiveFigures
from model.training.embedding import embed
from src.data.loading import load_data
from src.data.split import Split
from src.embeddings.layouts import pca
from src.errors import UserError
from src.experiment.experiment import Experiment
from src.params.schema import Params


def run_train(model_dir, data_dir, *options):
    train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir), *options])


def steps(folder):
    return [int(path.stem.removeprefix("step_")) for path in sorted(folder.glob("*.png"))]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, data_dir):
    """An experiment of one epoch that was resumed for another, and its layout before."""
    params = {**TINY, "network": "mlp", "hidden_sizes": []}
    params["live_figures"] = ["progress", "mistakes"]
    del params["num_channels"]
    model_dir = write_params(tmp_path_factory.mktemp("live") / "tiny", {**params, "num_epochs": 1})
    train_only(model_dir, data_dir)
    layout = np.load(model_dir / "figures" / "live" / "layout.npy")
    write_params(model_dir, {**params, "num_epochs": 2})
    run_train(model_dir, data_dir)
    return model_dir, layout


def test_a_figure_after_each_evaluation_and_an_animation(resumed):
    model_dir, _ = resumed
    live = model_dir / "figures" / "live"
    # The first is of the network before training; an epoch has 7 steps.
    assert steps(live / "progress") == [0, 7, 14]
    frames = [np.asarray(Image.open(path)) for path in sorted((live / "progress").glob("*.png"))]
    assert {frame.shape for frame in frames} == {(520, 1000, 3)}
    # Left of the curve nothing but points and names differs: the frame stands still.
    edges = [(frame[:, :500] == 0xDD).all(axis=2).mean(axis=1) > 0.8 for frame in frames]
    for edge in edges:
        assert edge.sum() >= 2
        np.testing.assert_array_equal(edge, edges[0])
    with Image.open(live / "progress.gif") as gif:
        assert gif.n_frames == 3
        assert gif.size == (1000, 520)

    events = EventAccumulator(str(live), size_guidance={"images": 0}).Reload()
    shown = events.Images("progress")
    assert [image.step for image in shown] == [0, 7, 14]
    for image, path in zip(shown, sorted((live / "progress").glob("*.png")), strict=True):
        assert image.encoded_image_string == path.read_bytes()
        assert (image.width, image.height) == (1000, 520)

    # The first picture shows no loss that came later: nothing is drawn right but the empty axes.
    coloured = [(np.ptp(frame[:, 555:].astype(int), axis=2) > 60).sum() for frame in frames]
    assert coloured[0] == 0
    assert coloured[2] > coloured[0]

    # Of mistakes there may come to be none; where there is one, there is a picture.
    assert 0 in steps(live / "mistakes")
    metrics = json.loads((model_dir / "metrics.json").read_text())
    assert metrics["status"] == "finished"


def test_a_resumed_run_goes_on_in_the_same_frame(resumed, data_dir):
    model_dir, before = resumed
    live = model_dir / "figures" / "live"
    # No turn and no reflection brings the new layout nearer to the one before.
    layout = np.load(live / "layout.npy")
    experiment = Experiment(model_dir)
    params = experiment.trained_params()
    test = load_data(params, data_dir).splits["test"]
    plain = pca(embed(experiment, params, test, model_dir / "model.ckpt-14"))
    error = ((layout - before) ** 2).sum()
    for angle in np.linspace(0, 2 * np.pi, 72):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for mirror in ([1, 1], [-1, 1]):
            assert error <= ((plain * mirror @ turn - before) ** 2).sum() + 1e-3
    # and it is a turned PCA: the distances in it are the same
    np.testing.assert_allclose(
        np.linalg.norm(layout[:-1] - layout[1:], axis=1),
        np.linalg.norm(plain[:-1] - plain[1:], axis=1),
        atol=1e-4,
    )


@pytest.mark.parametrize(("size", "num_shown"), [(3, 3), (1000, 1000), (2500, 1000)])
def test_always_the_same_images_of_the_whole_split(tmp_path, size, num_shown):
    asked = []

    def embedded(split, checkpoint):
        asked.append((split, checkpoint.name))
        rng = np.random.default_rng(len(asked))
        return rng.normal(size=(len(split), 4)).astype(np.float32)

    # In the order of their classes, as the files of a folder are
    labels = np.sort(np.arange(size) % 3).astype(np.int32)
    images = np.arange(size, dtype=np.uint32).view(np.uint8).reshape(size, 2, 2, 1)
    split = Split(images, labels, ("a", "b", "c"))
    live = LiveFigures(Experiment(tmp_path), Params(live_figures=("progress",)), split, embedded)
    for step in (10, 20):
        live.export(None, "", str(tmp_path / f"model.ckpt-{step}"), {"global_step": step}, False)
    assert [name for _, name in asked] == ["model.ckpt-10", "model.ckpt-20"]
    numbers = [shown.images.reshape(-1, 4).view(np.uint32).ravel() for shown, _ in asked]
    np.testing.assert_array_equal(*numbers)
    assert len(np.unique(numbers[0])) == num_shown
    assert set(asked[0][0].labels.tolist()) == {0, 1, 2}
    assert steps(tmp_path / "figures" / "live" / "progress") == [10, 20]


def test_no_animation_without_a_picture(tmp_path):
    split = Split(np.zeros((2, 2, 2, 1), np.uint8), np.zeros(2, np.int32), ("a",))
    params = Params(live_figures=("progress",))
    LiveFigures(Experiment(tmp_path), params, split, lambda *_: None).write_animations()
    assert list(tmp_path.iterdir()) == []


def drawn_live(model_dir, embeddings):
    """Live figures of four images, of which one picture is drawn at step 10."""
    split = Split(np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 0, 1, 1], np.int32), ("a", "b"))
    params = Params(live_figures=("progress",))
    live = LiveFigures(Experiment(model_dir), params, split, lambda *_: embeddings)
    live.export(None, "", str(model_dir / "model.ckpt-10"), {"global_step": 10}, False)
    return live


POINTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def header_of(shape):
    """A file of an array that claims a shape and has none of its numbers."""
    header = str({"descr": "<f4", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"not an array",
        header_of((4, 2)),
        header_of((10**15, 2)),
        "an object",
        np.full((4, 2), np.nan, np.float32),
        np.zeros((4, 2), "<U3"),
        np.zeros((9, 2), np.float32),
        np.zeros(4, np.float32),
    ],
    ids=str,
)
def test_a_damaged_layout_is_made_anew(tmp_path, content):
    path = tmp_path / "figures" / "live" / "layout.npy"
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        np.save(path, np.array([{"an": "object"}]), allow_pickle=True)
    else:
        np.save(path, content)
    drawn_live(tmp_path, POINTS)
    np.testing.assert_array_equal(np.load(path), pca(POINTS))
    assert steps(path.parent / "progress") == [10]


def test_damaged_pictures_are_left_out_of_the_film(tmp_path, caplog):
    folder = tmp_path / "figures" / "live" / "progress"
    live = drawn_live(tmp_path, POINTS)
    good = (folder / "step_00000010.png").read_bytes()
    (folder / "step_00000001.png").write_bytes(good[: len(good) // 2])
    (folder / "step_00000002.png").write_bytes(b"")
    (folder / "step_00000003.png").mkdir()
    flipped = bytearray(good)
    flipped[20] ^= 0xFF  # of the height
    (folder / "step_00000004.png").write_bytes(flipped)
    Image.new("RGB", (9, 9)).save(folder / "step_00000005.png")
    Image.new("RGB", (1000, 520), "red").save(folder / "step_00000006.png")
    live.write_animations()
    with Image.open(folder.parent / "progress.gif") as gif:
        assert gif.n_frames == 2
        assert gif.size == (1000, 520)
    assert caplog.text.count("damaged; left out of the animation") == 3


def test_no_picture_where_nothing_finite_can_be_laid_out(tmp_path, recwarn, capsys):
    drawn_live(tmp_path, np.float32(3e38) * np.sign(POINTS))
    assert not (tmp_path / "figures" / "live" / "progress").exists()
    assert [str(warning.message) for warning in recwarn] == []


def test_a_damaged_untrained_network_costs_one_picture(tmp_path, caplog):
    experiment = Experiment(tmp_path)
    experiment.untrained_checkpoint.parent.mkdir()
    experiment.untrained_checkpoint.with_name("model.ckpt-0.index").write_bytes(b"x")

    def embedded(split, checkpoint):
        if checkpoint.name == "model.ckpt-0":
            raise UserError(f"{checkpoint}: damaged")
        return POINTS

    split = Split(np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 0, 1, 1], np.int32), ("a", "b"))
    live = LiveFigures(experiment, Params(live_figures=("progress",)), split, embedded)
    for step in (10, 20):
        live.export(None, "", str(tmp_path / f"model.ckpt-{step}"), {"global_step": step}, False)
    assert steps(experiment.live_dir / "progress") == [10, 20]
    assert caplog.text.count("the first live figure is left out") == 1
