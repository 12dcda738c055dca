"""The program, with `fake_train.py` in the place of `train.py`: search, pruning, kills, budgets."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_train import EVALUATIONS, peak
from search_program import use_fake
from tiny import bright_quadrants, write_idx

import compare
import sweep
from src.comparing.results import read_results
from src.comparing.search_figure import best_over_minutes, best_over_trials, search_figure
from src.data.loading import load_data
from src.errors import SweepFailed, UserError
from src.experiment.data_record import record_of, save_record
from src.experiment.experiment import Experiment
from src.experiment.pruned import PRUNED_FILE, is_pruned, read_pruned
from src.params.reading import load_params
from src.params.schema import Params
from src.searching.goal import make_goal
from src.searching.record import read_record
from src.searching.search import misleading
from src.sweeping.job import Unfinished
from src.sweeping.launchers import TryLater
from src.sweeping.launchers.local import Local
from src.system.lock import has_writer, one_writer

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(Path(__file__).with_name("search_program.py"))]
TAG = "validation.map_at_r_within"


@pytest.fixture
def parent(tmp_path):
    return make_parent(tmp_path / "p")


def make_parent(directory, **params):
    directory.mkdir()
    (directory / "params.json").write_text(json.dumps({"dataset": "mnist", "seed": 1, **params}))
    return directory


@pytest.fixture(autouse=True)
def _few_images(tmp_path, data_dir):
    """Beside the parents, the data that `arguments` names: each search reads them all."""
    (tmp_path / "data").symlink_to(data_dir)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(sweep, "_job", sweep._job)
    monkeypatch.setattr(Local, "look_every_seconds", 0.02)
    use_fake(0.0)


MARGIN = ("--param", "margin=0.05..5:log")


def arguments(parent, *others, search="tpe"):
    data = ["--data_dir", str(parent.parent / "data")]
    return ["--parent_dir", str(parent), *data, "--search", search, *map(str, others)]


def run(parent, *others, search="tpe"):
    sweep.main(arguments(parent, *others, search=search))
    return read_record(parent)


def started_steps(parent, name):
    """The step at which each start of a training began."""
    return [int(line) for line in (parent / name / "started").read_text().split()]


def values_of(record):
    return [trial.values for trial in record.trials]


# A search


def test_the_optimum_is_found_trained_again_and_written(parent, fake, capsys):
    record = run(parent, *MARGIN, "--param", "augment.shift=0..2", "--trials", 12, "--seeds", 3)
    assert [trial.status for trial in record.trials] == ["finished"] * 12
    for trial in record.trials:
        params = load_params(parent / trial.name / "params.json")
        assert params.margin == trial.values["margin"]
        assert params.augment.shift == trial.values["augment.shift"]
        assert trial.value == pytest.approx(peak(params) * (1 - 0.5**EVALUATIONS))
    best = sorted(record.trials, key=lambda trial: -trial.value)[:3]
    again = {path.name for path in parent.glob("*-seed_*")}
    assert again == {f"{trial.name}-seed_{seed}" for trial in best for seed in (2, 3)}
    assert record.winner == best[0].name  # all gain the same with another seed
    content = json.loads((parent / "best" / "params.json").read_text())
    values = [
        peak(load_params(parent / name / "params.json"))
        for name in (best[0].name, f"{best[0].name}-seed_2", f"{best[0].name}-seed_3")
    ]
    shown = f"{np.mean(values) * (1 - 0.5**EVALUATIONS):.4f} ± "
    shown += f"{np.std(values, ddof=1) * (1 - 0.5**EVALUATIONS):.4f} over 3 seeds"
    assert shown in content["$comment"] and "--search tpe, 12 trials" in content["$comment"]
    assert load_params(parent / "best" / "params.json") == load_params(
        parent / best[0].name / "params.json"
    )
    assert f"winner: {content['$comment']}" in capsys.readouterr().out


def test_a_trial_whose_files_are_gone_is_named_and_does_not_win(parent, fake, capsys):
    record = run(parent, *MARGIN, "--trials", 5)
    best, second, third = sorted(record.trials, key=lambda trial: -trial.value)[:3]
    assert "had finished" not in capsys.readouterr().out
    shutil.rmtree(parent / best.name)
    (parent / second.name / "metrics.json").unlink()
    record = run(parent, *MARGIN, "--trials", 5)
    out = capsys.readouterr().out
    assert record.winner == third.name
    for lost in (best, second):
        assert f"warning: {parent / lost.name}: had finished, but its files are gone" in out


def test_a_winner_is_not_called_by_its_lucky_seed(parent, fake, monkeypatch):
    """Of two, the one that was better with its first seed is worse with the others."""
    run(parent, "--param", "margin=0.3,0.31", "--trials", 2, search="grid")
    record = read_record(parent)
    lucky = max(record.trials, key=lambda trial: trial.value)
    assert record.winner == lucky.name
    for seed in (2, 3):  # what its trainings with other seeds will say
        folder = parent / f"{lucky.name}-seed_{seed}"
        folder.mkdir()
        params = json.loads((parent / lucky.name / "params.json").read_text())
        (folder / "params.json").write_text(json.dumps({**params, "seed": seed}))
        for name in ("checkpoint", "trained_params.json", "metrics.json"):
            shutil.copy(parent / lucky.name / name, folder / name)
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["splits"]["validation"]["map_at_r_within"] = 0.1
        (folder / "metrics.json").write_text(json.dumps(metrics))
        trained = json.loads((folder / "trained_params.json").read_text())
        (folder / "trained_params.json").write_text(json.dumps({**trained, "seed": seed}))
    record = run(parent, "--param", "margin=0.3,0.31", "--trials", 2, "--seeds", 3, search="grid")
    assert record.winner != lucky.name


def test_seeds_that_did_not_finish_are_named_also_the_next_time(tmp_path, fake, capsys):
    """Seed 666 diverges; then one of the two finalists gets a result of it after all."""
    parent = make_parent(tmp_path / "p", seed=665)
    command = ("--param", "margin=0.3,0.31", "--trials", 2, "--seeds", 3)
    for _ in range(2):
        with pytest.raises(SweepFailed) as error:
            run(parent, *command, search="grid")
        lines = str(error.value).splitlines()
        assert lines[0] == "none of the best has finished with all seeds:" and len(lines) == 3
        assert re.match(r"  trial_000\d-seed_666: (no message .exit code 3|diverged)", lines[1])
    good, bad = parent / "trial_0000-seed_666", parent / "trial_0001-seed_666"
    for name in ("checkpoint", "trained_params.json", "metrics.json"):
        shutil.copy(parent / "trial_0000-seed_667" / name, good / name)
    trained = json.loads((good / "trained_params.json").read_text())
    (good / "trained_params.json").write_text(json.dumps({**trained, "seed": 666}))
    capsys.readouterr()
    assert run(parent, *command, search="grid").winner == "trial_0000"
    out = capsys.readouterr().out
    assert f"not considered, as not all seeds have finished:\n  {bad.name}: diverged\n" in out


def test_the_same_command_twice_proposes_the_same(tmp_path, fake):
    found = []
    for name in ("a", "b"):
        parent = make_parent(tmp_path / name, deterministic=True)
        found.append(values_of(run(parent, *MARGIN, "--trials", 7)))
    assert found[0] == found[1]
    assert values_of(run(parent, *MARGIN, "--trials", 7)) == found[0]  # nothing is left to do
    more = values_of(run(parent, *MARGIN, "--trials", 9))
    assert more[:7] == found[0] and len(more) == 9


def test_a_grid_takes_each_combination_once(parent, fake):
    options = ("--param", "margin=0.1..0.5:0.2", "--param", "l2_normalize=true,false")
    record = run(parent, *options, search="grid")
    found = [(trial.values["margin"], trial.values["l2_normalize"]) for trial in record.trials]
    assert sorted(found) == [(m, n) for m in (0.1, 0.3, 0.5) for n in (False, True)]
    assert found != sorted(found)  # a budget that ends it early leaves no corner out


def test_equal_values_are_not_trained_twice(parent, fake, capsys):
    record = run(parent, "--param", "margin=0.2,0.4", "--trials", 8, search="random")
    assert len(record.trials) == 8
    assert sum((parent / trial.name).exists() for trial in record.trials) == 2
    assert len({trial.value for trial in record.trials}) == 2
    assert "the values of trial_0000, not trained again" in capsys.readouterr().out


def test_without_an_end_it_ends_when_nothing_is_new(parent, fake, capsys):
    record = run(parent, "--param", "margin=0.2,0.4", "--minutes", 60, search="random")
    assert len(record.trials) < 60
    assert "proposals in a row without a result" in capsys.readouterr().out


# Results that are none


def test_failed_and_diverged_trainings_are_results(parent, fake, capsys):
    record = run(parent, "--param", "margin=0.3,50,500,0.5", search="grid")
    found = {trial.values["margin"]: trial for trial in record.trials}
    assert {margin: trial.status for margin, trial in found.items()} == {
        0.3: "finished",
        0.5: "finished",
        50: "diverged",
        500: "failed",
    }
    assert found[500].reason.startswith("no memory (exit code 2; ")
    assert found[50].value is None
    assert record.winner == found[0.3].name
    starts = {path: path.read_text() for path in parent.glob("*/started")}
    run(parent, "--param", "margin=0.3,50,500,0.5", search="grid")
    assert {path: path.read_text() for path in parent.glob("*/started")} == starts


def test_if_none_finishes_there_is_no_winner(parent, fake):
    with pytest.raises(SweepFailed, match="none of 2 trials has finished"):
        run(parent, "--param", "margin=500,600", search="grid")
    assert not (parent / "best").exists()


def test_params_that_contradict_each_other_are_told(parent, fake, capsys):
    """Each value is right with some other value: only the proposal shows it."""
    options = ("--param", "margin=0.3,soft", "--param", "triplet_strategy=batch_all,batch_hard")
    with_soft = make_parent(parent.parent / "q", triplet_strategy="batch_hard")
    record = run(with_soft, *options, search="grid")
    statuses = {
        (trial.values["margin"], trial.values["triplet_strategy"]): trial.status
        for trial in record.trials
    }
    assert statuses["soft", "batch_all"] == "failed" and statuses[0.3, "batch_all"] == "finished"
    assert re.search(r"^trial_000\d: margin: found \"soft\"", capsys.readouterr().out, re.MULTILINE)


# Pruning


@pytest.fixture(scope="module")
def pruned_once(tmp_path_factory, data_dir):
    """A search of nine random margins; some are pruned."""
    parent = make_parent(tmp_path_factory.mktemp("pruned") / "p")
    (parent.parent / "data").symlink_to(data_dir)
    options = (*MARGIN, "--trials", 9, "--prune", "median")
    command = [*PROGRAM, "0.4", *arguments(parent, *options, search="random")]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return parent


@pytest.fixture
def pruned_search(pruned_once, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(pruned_once, tmp_path / "copy"))


@pytest.mark.system
def test_pruned_trainings_are_stopped_saved_shown_and_can_go_on(pruned_search):
    parent = pruned_search
    record = read_record(parent)
    pruned = [trial for trial in record.trials if trial.status == "pruned"]
    finished = [trial for trial in record.trials if trial.status == "finished"]
    assert len(pruned) >= 1 and len(finished) >= 4 and len(pruned) + len(finished) == 9
    statuses = {result.model_dir.name: result.status for result in read_results([parent])}
    for trial in pruned:
        found = read_pruned(parent / trial.name)
        experiment = Experiment(parent / trial.name)
        assert found.latest_step == experiment.latest_step() < EVALUATIONS
        before = [one for one in finished if one.number < trial.number]
        share = 1 - 0.5**found.evaluation
        medians = np.median([one.value / (1 - 0.5**EVALUATIONS) * share for one in before])
        assert found.median == pytest.approx(medians, rel=1e-5)
        assert found.value < found.median
        assert statuses[trial.name] == "pruned" and is_pruned(experiment)
    name = pruned[0].name
    fake_train = [sys.executable, str(ROOT / "tests" / "fake_train.py")]
    subprocess.run([*fake_train, "--model_dir", str(parent / name)], check=True)
    assert started_steps(parent, name)[1] == read_pruned(parent / name).latest_step  # not from 0
    assert not is_pruned(Experiment(parent / name))
    statuses = {result.model_dir.name: result.status for result in read_results([parent])}
    assert statuses[name] == "finished"


@pytest.mark.system
def test_a_pruned_training_taken_up_by_hand_and_stopped_is_stopped(pruned_search):
    parent = pruned_search
    record = read_record(parent)
    name = next(trial.name for trial in record.trials if trial.status == "pruned")
    experiment = Experiment(parent / name)
    step = experiment.latest_step() + 1
    (parent / name / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{step}"\n')
    assert experiment.metrics()["status"] == "stopped" and not is_pruned(experiment)


@pytest.mark.parametrize(
    ("params", "note"),
    [
        ({}, None),
        ({"learning_rate_schedule": "cosine"}, "learning_rate_schedule is cosine"),
        (
            {"learning_rate_schedule": "steps", "learning_rate_drop_steps": [9]},
            "learning_rate_schedule is steps",
        ),
        ({"learning_rate_warmup_steps": 9}, "learning_rate_warmup_steps is 9"),
        ({"warmup_strategy": "batch_all", "warmup_steps": 9}, "warmup_strategy is batch_all"),
    ],
)
def test_what_misleads_pruning_is_told(params, note):
    pruning = make_goal("random", TAG, "median", 9, None)
    assert misleading(Params(**params), pruning) == ([note] if note else [])
    assert misleading(Params(**params), make_goal("random", TAG, "none", 9, None)) == []


@pytest.mark.system
def test_a_damaged_note_of_pruning(pruned_search):
    parent = pruned_search
    record = read_record(parent)
    name = next(trial.name for trial in record.trials if trial.status == "pruned")
    (parent / name / PRUNED_FILE).write_text("{")
    with pytest.raises(UserError, match="pruned.json: damaged"):
        is_pruned(Experiment(parent / name))
    statuses = {result.model_dir.name: result.status for result in read_results([parent])}
    assert statuses[name] == "stopped"


# Budgets and interruptions


@pytest.mark.system
def test_when_the_time_is_over_trainings_save_and_more_time_resumes_them(parent, fake, capsys):
    use_fake(1.0)
    with pytest.raises(SweepFailed, match="none of 1 trials has finished"):
        run(parent, *MARGIN, "--minutes", 0.05)
    out = capsys.readouterr().out
    assert "the 0.05 minutes are over" in out
    assert "stopped; the same command with time left resumes it" in out
    record = read_record(parent)
    assert [trial.status for trial in record.trials] == ["running"]
    assert 3 <= record.seconds < 60
    with pytest.raises(SweepFailed):  # no time is left
        run(parent, *MARGIN, "--minutes", 0.05)
    assert len(started_steps(parent, "trial_0000")) == 1
    use_fake(0.0)
    record = run(parent, *MARGIN, "--minutes", 60, "--trials", 2)
    assert [trial.status for trial in record.trials] == ["finished"] * 2
    assert len(started_steps(parent, "trial_0000")) == 2


def start(parent, pause, *others):
    command = [*PROGRAM, str(pause), *arguments(parent, *others)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.system
def test_ctrl_c_loses_nothing(parent):
    options = (*MARGIN, "--trials", 3)
    program = start(parent, 0.5, *options)
    while not list(parent.glob("trial_0000/model.ckpt-*")):
        time.sleep(0.05)
        assert program.poll() is None
    program.send_signal(signal.SIGINT)
    out, _ = program.communicate(timeout=60)
    assert program.returncode == 130 and "to resume: python sweep.py" in out
    again = start(parent, 0.0, *options)
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0, out
    steps = started_steps(parent, "trial_0000")
    assert len(steps) == 2 and steps[1] >= 1  # from its checkpoint
    assert [trial.status for trial in read_record(parent).trials] == ["finished"] * 3


@pytest.mark.system
def test_kill_9_at_random_moments_loses_nothing(tmp_path):
    """Ten kills; the trainings live on, and are waited for. Then it is as if nothing had been."""
    options = (*MARGIN, "--trials", 8)
    whole, killed = make_parent(tmp_path / "whole"), make_parent(tmp_path / "killed")
    assert start(whole, 0.0, *options).wait(timeout=120) == 0
    random = np.random.default_rng(0)
    num_kills = 0
    while num_kills < 10:
        program = start(killed, 0.1, *options)
        time.sleep(random.uniform(0.3, 3.0))
        if program.poll() is None:
            program.kill()
            num_kills += 1
        program.communicate()
        if num_kills < 10 and (record := read_record(killed)) and record.winner:
            break
    program = start(killed, 0.0, *options)
    out, _ = program.communicate(timeout=120)
    assert program.returncode == 0, out
    assert num_kills >= 5
    before, after = read_record(whole), read_record(killed)
    assert values_of(before) == values_of(after)
    assert [t.value for t in before.trials] == [t.value for t in after.trials]
    assert before.winner == after.winner
    for trial in after.trials:
        assert not has_writer(killed / trial.name)
        assert len(started_steps(killed, trial.name)) == 1  # never twice, and never from 0 again


@pytest.mark.system
def test_a_training_that_was_killed_too_goes_on_from_its_checkpoint(parent):
    program = start(parent, 0.4, *MARGIN, "--trials", 1)
    while not list(parent.glob("trial_0000/model.ckpt-2*")):
        time.sleep(0.05)
        assert program.poll() is None
    program.kill()
    os.kill(json.loads((parent / "trial_0000" / "train.lock").read_text())["pid"], signal.SIGKILL)
    program.communicate()
    again = start(parent, 0.0, *MARGIN, "--trials", 1)
    assert again.wait(timeout=60) == 0
    assert started_steps(parent, "trial_0000")[1] >= 2


def test_one_search_at_a_time(parent, fake):
    with one_writer(parent), pytest.raises(UserError, match="in use by .*one search at a time"):
        run(parent, *MARGIN, "--trials", 2)


def test_several_at_once(parent, fake, capsys):
    use_fake(0.1)
    record = run(parent, *MARGIN, "--trials", 6, "--jobs", 3, "--prune", "median")
    before = capsys.readouterr().out.partition(": finished")[0]
    assert len(re.findall(r"^trial_\d+: started", before, re.MULTILINE)) == 3
    assert len(record.trials) == 6
    assert {trial.status for trial in record.trials} <= {"finished", "pruned"}


def test_another_parent_is_refused(parent, fake):
    run(parent, *MARGIN, "--trials", 2)
    (parent / "params.json").write_text(
        json.dumps({"dataset": "mnist", "seed": 1, "embedding_size": 9})
    )
    with pytest.raises(UserError, match="embedding_size: found 9, but .* in its params.json"):
        run(parent, *MARGIN, "--trials", 4)


@pytest.mark.parametrize(
    ("key", "found"), [("num_epochs", "5, but 20"), ("save_checkpoints_steps", "7, but null")]
)
def test_another_length_of_training_is_refused(parent, fake, key, found):
    """Trainings of 20 epochs could not win beside those of 5, whatever they have reached."""
    run(parent, *MARGIN, "--trials", 2)
    before = (parent / "search.json").read_bytes()
    params = json.loads((parent / "params.json").read_text())
    (parent / "params.json").write_text(json.dumps({**params, key: int(found[0])}))
    with pytest.raises(UserError, match=f"trial_0000: {key}: found {found} in its") as caught:
        run(parent, *MARGIN, "--trials", 4)
    assert "overwrite" not in str(caught.value)
    assert (parent / "search.json").read_bytes() == before


def test_other_data_than_before_are_refused(parent, fake, capsys):
    run(parent, *MARGIN, "--trials", 1)
    options = ["--parent_dir", str(parent), "--search", "tpe", "--trials", "2", *MARGIN]
    own = parent.parent / "data"
    params = load_params(parent / "trial_0000" / "params.json")
    record = record_of(load_data(params, own, params_path=Path("p"), to_train=True))
    save_record(parent / "trial_0000" / "trained_data.npz", record)
    other = parent.parent / "other"
    (other / "mnist").mkdir(parents=True)
    for prefix, size in (("train", 80), ("t10k", 20)):
        images, labels = bright_quadrants(size, seed=9)
        write_idx(other / "mnist" / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(other / "mnist" / f"{prefix}-labels-idx1-ubyte.gz", labels)
    with pytest.raises(UserError, match="trial_0000: the data have changed .*--keep_spl") as caught:
        sweep.main([*options, "--data_dir", str(other)])
    assert "overwrite" not in str(caught.value)
    assert not (parent / "trial_0001").exists()
    sweep.main([*options, "--data_dir", str(other), "--keep_splits"])
    sweep.main([*options, "--data_dir", str(own)])


def test_a_winners_folder_that_was_trained_stays_as_it_is(parent, fake, capsys):
    run(parent, "--param", "margin=1,2", search="grid")
    command = [sys.executable, str(ROOT / "tests" / "fake_train.py"), "--model_dir"]
    subprocess.run([*command, str(parent / "best")], check=True)
    before = (parent / "best" / "params.json").read_bytes()
    better = json.loads((parent / "trial_0000" / "metrics.json").read_text())
    capsys.readouterr()
    loser = next(t for t in read_record(parent).trials if t.values["margin"] == 2)
    better["splits"]["validation"]["map_at_r_within"] = 0.99
    (parent / loser.name / "metrics.json").write_text(json.dumps(better))
    record = run(parent, "--param", "margin=1,2", search="grid")
    assert record.winner == loser.name
    out = capsys.readouterr().out
    assert f"best: has been trained, so it stays as it is; these params: {parent}" in out
    assert (parent / "best" / "params.json").read_bytes() == before


def test_a_training_at_its_own_limit_is_not_called_running(parent, fake, capsys):
    use_fake(1.0)
    with pytest.raises(SweepFailed, match="trial_0000: not finished$"):
        run(parent, *MARGIN, "--trials", 1, "--job_minutes", 0.01)
    out = capsys.readouterr().out
    assert "trial_0000: not finished: stopped after --job_minutes 0.01; the same command" in out


class Stubborn:
    """In the place of `local`: jobs that do not start now, or that somebody cancels."""

    at_once, cancels_on_interrupt, look_every_seconds = 2, True, 0.01

    def __init__(self, refuses):
        self.refuses = refuses
        self.num_started = 0

    def check(self): ...

    def find(self, job): ...

    def news(self):
        return ()

    def stop(self, started, number): ...

    def start(self, job):
        if self.refuses:
            raise TryLater("Unable to contact slurm controller")
        self.num_started += 1
        return SimpleNamespace(
            job=job,
            started=time.time(),
            first_message="submitted",
            has_ended=lambda: True,
            last_message=lambda: "ended unfinished",
            progress=lambda: None,
            status=lambda: Unfinished("cancelled (job 7); the same command submits it again"),
        )


@pytest.mark.parametrize("refuses", [True, False])
def test_what_the_same_command_takes_up_again_has_not_failed(
    parent, fake, monkeypatch, capsys, refuses
):
    launcher = Stubborn(refuses)
    monkeypatch.setattr("src.sweeping.run_jobs._SECONDS_BETWEEN_TRIES", 0)
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "_launcher", lambda *_: launcher)
        with pytest.raises(SweepFailed, match="trial_0002: not finished$"):
            run(parent, *MARGIN, "--trials", 3)
    said = "not finished: cancelled (job 7); the same"
    if refuses:
        said = "could not be started: Unable to contact slurm controller"
    assert f"trial_0000: {said}" in capsys.readouterr().out
    assert [trial.status for trial in read_record(parent).trials] == ["running"] * 3
    assert [trial.status for trial in run(parent, *MARGIN, "--trials", 3).trials] == (
        ["finished"] * 3
    )


@pytest.mark.parametrize("refuses", [True, False])
def test_a_cluster_that_is_down_ends_a_search_with_a_word(
    parent, fake, monkeypatch, capsys, refuses
):
    monkeypatch.setattr("src.sweeping.run_jobs._SECONDS_BETWEEN_TRIES", 0)
    launcher = Stubborn(refuses)
    monkeypatch.setattr(sweep, "_launcher", lambda *_: launcher)
    with pytest.raises(SweepFailed):
        run(parent, *MARGIN, "--trials", 60)
    assert launcher.num_started in ([0] if refuses else [20, 21])
    assert 20 <= len(read_record(parent).trials) <= 21
    assert capsys.readouterr().out.count("20 proposals in a row without a result: no more") == 1


# What is refused before anything is written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trials", 3), "nothing to search"),
        (MARGIN, "--search tpe: found no end; accepted: --trials N or --minutes M"),
        ((*MARGIN, "--trials", 3, "--metric", "test.recall_at_1"), "other splits are for the end"),
        ((*MARGIN, "--trials", 3, "--metric", "validation.loss"), "losses of different margins"),
        (
            (*MARGIN, "--trials", 3, "--metric", "validation.recall_at_1", "--prune", "median"),
            "--m",
        ),
        (("--param", "margin=-1..1", "--trials", 3), "--param margin: margin: found -1"),
        (("--param", "augment.shif=0..1", "--trials", 3), "augment"),
        (("--param", "margin.x=0..1", "--trials", 3), "margin"),
        (("--param", "network=naive_cn,mlp", "--trials", 3), "naive_cn"),
        (("--param", "seed=1..3", "--trials", 3), "--param seed"),
        (("--param", "dataset=mnist,cifar10", "--trials", 3), "cifar10"),
        ((*MARGIN, "--trials", 3, "--overwrite"), "--overwrite: found with --search"),
        ((*MARGIN, "--trials", 3, "--launcher", "slurm"), "--jobs: found none"),
        ((*MARGIN, *MARGIN, "--trials", 3), "found a key twice"),
        ((*MARGIN, "--trials", 10**6), "--trials: found 1000000"),
        ((*MARGIN, "--trials", 3, "--seeds", 2**31), "--seeds 2147483648: seed: found 2147483648"),
        (
            ("--param", "augment.shift=0..1", "--param", 'augment={},{"shift": 3}', "--trials", 3),
            "--param augment.shift: found --param augment as well; accepted: one of them",
        ),
        # the name of one key is part of the other's
        (
            (*(f"--param=learning_rate{end}" for end in ("=0.1,1", "_warmup_steps=-5..5")),)
            + ("--trials", 3),
            "--param learning_rate_warmup_steps: learning_rate_warmup_steps: found -5",
        ),
    ],
)
def test_refused(parent, fake, options, message):
    with pytest.raises(UserError) as found:
        run(parent, *options)
    assert message in str(found.value)
    assert "accepted" in str(found.value) or "did you mean" in str(found.value)
    assert sorted(path.name for path in parent.iterdir()) == ["params.json"]


def test_a_search_whose_data_are_missing_binds_nothing(parent, fake):
    """The next command may have another metric."""
    with pytest.raises(UserError, match="none/mnist"):
        run(parent, *MARGIN, "--trials", 1, "--data_dir", "none", "--metric", "validation.eer")
    run(parent, *MARGIN, "--trials", 1)


def test_a_value_that_is_right_only_with_another_value_of_another_key(tmp_path, fake, capsys):
    """`multi_similarity` has no margin and needs the cosine distance."""
    strategies = ("--param", "triplet_strategy=multi_similarity,batch_all", "--trials", 3)
    parent = make_parent(tmp_path / "p", triplet_strategy="multi_similarity", distance="cosine")
    for others in (MARGIN, ("--param", "distance=cosine,euclidean")):
        sweep.main([*arguments(parent, *others, *strategies), "--dry_run"])
    with pytest.raises(UserError, match="--param margin: margin: found 0.05; .* has no margin"):
        run(parent, *MARGIN, "--param", "distance=cosine,euclidean", "--trials", 3)
    sizes = ("--param", f"embedding_size={','.join(map(str, range(2, 300)))}")  # too many for all
    with pytest.raises(UserError, match="--param margin: margin: found 0.05; .* has no margin"):
        run(parent, *MARGIN, *sizes, "--trials", 3)
    sweep.main([*arguments(parent, *MARGIN, *sizes, *strategies), "--dry_run"])


def test_extra_classes_that_are_right_without_a_flip_alone(tmp_path, fake, capsys):
    parent = make_parent(tmp_path / "p", augment={"flip": True})
    poses = ("--param", 'extra_classes=[],["mirror"]')
    with pytest.raises(UserError, match="extra_classes: found 'mirror'; accepted: others"):
        run(parent, *poses, search="grid")
    record = run(parent, *poses, "--param", "augment.flip=true,false", search="grid")
    ends = {str(trial.values): trial.status for trial in record.trials}
    failed = [trial for trial in record.trials if trial.status == "failed"]
    assert len(ends) == 4 and len(failed) == 1
    assert failed[0].values == {"extra_classes": ["mirror"], "augment.flip": True}
    assert not (parent / failed[0].name).exists()


def test_a_file_in_the_winners_place_is_refused_at_once(parent, fake):
    (parent / "best").touch()
    with pytest.raises(UserError, match="best: found a file; accepted: a directory"):
        run(parent, *MARGIN, "--trials", 3)
    assert sorted(path.name for path in parent.iterdir()) == ["best", "params.json"]


def test_a_range_without_steps_is_no_grid(parent, fake):
    with pytest.raises(UserError, match="range without a step"):
        run(parent, *MARGIN, search="grid")


def test_a_parent_that_is_trained_itself_is_refused(parent, fake):
    (parent / "best").mkdir()
    (parent / "best" / "best.json").write_text("{}")
    with pytest.raises(UserError, match="trained itself"):
        run(parent, *MARGIN, "--trials", 2)


@pytest.mark.parametrize("option", ["--trials=3", "--minutes=1", "--prune=median", "--metric=x"])
def test_options_of_searches_alone(parent, option):
    with pytest.raises(UserError, match="found without --search"):
        sweep.main(["--parent_dir", str(parent), "--param", "margin=1,2", option])


def test_a_dry_run_writes_nothing(parent, fake, capsys):
    sweep.main([*arguments(parent, *MARGIN, "--trials", 3), "--dry_run"])
    assert sorted(path.name for path in parent.iterdir()) == ["params.json"]


# What compare.py shows


def test_the_figure_of_a_search(parent, fake):
    record = run(parent, *MARGIN, "--param", "triplet_strategy=batch_all,batch_hard", "--trials", 6)
    panels = {axes.get_title(): axes for axes in search_figure({parent: record}).get_axes()}
    assert set(panels) == {
        "best so far, over trials",
        "best so far, over time",
        "margin",
        "triplet_strategy",
        "importance (fANOVA)",
    }
    assert panels["margin"].get_xscale() == "log"
    points = panels["margin"].get_lines()[0].get_xydata()
    assert points.tolist() == [[t.values["margin"], t.value] for t in record.trials]
    assert best_over_trials(record) == [
        (count, max(t.value for t in record.trials[:count])) for count in range(1, 7)
    ]
    minutes = best_over_minutes(record)
    assert minutes[-1][1] == max(t.value for t in record.trials)
    assert [place for place, _ in minutes] == sorted(place for place, _ in minutes)


def test_a_range_and_a_grid_in_one_figure(tmp_path, fake):
    """They share a numeric axis; names make it one of names."""
    records = {}
    for search, text in (("grid", "margin=0.1,0.5"), ("random", "margin=0.05..1:log")):
        parent = make_parent(tmp_path / search)
        strategy = ("--param", "triplet_strategy=batch_all")
        records[parent] = run(parent, "--param", text, *strategy, "--trials", 2, search=search)
    panels = {axes.get_title(): axes for axes in search_figure(records).get_axes()}
    assert panels["margin"].get_xscale() == "log"
    drawn = [line.get_xydata().tolist() for line in panels["margin"].get_lines()]
    for record in records.values():
        assert [[t.values["margin"], t.value] for t in record.trials] in drawn
    assert [t.get_text() for t in panels["triplet_strategy"].get_xticklabels()] == ["batch_all"]


def test_what_ends_after_the_time_is_noted_without_time(parent, fake):
    use_fake(1.0)
    with pytest.raises(SweepFailed):
        run(parent, *MARGIN, "--minutes", 0.05)
    command = [sys.executable, str(ROOT / "tests" / "fake_train.py"), "--model_dir"]
    subprocess.run([*command, str(parent / "trial_0000")], check=True)  # by hand
    record = run(parent, *MARGIN, "--minutes", 0.05)
    assert [trial.status for trial in record.trials] == ["finished"]
    assert record.winner == "trial_0000"


def test_a_plot_of_searches_says_that_it_shows_them_alone(parent, fake, tmp_path, capsys):
    run(parent, "--param", "margin=0.3,0.31", search="grid")
    compare.main([str(parent), "--plot", str(tmp_path / "a.png")])
    assert f"a.png: shows the searches alone ({parent});" in capsys.readouterr().err
    assert (tmp_path / "a.png").exists()


def test_the_winners_params_are_no_row_of_the_table(parent, fake):
    run(parent, *MARGIN, "--trials", 2)
    found = {result.model_dir.name: result.status for result in read_results([parent])}
    assert found["best"] == "parent"
