"""Sweeps whose trainings are jobs of a real SLURM of two nodes."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import Server
from tiny import TINY, write_params

from src.experiment.experiment import Experiment
from src.params.reading import load_params
from src.sweeping.slurm_record import read_record

ROOT = Path(__file__).parents[2]


def wait_until(condition, seconds=120, every=0.02):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(every)
    return found


# The cluster itself


def test_the_cluster_runs_two_tasks_on_two_nodes(slurm):
    said = slurm.run("srun", "--ntasks=2", "sh", "-c", "echo $SLURM_PROCID $SLURMD_NODENAME")
    assert sorted(said.splitlines()) == ["0 n1", "1 n2"]
    assert os.environ["SLURM_CONF"] == slurm.variables["SLURM_CONF"]


def test_a_node_that_is_down_stays_down_until_the_end_of_a_test(slurm):
    slurm.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    said = slurm.run("srun", "sh", "-c", "echo $SLURMD_NODENAME")
    assert said == "n1\n" and slurm.node_states()["n2"] == "down"
    slurm.clear()
    assert slurm.ready_nodes() == 2


# Sweeps with a small program as their train.py. It trains until there is a file `go`, and saves and
# ends at SIGTERM as train.py does.

TRAINER = """
import signal, sys, time
from pathlib import Path
from src.experiment.experiment import Experiment
from src.params.reading import load_params
from src.system.lock import one_writer
directory = Path(sys.argv[2])  # --model_dir DIR
experiment = Experiment(directory)
params = load_params(experiment.params_path)
signals = []
signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
with one_writer(directory):
    step = experiment.latest_step() or 0
    experiment.start(params)
    print("begun at", step, flush=True)
    while not (directory.parent / "go").exists() and not signals:
        time.sleep(0.02)
    step += 1
    (directory / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{step}"')
    status = "stopped" if signals else "finished"
    experiment.save_metrics({"status": status, "global_step": step, "splits": {}})
    print(status, flush=True)
sys.exit(143 if signals else 0)
"""
SWEEP = """
import sys
import sweep
from src.system.cli import run
sweep.__file__ = sys.argv[1]
sys.argv = sys.argv[1:]
run(sweep.main)
"""
FAST = ["--launcher", "slurm", "--slurm", "partition=main"]


@pytest.fixture
def parent(tmp_path):
    """A directory `margins` with an experiment's params.json; % and spaces need care in SLURM."""
    return write_params(tmp_path / "100% of margins", {**TINY, "num_epochs": 1})


@pytest.fixture
def start(slurm, parent, data_dir, tmp_path):
    """`start(*options)`: a sweep of margins 1 and 2."""
    started = []
    (tmp_path / "train.py").write_text(TRAINER)

    def start(*options):
        arguments = ["--parent_dir", parent, "--data_dir", data_dir, "--param", "margin=1,2"]
        process = subprocess.Popen(
            [sys.executable, "-c", SWEEP, tmp_path / "sweep.py", *arguments, *FAST, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def log(parent, name):
    path = parent / name / "train.log"
    return path.read_text() if path.exists() else ""


def begun(parent):
    """Whether both trainings have begun."""
    return all("begun at" in log(parent, name) for name in ("margin_1", "margin_2"))


def statuses(parent):
    paths = parent.glob("*/metrics.json")
    return {path.parent.name: json.loads(path.read_text())["status"] for path in paths}


def ends(process, code=0):
    out = process.communicate(timeout=400)[0]  # on a busy machine
    assert process.returncode == code, out
    return out


FINISHED = {"margin_1": "finished", "margin_2": "finished"}


def test_a_cancelled_job_is_named_and_submitted_again_by_the_same_command(slurm, parent, start):
    first = start()
    wait_until(lambda: begun(parent))
    cancelled = read_record(Experiment(parent / "margin_1")).job_id
    slurm.run("scancel", cancelled)
    wait_until(lambda: "stopped" in log(parent, "margin_1"))
    (parent / "go").touch()
    out = ends(first, 3)
    assert f"  margin_1: cancelled (job {cancelled}); the same command submits it again\n" in out, (
        out
    )
    assert statuses(parent) == {**FINISHED, "margin_1": "stopped"}
    again = ends(start())
    assert "1 already trained, 1 to run, all at once" in again
    assert statuses(parent) == FINISHED
    assert "begun at 1" in log(parent, "margin_1")  # it was resumed


@pytest.mark.parametrize("how", ["leave", "cancel"])
def test_ctrl_c_leaves_the_jobs_or_cancels_them(slurm, parent, start, how):
    process = start(*(["--on_interrupt", "cancel"] if how == "cancel" else []))
    wait_until(lambda: begun(parent))
    process.send_signal(signal.SIGINT)
    out = ends(process, 130)
    if how == "leave":
        assert "SIGINT: 2 still run\n" in out and len(slurm.jobs()) == 2
        process = start()
        assert "is in the queue already (RUNNING)" in "".join(
            process.stdout.readline() for _ in range(3)
        )
    else:
        assert "SIGINT: waiting for 2 to stop" in out and not slurm.jobs()
        assert set(statuses(parent).values()) == {"stopped"}
        process = start()
    (parent / "go").touch()
    ends(process)
    assert statuses(parent) == FINISHED
    assert log(parent, "margin_1").count("begun") == (1 if how == "leave" else 2)


def test_two_sweeps_at_once_submit_each_once(slurm, parent, start):
    both = [start(), start()]
    wait_until(lambda: begun(parent))
    (parent / "go").touch()
    for process in both:
        ends(process)
    assert statuses(parent) == FINISHED
    assert log(parent, "margin_1").count("$ ") == log(parent, "margin_2").count("$ ") == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_sweep_killed_while_it_submits(slurm, parent, start, tmp_path, monkeypatch, when):
    """Before `sbatch` has told the cluster, which it then does, or before it has told the sweep."""
    kill = f"[ -e {tmp_path}/killed ] || {{ touch {tmp_path}/killed; kill -9 $PPID; }}"
    real = slurm.run("sh", "-c", "command -v sbatch").strip()
    steps = [f'"{real}" "$@" > {tmp_path}/said', kill]
    if when == "before":
        # Killed sooner, it might not have written the script; sbatch would then submit nothing.
        written = f"cat > {tmp_path}/script"
        steps = [written, kill, "sleep 1", f"{steps[0]} < {tmp_path}/script"]
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    test = f'case "$*" in *--test-only*) exec "{real}" "$@";; esac'
    fake.write_text("\n".join(["#!/bin/sh", test, *steps, f"cat {tmp_path}/said", ""]))
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    first = start()
    assert first.wait(60) == -signal.SIGKILL
    assert read_record(Experiment(parent / "margin_1")).job_id is None
    second = start()
    wait_until(lambda: read_record(Experiment(parent / "margin_1")).job_id)  # it found the job
    (parent / "go").touch()
    out = ends(second)
    assert "margin_1: job" in out and "is in the queue already" in out
    assert statuses(parent) == FINISHED
    assert log(parent, "margin_1").count("begun") == 1


def test_a_job_whose_time_is_over_is_submitted_again(slurm, parent, start):
    """SLURM ends it a minute after its start, to the half minute; here it sends SIGTERM at once."""
    process = start("--slurm", "time=1,signal=B:TERM@59")
    wait_until(lambda: "stopped" in log(parent, "margin_1"))
    (parent / "go").touch()
    out = ends(process)
    assert re.search(r"margin_1: job \d+ ended unfinished \(FAILED\)\n", out)
    assert statuses(parent) == FINISHED
    assert log(parent, "margin_1").count("$ ") == 2 and "begun at 1" in log(parent, "margin_1")


def test_options_that_the_cluster_refuses_are_named_before_anything_is_written(parent, start):
    out = ends(start("--slurm", "qos=none,partition=elsewhere"), 2)
    assert "error: --launcher slurm: sbatch: invalid partition specified: elsewhere; acc" in out
    assert os.listdir(parent) == ["params.json"]


# With trainings as they are


def test_requeued_on_a_lost_node_and_without_a_sweep_the_results_are_the_same(
    slurm, tmp_path, data_dir, monkeypatch
):
    """Four trainings: one requeued in its middle, one whose node is taken down; the sweep is killed
    and started again."""
    margins = (0.5, 1, 2, 3)
    params = {**TINY, "num_epochs": 2, "deterministic": True}
    parent = write_params(tmp_path / "margins", params)
    children = [parent / f"margin_{margin}" for margin in margins]
    command = [sys.executable, "sweep.py", "--parent_dir", parent, "--data_dir", data_dir, *FAST]
    command += ["--param", f"margin={','.join(map(str, margins))}"]

    def start():
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def running():
        return {node: name for name, state, node in slurm.jobs().values() if state == "RUNNING"}

    with start() as sweep:
        try:
            wait_until(lambda: len(slurm.jobs()) == 4 and len(running()) == 2, every=0.5)
            moved = {node: parent / name.rpartition(".")[0] for node, name in running().items()}
            for child in moved.values():  # SLURM has it go on when it sends SIGTERM
                wait_until((child / "model.ckpt-0.index").exists)
                os.kill(json.loads((child / "train.lock").read_text())["pid"], signal.SIGSTOP)
        finally:
            sweep.kill()
    ids = {child: read_record(Experiment(child)).job_id for child in children}
    assert all(ids.values())
    assert [Experiment(child).is_finished(load(child)) for child in moved.values()] == [False] * 2
    slurm.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    slurm.run("scontrol", "requeue", ids[moved["n1"]])

    with start() as sweep:
        wait_until(lambda: slurm.jobs().get(ids[moved["n2"]], ("", "", ""))[2] == "n1", every=0.5)
        slurm.run("scontrol", "update", "nodename=n2", "state=resume")
        out = ends(sweep)
    assert out.count("is in the queue already") == 4 and "submitted" not in out
    for child in children:
        said = (child / "train.log").read_text()
        assert said.count("$ ") == 1  # submitted once
        assert ("JOB REQUEUE" in said) == (child == moved["n1"])
        assert ("NODE FAILURE" in said) == (child == moved["n2"])
    assert [without_times(child) for child in children] == [
        without_times(child) for child in trained_here(children, data_dir, tmp_path, monkeypatch)
    ]


def load(model_dir):
    return load_params(model_dir / "params.json")


def trained_here(children, data_dir, tmp_path, monkeypatch):
    """Copies of experiments, trained by this machine with as many threads as a job has."""
    for key in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):  # as `--jobs 2` sets them on 2 cores
        monkeypatch.setenv(key, "1")
    programs = Server(tmp_path)
    for child in children:
        here = write_params(tmp_path / child.name, json.loads((child / "params.json").read_text()))
        code, _, said = programs.run("train", "--model_dir", here, "--data_dir", data_dir)
        assert code == 0, said
        yield here
    programs.close()


def without_times(model_dir):
    content = json.loads((model_dir / "metrics.json").read_text())
    for times in (content, *content["splits"].values()):
        for key in [key for key in times if "second" in key]:
            del times[key]
    return content
