"""Train an experiment: `python train.py --model_dir experiments/demo`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import os
from collections.abc import Sequence

from model.training.run import run as train
from src.experiment.experiment import Experiment
from src.params.reading import load_params
from src.system.cli import add_keep_splits, experiment_parser, positive_int, run
from src.system.cluster import read_cluster

EXAMPLES = """\
  python train.py --model_dir experiments/demo
  python train.py --model_dir experiments/naive_cnn/margin_0.5 --data_dir data
  python train.py --model_dir experiments/demo --overwrite     # start afresh
  srun --ntasks=2 python train.py --model_dir experiments/demo # on two machines"""


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate every split, and write `metrics.json`."""
    parser = experiment_parser(
        "Train an experiment, or resume it where it stopped, and evaluate it on every split.",
        EXAMPLES,
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove the files of earlier runs, and start afresh",
    )
    add_keep_splits(parser)
    parser.add_argument(
        "--replicas",
        type=positive_int,
        metavar="N",
        help="divide each batch among N devices of this machine (default: all GPUs, or 1); several "
        "machines: docs/several-machines.md",
    )
    args = parser.parse_args(argv)

    cluster = read_cluster(os.environ)
    experiment = Experiment(args.model_dir)
    train(
        experiment,
        load_params(experiment.params_path),
        args.data_dir,
        overwrite=args.overwrite,
        keeps_splits=args.keep_splits,
        verbose=args.verbose,
        replicas=args.replicas,
        cluster=cluster,
    )


if __name__ == "__main__":
    run(main)
