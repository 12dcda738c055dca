"""Measures what `embed_views` brings and costs: MAP@R of the test split, and processor time.

    make demo
    .venv/bin/python -m benchmarks.views experiments/demo

The checkpoint is the same for every number of views. Each number embeds the whole split three
times, in turns with the others; the shortest time counts.
"""

import argparse
import resource
from pathlib import Path

from benchmarks.harness import REPOSITORY

_NUMBERS = (1, 2, 3, 5, 9)
_ROUNDS = 3


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_dir", type=Path, help="a trained experiment")
    parser.add_argument("--data_dir", type=Path, default=REPOSITORY / "data")
    arguments = parser.parse_args()
    # Not before the arguments are read: TensorFlow takes seconds.
    from model.embedder import Embedder
    from src.data.holdout import hold_out
    from src.data.roles import roles_of
    from src.embeddings.metrics import Embedded, metrics_within
    from src.experiment.data_record import load_recorded
    from src.experiment.experiment import Experiment

    experiment = Experiment(arguments.model_dir)
    params = experiment.trained_params()
    loaded = load_recorded(params, arguments.data_dir, experiment, begins=False, keeps_splits=False)
    splits = hold_out(loaded.data.splits, params, experiment.params_path)
    embedders = {
        number: Embedder(
            experiment,
            params.model_copy(update={"embed_views": number}),
            experiment.image_shape(),
        )
        for number in _NUMBERS
    }
    print(
        "| split | views | MAP@R | recall@1 | processor seconds | ratio |\n"
        "|---|---|---|---|---|---|"
    )
    for name in ("test", "unseen"):
        if name not in splits:
            continue
        split = splits[name]
        images = split.images[:]
        for embed in embedders.values():
            embed(images[:256])  # the first call is slow
        seconds = dict.fromkeys(_NUMBERS, float("inf"))
        found = {}
        for _ in range(_ROUNDS):
            for number, embed in embedders.items():
                before = _processor_seconds()
                found[number] = embed(images)
                seconds[number] = min(seconds[number], _processor_seconds() - before)
        for number in _NUMBERS:
            embedded = Embedded(found[number], split.labels)
            metrics = metrics_within(embedded, roles_of(split, params))[0]
            print(
                f"| {name} | {number} | {metrics['map_at_r_within']:.4f} "
                f"| {metrics['recall_at_1_within']:.4f} | {seconds[number]:.2f} "
                f"| {seconds[number] / seconds[1]:.2f} |"
            )


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
