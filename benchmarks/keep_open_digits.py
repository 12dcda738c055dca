"""Keeps the trained experiments/open_digits for the tests, in tests/gallery/open_digits.

    make demo-open
    .venv/bin/python -m benchmarks.keep_open_digits

The weights are those of the best checkpoint, without what only training needs. They take 0.7 MB.
So tests can draw, query and enrol with the real model, without training it for minutes.
"""

import json
import shutil

from benchmarks.harness import REPOSITORY
from src.experiment.experiment import Experiment

KEPT = REPOSITORY / "tests/gallery/open_digits"

_METRICS = ("status", "global_step", "image_shape", "splits", "thresholds", "open_set")
_OF_TRAINING = ("Adam", "beta1_power", "beta2_power")


def main() -> None:
    """Write the experiment's directory, as small as queries allow."""
    from model.estimator import tf

    experiment = Experiment(REPOSITORY / "experiments/open_digits")
    best = experiment.best_checkpoint
    assert best is not None, "make demo-open was not run"
    shutil.rmtree(KEPT, ignore_errors=True)
    (KEPT / "best").mkdir(parents=True)
    reader = tf.train.load_checkpoint(str(best))
    names = sorted(
        name
        for name in reader.get_variable_to_shape_map()
        if not any(part in name for part in _OF_TRAINING)
    )
    tensors = [reader.get_tensor(name) for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(KEPT / "best" / best.name),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=tensors,
    )
    (KEPT / "checkpoint").write_text(f'model_checkpoint_path: "{best.name}"\n')
    shutil.copy(best.parent / "best.json", KEPT / "best")
    shutil.copy(experiment.trained_params_path, KEPT)
    found = experiment.metrics() or {}
    metrics = {name: found[name] for name in _METRICS}
    metrics["splits"] = {}  # nothing here draws or compares them
    (KEPT / "metrics.json").write_text(json.dumps(metrics))
    for path in sorted(path for path in KEPT.rglob("*") if path.is_file()):
        print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
