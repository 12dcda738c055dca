"""A search whose trainings are jobs of a real SLURM: one that is pruned saves and leaves."""

import json
import subprocess
import sys
from pathlib import Path

from src.experiment.experiment import Experiment
from src.experiment.pruned import read_pruned
from src.searching.record import read_record

ROOT = Path(__file__).parents[2]


def run(parent, pause, param, trials, *others):
    command = [sys.executable, str(Path(__file__).with_name("search_program.py")), str(pause)]
    command += ["--parent_dir", str(parent), "--search", "random", "--trials", str(trials)]
    command += ["--param", param, "--prune", "median", *others]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pruned_jobs_save_and_leave_the_queue(slurm, tmp_path):
    parent = tmp_path / "p"
    parent.mkdir()
    (parent / "params.json").write_text(json.dumps({"dataset": "mnist", "seed": 1}))
    run(parent, 0.0, "margin=0.25..0.35:log", 4)  # on this machine, which is quicker
    slurm_options = ("--jobs", "2", "--launcher", "slurm", "--slurm", "partition=main")
    run(parent, 1.0, "margin=3..5:log", 6, *slurm_options)
    record = read_record(parent)
    assert [trial.status for trial in record.trials] == ["finished"] * 4 + ["pruned"] * 2
    for trial in record.trials:
        if trial.status == "pruned":
            experiment = Experiment(parent / trial.name)
            assert experiment.metrics()["status"] == "stopped"
            assert experiment.latest_step() == read_pruned(parent / trial.name).latest_step
    assert slurm.run("squeue", "--noheader") == ""
