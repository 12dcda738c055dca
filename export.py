"""Export a model to other programs: `python export.py --model_dir experiments/demo --to onnx`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.data.holdout import hold_out
from src.data.split import Split, stratified_indices
from src.errors import UserError
from src.experiment.data_record import load_recorded
from src.experiment.experiment import Experiment
from src.experiment.table import format_number
from src.exporting.card import model_card
from src.exporting.formats import FORMATS, check
from src.exporting.record import Exported, add_export, read_exports
from src.params.schema import Params
from src.registry import EXPORT_FORMATS
from src.system.atomic import atomic_write
from src.system.cli import add_keep_splits, experiment_parser, print_warnings, quiet_console, run
from src.system.lock import one_writer
from src.system.process import settle
from src.system.progress import phase

if TYPE_CHECKING:
    from model.exporter import Request

EXAMPLES = """\
  python export.py --model_dir experiments/demo --to saved_model
  python export.py --model_dir experiments/demo --to litert
  python export.py --model_dir experiments/demo --to litert --quantize int8
  python export.py --model_dir experiments/demo --to onnx"""

MAX_CHECKED = 10_000  # test images
NUM_CALIBRATION_IMAGES = 200


def main(argv: Sequence[str] | None = None) -> None:
    """Export the best checkpoint, compare it with the checkpoint, and write the model card."""
    args = _parser().parse_args(argv)
    experiment = Experiment(args.model_dir)
    params = experiment.trained_params()
    example_shape = experiment.example_shape()
    check(args.to, args.quantize)
    with one_writer(experiment.model_dir):
        experiment.check_own(names=("export", "tensorflow.log"))
        record_path = experiment.model_dir / "export" / "exports.json"
        read_exports(record_path)  # refuse a damaged one before the work
        splits = _load(experiment, params, args.data_dir, keeps_splits=args.keep_splits)
        with quiet_console(experiment.log_path, verbose=args.verbose):
            with phase("starting TensorFlow"):
                from model.exporter import export
            settle()
            exported = export(
                experiment, params, example_shape, _request(args.to, args.quantize, splits)
            )
        exports = add_export(record_path, exported)
        metrics = experiment.metrics()
        assert metrics is not None  # it has an image_shape
        card_path = experiment.model_dir / "export" / "MODEL_CARD.md"
        name = experiment.model_dir.resolve().name
        with atomic_write(card_path) as file:
            card = model_card(name, params, metrics, exports, exported.checkpoint)
            file.write(card.encode())
    _report(experiment, exported, len(splits["test"]))
    print(f"{card_path}: what it is, how good it is, and how to call it")


def _load(
    experiment: Experiment, params: Params, data_dir: Path, *, keeps_splits: bool
) -> dict[str, Split]:
    """Return the splits of the training."""
    with phase(f"reading {params.dataset}"):
        loaded = load_recorded(
            params, data_dir, experiment, begins=False, keeps_splits=keeps_splits
        )
    print_warnings(loaded.warnings)
    splits = hold_out(loaded.data.splits, params, experiment.params_path)
    if not len(splits["test"]):
        raise UserError(
            f"{experiment.params_path}: no test image to compare the models on; accepted: data "
            "with a test split"
        )
    return splits


def _request(format: str, quantize: str | None, splits: dict[str, Split]) -> "Request":
    """Return the request, with the images to calibrate and compare with."""
    from model.exporter import Request

    train, test, calibration = splits["train"], splits["test"], None
    if quantize:
        number = min(NUM_CALIBRATION_IMAGES, len(train))
        calibration = train.images[stratified_indices(train.labels, number, seed=0)]
    return Request(format, calibration, test.take(checked_indices(test.labels)))


def checked_indices(labels: np.ndarray, most: int = MAX_CHECKED) -> np.ndarray:
    """Return which images to compare on, int [<= most], ascending.

    Of few classes, a stratified sample. Of so many that a sample would leave one image of each,
    whole classes, because MAP@R needs two.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    classes, sizes = np.unique(labels, return_counts=True)
    if most >= 2 * len(classes):
        return stratified_indices(labels, most, seed=0)
    order = np.argsort(sizes, kind="stable")
    order = order[sizes[order] > 1]  # small classes first: a large one would leave no room
    kept = classes[order[np.cumsum(sizes[order]) <= most]]
    if len(kept) < 2:
        return stratified_indices(labels, most, seed=0)
    return np.flatnonzero(np.isin(labels, kept))


def _report(experiment: Experiment, exported: Exported, num_test: int) -> None:
    """Print what was written, and how it compares."""
    print(
        f"{experiment.model_dir / 'export' / exported.file}: {FORMATS[exported.format].title}, "
        f"{exported.size:,} bytes, step {exported.step}"
    )
    if exported.num_calibration_images is not None:
        print(f"  int8, calibrated on {exported.num_calibration_images} training examples")
    sample = "" if exported.num_images == num_test else f" of {num_test}"
    print(
        f"  on {exported.num_images}{sample} test examples: largest difference of embeddings "
        f"{exported.largest_difference:.2g}; MAP@R {format_number(exported.map_at_r_before)} "
        f"before, {format_number(exported.map_at_r_after)} after"
    )


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(
        "Write the best checkpoint in another format to export/ in the experiment, with the\n"
        "preprocessing inside: its input is pixels, uint8 [N, H, W, C] (or vectors,\n"
        "float32 [N, F]). Run it on the test images, compare it with the checkpoint, and\n"
        "write export/MODEL_CARD.md.",
        EXAMPLES,
    )
    add_keep_splits(parser)
    parser.add_argument(
        "--to",
        choices=tuple(EXPORT_FORMATS),
        required=True,
        help="saved_model: TensorFlow, TF Serving, KServe; litert: telephones (extra litert); "
        "onnx: ONNX Runtime and others (extra onnx)",
    )
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        help="a model of a quarter of the size: weights and activations of 8 bits, their ranges "
        f"measured on {NUM_CALIBRATION_IMAGES} training images (litert and onnx)",
    )
    return parser


if __name__ == "__main__":
    run(main)
