"""Train an experiment: `python train.py --model_dir experiments/demo`."""

from src.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before anything that takes long to import

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from src.cli import add_keep_splits, experiment_parser, quiet_console, run
from src.data_record import Loaded, load_recorded, save_record
from src.errors import TrainingDiverged, UserError
from src.experiment import Experiment
from src.facts import check_facts, check_training, describe
from src.holdout import hold_out
from src.lock import one_writer
from src.params import Params, load_params
from src.printable import printable
from src.progress import phase
from src.split import Split
from src.stopping import Stopped
from src.table import format_splits, queries_notes
from src.weights import find_weights

EXAMPLES = """\
  python train.py --model_dir experiments/demo
  python train.py --model_dir experiments/naive_cnn/margin_0.5 --data_dir data
  python train.py --model_dir experiments/demo --overwrite     # start afresh"""


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate every split, and write `metrics.json`."""
    parser = experiment_parser(
        "Train an experiment, or go on where it stopped, and evaluate it on every split.", EXAMPLES
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove what earlier runs wrote, and start afresh"
    )
    add_keep_splits(parser)
    args = parser.parse_args(argv)

    experiment = Experiment(args.model_dir)
    params = load_params(experiment.params_path)
    if not args.overwrite:
        experiment.check_own()
        experiment.check_resumable(params)
    with one_writer(args.model_dir):
        train(args, experiment, params)


def train(args: argparse.Namespace, experiment: Experiment, params: Params) -> None:
    """Do what `main` says, for the one who may write to the experiment."""
    started = time.perf_counter()
    if not args.overwrite:
        _warn(experiment.set_damaged_aside())
        _repair_checkpoints(experiment, verbose=args.verbose)
        experiment.check_resumable(params)
    begins = args.overwrite or experiment.latest_step() is None  # as the repair has left it
    with phase(f"reading {params.dataset}"):
        loaded = load_recorded(
            params, args.data_dir, experiment, begins=begins, keeps_splits=args.keep_splits
        )
    if not begins and not loaded.changes and experiment.is_finished(params):
        metrics = experiment.metrics() or {}
        print(f"{args.model_dir}: already finished at step {metrics['global_step']}")
        print(format_splits(metrics["splits"], metrics.get("baselines", {})))
        return
    splits = _check_data(loaded, experiment, params)
    if not begins:
        print(f"resuming at step {experiment.latest_step()}", flush=True)

    initial_weights = None
    if begins:  # What is wrong with the network or its weights shows before anything is removed.
        weights = find_weights(params.weights, args.data_dir)
        with (
            quiet_console(experiment.log_path, verbose=args.verbose),
            phase("starting TensorFlow"),
        ):
            from model.pretrained import read_weights
            from model.training import describe_network

            try:
                describe_network(params, splits["train"].images.shape[1:])
            except UserError as error:
                raise UserError(f"{experiment.params_path}: {error}") from None
            initial_weights = read_weights(params, weights) if weights else None
        _warn(experiment.overwrite() if args.overwrite else experiment.begin())
    seconds_before = experiment.start(params)
    if loaded.changes:
        experiment.forget_best_value()
    save_record(experiment.data_record_path, loaded.record)

    def save(status: str, **results: dict) -> None:
        best = experiment.best()
        experiment.save_metrics(
            {
                "status": status,
                "stopped_early": experiment.stopped_early(params),
                "global_step": experiment.latest_step(),
                "seconds": round(seconds_before + time.perf_counter() - started, 1),
                "images_per_second": (experiment.progress() or {}).get("images_per_second"),
                "best": best and {"metric": best.metric, "value": best.value, "step": best.step},
                **results,
            }
        )

    quiet = quiet_console(experiment.log_path, verbose=args.verbose)
    with _noted_if_stopped(experiment, save), quiet:
        with phase("starting TensorFlow"):
            from model import hparams
            from model.training import evaluate, train_and_evaluate

            hparams.write_start(args.model_dir, params)
        try:
            collapsed = train_and_evaluate(
                experiment,
                params,
                splits,
                initial_weights,
                data_have_changed=bool(loaded.changes),
            )
        except TrainingDiverged as error:
            save("diverged", splits={})
            hparams.write_end(args.model_dir, succeeded=False)
            kept = f"kept: the checkpoint of step {experiment.latest_step()}"
            raise TrainingDiverged(f"{args.model_dir}: {error}; {kept}") from None
        status = "collapsed" if collapsed and params.stop_on_collapse else "finished"
        results = evaluate(experiment, params, splits)
        hparams.write_end(args.model_dir, succeeded=status == "finished")
    save(
        status,
        collapsed=collapsed,
        evaluated_step=experiment.evaluated_step(),
        class_names=splits["train"].class_names,
        splits=results.splits,
        baselines=results.baselines,
        confusions={
            name: {predictor: matrix.tolist() for predictor, matrix in of_split.items()}
            for name, of_split in results.confusions.items()
        },
    )
    best = experiment.best()
    chosen = "the best by" if best and best.value is not None else "the latest, without a"
    print(f"step {experiment.evaluated_step()}, {chosen} {params.best_metric} on validation:")
    print(format_splits(results.splits, results.baselines))
    print("\n".join(queries_notes(results.splits)))
    print(f"wrote {experiment.metrics_path}")
    if status == "collapsed":
        raise TrainingDiverged(f"{args.model_dir}: stopped, for the embeddings have collapsed")


@contextmanager
def _noted_if_stopped(experiment: Experiment, save: Callable[..., None]) -> Iterator[None]:
    """Write `metrics.json` with the status `stopped` where a signal ends the block."""
    try:
        yield
    except Stopped:
        save("stopped", splits=experiment.latest_evaluation())
        step = experiment.latest_step() or 0
        print(f"stopped at step {step}; the same command goes on from there")
        raise


def _check_data(loaded: Loaded, experiment: Experiment, params: Params) -> dict[str, Split]:
    """Say what was understood of the data, warn of what is odd, and return what is trained on."""
    data, path = loaded.data, experiment.params_path
    _warn([*loaded.warnings, *data.warnings])  # before an error, whose reason they may be
    _warn(check_facts(params, data.splits, path))
    splits = hold_out(data.splits, params, path)
    _warn(check_training(params, splits, path))
    sizes = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
    print(f"{experiment.model_dir}: {params.dataset} ({sizes}), {params.triplet_strategy}")
    print("\n".join(f"  {line}" for line in describe(data, splits, params)), flush=True)
    return splits


def _repair_checkpoints(experiment: Experiment, *, verbose: bool) -> None:
    """See to it that the latest checkpoint is whole, and say what was found if it was not."""
    if experiment.has_checkpoints():
        with quiet_console(experiment.log_path, verbose=verbose):
            from model.checkpoints import repair

            _warn(repair(experiment.model_dir))


def _warn(lines: Iterable[str]) -> None:
    """Print a warning for each line."""
    for line in lines:
        print(f"warning: {printable(line)}", flush=True)


if __name__ == "__main__":
    run(main)
