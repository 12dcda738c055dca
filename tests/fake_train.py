"""In the place of `train.py`: writes an experiment's files as it does, with metrics that are known.

MAP@R of validation rises to `peak(params)` in EVALUATIONS steps, each `--pause` seconds long;
that of test and unseen is a half and a quarter of it. SIGTERM saves and ends with 143, as there.
TensorFlow is not imported.
"""

import argparse
import math
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.experiment.experiment import Experiment  # noqa: E402
from src.params.reading import load_params  # noqa: E402
from src.system.lock import one_writer  # noqa: E402

EVALUATIONS = 5
TAG = "map_at_r_within"
DIVERGES = 666
"""With this seed."""


def peak(params):
    """The final metric: best at a margin of 0.3, with batch_hard; the seed changes it a little."""
    off = math.log(params.margin / 0.3)
    bonus = 0.1 if params.triplet_strategy == "batch_hard" else 0.0
    return 0.8 * math.exp(-(off**2)) + bonus + 0.001 * (params.seed % 7)


def at(params, evaluation):
    """The metric at an evaluation, counted from 1."""
    return peak(params) * (1 - 0.5**evaluation)


def write_event(folder, step, value):
    """Append a scalar to an event file, as TensorFlow has it."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(exist_ok=True)
    summary = Summary(value=[Summary.Value(tag=TAG, simple_value=value)])
    with open(folder / f"events.out.tfevents.{int(time.time() * 1e6)}.x", "wb") as file:
        RecordWriter(file).write(Event(step=step, summary=summary).SerializeToString())


def save_checkpoint(experiment, step):
    (experiment.model_dir / "checkpoint").write_text(
        f'model_checkpoint_path: "model.ckpt-{step}"\n'
    )
    (experiment.model_dir / f"model.ckpt-{step}.index").touch()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", type=Path, required=True)
    parser.add_argument("--pause", type=float, default=0.0)
    args = parser.parse_args()
    experiment = Experiment(args.model_dir)
    params = load_params(experiment.params_path)
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    with one_writer(args.model_dir), open(args.model_dir / "started", "a") as started:
        print(experiment.latest_step() or 0, file=started, flush=True)
        seconds = experiment.start(params)
        if params.margin > 100:  # what the tests ask for to fail
            print("error: no memory", file=sys.stderr)
            sys.exit(2)
        if params.margin > 10 or params.seed == DIVERGES:
            experiment.save_metrics({"status": "diverged"})
            sys.exit(3)
        for step in range((experiment.latest_step() or 0) + 1, EVALUATIONS + 1):
            end = time.monotonic() + args.pause
            while not stopped and time.monotonic() < end:
                time.sleep(0.01)
            if stopped:
                experiment.save_metrics({"status": "stopped", "seconds": seconds})
                sys.exit(143)
            save_checkpoint(experiment, step)
            write_event(args.model_dir / "eval_validation", step, at(params, step))
            experiment.save_progress(
                {"step": step, "max_steps": EVALUATIONS, "loss": None, "fraction_positive": None}
            )
        value = at(params, EVALUATIONS)
        experiment.save_metrics(
            {
                "status": "finished",
                "global_step": EVALUATIONS,
                "seconds": seconds,
                "splits": {
                    "validation": {TAG: value},
                    "test": {TAG: value / 2, "recall_at_1_within": 0.9},
                    "unseen": {TAG: value / 4},
                },
                "baselines": {"raw_pixels": {"test": {TAG: 0.01}}},
            }
        )


if __name__ == "__main__":
    main()
