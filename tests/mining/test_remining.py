"""Offline mining between the segments of a training: which triplets train, whatever kills it."""

import itertools
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY, bright_quadrants, train_only, write_idx, write_params

import model.training.embedding
import model.training.segments
import train
from model.hooks.progress import ProgressFile
from src.data.loading import load_data
from src.errors import TrainingDiverged, UserError
from src.experiment.experiment import Experiment
from src.mining.triplets import TripletBatches, mine_triplets

TINY_MLP = {key: value for key, value in TINY.items() if key != "num_channels"}
# The least of networks: what is tested is which triplets come when.
HARD = {
    "triplet_strategy": "offline",
    "offline_mining": "hard",
    "network": "mlp",
    "hidden_sizes": [],
}
# Two segments of 14 and 7 steps, and what goes on from there.
TWO_SEGMENTS = {**HARD, "remine_epochs": 2, "num_epochs": 3}


class Killed(BaseException):
    """Ends a run like a signal: no hook gets to its end, and nothing is saved."""


def die(*args, **options):
    raise Killed


def run_train(model_dir, data_dir, *options):
    train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir), *options])
    return json.loads((model_dir / "metrics.json").read_text())


def train_split(model_dir, data_dir):
    return load_data(Experiment(model_dir).trained_params(), data_dir).splits["train"]


def triplet_files(model_dir):
    return sorted(path.name for path in model_dir.glob("triplets-*"))


def batches_from(labels, step, count, mined=None):
    batches = TripletBatches(labels, 32, 0, mined).from_step(step)
    return [batch.tolist() for batch in itertools.islice(batches, count)]


@contextmanager
def batches_noted():
    """Yield {step: batch}, of the batches that the training split's runs ask for, the latest.

    Those asked for ahead, which a segment does not come to train on, are of later steps.
    """
    given = {}
    from_step = TripletBatches.from_step

    def noted(self, step):
        for batch in from_step(self, step):
            if self.examples_before(self.steps_per_epoch) == 200:
                given[step] = batch.tolist()
            yield batch
            step += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TripletBatches, "from_step", noted)
        yield given


@pytest.fixture
def batches():
    with batches_noted() as given:
        yield given


@pytest.fixture
def mined_at(monkeypatch):
    """The last numbers of the seeds of each call of `mine_triplets`: the steps."""
    steps = []

    def noted(*args, seed, **options):
        steps.append(seed[1])
        return mine_triplets(*args, seed=seed, **options)

    monkeypatch.setattr(model.training.segments, "mine_triplets", noted)
    return steps


def kill_after(monkeypatch, num_steps):
    """Have the run die after so many steps of its own."""
    after_run = ProgressFile.after_run
    steps = itertools.count(1)

    def kill(self, *args):
        after_run(self, *args)
        if next(steps) == num_steps:
            raise Killed

    monkeypatch.setattr(ProgressFile, "after_run", kill)


@pytest.fixture(scope="module")
def one_segment_trained(tmp_path_factory, data_dir):
    """An experiment of two epochs, killed after the first, before it mines."""
    model_dir = tmp_path_factory.mktemp("remining") / "tiny"
    write_params(model_dir, {**TINY_MLP, **HARD, "offline_mining": "semihard", "num_epochs": 2})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(model.training.segments, "mine_triplets", die)
        run_train(model_dir, data_dir)
    assert triplet_files(model_dir) == []
    assert Experiment(model_dir).latest_step() == 7
    return model_dir


@pytest.fixture(scope="module")
def two_segments_trained(tmp_path_factory, data_dir):
    """An experiment of TWO_SEGMENTS that was trained to its end, and its batches by step."""
    model_dir = tmp_path_factory.mktemp("remining") / "tiny"
    write_params(model_dir, {**TINY_MLP, **TWO_SEGMENTS})
    with batches_noted() as given:
        assert train_only(model_dir, data_dir) == 21
    return model_dir, given


@pytest.fixture
def one_segment(one_segment_trained, tmp_path):
    return Path(shutil.copytree(one_segment_trained, tmp_path / "tiny"))


@pytest.fixture
def two_segments(two_segments_trained, tmp_path):
    return Path(shutil.copytree(two_segments_trained[0], tmp_path / "tiny"))


def test_mines_at_each_choice_and_keeps_as_many_as_checkpoints(
    make_experiment, data_dir, mined_at, batches
):
    model_dir = make_experiment(**HARD, keep_checkpoint_max=2)
    assert train_only(model_dir, data_dir) == 28
    assert mined_at == [7, 14, 21]
    assert triplet_files(model_dir) == ["triplets-14.npy", "triplets-21.npy"]
    labels = train_split(model_dir, data_dir).labels
    assert [batches[step] for step in range(7)] == batches_from(labels, 0, 7)
    mined = np.load(model_dir / "triplets-21.npy")
    assert [batches[step] for step in range(21, 28)] == batches_from(labels, 21, 7, mined)


def test_a_run_killed_in_a_segment_goes_on_with_its_triplets(
    make_experiment, data_dir, monkeypatch, batches, mined_at
):
    model_dir = make_experiment(**HARD, remine_epochs=2, save_checkpoints_steps=9)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 19)
        run_train(model_dir, data_dir)
    assert Experiment(model_dir).latest_step() == 18
    assert mined_at == [14]
    content = (model_dir / "triplets-14.npy").read_bytes()
    labels = train_split(model_dir, data_dir).labels
    mined = np.load(model_dir / "triplets-14.npy")
    whole = [batches[step] for step in range(18)]
    assert whole == batches_from(labels, 0, 14) + batches_from(labels, 14, 4, mined)

    batches.clear()
    assert train_only(model_dir, data_dir) == 28
    assert mined_at == [14]
    assert (model_dir / "triplets-14.npy").read_bytes() == content
    assert [batches[step] for step in range(18, 28)] == batches_from(labels, 14, 14, mined)[4:]


def test_a_run_killed_between_mining_and_training_has_the_triplets_it_would_have_had(
    one_segment, data_dir, monkeypatch
):
    save_triplets = model.training.segments.save_triplets

    def save_and_die(*args):
        save_triplets(*args)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(model.training.segments, "save_triplets", save_and_die)
        run_train(one_segment, data_dir)
    assert Experiment(one_segment).latest_step() == 7
    content = (one_segment / "triplets-7.npy").read_bytes()
    assert train_only(one_segment, data_dir) == 14
    assert (one_segment / "triplets-7.npy").read_bytes() == content


def test_a_run_killed_while_it_mines_in_changed_data_mines_again(
    make_experiment, data_dir, tmp_path, monkeypatch, mined_at
):
    model_dir = make_experiment(**HARD, remine_epochs=2, save_checkpoints_steps=9)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 19)
        run_train(model_dir, data_dir)
    changed = shutil.copytree(data_dir, tmp_path / "changed")
    images, _ = bright_quadrants(240, 1)
    images[:10] = 255 - images[:10]
    write_idx(changed / "mnist" / "train-images-idx3-ubyte.gz", images)
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(model.training.segments, "save_triplets", die)
            run_train(model_dir, changed, "--keep_splits")
    assert train_only(model_dir, changed, "--keep_splits") == 28
    assert mined_at == [14] * 4
    with pytest.raises(UserError, match="the data have changed"):
        run_train(model_dir, data_dir)


def test_triplets_of_changed_data_are_not_there_to_go_back_to(
    make_experiment, data_dir, tmp_path, monkeypatch
):
    model_dir = make_experiment(**HARD, remine_epochs=1, keep_checkpoint_max=5)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 17)
        run_train(model_dir, data_dir)
    assert triplet_files(model_dir) == ["triplets-14.npy", "triplets-7.npy"]
    changed = shutil.copytree(data_dir, tmp_path / "changed")
    images, _ = bright_quadrants(240, 1)
    images[:10] = 255 - images[:10]
    write_idx(changed / "mnist" / "train-images-idx3-ubyte.gz", images)
    assert train_only(model_dir, changed, "--keep_splits") == 28
    assert triplet_files(model_dir) == ["triplets-14.npy", "triplets-21.npy"]


def test_triplets_of_another_training_are_not_taken(make_experiment, data_dir, batches):
    """Of one whose checkpoints were removed by hand."""
    model_dir = make_experiment(**HARD, num_epochs=2)
    other = np.zeros((200, 3), np.int32)
    np.save(model_dir / "triplets-7.npy", other)
    np.save(model_dir / "triplets-21.npy", other)
    train_only(model_dir, data_dir)
    assert triplet_files(model_dir) == ["triplets-7.npy"]
    mined = np.load(model_dir / "triplets-7.npy")
    assert (mined != other).any()
    labels = train_split(model_dir, data_dir).labels
    assert [batches[step] for step in range(7, 14)] == batches_from(labels, 7, 7, mined)


def test_a_run_killed_before_mining_mines_by_the_checkpoint_of_that_step(one_segment, data_dir):
    assert train_only(one_segment, data_dir) == 14
    params, split = Experiment(one_segment).trained_params(), train_split(one_segment, data_dir)
    checkpoint = one_segment / "model.ckpt-7"
    embeddings = model.training.embedding.embed(Experiment(one_segment), params, split, checkpoint)
    np.testing.assert_array_equal(
        np.load(one_segment / "triplets-7.npy"),
        mine_triplets("semihard", split.labels, embeddings, distance="euclidean", seed=[0, 7, 2]),
    )


def test_more_epochs_go_on_in_the_segment_where_it_stopped(
    two_segments_trained, two_segments, make_experiment, data_dir, batches, mined_at
):
    mined = np.load(two_segments / "triplets-14.npy")
    assert make_experiment(**{**TWO_SEGMENTS, "num_epochs": 5}) == two_segments
    assert train_only(two_segments, data_dir) == 35
    assert mined_at == [28]
    labels = train_split(two_segments, data_dir).labels
    of_both = {**two_segments_trained[1], **batches}
    assert [of_both[step] for step in range(14, 28)] == batches_from(labels, 14, 14, mined)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def remove_files(checkpoint):
    for path in checkpoint.parent.glob(f"{checkpoint.name}.*"):
        path.unlink()


def damage_data(checkpoint):
    flip_a_bit(checkpoint.with_name(f"{checkpoint.name}.data-00000-of-00001"))


@pytest.mark.parametrize("lose", [Path.unlink, flip_a_bit])
def test_lost_triplets_are_mined_again_with_the_checkpoint_that_made_them(
    two_segments, make_experiment, data_dir, batches, mined_at, caplog, lose
):
    path = two_segments / "triplets-14.npy"
    content, mined = path.read_bytes(), np.load(path)
    lose(path)
    assert make_experiment(**{**TWO_SEGMENTS, "num_epochs": 4}) == two_segments
    assert train_only(two_segments, data_dir) == 28
    assert mined_at == [14] and path.read_bytes() == content
    labels = train_split(two_segments, data_dir).labels
    assert [batches[step] for step in range(21, 28)] == batches_from(labels, 21, 7, mined)
    found = "missing" if lose is Path.unlink else "damaged"
    [line] = [record.getMessage() for record in caplog.records if "mined again" in record.msg]
    assert line.startswith(f"warning: {path}: {found}; mined again with {two_segments}/")


@pytest.mark.parametrize("lose", [remove_files, damage_data])
def test_without_triplets_and_their_checkpoint_a_segment_does_not_go_on(
    two_segments, make_experiment, data_dir, lose
):
    path, best = two_segments / "triplets-14.npy", Experiment(two_segments).best_checkpoint
    if best.name == "model.ckpt-14":
        shutil.rmtree(best.parent)
    lose(two_segments / "model.ckpt-14")
    whole = path.read_bytes()
    path.unlink()
    make_experiment(**{**TWO_SEGMENTS, "num_epochs": 4})
    with pytest.raises(UserError, match=r"triplets-14.npy: missing; accepted: .*--overwrite"):
        run_train(two_segments, data_dir)
    path.write_bytes(whole)
    flip_a_bit(path)
    with pytest.raises(UserError, match=r"triplets-14.npy: damaged; accepted: .*--overwrite"):
        run_train(two_segments, data_dir)


def test_a_collapse_is_seen_across_segments_and_ends_them(make_experiment, tmp_path, mined_at):
    """Of images that are all the same every network makes one point, from the first step on."""
    (tmp_path / "mnist").mkdir()
    for prefix in ("train", "t10k"):
        images = np.full((80, 8, 8), 99, np.uint8)
        write_idx(tmp_path / "mnist" / f"{prefix}-images-idx3-ubyte.gz", images)
        labels = np.arange(80, dtype=np.uint8) % 4
        write_idx(tmp_path / "mnist" / f"{prefix}-labels-idx1-ubyte.gz", labels)
    model_dir = make_experiment(**HARD, stop_on_collapse=True, num_epochs=9)
    with pytest.raises(TrainingDiverged, match="stopped, because the embeddings have collapsed"):
        run_train(model_dir, tmp_path)
    # 67 images, 3 steps an epoch; looks at the steps 1, 2 and 4, the last after mining
    assert mined_at == [3]
    metrics = json.loads((model_dir / "metrics.json").read_text())
    assert (metrics["status"], metrics["global_step"]) == ("collapsed", 4)
