"""The pictures of an experiment: one file per figure, each a function of `FigureData`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.curves import Curve
from src.metrics import query_indices
from src.pairs import Pairs, scan_pairs
from src.params import Params
from src.registry import FIGURES, LIVE_ONLY_FIGURES, look_up
from src.retrieval import nearest_neighbors
from src.split import Split

if TYPE_CHECKING:  # slow to import, and not needed before the first figure is drawn
    from matplotlib.figure import Figure

LAYOUT_TITLES = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP"}


class Picture(NamedTuple):
    """A figure, and what is to be said of it.

    Attributes:
        figure: drawn in the style of `src.drawing`.
        title: a few words.
        caption: what one sees, and how to read it; plain text.
        alt: what stands in for the figure where it cannot be seen; plain text.
    """

    figure: "Figure"
    title: str
    caption: str
    alt: str


@dataclass(frozen=True)
class FigureData:
    """All that figures are drawn from.

    Attributes:
        experiment: its directory as the user names it.
        split_name: train, validation, test, ...
        split: the N examples shown.
        embeddings: float32 [N, D], finite.
        params: those that trained.
        step: the global step of the checkpoint that embedded.
        num_examples: of the whole split, of which those shown may be a part.
        layouts: float32 [N, 2] of the embeddings, by name, see `LAYOUT_TITLES`.
        untrained: float32 [N, D], by the network before training; None where that is not kept.
        curves: of `training` and of `validation`, the curve of each tag.
        metrics: of each split, as in `metrics.json`.
    """

    experiment: str
    split_name: str
    split: Split
    embeddings: NDArray[np.float32]
    params: Params
    step: int
    num_examples: int
    layouts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    untrained: NDArray[np.float32] | None = None
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @cached_property
    def nearest(self) -> NDArray[np.intp]:
        """The nearest neighbour of each by Euclidean distance, int [N]; as `recall_at_1_within`."""
        return nearest_neighbors(self.embeddings)

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs, by the distance that trained."""
        return scan_pairs(self.embeddings, self.split.labels, self.params.distance_name)

    @cached_property
    def nearest_positive(self) -> NDArray[np.intp]:
        """The nearest other of its own class by Euclidean distance, int [N]; -1 where none is."""
        if self.params.distance_name == "cosine":  # the other distances have the Euclidean order
            labels = self.split.labels
            return scan_pairs(self.embeddings, labels, "euclidean").nearest_positive
        return self.pairs.nearest_positive

    def of_queries(self) -> "FigureData":
        """Return the data of those examples alone that the metrics ask, at most 10 000."""
        shown = query_indices(self.split.labels)
        if len(shown) == len(self.split):
            return self
        return replace(
            self,
            split=self.split.take(shown),
            embeddings=self.embeddings[shown],
            layouts={name: layout[shown] for name, layout in self.layouts.items()},
            untrained=None if self.untrained is None else self.untrained[shown],
        )


def draw(name: str, data: FigureData, **options: int) -> Picture | None:
    """Draw the figure registered as `name`; None where the data lacks what it shows.

    Args:
        name: of FIGURES.
        data: what to draw.
        options: of `src.drawing.style`.
    """
    from src.drawing import style

    with style(**options):
        picture: Picture | None = look_up(FIGURES, name)(data)
    return picture


def write_figures(
    directory: Path, data: FigureData, names: Iterable[str] | None = None
) -> list[Path]:
    """Write figures as PNG and SVG, and the page `index.html` that shows them.

    Of a larger split the pictures are of 10 000 examples, those that the metrics ask too.

    Args:
        directory: where they go; what stands there is replaced.
        data: what to draw.
        names: of FIGURES, in the order of the page; None for all but those of running trainings.

    Returns:
        The files written, the page first.
    """
    from src.drawing import save_figure, style
    from src.figure_page import page

    if names is None:
        names = [name for name in FIGURES if name not in LIVE_ONLY_FIGURES]
    data = data.of_queries()
    pictures: dict[str, Picture] = {}
    written: list[Path] = []
    for name in names:
        picture = draw(name, data)
        if picture is not None:
            pictures[name] = picture
            with style():
                written += save_figure(picture.figure, directory / name)
    return [page(directory, data, pictures), *written]
