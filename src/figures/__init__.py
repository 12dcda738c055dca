"""The figures of an experiment: one file per figure, each with a function of `FigureData`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.shown import shown_indices
from src.data.split import Split
from src.distance import DISTANCES
from src.embeddings.pairs import Pairs, scan_pairs
from src.embeddings.search import nearest_neighbors
from src.experiment.curves import Curve
from src.params.schema import Params
from src.printable import printable
from src.registry import FIGURES, LIVE_ONLY_FIGURES, look_up
from src.system.aside import Aside, is_worth_it
from src.system.progress import progress_bar

if TYPE_CHECKING:  # slow to import, and not needed before the first figure is drawn
    from matplotlib.figure import Figure

    from src.drawing.colors import ClassColors

MAX_SHOWN = 10_000
"""Maximum number of images in a figure."""

# What another process draws meanwhile, which takes about half of the time. They show no images,
# which may be too many to hand over, and the scan of all pairs that the others share is not theirs.
_ASIDE = frozenset({"before_after", "confusion", "open_set", "curves"})


class CaptionedFigure(NamedTuple):
    """A figure with its texts.

    Attributes:
        figure: drawn in the style of `src.drawing.style`.
        title: a few words.
        caption: what the figure shows and how to read it; plain text.
        alt: alternative text for readers who cannot see the figure; plain text.
    """

    figure: "Figure"
    title: str
    caption: str
    alt: str


class Texts(NamedTuple):
    """The texts of a figure; see `CaptionedFigure`."""

    title: str
    caption: str
    alt: str


class _Written(NamedTuple):
    """The files of a figure, and its texts."""

    paths: list[Path]
    texts: Texts


@dataclass(frozen=True)
class FigureData:
    """The input of all figures.

    Attributes:
        experiment: the experiment's directory, as the user entered it.
        split_name: train, validation, test, ...
        split: the N examples shown.
        embeddings: float32 [N, D], finite.
        params: the params of the training.
        step: the global step of the checkpoint that computed the embeddings.
        num_examples: size of the whole split. The N examples shown may be a sample.
        indices: int [N], the positions of the examples in the whole split; None if all are shown.
        layouts: float32 [N, 2] of the embeddings, by name, see `src.embeddings.layouts.TITLES`.
        untrained: float32 [N, D], embeddings of the untrained network; None if not available.
        curves: run (`training` or `validation`) -> tag -> curve.
        metrics: split -> metric -> value, as in `metrics.json`; an undefined metric is None.
        report: the whole of `metrics.json`; empty if the experiment was not evaluated.
        open_set: the object of `metrics.json`; None if the experiment was not evaluated for it.
    """

    experiment: str
    split_name: str
    split: Split
    embeddings: NDArray[np.float32]
    params: Params
    step: int
    num_examples: int
    indices: NDArray[np.intp] | None = None
    layouts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    untrained: NDArray[np.float32] | None = None
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    open_set: Mapping[str, Any] | None = None

    @cached_property
    def nearest(self) -> NDArray[np.intp]:
        """Each example's nearest neighbour among the examples shown, int [N]; Euclidean."""
        return nearest_neighbors(self.embeddings)

    @cached_property
    def is_answerable(self) -> NDArray[np.bool_]:
        """Whether another image of the same class is shown, bool [N]; if not, no match exists."""
        _, places, sizes = np.unique(self.split.labels, return_inverse=True, return_counts=True)
        return (sizes > 1)[places]

    @cached_property
    def coloring(self) -> "ClassColors":
        """The colours of the classes shown; of more than ten, by groups of neighbours."""
        from src.drawing.colors import class_colors

        return class_colors(self.split.labels, len(self.split.class_names), self.embeddings)

    @property
    def among(self) -> str:
        """Text that names the images among which neighbours are searched."""
        if len(self.split) == self.num_examples:
            return f"the other {len(self.split) - 1} images of the split"
        return (
            f"the other {len(self.split) - 1} images shown (a sample of the {self.num_examples} "
            "images of the split)"
        )

    @property
    def sampled(self) -> str:
        """A sentence that says so if the images shown are a sample; "" if all are shown."""
        if len(self.split) == self.num_examples:
            return ""
        return f" Among {len(self.split)} of the {self.num_examples} images of the split, a sample."

    @property
    def unanswerable(self) -> str:
        """A sentence about images that are the only one of their class; "" if there are none."""
        number = int((~self.is_answerable).sum())
        if number == len(self.split):
            return " It is undefined here, because no two images share a class."
        if number == 0:
            return ""
        if number == 1:
            return " One image is excluded: it is the only one of its class."
        return f" {number} images are excluded: each is the only one of its class."

    def index(self, image: int) -> int:
        """Return the position of a shown image in the whole split."""
        return image if self.indices is None else int(self.indices[image])

    def name_of(self, image: int) -> str:
        """Return the file name of a shown image, or its number if it has no file."""
        if self.split.paths is None:
            return f"no. {self.index(image)}"
        return printable(str(self.split.paths[image]))

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs, by the distance used in training."""
        return scan_pairs(self.embeddings, self.split.labels, self.params.distance_name)

    @cached_property
    def nearest_positive(self) -> NDArray[np.intp]:
        """Each example's nearest positive by Euclidean distance, int [N]; -1 if there is none."""
        if DISTANCES[self.params.distance_name].compares_directions:
            labels = self.split.labels
            return scan_pairs(self.embeddings, labels, "euclidean").nearest_positive
        return self.pairs.nearest_positive

    def of_shown(self) -> "FigureData":
        """Return the data of at most MAX_SHOWN examples."""
        shown = shown_indices(self.split.labels, MAX_SHOWN, seed=0)
        if len(shown) == len(self.split):
            return self
        return replace(
            self,
            split=self.split.take(shown),
            embeddings=self.embeddings[shown],
            indices=shown if self.indices is None else self.indices[shown],
            layouts={name: layout[shown] for name, layout in self.layouts.items()},
            untrained=None if self.untrained is None else self.untrained[shown],
        )


def draw(name: str, data: FigureData, **options: int) -> CaptionedFigure | None:
    """Draw the figure registered as `name`; return None if the data it needs is missing.

    Args:
        name: a key of FIGURES.
        data: the data to draw.
        options: options of `src.drawing.style.style`.
    """
    from src.drawing.style import style

    with style(**options):
        drawn: CaptionedFigure | None = look_up(FIGURES, name)(data)
    return drawn


def write_figures(
    directory: Path, data: FigureData, names: Iterable[str] | None = None
) -> list[Path]:
    """Write figures as PNG and SVG, and the page `index.html` that shows them.

    If a split has more than 10 000 examples, the figures show a sample of 10 000.

    Args:
        directory: the output directory. Existing figures are replaced. If a figure has nothing to
            show, its old files are removed.
        data: the data to draw.
        names: keys of FIGURES, in the order of the page. If None, all figures except those that
            only a running training uses.

    Returns:
        The files written, the page first.
    """
    from src.drawing.page import page

    if names is None:
        names = [name for name in FIGURES if name not in LIVE_ONLY_FIGURES]
    names = list(names)
    data = data.of_shown()
    aside = [name for name in names if name in _ASIDE and is_worth_it(len(data.split))]
    here = [name for name in names if name not in aside]
    if not here:
        aside, here = [], names
    # Drawing takes one thread, so a second process halves the time.
    begun = Aside(_write_each, directory, _without_images(data), aside) if aside else None
    with progress_bar("figures", len(names), "figures") as bar:
        found: dict[str, _Written] = {}
        for name in here:
            bar.set_description(f"figure {name}")
            found |= _write_each(directory, data, [name])
            bar.update(1)
        if begun is not None:
            bar.set_description(f"figure {aside[-1]}")
            try:
                found |= begun.result()
            except ChildProcessError:  # it was killed, as when memory runs out
                found |= _write_each(directory, data, aside)
            bar.update(len(aside))
    in_order = {name: found[name] for name in names if name in found}
    texts = {name: written.texts for name, written in in_order.items()}
    paths = [path for written in in_order.values() for path in written.paths]
    return [page(directory, data, texts), *paths]


def _without_images(data: FigureData) -> FigureData:
    images = np.empty((0, *data.split.images.shape[1:]), data.split.images.dtype)
    return replace(data, split=replace(data.split, images=images))


def _write_each(directory: Path, data: FigureData, names: Iterable[str]) -> dict[str, _Written]:
    """Write figures, and return their files by name, without those that have nothing to show."""
    from src.drawing.style import save_figure, style

    found = {}
    for name in names:
        drawn = draw(name, data)
        if drawn is not None:
            with style():
                paths = save_figure(drawn.figure, directory / name)
            found[name] = _Written(paths, Texts(drawn.title, drawn.caption, drawn.alt))
        else:  # remove files that show older data
            for ending in ("png", "svg"):
                (directory / f"{name}.{ending}").unlink(missing_ok=True)
    return found
