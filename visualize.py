"""Show an experiment's embeddings: `python visualize.py --model_dir experiments/demo`."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from src.cli import experiment_parser, quiet_console, run
from src.experiment import Experiment
from src.projector import write_projector
from src.registry import DATASETS, look_up
from src.split import SPLITS
from src.sprite import MAX_SHEET_SIDE

EXAMPLES = """\
  python visualize.py --model_dir experiments/demo
  python visualize.py --model_dir experiments/demo --split validation
  tensorboard --logdir experiments     # then open the tab PROJECTOR"""


def main(argv: Sequence[str] | None = None) -> None:
    """Embed a split with the best checkpoint, and write the projector's files."""
    parser = experiment_parser(
        "Write the embeddings of a split for TensorBoard's projector: the tensor, a sprite sheet, "
        "metadata and the configuration.",
        EXAMPLES,
    )
    parser.add_argument(
        "--split", choices=SPLITS, default="test", help="which images to embed (default: test)"
    )
    args = parser.parse_args(argv)

    experiment = Experiment(args.model_dir)
    params = experiment.trained_params()
    split = look_up(DATASETS, params.dataset)(args.data_dir, args.split, params)
    with quiet_console(experiment.log_path, verbose=args.verbose):
        from model.training import embed

        embeddings = embed(experiment, params, split)
    step = experiment.evaluated_step()
    written = write_projector(
        experiment.projector_dir(args.split),
        name=f"{args.split}_step_{step}",
        embeddings=embeddings,
        split=split,
    )
    print(f"{written.directory}: {written.num_points} points of {embeddings.shape[1]} dimensions")
    if written.num_points < written.num_examples:
        print(
            f"The browser takes at most {written.num_points} points: a stratified sample of the "
            f"{written.num_examples} images is shown."
        )
    if written.tile_size[0] < max(split.images.shape[1:3]):
        print(
            f"The sprite sheet takes at most {MAX_SHEET_SIDE} x {MAX_SHEET_SIDE} pixels: the "
            f"pictures are shown at {written.tile_size[0]} x {written.tile_size[1]}."
        )
    print(
        f"Open it with: {_tensorboard()} --logdir {shlex.quote(str(args.model_dir))}\n"
        "then, in the browser, the tab PROJECTOR (of the menu INACTIVE, if it is not in the row)"
    )


def _tensorboard() -> str:
    """Return the command that starts the TensorBoard of this Python, as short as it can be."""
    command = Path(sys.executable).with_name("tensorboard")
    if shutil.which("tensorboard") == str(command):
        return "tensorboard"
    return shlex.quote(os.path.relpath(command))


if __name__ == "__main__":
    run(main)
