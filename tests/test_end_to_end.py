"""The programs' own `main`, on a tiny dataset in a temporary directory."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
from PIL import Image
from tiny import bright_quadrants, train_only, write_idx

import train
import visualize
from src.comparing.results import read_result
from src.data.loading import load_data
from src.data.roles import roles_of
from src.embeddings.layouts import pca
from src.embeddings.metrics import Embedded, metrics_within
from src.errors import TrainingDiverged, UserError
from src.experiment.curves import read_curves
from src.experiment.experiment import Experiment
from src.experiment.tags import name_of
from src.params.metric_names import AGAINST_GALLERY, WITHIN
from src.registry import TRIPLET_STRATEGIES

ROOT = Path(__file__).parent.parent


def run_train(model_dir, data_dir, *options):
    train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir), *options])
    return json.loads((model_dir / "metrics.json").read_text())


def run_visualize(model_dir, data_dir, *options):
    visualize.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir), *options])


def events(directory):
    """Tag -> steps, of the scalars in the event files of a directory."""
    from model.estimator import tf

    found = {}
    for path in directory.glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(name_of(value.tag), []).append(event.step)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory, finished):
    """An experiment of 4 epochs of 7 steps, trained once; only `visualize.py` writes to it."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("trained") / "tiny")


@pytest.fixture(scope="module")
def visualized(trained, data_dir):
    """What `visualize.py` printed of `trained`: all layouts and figures, made once.

    PCA stands in for UMAP, which `make test-system` runs: test_tour.py draws with all three.
    """
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr("src.embeddings.layouts.umap", lambda x, **_: pca(x))
        run_visualize(trained, data_dir)
    return out.getvalue()


@pytest.fixture
def copied(trained, make_experiment):
    """A copy of `trained`, with its params.json anew where `make_experiment` is called."""
    model_dir = make_experiment()
    return shutil.copytree(trained, model_dir, dirs_exist_ok=True)


def test_train_writes_metrics_curves_and_checkpoints(trained, finished):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert metrics["seconds"] > 0
    assert_has_learnt(metrics)

    out = (finished.parent / "out.txt").read_text()
    assert out.count("validation: map_at_r_within") == 4  # a line per evaluation, one an epoch
    training = events(trained)
    for tag in ("loss", "fraction_positive", "embedding_mean_norm", "distance_p50"):
        assert len(training[tag]) >= 10, tag
    assert len(training["images_per_second"]) == 14
    evaluated = events(trained / "eval_validation")
    for tag in ("loss", "fraction_positive", "embedding_mean_norm", "distance_p50"):
        assert sorted(set(evaluated[tag])) == [7, 14, 21, 28], tag

    assert (trained / "model.ckpt-28.index").exists()
    assert (trained / "untrained" / "model.ckpt-0.index").exists()
    assert max(path.stat().st_size for path in trained.glob("*.meta")) < 500_000  # without data
    # A convolution of 3 x 3 weights and a bias for each of 4 channels
    assert re.search(
        r"block_1_conv \(Conv2D\) +\[?\(None, 8, 8, 4\)\]? +40 +Y",
        (trained / "network.txt").read_text(),
    )


def assert_has_learnt(metrics):
    """Assert the metrics of four epochs: 200 images to train with, 32 a batch, 7 steps an epoch."""
    assert metrics["global_step"] == 28
    assert {name: m["num_examples"] for name, m in metrics["splits"].items()} == {
        "train": 200,
        "validation": 40,
        "test": 60,
    }
    for values in metrics["splits"].values():
        assert 0 <= values["fraction_positive"] <= 1
        assert values["loss"] >= 0
        assert values["embedding_mean_norm"] == pytest.approx(1, rel=1e-4)
    assert metrics["splits"]["test"]["recall_at_1"] > 0.8  # chance is 0.25


# What learns sooner and is built in less time than convolutions, where the network is not tested.
LINEAR = {"network": "mlp", "hidden_sizes": []}

# batch_all by `finished`, batch_semihard with P x K; below, batch_hard with augmentation
LEARNT_ELSEWHERE = ("batch_all", "batch_hard", "batch_semihard")


@pytest.mark.parametrize(
    "params",
    [
        *(
            reference.keys_of(name, **LINEAR)
            for name in TRIPLET_STRATEGIES
            if name not in LEARNT_ELSEWHERE
        ),
        {"triplet_strategy": "offline", "offline_mining": "semihard", "remine_epochs": 2, **LINEAR},
        {
            "triplet_strategy": "batch_hard",
            "augment": {"shift": 1, "elastic": 0.3},
            "convolutions_per_block": 2,
        },
    ],
    ids=lambda params: "-".join(map(str, params.values())),
)
def test_every_strategy_learns(make_experiment, data_dir, params):
    metrics = run_train(make_experiment(save_checkpoints_steps=28, **params), data_dir)
    assert metrics["status"] == "finished"
    assert_has_learnt(metrics)


def test_visualize_writes_what_the_projector_shows(trained, visualized):
    projector = trained / "projector" / "test"
    (embeddings,) = projector.glob("2_embeddings_step_*.bytes")
    tensor = np.fromfile(embeddings, "<f4").reshape(60, 8)
    np.testing.assert_allclose(np.linalg.norm(tensor, axis=1), 1, rtol=1e-3)
    lines = (projector / "metadata.tsv").read_text().splitlines()
    assert lines[0].split("\t") == [
        "label",
        "index",
        "outcome",
        "predicted_label",
        "prediction",
        "compared_with",
        "own_class_distance",
        "other_class_distance",
        "errors_nearby",
        "label_number",
    ]
    assert [line.split("\t")[:2] for line in lines[1:4]] == [["0", "0"], ["1", "1"], ["2", "2"]]
    assert f"tensorboard --logdir {trained}" in visualized


@pytest.mark.parametrize("strategy", ["batch_all", "offline"])
def test_extra_classes_are_trained_on_alone(make_experiment, data_dir, tmp_path, strategy):
    """Two more poses, or other data too: more steps an epoch, and the splits as ever."""
    keys = {"extra_classes": ["rot90", "mirror"], "num_epochs": 2, **LINEAR}
    extra = 0
    if strategy == "offline":
        data_dir = shutil.copytree(data_dir, tmp_path / "data")
        keys["offline_mining"] = "hard"
        images, labels = bright_quadrants(extra := 72, seed=9)
        np.savez(data_dir / "letters.npz", x=255 - images, y=labels)
        keys["extra_data"] = [{"dataset": "npz", "npz_file": "letters.npz"}]
    metrics = run_train(make_experiment(triplet_strategy=strategy, **keys), data_dir)
    assert metrics["global_step"] == 2 * -(-(3 * 200 + extra) // 32)
    assert metrics["class_names"] == [str(number) for number in range(10)]
    sizes = {name: m["num_examples"] for name, m in metrics["splits"].items()}
    assert sizes == {"train": 200, "validation": 40, "test": 60}


def test_finished_again_says_so_and_changes_nothing(copied, data_dir, capsys):
    first = json.loads((copied / "metrics.json").read_text())
    files = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    assert run_train(copied, data_dir) == first
    assert "already finished at step 28" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == files


def test_the_best_checkpoint_is_evaluated_again_if_the_data_have_changed(
    copied, data_dir, tmp_path
):
    """Its value was of other images. The later ones are compared with the new value."""
    before = Experiment(copied).best()
    changed = shutil.copytree(data_dir, tmp_path / "changed")
    images, labels = bright_quadrants(240, 1)
    images[::3] = 255 - images[::3]
    write_idx(changed / "mnist" / "train-images-idx3-ubyte.gz", images)
    metrics = run_train(copied, changed, "--keep_splits")
    best = Experiment(copied).best()
    assert (metrics["global_step"], best.step) == (28, before.step)
    assert best.value == pytest.approx(metrics["splits"]["validation"][best.metric])
    assert best.value < before.value


def test_more_epochs_go_on_where_it_stopped(copied, make_experiment, data_dir, capsys):
    first = json.loads((copied / "metrics.json").read_text())
    make_experiment(num_epochs=6, train_size=50000, image_size=8)
    second = run_train(copied, data_dir)
    assert (first["global_step"], second["global_step"]) == (28, 42)
    assert second["seconds"] > first["seconds"]
    evaluated = events(copied / "eval_validation")["loss"]
    assert sorted(set(evaluated)) == [7, 14, 21, 28, 35, 42] and evaluated.count(7) == 1
    # The network before training is kept, though the rotation has removed its checkpoint.
    assert not (copied / "model.ckpt-0.index").exists()
    assert list(Experiment(copied).checkpoints()) == [0, 14, 21, 28, 35, 42]
    out = capsys.readouterr().out
    assert "resuming at step 28" in out
    assert "train_size: found 50000, but the data have 200" in out


def test_changed_params_are_refused_and_overwrite_starts_afresh(copied, make_experiment, data_dir):
    make_experiment(num_epochs=1, margin=0.7, num_channels=5)
    with pytest.raises(UserError) as error:
        run_train(copied, data_dir)
    assert "margin (now 0.7, trained with 0.5), num_channels (now 5, trained with 4)" in str(
        error.value
    )
    # The checkpoints still bind it if the file that lists them is lost, and nothing is repaired.
    state = (copied / "checkpoint").rename(copied / "elsewhere")
    with pytest.raises(UserError, match=r"margin \(now 0.7, trained with 0.5\)"):
        run_train(copied, data_dir)
    assert not (copied / "checkpoint").exists()
    state.rename(copied / "checkpoint")
    assert train_only(copied, data_dir, "--overwrite") == 7
    assert "(None, 8, 8, 5)" in (copied / "network.txt").read_text()


def test_bad_data_loses_nothing(copied, data_dir, tmp_path):
    files = sorted(copied.rglob("*"))
    with pytest.raises(UserError, match="missing"):
        run_train(copied, tmp_path / "nowhere", "--overwrite")
    assert sorted(copied.rglob("*")) == files


def test_facts_are_checked_against_the_data(make_experiment, data_dir):
    with pytest.raises(UserError, match=r"image_size: found 28; .* 8 x 8"):
        run_train(make_experiment("a", image_size=28), data_dir)
    with pytest.raises(UserError, match=r"num_labels: found 4; .* 10"):
        run_train(make_experiment("b", num_labels=4), data_dir)


def test_visualize_again_computes_nothing_again(trained, visualized, data_dir, capsys, monkeypatch):
    files = {p: p.read_bytes() for p in (trained / "projector" / "test").iterdir()}
    monkeypatch.setattr("model.training.embedding.embed", None)
    monkeypatch.setattr("src.embeddings.layouts.tsne", None)
    monkeypatch.setattr("src.embeddings.layouts.umap", None)
    monkeypatch.setattr("src.projector.columns.neighbors", None)
    monkeypatch.setattr("src.projector.columns.errors_nearby", None)
    monkeypatch.setattr("src.projector.figure_cache.write_figures", None)
    run_visualize(trained, data_dir)
    strip = re.compile(r"done in .*")
    assert strip.sub("", capsys.readouterr().out) == strip.sub("", visualized)
    for path, content in files.items():
        assert path.read_bytes() == content or path.name.startswith("events"), path.name


@pytest.mark.usefixtures("no_umap", "one_figure")
def test_visualize_draws_again_what_has_been_removed(trained, data_dir, capsys):
    run_visualize(trained, data_dir)
    figures = trained / "figures"
    assert f"{figures / 'index.html'}: all figures" in capsys.readouterr().out
    # Each file by itself: tests/projector/test_view.py
    removed = [figures / name for name in ("pca.png", "index.html")]
    for path in removed:
        path.unlink()
    run_visualize(trained, data_dir)
    assert all(path.exists() for path in removed)


@pytest.mark.usefixtures("no_umap", "one_figure")
def test_visualize_several_splits_evolution_and_parquet(trained, data_dir, capsys):
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    options = ("--split", "test", "train", "--max_points", "50", "--evolution", "--parquet")
    run_visualize(trained, data_dir, *options)
    out = capsys.readouterr().out
    assert "projector/test: 50 points of 8 dimensions" in out
    assert "a stratified sample of the 200 images" in out
    projector = trained / "projector"
    runs = {"test", "train", "test_evolution", "train_evolution"}
    assert {path.name for path in projector.iterdir()} == {*runs, "cache", "points.parquet"}
    tensors = sorted(path.stem for path in (projector / "test_evolution").glob("*.bytes"))
    checkpoints = Experiment(trained).checkpoints()
    assert tensors == [f"step_{step:02}" for step in checkpoints] and len(tensors) >= 3
    table = pq.read_table(projector / "points.parquet")
    assert table["split"].to_pylist() == ["test"] * 50 + ["train"] * 50
    for directory in (trained / "figures", trained / "figures" / "train"):
        assert (directory / "index.html").exists()
        with Image.open(directory / "evolution.gif") as animation:
            assert animation.n_frames == len(tensors)
    # The projector opens the first split named, as the run with the earliest time.
    times = {run: event_time(projector / run) for run in runs}
    assert min(times, key=times.get) == "test"


def event_time(directory):
    from model.estimator import tf

    (path,) = directory.glob("events.out.tfevents.*")
    return next(iter(tf.compat.v1.train.summary_iterator(str(path)))).wall_time


@pytest.mark.usefixtures("no_umap", "one_figure")
def test_neighbours_on_the_console_agree_with_the_metadata(trained, data_dir, capsys):
    run_visualize(trained, data_dir, "--split", "validation")
    lines = (trained / "projector" / "validation" / "metadata.tsv").read_text().splitlines()
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    wrong = [row for row in rows if row["prediction"] == "wrong"]
    said = f"; {len(wrong)} of {len(rows)} ({len(wrong) / len(rows):.2%}) predicted wrong by their"
    assert f"{said} nearest training images\n" in capsys.readouterr().out
    for row in rows:
        is_wrong = row["label"] != row["predicted_label"]
        assert (row["prediction"] == "wrong") == is_wrong
        taken = f"{row['label']} taken for {row['predicted_label']}"
        assert row["outcome"] == (taken if is_wrong else f"{row['label']} right")


def test_visualize_unseen_without_classes_held_out_is_refused(trained, data_dir):
    with pytest.raises(UserError, match="found no holdout_classes, so there is no split unseen"):
        run_visualize(trained, data_dir, "--split", "unseen")


@pytest.mark.usefixtures("no_umap")
def test_visualize_embeddings_that_are_not_finite_is_refused(trained, data_dir, monkeypatch):
    def broken(experiment, params, split, checkpoint):
        return np.full((len(split), 8), np.nan, np.float32)

    monkeypatch.setattr("model.training.embedding.embed", broken)
    monkeypatch.setattr("src.projector.view.cached", lambda path, key, compute, *_: compute())
    with pytest.raises(UserError, match=r"found NaN or infinity in 60 of 60 rows \(first: row 0\)"):
        run_visualize(trained, data_dir)


@pytest.mark.parametrize(
    "options",
    [("--max_points", "1"), ("--max_points", "many"), ("--serve", "65536"), ("--split", "dev")],
)
def test_visualize_refuses_what_cannot_be(trained, options, capsys):
    with pytest.raises(SystemExit) as error:
        run_visualize(trained, Path("data"), *options)
    assert error.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_visualize_before_training_is_refused(make_experiment, data_dir):
    with pytest.raises(UserError, match="no checkpoint found"):
        run_visualize(make_experiment(), data_dir)


@pytest.mark.system
def test_the_console_is_quiet(make_experiment, data_dir):
    """The program by itself, as the user runs it: nothing of TensorFlow's on the console."""
    model_dir = make_experiment(num_epochs=2)
    done = subprocess.run(
        [sys.executable, "train.py", "--model_dir", model_dir, "--data_dir", data_dir],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].endswith("mnist (200 train, 40 validation, 60 test), batch_all")
    assert lines[1].startswith("  4 classes, 0 to 3; ")
    assert lines[2].startswith("  train: ") and lines[3] == "  7 steps per epoch, 14 in total"
    assert lines[4].startswith("epoch 1  step 7  validation: map_at_r_within ")
    assert lines[5].startswith("epoch 2  step 14  validation: map_at_r_within ")
    assert lines[6].startswith("step ") and "the best by map_at_r_within on validation" in lines[6]
    assert lines[7].split() == [
        "split",
        "map_at_r_within",
        "recall_at_1_within",
        "recall_at_1",
        "loss",
        "fraction_positive",
    ]
    rows = [line.split()[0] for line in lines[8:13]]
    assert rows == ["train", "validation", "test", "untrained", "raw_pixels"]
    assert max(map(len, lines[7:13])) <= 100
    assert lines[13].startswith("(_within: ") and lines[16].startswith("wrote ")
    assert lines[14].startswith("verification: at distance ")
    assert lines[15].startswith("open set, strangers are known classes: AUROC ")
    assert len(lines) == 17, done.stdout


def test_bad_params_end_with_one_line_and_exit_code_2(make_experiment, data_dir):
    model_dir = make_experiment(margn=1)
    done = subprocess.run(
        [sys.executable, "train.py", "--model_dir", model_dir, "--data_dir", data_dir],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {model_dir}/params.json: unknown key 'margn'; did you mean 'margin'?\n"
    )


def test_a_training_that_diverges_says_so_and_keeps_a_good_checkpoint(make_experiment, data_dir):
    model_dir = make_experiment(
        learning_rate=1e30, l2_normalize=False, squared=True, save_checkpoints_steps=1
    )
    with pytest.raises(TrainingDiverged, match=r"step \d+: .*learning_rate.*kept: the checkpoint"):
        run_train(model_dir, data_dir)
    metrics = json.loads((model_dir / "metrics.json").read_text())
    assert metrics["status"] == "diverged"
    assert f"model.ckpt-{metrics['global_step']}.index" in {p.name for p in model_dir.iterdir()}


def test_a_training_that_collapses_is_stopped_if_asked_to(make_experiment, tmp_path, capsys):
    """Of images that are all the same, every network makes one point."""
    (tmp_path / "mnist").mkdir()
    for prefix in ("train", "t10k"):
        images = np.full((80, 8, 8), 99, np.uint8)
        write_idx(tmp_path / "mnist" / f"{prefix}-images-idx3-ubyte.gz", images)
        labels = np.arange(80, dtype=np.uint8) % 4
        write_idx(tmp_path / "mnist" / f"{prefix}-labels-idx1-ubyte.gz", labels)
    model_dir = make_experiment(
        stop_on_collapse=True, num_epochs=100, save_checkpoints_steps=1000, **LINEAR
    )
    with pytest.raises(TrainingDiverged, match="stopped, because the embeddings have collapsed"):
        run_train(model_dir, tmp_path)
    assert "the embeddings have collapsed to a point" in capsys.readouterr().err
    metrics = json.loads((model_dir / "metrics.json").read_text())
    assert metrics["status"] == "collapsed"
    assert metrics["global_step"] < 20

    going_on = make_experiment("going_on", num_epochs=6, save_checkpoints_steps=1000, **LINEAR)
    run_train(going_on, tmp_path)
    assert "the embeddings have collapsed to a point" in capsys.readouterr().err
    metrics = json.loads((going_on / "metrics.json").read_text())
    assert (metrics["status"], metrics["collapsed"]) == ("finished", True)
    (going_on / "metrics.json").unlink()  # as if it was killed while it measured
    assert run_train(going_on, tmp_path)["collapsed"] is True
    assert read_result(going_on).status == "collapsed"


def test_p_x_k_with_augmentation_and_warm_up_learns(make_experiment, data_dir):
    model_dir = make_experiment(
        triplet_strategy="batch_semihard",
        warmup_strategy="batch_all",
        warmup_steps=10,
        classes_per_batch=3,
        examples_per_class=6,
        augment={"shift": 1, "erasing": 0.2},
        distance="cosine",
        margin=0.3,
        num_epochs=6,
        save_checkpoints_steps=72,
        **LINEAR,
    )
    metrics = run_train(model_dir, data_dir)
    assert metrics["global_step"] == 6 * 12  # 200 images, 18 a batch
    assert metrics["splits"]["test"]["recall_at_1"] > 0.8


def test_metrics_are_those_of_the_best_checkpoint_by_every_definition(trained, data_dir):
    """metrics.json against embeddings made anew, baselines and confusions included."""
    from model.training.embedding import embed
    from src.data.loading import load_data
    from src.embeddings.baselines import raw_pixels
    from src.embeddings.metrics import (
        Embedded,
        metrics_against_gallery,
        metrics_of_gallery,
        metrics_within,
    )

    metrics = json.loads((trained / "metrics.json").read_text())
    experiment = Experiment(trained)
    params = experiment.trained_params()
    splits = load_data(params, data_dir).splits
    assert metrics["class_names"] == list(splits["train"].class_names)
    assert metrics["evaluated_step"] == metrics["best"]["step"] == experiment.best().step

    def embedded(checkpoint=None):
        return {
            name: Embedded(embed(experiment, params, split, checkpoint), split.labels)
            for name, split in splits.items()
        }

    best = embedded()
    for name in splits:
        within, ranking = metrics_within(best[name])
        if name == "train":
            against, confusions = metrics_of_gallery(best["train"], ranking)
        else:
            against, confusions = metrics_against_gallery(best[name], best["train"])
        for key, value in {**within, **against}.items():
            assert metrics["splits"][name][key] == pytest.approx(value, abs=1e-3), (name, key)
        for key, rows in confusions.items():
            assert metrics["confusions"][name][key] == rows.tolist()
            wrong = rows[:, 2].sum() / len(splits[name])
            assert metrics["splits"][name][f"{key}_accuracy"] == pytest.approx(1 - wrong)
        assert set(metrics["splits"][name]) > {*WITHIN, *AGAINST_GALLERY, "num_queries"}
    pixels = {
        name: Embedded(raw_pixels(split.images), split.labels) for name, split in splits.items()
    }
    for baseline, by in (
        ("untrained", embedded(experiment.untrained_checkpoint)),
        ("raw_pixels", pixels),
    ):
        expected = {
            **metrics_within(by["test"])[0],
            **metrics_against_gallery(by["test"], by["train"])[0],
        }
        assert metrics["baselines"][baseline]["test"] == pytest.approx(expected)

    # The network before training is worse.
    untrained = metrics["baselines"]["untrained"]["test"]
    assert untrained["recall_at_1"] < metrics["splits"]["test"]["recall_at_1"]

    evaluated = events(trained / "eval_validation")
    for tag in WITHIN:
        assert evaluated[tag][:4] == [7, 14, 21, 28], tag
    assert events(trained / "eval_test")["map_at_r"] == [metrics["evaluated_step"]]


@pytest.mark.usefixtures("no_umap", "one_figure")
def test_unseen_classes(make_experiment, data_dir, capsys):
    """They are a split of their own, and are compared only with each other."""
    model_dir = make_experiment(holdout_classes=["2", 3], num_epochs=1, **LINEAR)
    metrics = run_train(model_dir, data_dir)
    sizes = {name: values["num_examples"] for name, values in metrics["splits"].items()}
    assert sizes == {
        "train": 100,
        "validation": 20,
        "test": 30,
        "unseen": 150,
    }  # all images of the classes
    unseen = metrics["splits"]["unseen"]
    assert 0 < unseen["map_at_r_within"] <= 1
    assert unseen["recall_at_1"] is None  # the training split has none of its classes
    assert (unseen["num_queries"], unseen["num_queries_within"]) == (0, 150)
    assert unseen["num_queries_among_known"] == 150 and unseen["num_known_among"] == 30
    assert 0 < unseen["map_at_r_among_known"] <= unseen["map_at_r_within"]
    assert not any("among_known" in name for name in metrics["splits"]["test"])
    assert "recall_at_1_among_known" in metrics["baselines"]["raw_pixels"]["unseen"]
    assert set(metrics["confusions"]) == {"train", "validation", "test"}
    assert set(metrics["thresholds"]["at"]["eer"]) == {"threshold", "validation", "test", "unseen"}
    assert metrics["thresholds"]["at"]["eer"]["validation"]["tar"] > 0.5
    open_set = metrics["open_set"]
    assert open_set["calibrated_on"] == "unseen classes" and 0 < open_set["auroc"] <= 1
    assert open_set["num_known"] == 30 and open_set["num_known_in_calibration"] == 20
    assert open_set["num_strangers"] + open_set["num_strangers_in_calibration"] == 150
    for rows in metrics["confusions"]["test"].values():
        assert all({true, predicted} == {0, 1} and count > 0 for true, predicted, count in rows)
    for baseline in ("untrained", "raw_pixels"):
        assert set(metrics["baselines"][baseline]) == {"test", "unseen"}
    out = capsys.readouterr().out
    assert "(100 train, 20 validation, 30 test, 150 unseen)" in out
    assert "(unseen: 0 of 150 queries have a training image of their class)" in out
    assert re.search(
        r"\(unseen: MAP@R 0\.\d+ alone, 0\.\d+ with the 30 test images of known classes in", out
    )
    with pytest.raises(
        UserError, match="holdout_classes: found 11, which is not a class name; accepted: "
    ):
        run_train(make_experiment("other", holdout_classes=[1, 11]), data_dir)

    from model.training.hparams import METRICS

    # Every column of TensorBoard's tab HPARAMS has its summaries.
    assert [column for column in METRICS if column[1] not in events(model_dir / column[0])] == []

    run_visualize(model_dir, data_dir, "--split", "unseen", "test")
    for split, labels in (("unseen", {"2", "3"}), ("test", {"0", "1"})):
        lines = (model_dir / "projector" / split / "metadata.tsv").read_text().splitlines()
        columns = list(zip(*(line.split("\t") for line in lines[1:]), strict=True))
        header = lines[0].split("\t")
        assert set(columns[header.index("label")]) == labels
        assert set(columns[header.index("predicted_label")]) == labels
        gallery = "unseen" if split == "unseen" else "train"
        assert set(columns[header.index("compared_with")]) == {gallery}
    out = capsys.readouterr().out
    assert "by their nearest neighbours in the split (classes not trained on)" in out
    assert "by their nearest training images" in out


def test_patience_that_runs_out_ends_a_training_well(make_experiment, data_dir, capsys):
    model_dir = make_experiment(num_epochs=40, patience_evaluations=1, **LINEAR)
    metrics = run_train(model_dir, data_dir)
    assert metrics["status"] == "finished" and metrics["stopped_early"]
    # The metric is saturated: of equals that of the lower loss, or the later, is the best.
    assert metrics["best"]["value"] == 1
    assert metrics["best"]["step"] <= metrics["global_step"] < 40 * 7
    assert metrics["evaluated_step"] == metrics["best"]["step"]
    capsys.readouterr()
    assert run_train(model_dir, data_dir) == metrics
    assert "already finished" in capsys.readouterr().out
    make_experiment(num_epochs=40, patience_evaluations=2, **LINEAR)
    more = run_train(model_dir, data_dir)
    assert more["global_step"] > metrics["global_step"]


def pictures(directory, **classes):
    """Write so many pictures of each class: grey ones of 8 x 8 pixels, lighter by class."""
    rng = np.random.default_rng(len(classes))
    for number, (name, count) in enumerate(classes.items()):
        (directory / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 60, (8, 8), np.uint8) + 30 * number
            Image.fromarray(pixels.astype(np.uint8)).save(directory / name / f"{index}.png")


@pytest.mark.parametrize("strategy", ["batch_hard", "offline"])
def test_queries_a_gallery_and_groups_of_its_own(make_experiment, tmp_path, capsys, strategy):
    """What training evaluates is what the definitions give for the same embeddings."""
    images = tmp_path / "images"
    pictures(images, **{f"class {letter}": 14 for letter in "abcdef"})
    lines = ["path,label,split,group,is_query,is_gallery"]
    for number, path in enumerate(sorted(images.glob("*/*.png"))):
        split = ("train", "validation", "test")[number % 14 // 5]
        group, is_query = f"{split} series {number % 3}", number % 14 in (10, 12)
        roles = f"{is_query},{not is_query}" if split == "test" else ","
        lines.append(f"{path.relative_to(images)},{path.parent.name},{split},{group},{roles}")
    (images / "list.csv").write_text("\n".join(lines))
    model_dir = make_experiment(
        dataset="image_folder",
        image_dir="images",
        image_csv="list.csv",
        image_size=8,
        triplet_strategy=strategy,
        exclude_same_group=True,
        num_epochs=1,
        batch_size=8,
        **LINEAR,
    )
    metrics = run_train(model_dir, tmp_path)
    splits, out = metrics["splits"], capsys.readouterr().out
    assert (splits["test"]["num_own_queries"], splits["test"]["num_own_gallery"]) == (12, 12)
    assert "(test: 12 queries and a gallery of 12)" in out
    assert splits["validation"]["num_groups"] == 3 and "num_own_queries" not in splits["validation"]

    from model.training.embedding import embed

    experiment, params = Experiment(model_dir), Experiment(model_dir).trained_params()
    data = load_data(params, tmp_path)
    for name, split in data.splits.items():
        embedded = embed(experiment, params, split, experiment.best_checkpoint)
        expected = metrics_within(Embedded(embedded, split.labels), roles_of(split, params))[0]
        for key in ("map_at_r_within", "recall_at_1_within", "num_queries_within", "roc_auc"):
            assert splits[name][key] == pytest.approx(expected[key], abs=1e-6), (name, key)
    assert metrics["best"]["value"] == pytest.approx(splits["validation"]["map_at_r_within"])
    assert metrics["open_set"]["num_known"] == 12  # the queries alone


@pytest.mark.parametrize("strategy", ["batch_hard", "offline"])
def test_what_is_not_defined_is_null_a_dash_and_no_point_of_a_curve(
    make_experiment, tmp_path, capsys, strategy
):
    """Validation has one image a class, test classes of its own; many batches no triplet."""
    images = tmp_path / "images"
    pictures(images / "train", a=5, b=5, c=4, alone=1)
    pictures(images / "validation", a=1, b=1, c=1)
    pictures(images / "test", x=3, y=3, z=1)
    model_dir = make_experiment(
        dataset="image_folder",
        image_dir="images",
        image_size=8,
        triplet_strategy=strategy,
        batch_size=2,
        num_epochs=3,
        save_summary_steps=1,
        patience_evaluations=1,
        **LINEAR,
    )
    metrics = run_train(model_dir, tmp_path)
    out = capsys.readouterr().out
    assert "best_metric: map_at_r_within is undefined on the validation split" in out
    steps = metrics["global_step"]
    assert metrics["status"] == "finished" and not metrics["stopped_early"]
    assert metrics["best"] == {"metric": "map_at_r_within", "value": None, "step": steps}
    assert metrics["evaluated_step"] == steps
    assert f"step {steps}, the latest, because map_at_r_within is undefined on validation:" in out
    lines = [line for line in out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3 and all(
        "map_at_r_within -  recall_at_1_within -  loss -  fraction_positive -" in line
        for line in lines
    )

    validation, test = metrics["splits"]["validation"], metrics["splits"]["test"]
    for name in (*WITHIN, "loss", "fraction_positive"):
        assert validation[name] is None, name
    for name in AGAINST_GALLERY:
        assert test[name] is None and validation[name] is not None, name
    assert (validation["num_queries_within"], validation["num_queries"]) == (0, 3)
    assert (test["num_queries_within"], test["num_queries"]) == (6, 0)
    assert metrics["splits"]["train"]["num_queries_within"] == 14
    assert set(metrics["confusions"]) == {"train", "validation"}
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert table["validation"][:2] == ["-", "-"] and table["validation"][3:] == ["-", "-"]
    assert table["test"][2] == "-"

    evaluated = read_curves(model_dir / "eval_validation")
    assert not set(evaluated) & {*WITHIN, "loss", "fraction_positive"}
    assert not [tag for tag in evaluated if tag.startswith("num_")]
    assert evaluated["distance_p50"][0] == [steps // 3, 2 * steps // 3, steps]
    assert "recall_at_1" in read_curves(model_dir / "eval_validation")
    assert not set(read_curves(model_dir / "eval_test")) & {*AGAINST_GALLERY}
    training = read_curves(model_dir)
    assert all(np.isfinite(values).all() for _, values in training.values())
    assert training["learning_rate"][0] == list(range(1, steps + 1))
    # Two images make no triplet. Offline triplets have one but where their anchor is alone.
    points = training["loss"][0] if "loss" in training else []
    assert points == (training["fraction_positive"][0] if points else [])
    assert len(points) == 0 if strategy == "batch_hard" else 0 < len(points) <= steps


def test_a_cosine_schedule_ends_at_0_and_goes_on_where_it_stopped(make_experiment, data_dir):
    from model.estimator import tf

    schedule = {"learning_rate_schedule": "cosine", "learning_rate_warmup_steps": 5}
    keys = {**schedule, **LINEAR}
    model_dir = make_experiment(save_summary_steps=1, save_checkpoints_steps=28, **keys)
    train_only(model_dir, data_dir)
    rates = {
        event.step: value.simple_value
        for path in model_dir.glob("events.out.tfevents.*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if name_of(value.tag) == "learning_rate"
    }
    assert max(rates.values()) == pytest.approx(5e-3, rel=1e-2)
    assert rates[min(rates)] < 2.1e-3 and rates[max(rates)] < 1e-4
    make_experiment(num_epochs=5, **keys)
    with pytest.raises(UserError, match="num_epochs .now 5, trained with 4."):
        run_train(model_dir, data_dir)
