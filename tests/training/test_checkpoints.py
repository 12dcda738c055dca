"""Damaged checkpoints, set aside; checkpoints of another network, refused. On real ones."""

import itertools
import json
import os
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny import train_only

import train
import visualize
from src.errors import UserError
from src.experiment.curves import read_curves
from src.experiment.experiment import Experiment
from src.params.reading import load_params
from src.registry import FIGURES

DATA = ".data-00000-of-00001"


# Mined anew in every epoch, so that there are files of triplets beside the checkpoints.
MINED = {
    "triplet_strategy": "offline",
    "offline_mining": "hard",
    "remine_epochs": 1,
    "network": "mlp",
    "hidden_sizes": [],
}


def test_triplets_of_an_earlier_choice_are_there_to_go_back_to(make_experiment, data_dir, capsys):
    model_dir = make_experiment(**MINED, num_epochs=3)
    train_only(model_dir, data_dir)
    for step in (21, 14):
        zero_data(model_dir / f"model.ckpt-{step}")
    assert train_only(model_dir, data_dir) == 21
    assert "resuming from model.ckpt-7" in capsys.readouterr().out


@pytest.fixture
def model_dir(finished, tmp_path):
    """A directory with checkpoints of steps 0, 7, 14, 21 and 28."""
    return shutil.copytree(finished, tmp_path / "copy")


def truncate_data(path):
    with open(path.with_name(path.name + DATA), "r+b") as file:
        file.truncate(os.path.getsize(file.name) // 2)


def cut_last_byte(path):
    with open(path.with_name(path.name + DATA), "r+b") as file:
        file.truncate(os.path.getsize(file.name) - 1)


def zero_data(path):
    data = path.with_name(path.name + DATA)
    data.write_bytes(b"\0" * data.stat().st_size)


def flip_a_bit(path):
    data = path.with_name(path.name + DATA)
    content = bytearray(data.read_bytes())
    content[len(content) // 3] ^= 0x10
    data.write_bytes(content)


def remove_data(path):
    path.with_name(path.name + DATA).unlink()


def remove_index(path):
    path.with_name(path.name + ".index").unlink()


def empty_index(path):
    path.with_name(path.name + ".index").write_bytes(b"")


def zero_index(path):
    index = path.with_name(path.name + ".index")
    index.write_bytes(b"\0" * index.stat().st_size)


DAMAGES = {
    truncate_data: "Read less bytes than requested",
    cut_last_byte: "Read less bytes than requested",
    zero_data: "Checksum does not match",
    flip_a_bit: "Checksum does not match",
    remove_data: "No such file",
    remove_index: "model.ckpt-28.index is missing",
    empty_index: "file is too short to be an sstable",
    zero_index: "not an sstable",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_named_and_set_aside(model_dir, damage):
    from model.training.checkpoints import fault_of, repair, usable_checkpoint

    latest = model_dir / "model.ckpt-28"
    files = {path.name for path in model_dir.glob("model.ckpt-28.*")}
    assert fault_of(latest) is None and repair(model_dir) == []
    damage(latest)
    assert DAMAGES[damage] in fault_of(latest)
    with pytest.raises(UserError, match="model.ckpt-28: damaged: .*; accepted: .*train.py"):
        usable_checkpoint(model_dir)
    remaining = {path.name for path in model_dir.glob("model.ckpt-28.*")}

    first, last = repair(model_dir)
    assert first.startswith(f"{latest}: damaged: ") and DAMAGES[damage] in first
    assert first.endswith(f"; set aside in {model_dir}/damaged") and "\n" not in first
    assert last == f"{model_dir}: resuming from model.ckpt-21"
    assert Experiment(model_dir).latest_step() == 21
    assert set(os.listdir(model_dir / "damaged")) == remaining
    assert not list(model_dir.glob("model.ckpt-28*")) and len(remaining) >= len(files) - 1
    assert usable_checkpoint(model_dir).name == "model.ckpt-21"
    assert repair(model_dir) == []


def test_every_bit_of_a_tensor_counts(model_dir):
    from model.training.checkpoints import fault_of

    data = model_dir / f"model.ckpt-28{DATA}"
    content = data.read_bytes()
    for position in range(0, len(content), 97):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        data.write_bytes(changed)
        assert fault_of(model_dir / "model.ckpt-28"), position


def test_several_damaged_checkpoints(model_dir):
    from model.training.checkpoints import repair

    for step in (28, 21, 7):
        zero_data(model_dir / f"model.ckpt-{step}")
    found = repair(model_dir)
    assert len(found) == 3 and found[-1].endswith("resuming from model.ckpt-14")
    # Those before it are kept for the next time, unread.
    assert (model_dir / f"model.ckpt-7{DATA}").exists()
    state = (model_dir / "checkpoint").read_text().splitlines()
    assert state == [
        'model_checkpoint_path: "model.ckpt-14"',
        'all_model_checkpoint_paths: "model.ckpt-0"',
        'all_model_checkpoint_paths: "model.ckpt-7"',
        'all_model_checkpoint_paths: "model.ckpt-14"',
    ]


def test_no_whole_checkpoint(model_dir):
    from model.training.checkpoints import repair

    for step in (0, 7, 14, 21, 28):
        flip_a_bit(model_dir / f"model.ckpt-{step}")
    found = repair(model_dir)
    assert len(found) == 6 and found[-1].endswith("no intact checkpoint is left; starting afresh")
    assert Experiment(model_dir).latest_step() is None
    assert repair(model_dir) == []


@pytest.mark.parametrize("content", [None, b"", b"\0" * 99, b"\xff\xfe", b"model_checkpoint"])
def test_a_damaged_state_file(model_dir, content):
    from model.training.checkpoints import repair

    state = model_dir / "checkpoint"
    state.unlink()
    if content is not None:
        state.write_bytes(content)
    assert Experiment(model_dir).latest_step() is None
    found = repair(model_dir)
    assert found[0].startswith(f"{state}: {'damaged' if content is not None else 'missing'}; ")
    assert found[1].endswith("resuming from model.ckpt-28") and len(found) == 2
    assert Experiment(model_dir).latest_step() == 28


def test_a_state_file_that_names_a_missing_checkpoint(model_dir):
    from model.training.checkpoints import repair

    for path in model_dir.glob("model.ckpt-28.*"):
        path.unlink()
    found = repair(model_dir)
    assert found == [
        f"{model_dir}/checkpoint: names model.ckpt-28, whose files are missing",
        f"{model_dir}: resuming from model.ckpt-21",
    ]


def test_a_run_that_was_rolled_back_by_hand_stays_so(model_dir):
    from model.training.checkpoints import repair

    state = model_dir / "checkpoint"
    state.write_text(state.read_text().replace('th: "model.ckpt-28"', 'th: "model.ckpt-14"', 1))
    assert repair(model_dir) == []
    assert Experiment(model_dir).latest_step() == 14
    zero_data(model_dir / "model.ckpt-14")
    assert repair(model_dir)[-1].endswith("resuming from model.ckpt-7")


def test_what_a_kill_leaves_is_removed(model_dir):
    from model.training.checkpoints import repair

    (model_dir / "model.ckpt-35_temp").mkdir()
    (model_dir / "model.ckpt-35_temp" / "part-00000-of-00001.index").write_bytes(b"half")
    left = ["model.ckpt-35.meta.tmp12", "checkpoint.tmp34", "graph.pbtxt.tmp56"]
    for name in left:
        (model_dir / name).write_bytes(b"half")
    (model_dir / f"model.ckpt-35{DATA}").write_bytes(b"its index was not written yet")
    assert repair(model_dir) == []
    assert not {*left, "model.ckpt-35_temp"} & set(os.listdir(model_dir))
    assert Experiment(model_dir).latest_step() == 28


def test_nothing_to_repair(tmp_path):
    from model.training.checkpoints import repair

    assert repair(tmp_path) == []
    assert not Experiment(tmp_path).has_checkpoints()


def test_train_goes_on_from_the_one_before(model_dir, data_dir, capsys):
    """Also where the training had been finished."""
    truncate_data(model_dir / "model.ckpt-28")
    capsys.readouterr()
    assert train_only(model_dir, data_dir) == 28
    out = capsys.readouterr().out
    assert f"warning: {model_dir}/model.ckpt-28: damaged: " in out
    assert f"warning: {model_dir}: resuming from model.ckpt-21" in out
    assert "step 28  validation" in out and "step 21  validation" not in out


def test_a_finished_training_whose_state_file_is_gone_is_not_lost(model_dir, data_dir, capsys):
    (model_dir / "checkpoint").unlink()
    train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir)])
    out = capsys.readouterr().out
    assert "resuming from model.ckpt-28" in out and "step 7  validation" not in out


@pytest.mark.usefixtures("no_umap", "one_figure")
def test_a_damaged_best_checkpoint_is_set_aside(model_dir, data_dir, capsys):
    from model.training.embedding import embed
    from src.data.loading import load_data

    experiment = Experiment(model_dir)
    best = experiment.best_checkpoint
    flip_a_bit(best)
    arguments = ["--model_dir", str(model_dir), "--data_dir", str(data_dir)]
    params = experiment.trained_params()
    with pytest.raises(UserError, match=f"best/{best.name}: damaged: .*Checksum"):
        embed(experiment, params, load_data(params, data_dir).splits["test"])
    train.main(arguments)
    out = capsys.readouterr().out
    assert (
        f"warning: {best}: damaged: " in out and "damaged/best; the best later checkpoint is" in out
    )
    assert (model_dir / "damaged" / "best" / f"{best.name}.index").exists()
    visualize.main(arguments)  # by the latest


def test_if_the_best_is_lost_the_latest_is_evaluated_and_kept(model_dir, data_dir, capsys):
    """Otherwise `metrics.json` would describe weights that nobody has."""
    experiment = Experiment(model_dir)
    for path in experiment.best_dir.glob("model.ckpt-*"):
        path.unlink()
    for path in model_dir.glob("model.ckpt-21.*"):
        shutil.copy(path, experiment.best_dir / path.name)
    experiment.save_best(replace(experiment.best(), step=21))
    experiment.save_metrics({**experiment.metrics(), "evaluated_step": 21})
    run_train(model_dir, data_dir)
    assert "already finished at step 28" in capsys.readouterr().out
    flip_a_bit(experiment.best_checkpoint)
    assert run_train(model_dir, data_dir)["evaluated_step"] == 28 == experiment.best().step
    before = experiment.metrics_path.read_bytes()
    run_train(model_dir, data_dir)
    assert "already finished at step 28" in capsys.readouterr().out
    assert experiment.metrics_path.read_bytes() == before


def test_a_restored_checkpoint_is_not_written_again(model_dir, data_dir):
    """TensorFlow would write it in place, and a kill meanwhile would leave none."""
    longer(model_dir)
    state = {path.name: path.stat() for path in model_dir.glob("model.ckpt-28.*")}
    assert run_train(model_dir, data_dir)["global_step"] == 35
    for name, before in state.items():
        after = (model_dir / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), name


def test_a_clock_that_is_set_back_leaves_no_evaluation_out(make_experiment, data_dir, monkeypatch):
    from tensorflow.python.training import basic_session_run_hooks as hooks

    model_dir = make_experiment(num_epochs=3)
    falling = itertools.count(2e9, -600)
    monkeypatch.setattr(hooks, "time", SimpleNamespace(time=lambda: next(falling)))
    train_only(model_dir, data_dir)
    steps, _ = read_curves(model_dir / "eval_validation")["map_at_r_within"]
    assert steps == [7, 14, 21]


def test_an_export_that_broke_off_is_removed(model_dir, data_dir):
    (model_dir / "export" / "best" / "temp-1800000000").mkdir(parents=True)
    longer(model_dir)
    run_train(model_dir, data_dir)
    assert not list((model_dir / "export" / "best").glob("temp-*"))


def run_train(model_dir, data_dir, *options):
    train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir), *options])
    return json.loads((model_dir / "metrics.json").read_text())


def longer(model_dir, **params):
    """Ask for one more epoch."""
    from tiny import TINY, write_params

    write_params(model_dir, {**TINY, "num_epochs": 5, **params})


def test_a_state_file_that_leads_out_of_the_directory(model_dir, data_dir, tmp_path, capsys):
    """TensorFlow would restore what it names, and remove it in the rotation."""
    victim = tmp_path / "victim"
    victim.mkdir()
    for path in model_dir.glob("model.ckpt-*"):
        shutil.copy(path, victim)
    before = sorted(os.listdir(victim))
    paths = [f"{victim}/model.ckpt-7", "../victim/model.ckpt-14", "model.ckpt-28"]
    (model_dir / "checkpoint").write_text(
        'model_checkpoint_path: "../victim/model.ckpt-28"\n'
        + "".join(f'all_model_checkpoint_paths: "{path}"\n' for path in paths)
    )
    longer(model_dir, keep_checkpoint_max=1)
    assert train_only(model_dir, data_dir) == 35
    out = capsys.readouterr().out
    assert f"{model_dir}/checkpoint: names more than checkpoints beside it; rewritten" in out
    assert sorted(os.listdir(victim)) == before


def test_a_state_file_that_names_a_checkpoint_elsewhere_alone(tmp_path):
    from model.training.checkpoints import repair

    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "../victim/model.ckpt-28"\n')
    assert repair(tmp_path)[-1].endswith("no intact checkpoint is left; starting afresh")
    assert os.listdir(tmp_path) == []


def test_a_best_step_that_is_a_path_moves_nothing(model_dir, data_dir, tmp_path, capsys):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("kept")
    (model_dir / "best" / "model.ckpt-").mkdir()
    content = json.loads((model_dir / "best" / "best.json").read_text())
    content["step"] = "/../../../victim/x"
    (model_dir / "best" / "best.json").write_text(json.dumps(content))
    run_train(model_dir, data_dir)
    assert os.listdir(victim) == ["precious"]
    assert f"warning: {model_dir}/best/best.json: damaged; set aside in" in capsys.readouterr().out


@pytest.mark.usefixtures("no_umap")
def test_a_damaged_untrained_network_is_left_out(model_dir, data_dir, monkeypatch, capsys):
    untrained = Experiment(model_dir).untrained_checkpoint
    flip_a_bit(untrained)
    longer(model_dir)
    metrics = run_train(model_dir, data_dir)
    out = capsys.readouterr().out
    assert f"warning: {untrained}: damaged: " in out and "Checksum" in out
    assert "set aside in" in out and "the baseline `untrained` is left out" in out
    assert metrics["status"] == "finished" and list(metrics["baselines"]) == ["raw_pixels"]
    figure = FIGURES["before_after"]  # the one that shows it
    monkeypatch.setattr("src.figures.FIGURES", {"before_after": figure})
    visualize.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir)])


def test_a_best_whose_checkpoints_are_gone_is_not_that_of_the_next_training(
    model_dir, data_dir, capsys
):
    """One that no training could better."""
    experiment = Experiment(model_dir)
    best = replace(experiment.best(), value=2.0, step=999, latest_step=999)
    for path in experiment.best_dir.glob("model.ckpt-*"):
        path.rename(path.with_name(f"model.ckpt-999{path.suffix}"))
    experiment.save_best(best)
    for path in [model_dir / "checkpoint", *model_dir.glob("model.ckpt-*")]:
        path.unlink()
    longer(model_dir, num_epochs=1)
    metrics = run_train(model_dir, data_dir)
    assert "the earlier training has no checkpoint left" in capsys.readouterr().out
    assert experiment.best().value <= 1 and metrics["evaluated_step"] == 7
    assert not list(experiment.best_dir.glob("model.ckpt-999*"))


def test_an_overwrite_that_breaks_off_leaves_nothing_to_the_next_training(
    model_dir, data_dir, monkeypatch
):
    rename = os.rename

    def refuse(source, target):
        if os.path.basename(source) == "best":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    longer(model_dir, margin=1.5, num_epochs=1)
    with pytest.raises(KeyboardInterrupt):
        run_train(model_dir, data_dir, "--overwrite")
    monkeypatch.undo()
    assert (model_dir / "best" / "best.json").exists()
    metrics = run_train(model_dir, data_dir)  # of other params, which are refused else
    assert metrics["global_step"] == 7 and metrics["evaluated_step"] == 7
    assert Experiment(model_dir).best().step == 7
    assert not [name for name in os.listdir(model_dir) if name.startswith(".")]


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(content)


def empty(path):
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [cut, flip, empty], ids=lambda damage: damage.__name__)
def test_every_other_file_may_be_damaged(model_dir, data_dir, damage):
    """All at once but the checkpoint that it goes on from, and what that was trained with."""
    spared = re.compile(r"model\.ckpt-28\..*|checkpoint|(trained_)?params\.json|trained_data\.npz")
    damaged = [
        path
        for path in model_dir.rglob("*")
        if path.is_file() and path.stat().st_size and not spared.fullmatch(path.name)
    ]
    damaged += list((model_dir / "best").glob("model.ckpt-28.*"))
    assert len(damaged) > 20
    for path in damaged:
        damage(path)
    longer(model_dir)
    metrics = run_train(model_dir, data_dir)
    assert metrics["status"] == "finished" and metrics["global_step"] == 35


def test_a_damaged_record_of_the_data_has_a_way_on(model_dir, data_dir):
    record = Experiment(model_dir).data_record_path
    content = record.read_bytes()
    longer(model_dir)
    for damage in (cut, flip, empty):
        record.write_bytes(content)
        damage(record)
        with pytest.raises(UserError, match=r"trained_data.npz: damaged; accepted: .*remove it"):
            run_train(model_dir, data_dir)
    record.unlink()
    assert train_only(model_dir, data_dir) == 35
    assert record.exists()


def test_a_checkpoint_of_another_network(model_dir, data_dir):
    from tiny import TINY, write_params

    another = {**TINY, "embedding_size": 5}
    write_params(model_dir, {**another, "num_epochs": 5})
    Experiment(model_dir).trained_params_path.write_text(json.dumps(another))
    pattern = (
        r"model.ckpt-28: of another network: variable embedding/kernel: found shape 32 x 8; "
        r"accepted: shape 32 x 5, as params.json makes it \(\d+ of \d+ variables differ\)"
    )
    arguments = ["--model_dir", str(model_dir), "--data_dir", str(data_dir)]
    with pytest.raises(UserError, match=pattern):
        train.main(arguments)
    with pytest.raises(UserError, match="of another network: variable embedding/"):
        visualize.main(arguments)


def test_a_checkpoint_that_lacks_a_variable(model_dir, data_dir):
    from tiny import TINY, write_params

    another = {**TINY, "use_batch_norm": True}
    write_params(model_dir, {**another, "num_epochs": 5})
    Experiment(model_dir).trained_params_path.write_text(json.dumps(another))
    with pytest.raises(UserError, match="found nothing; accepted: shape 4"):
        train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir)])


def test_the_untrained_checkpoint_is_checked_too(model_dir, data_dir):
    from model.training.embedding import embed
    from src.data.loading import load_data

    experiment = Experiment(model_dir)
    params = load_params(experiment.params_path)
    zero_data(experiment.untrained_checkpoint)
    with pytest.raises(UserError, match="untrained/model.ckpt-0: damaged: "):
        embed(
            experiment,
            params,
            load_data(params, data_dir).splits["test"],
            experiment.untrained_checkpoint,
        )
