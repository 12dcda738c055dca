"""Draws figures of a running training after each evaluation: they show the classes separate."""

import logging
import warnings
from bisect import bisect_right
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.hooks.after_evaluation import AfterEvaluation, Evaluated
from model.hooks.summaries import flush_summaries, write_image
from src.data.split import Split
from src.drawing.animation import write_gif
from src.embeddings.alignment import align
from src.embeddings.layouts import pca
from src.errors import UserError
from src.experiment.checkpoint_files import index_of
from src.experiment.curves import Curve, read_curves
from src.experiment.experiment import Experiment
from src.figures import FigureData, draw
from src.params.schema import Params
from src.printable import printable
from src.system.atomic import atomic_write

NUM_SHOWN = 1000

# Pixels per inch: half as many as other figures, because there is one per evaluation.
_DPI = 100
_MAX_FRAMES = 500

logger = logging.getLogger(__name__)


class LiveFigures(AfterEvaluation):
    """Draws `live_figures` after each evaluation.

    All figures show the same images, spread evenly over the split. The layout `pca` is aligned to
    the previous figure's layout, which a file keeps for resumed runs. The first figure shows the
    network before training.
    """

    name = "live_figures"

    def __init__(
        self,
        experiment: Experiment,
        params: Params,
        split: Split,
        embed: Callable[[Split, Path], NDArray[np.float32]],
    ) -> None:
        """Prepare the figures.

        Args:
            experiment: the figures are written to its `live_dir`.
            params: `live_figures`.
            split: the test split; at most 1000 of its images are shown.
            embed: embeds a split with a checkpoint, float32 [N, D].
        """
        size = len(split)
        shown = np.linspace(0, size - 1, min(NUM_SHOWN, size)).astype(np.intp)
        self._experiment = experiment
        self._params = params
        self._split = split.take(shown)
        self._num_examples = size
        self._embed = embed
        self._untrained: NDArray[np.float32] | None = None
        self._looks_for_untrained = True

    def after_evaluation(self, evaluated: Evaluated) -> None:
        """Draw the evaluated checkpoint."""
        untrained = self._experiment.untrained_checkpoint
        if self._looks_for_untrained and index_of(untrained).exists():
            self._looks_for_untrained = False
            self._draw_untrained(untrained)
        self._draw(evaluated.step, self._embed(self._split, evaluated.checkpoint))

    def _draw_untrained(self, checkpoint: Path) -> None:
        """Draw the network before training, unless its checkpoint is damaged."""
        try:
            self._untrained = self._embed(self._split, checkpoint)
        except UserError as error:
            logger.warning("the first live figure is left out: %s", error)
            return
        if not self._layout_path.exists():
            self._draw(0, self._untrained)

    def write_animations(self) -> None:
        """Write an animated GIF for each figure, from all its files so far, of all runs."""
        for name in self._params.live_figures:
            paths = sorted((self._experiment.live_dir / name).glob("step_*.png"))
            every = max(1, -(-len(paths) // _MAX_FRAMES))
            paths = paths[::-1][::every][::-1]  # with the latest
            frames = [frame for path in paths if (frame := _frame(path)) is not None]
            # Leave out figures of another size: they do not fit into the animation.
            frames = [frame for frame in frames if frame.size == frames[-1].size]
            if frames:
                write_gif(self._experiment.live_dir / f"{name}.gif", frames)

    @property
    def _layout_path(self) -> Path:
        return self._experiment.live_dir / "layout.npy"

    def _draw(self, step: int, embeddings: NDArray[np.float32]) -> None:
        """Draw all figures of one checkpoint; hide warnings of libraries."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._draw_figures(step, embeddings)

    def _draw_figures(self, step: int, embeddings: NDArray[np.float32]) -> None:
        live_dir, model_dir = self._experiment.live_dir, self._experiment.model_dir
        flush_summaries(str(model_dir))
        layout = self._layout(embeddings)
        data = FigureData(
            experiment=str(model_dir),
            split_name="test",
            split=self._split,
            embeddings=embeddings,
            params=self._params,
            step=step,
            num_examples=self._num_examples,
            layouts={} if layout is None else {"pca": layout},
            untrained=self._untrained,
            curves={
                "training": _until(step, read_curves(model_dir)),
                "validation": _until(step, read_curves(model_dir / "eval_validation")),
            },
        )
        for name in self._params.live_figures:
            image = _image(name, data)
            if image is not None:
                with atomic_write(live_dir / name / f"step_{step:08}.png") as file:
                    image.save(file, format="PNG")
                write_image(str(live_dir), name, image, step)

    def _layout(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the PCA aligned to the previous layout, and save it; None if not finite."""
        layout = pca(embeddings)
        if not np.isfinite(layout).all():
            return None
        before = _kept_layout(self._layout_path)
        if before is not None and before.shape == layout.shape:
            layout = align(layout, before)
        with atomic_write(self._layout_path) as file:
            np.save(file, layout, allow_pickle=False)
        return layout


def _kept_layout(path: Path) -> NDArray[np.float32] | None:
    """Return the layout saved in a file; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        # Memory-mapped, so a damaged header cannot demand more memory than the file's size.
        layout = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, OverflowError):
        return None
    return layout if layout.dtype == np.float32 and np.isfinite(layout).all() else None


def _frame(path: Path) -> Image.Image | None:
    """Return the figure in a file as RGB; None if the file is damaged."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # Pillow raises many types
        logger.warning("%s: damaged; left out of the animation (%s)", path, printable(str(error)))
        return None


def _until(step: int, curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Return the curves up to and including a step."""
    ends = {tag: bisect_right(steps, step) for tag, (steps, _) in curves.items()}
    return {
        tag: (steps[: ends[tag]], values[: ends[tag]])
        for tag, (steps, values) in curves.items()
        if ends[tag] > 0
    }


def _image(name: str, data: FigureData) -> Image.Image | None:
    """Return the figure `name` as an RGB image; None if it has nothing to show."""
    from src.drawing.style import (  # slow to import, needed only for figures
        figure_image,
        style,
    )

    drawn = draw(name, data, dpi=_DPI)
    if drawn is None:
        return None
    with style(_DPI):
        return figure_image(drawn.figure)
