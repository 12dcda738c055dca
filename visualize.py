"""Show the embeddings of an experiment: `python visualize.py --model_dir experiments/demo`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
import os
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.holdout import UNSEEN, hold_out
from src.data.split import SPLITS, Split
from src.embeddings.layouts import TITLES
from src.errors import UserError
from src.experiment.data_record import load_recorded
from src.experiment.experiment import Experiment
from src.params.schema import Params
from src.projector.files import MAX_POINTS, write_evolution, write_projector
from src.projector.sprite import MAX_SHEET_SIDE
from src.projector.tensorboard import tensorboard, wait_for_interrupt
from src.projector.view import Embed, View, Viewer
from src.system.cli import (
    add_keep_splits,
    experiment_parser,
    print_warnings,
    quiet_console,
    run,
    whole_number,
)
from src.system.process import settle
from src.system.progress import phase, progress_bar

EVOLUTION_POINTS = 5_000
"""Enough for an overview; the layout of each checkpoint takes seconds."""

EXAMPLES = """\
  python visualize.py --model_dir experiments/demo --serve           # and run TensorBoard
  python visualize.py --model_dir experiments/demo --split train test
  python visualize.py --model_dir experiments/demo --evolution       # a layout per checkpoint
  python visualize.py --model_dir experiments/demo --parquet         # for other viewers
  tensorboard --logdir experiments     # all experiments; then open the tab PROJECTOR"""


def main(argv: Sequence[str] | None = None) -> None:
    """Embed splits with the best checkpoint, compute layouts, and write the projector's files."""
    args = _parser().parse_args(argv)
    with warnings.catch_warnings():
        if not args.verbose:
            warnings.simplefilter("ignore")  # numbers too large or too few are checked elsewhere
        _visualize(args)


def _visualize(args: argparse.Namespace) -> None:
    started = time.perf_counter()
    experiment = Experiment(args.model_dir)
    params = experiment.trained_params()
    experiment.check_own(names=("projector", "figures", "tensorflow.log"))
    if args.parquet:
        from src.projector.parquet import require_pyarrow

        require_pyarrow()
    names = list(dict.fromkeys(args.split))
    splits = _load(names, args.data_dir, params, experiment, keeps_splits=args.keep_splits)
    viewer = Viewer(experiment, params, splits, _embed(experiment, params, verbose=args.verbose))
    if args.evolution:
        for name in reversed(names):
            _write_evolution(viewer, name, min(args.max_points, EVOLUTION_POINTS))
    views = viewer.views(names, args.max_points)
    # The projector opens the run that was written last.
    for name in reversed(names):
        write_view(experiment, views[name], splits[name])
        page, *_ = viewer.figures(views[name])
        print(f"{page}: all figures on one page")
    if args.parquet:
        from src.projector.parquet import write_parquet

        write_parquet(experiment.parquet_path, list(views.values()))
        print(f"{experiment.parquet_path}: the same points in one table, for other viewers")
    viewer.forget_old_checkpoints()
    print(f"done in {time.perf_counter() - started:.0f} s")
    if args.serve is False:
        print(
            f"Open it with: {_tensorboard()} --logdir {shlex.quote(str(args.model_dir))}\n"
            "Then open the PROJECTOR tab in the browser (if hidden, under INACTIVE)."
        )
        return
    with tensorboard(args.model_dir, args.serve) as address:
        print(f"TensorBoard is running. Open {address}\nPress Ctrl-C to stop it.", flush=True)
        wait_for_interrupt()
        print("\nTensorBoard has stopped.")


def _load(
    names: Sequence[str],
    data_dir: Path,
    params: Params,
    experiment: Experiment,
    *,
    keeps_splits: bool,
) -> dict[str, Split]:
    """Return the requested splits and `train`, without the held-out classes."""
    if UNSEEN in names and params.holdout_classes is None:
        raise UserError(
            f"{experiment.params_path}: found no holdout_classes, so there is no split {UNSEEN}; "
            f"accepted: --split with {', '.join(SPLITS)}"
        )
    with phase(f"reading {params.dataset}"):
        loaded = load_recorded(
            params, data_dir, experiment, begins=False, keeps_splits=keeps_splits
        )
    print_warnings(loaded.warnings)
    splits = hold_out(loaded.data.splits, params, experiment.params_path)
    return {name: split for name, split in splits.items() if name in {*names, "train"}}


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(
        "Compute layouts of a split's embeddings by t-SNE, PCA and (if installed) UMAP, and write\n"
        "them for TensorBoard's projector. It opens on the finished t-SNE; its bookmarks show the\n"
        "other layouts. Also draw figures of the split. Unchanged results are not computed again.",
        EXAMPLES,
    )
    add_keep_splits(parser)
    parser.add_argument(
        "--split",
        choices=(*SPLITS, UNSEEN),
        nargs="+",
        default=["test"],
        help="splits to embed; the projector opens the first (default: test); "
        f"{UNSEEN}: the images of holdout_classes",
    )
    parser.add_argument(
        "--max_points",
        type=whole_number(2, MAX_POINTS),
        default=MAX_POINTS,
        metavar="N",
        help="show at most N images; a larger split is sampled "
        f"(default: {MAX_POINTS}, the maximum of the projector)",
    )
    parser.add_argument(
        "--evolution",
        action="store_true",
        help="also compute a layout for every kept checkpoint, each starting from the one before "
        f"({EVOLUTION_POINTS} images at most)",
    )
    parser.add_argument(
        "--parquet",
        action="store_true",
        help="also write all points to one Parquet file, for other viewers of embeddings",
    )
    parser.add_argument(
        "--serve",
        nargs="?",
        default=False,
        const=None,  # any port; argparse would check a text as if it were given
        type=whole_number(0, 2**16 - 1),
        metavar="PORT",
        help="then run TensorBoard on 127.0.0.1 until Ctrl-C (default: 6006 or the next free port)",
    )
    return parser


def _embed(experiment: Experiment, params: Params, *, verbose: bool) -> Embed:
    """Return a function that embeds; TensorFlow is imported at its first call."""

    def embed(split: Split, checkpoint: Path) -> NDArray[np.float32]:
        with quiet_console(experiment.log_path, verbose=verbose):
            with phase("starting TensorFlow"):
                from model.training.embedding import embed
            settle()
            return embed(experiment, params, split, checkpoint)

    return embed


def write_view(experiment: Experiment, view: View, whole: Split) -> None:
    """Write the projector's files of a split, and print what it will show."""
    written = write_projector(
        experiment.projector_dir(view.name),
        name=f"step_{view.step}",
        embeddings=view.embeddings,
        split=view.split,
        indices=view.indices,
        columns=view.columns,
        layouts=view.layouts,
    )
    num_points, num_dimensions = view.embeddings.shape
    noun = "dimension" if num_dimensions == 1 else "dimensions"
    said = [f"{num_points} points of {num_dimensions} {noun}", *_judgements(view)]
    print(f"{written.directory}: {'; '.join(said)}")
    titles = [TITLES[layout] for layout in view.layouts]
    if titles:
        every = " and ".join(filter(None, [", ".join(titles[:-1]), titles[-1]]))
        print(f"  opens on {titles[0]}; the bookmarks have {every}")
    else:
        print("  without layouts; the projector computes its own")
    if num_points < len(whole):
        print(f"  {_sample_of(view.split, whole)}")
    if written.tile_size[0] < max(view.split.pictures.shape[1:3]):
        print(
            f"  images shrunk to {written.tile_size[0]} x {written.tile_size[1]} pixels: the "
            f"sprite sheet has at most {MAX_SHEET_SIDE} x {MAX_SHEET_SIDE}"
        )


def _judgements(view: View) -> list[str]:
    """Return for each gallery how many predictions are wrong, and which neighbours predict."""
    said = []
    prediction, compared_with = view.columns["prediction"], view.columns["compared_with"]
    for gallery in sorted(set(compared_with), key=lambda name: name != "train"):
        of_gallery = prediction[compared_with == gallery]
        num_wrong, num_right = ((of_gallery == outcome).sum() for outcome in ("wrong", "right"))
        by = "their nearest training images"
        if gallery != "train":
            by = "their nearest neighbours in the split (classes not trained on)"
        if num_judged := num_wrong + num_right:
            share = num_wrong / num_judged
            said.append(f"{num_wrong} of {num_judged} ({share:.2%}) predicted wrong by {by}")
        if num_alone := len(of_gallery) - num_judged:
            said.append(f"{num_alone} without a prediction: no other image of the class")
    return said


def _sample_of(shown: Split, whole: Split) -> str:
    """Return in words which part of a split is shown."""
    num_shown, num_classes = (len(np.unique(split.labels)) for split in (shown, whole))
    if num_shown == num_classes:
        return f"a stratified sample of the {len(whole)} images"
    return f"a sample of the {len(whole)} images: {num_shown} of {num_classes} classes"


def _write_evolution(viewer: Viewer, name: str, max_points: int) -> None:
    """Write the layouts of a split for every checkpoint, and print a message."""
    view, frames = viewer.evolution(name, max_points)
    width = len(str(max(frames)))
    written = write_evolution(
        viewer.experiment.projector_dir(f"{name}_evolution"),
        layouts={f"step_{step:0{width}}": layout for step, layout in frames.items()},
        split=view.split,
        indices=view.indices,
        columns=view.columns,
    )
    steps = ", ".join(map(str, frames))
    print(f"{written.directory}: {len(view.split)} points at the steps {steps}")

    from src.drawing.animation import write_gif
    from src.drawing.scatter import scatter_frame, square_limits

    limits = square_limits(frames.values())
    path = viewer.experiment.figures_dir(name) / "evolution.gif"
    drawn = []
    with progress_bar("drawing the evolution", len(frames), "frames") as bar:
        for step, layout in frames.items():
            title = f"step {step}" if step else "before training"
            names = view.split.class_names
            drawn.append(
                scatter_frame(layout, view.split.labels, names, title=title, limits=limits)
            )
            bar.update(1)
    write_gif(path, drawn)
    print(f"{path}: the same layouts as an animation")


def _tensorboard() -> str:
    """Return the shortest command that starts the TensorBoard of this Python."""
    command = Path(sys.executable).with_name("tensorboard")
    if shutil.which("tensorboard") == str(command):
        return "tensorboard"
    return shlex.quote(os.path.relpath(command))


if __name__ == "__main__":
    run(main)
