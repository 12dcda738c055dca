"""`sweep.py` with `fake_train.py` in the place of `train.py`: `search_program.py PAUSE ...`."""

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import sweep  # noqa: E402
from src.system.cli import run  # noqa: E402


def use_fake(pause):
    """Have the sweep start the fake."""
    make_job = sweep._job

    def job(child, data_dir, options):
        made = make_job(child, data_dir, options)
        command = [sys.executable, str(ROOT / "tests" / "fake_train.py")]
        command += ["--model_dir", str(child.experiment.model_dir), "--pause", str(pause)]
        return replace(made, command=command)

    sweep._job = job


if __name__ == "__main__":
    use_fake(float(sys.argv.pop(1)))
    run(sweep.main)
