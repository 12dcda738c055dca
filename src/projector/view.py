"""Computes and caches what is shown of a split: embeddings, layouts, neighbour columns, figures."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.images import Images, in_pieces
from src.data.shown import shown_indices
from src.data.split import Split
from src.embeddings import layouts
from src.embeddings.metrics import Embedded
from src.embeddings.neighborhood import NUM_NEARBY
from src.embeddings.search import NUM_VOTES
from src.errors import UserError
from src.experiment.checkpoint_files import checkpoint_path, index_of, step_of
from src.experiment.curves import read_curves
from src.experiment.experiment import Experiment
from src.figures import FigureData
from src.params.schema import Params
from src.projector.cached_layouts import begin_layout
from src.projector.columns import comparisons, find_neighbors, neighbor_columns
from src.projector.figure_cache import write_changed_figures
from src.projector.files import check_embeddings
from src.system.cache import cached, digest
from src.system.progress import progress_bar

Embed = Callable[[Split, Path], NDArray[np.float32]]
"""Function that embeds a split with a checkpoint: float32 [N, D]."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """The points of a split that are shown.

    Attributes:
        name: the split's name.
        split: the N examples shown.
        indices: int [N], the positions of the examples in the whole split, ascending.
        embeddings: float32 [N, D].
        layouts: float32 [N, 2] by name, finite, t-SNE first.
        columns: neighbour information by column name, N values each (see `neighbor_columns`).
        step: the global step of the checkpoint that computed the embeddings.
    """

    name: str
    split: Split
    indices: NDArray[np.intp]
    embeddings: NDArray[np.float32]
    layouts: Mapping[str, NDArray[np.float32]]
    columns: Mapping[str, NDArray[Any]]
    step: int


@dataclass(frozen=True)
class Viewer:
    """Computes views of an experiment; unchanged results come from the experiment's cache.

    Attributes:
        experiment: a trained experiment.
        params: the params of its training.
        splits: by name: the splits to show, and `train`.
        embed: called if the cache does not have the embeddings.
    """

    experiment: Experiment
    params: Params
    splits: Mapping[str, Split]
    embed: Embed
    _kept: dict[tuple[str, str], Any] = field(default_factory=dict, init=False)

    def views(self, names: Sequence[str], max_points: int) -> dict[str, View]:
        """Return views of splits, all by the same checkpoint: the best, or the latest.

        A concurrent training may replace that checkpoint before all splits are embedded. In that
        case the views are computed again with the new checkpoint.

        Args:
            names: of the splits.
            max_points: maximum number of points; a larger split is sampled.
        """
        while True:
            step, checkpoint = chosen = self._evaluated()
            try:
                return {name: self._view(name, step, checkpoint, max_points) for name in names}
            except Exception:
                now = self._evaluated()
                if now == chosen:
                    raise
                logger.warning("%s: a training replaced it; using %s", checkpoint, now[1])

    def _evaluated(self) -> tuple[int, Path]:
        """Return the step and path of the checkpoint used for evaluation."""
        step = self.experiment.evaluated_step()
        assert step is not None  # the experiment is trained
        missing = checkpoint_path(self.experiment.model_dir, step)  # opening it raises
        return step, self.experiment.checkpoints().get(step, missing)

    def _view(self, name: str, step: int, checkpoint: Path, max_points: int) -> View:
        whole = self.splits[name]
        indices = self._sample(whole, max_points)
        split = whole.take(indices)
        embeddings = self.embeddings(name, checkpoint)[indices]
        begun = {
            layout: self._begin_layout(layout, name, checkpoint, embeddings)
            for layout in layouts.available_layouts()
        }
        # UMAP computes meanwhile, in one thread. Most of t-SNE needs one too, so it comes next; the
        # columns, which take all processors, come after it.
        found = {layout: finish() for layout, finish in begun.items() if layout != "umap"}
        columns = self._columns(name, name, checkpoint, indices)
        found |= {layout: finish() for layout, finish in begun.items() if layout == "umap"}
        usable = {layout: points for layout, points in found.items() if points is not None}
        return View(name, split, indices, embeddings, usable, columns, step)

    def evolution(self, name: str, max_points: int) -> tuple[View, dict[int, NDArray[np.float32]]]:
        """Return t-SNE layouts of a split by every kept checkpoint, in one coordinate frame.

        Each layout starts from the previous one, so that points without change stay in place.

        Args:
            name: of the split.
            max_points: maximum number of points; a larger split is sampled.

        Returns:
            The view of these points by the latest checkpoint, without layouts. Then step -> layout,
            float32 [N, 2], in the order of the steps; the untrained network comes first.
        """
        whole = self.splits[name]
        indices = self._sample(whole, max_points)
        split = whole.take(indices)
        frames: dict[int, NDArray[np.float32]] = {}
        before = None
        for step, checkpoint in self.experiment.checkpoints().items():
            try:
                embeddings = self.embeddings(name, checkpoint)[indices]
            except Exception:
                if index_of(checkpoint).exists():
                    raise
                logger.warning("%s: skipped, because a training removed it", checkpoint)
                continue
            finish = self._begin_layout(
                "tsne", f"{name}_evolution", checkpoint, embeddings, before, f"t-SNE, step {step}"
            )
            layout = finish()
            if layout is not None:
                frames[step] = before = layout
                last = step, checkpoint, embeddings
        if not frames:
            raise UserError(
                f"{self.experiment.model_dir}: --evolution: found no checkpoint with a usable "
                f"layout of {name}; accepted: one checkpoint or more; run without --evolution"
            )
        step, checkpoint, embeddings = last
        columns = self._columns(name, f"{name}_evolution", checkpoint, indices)
        return View(name, split, indices, embeddings, {}, columns, step), frames

    def figures(self, view: View) -> list[Path]:
        """Draw the figures of a view, and write the page that shows them.

        Returns:
            The paths of the files, the page first.
        """
        evaluated = self.experiment.evaluation_of(view.step)
        data = FigureData(
            experiment=str(self.experiment.model_dir),
            split_name=view.name,
            split=view.split,
            embeddings=view.embeddings,
            params=self.params,
            step=view.step,
            num_examples=len(self.splits[view.name]),
            indices=view.indices,
            layouts=view.layouts,
            untrained=self._untrained(view),
            curves={
                "training": read_curves(self.experiment.model_dir),
                "validation": read_curves(self.experiment.model_dir / "eval_validation"),
            },
            metrics=evaluated.get("splits", {}),
            report=evaluated,
            open_set=evaluated.get("open_set"),
        )
        return write_changed_figures(
            self.experiment.figures_dir(view.name),
            data,
            cache=self.experiment.cache_dir / f"{view.name}_figures.npz",
            images=self._digest_of_images(view.name),
        )

    def _untrained(self, view: View) -> NDArray[np.float32] | None:
        """Return a view's embeddings by the untrained network; None if they are not available."""
        checkpoint = self.experiment.checkpoints().get(0)
        if checkpoint is None:
            return None
        try:
            return self.embeddings(view.name, checkpoint)[view.indices]
        except UserError as error:  # damaged; only the comparison is lost
            logger.warning("the figure before_after is skipped: %s", error)
            return None

    def _sample(self, whole: Split, max_points: int) -> NDArray[np.intp]:
        """Return the positions of the examples to show, ascending."""
        return shown_indices(whole.labels, max_points, self.params.seed)

    def embeddings(self, name: str, checkpoint: Path) -> NDArray[np.float32]:
        """Return the embeddings of a whole split, float32 [N, D].

        Raises:
            UserError: the split has fewer than two examples, or an embedding is not finite.
        """
        kept: NDArray[np.float32] | None = self._kept.get((name, str(checkpoint)))
        if kept is not None:
            return kept
        split = self.splits[name]
        files = sorted(checkpoint.parent.glob(f"{checkpoint.name}.[id]*"))  # .index, .data-...
        key = {
            "checkpoint": digest(file.read_bytes() for file in files),
            "params": self.params.model_dump(),
            "images": self._digest_of_images(name),
            "tensorflow": version("tensorflow"),
        }
        path = self._cache_path(name, checkpoint, "embeddings")
        shape = (len(split), self.params.embedding_size)
        embeddings = cached(
            path,
            key,
            lambda: self.embed(split, checkpoint),
            lambda kept: kept.shape == shape and kept.dtype == np.float32,
        )
        check_embeddings(self.experiment.projector_dir(name), embeddings, split)
        self._kept[name, str(checkpoint)] = embeddings
        return embeddings

    def _digest_of_images(self, name: str) -> str:
        """Return a digest of all images of a split. The images are read only once."""
        if (name, "images") not in self._kept:
            self._kept[name, "images"] = digest(_read_with_a_bar(self.splits[name].images))
        known: str = self._kept[name, "images"]
        return known

    def _begin_layout(
        self,
        layout: str,
        name: str,
        checkpoint: Path,
        embeddings: NDArray[np.float32],
        initial: NDArray[np.float32] | None = None,
        description: str = "t-SNE",
    ) -> Callable[[], NDArray[np.float32] | None]:
        """Begin a layout; see `begin_layout`."""
        return begin_layout(
            layout,
            self._cache_path(name, checkpoint, layout),
            embeddings,
            seed=self.params.seed,
            initial=initial,
            description=description,
        )

    def _columns(
        self, name: str, cache_name: str, checkpoint: Path, indices: NDArray[np.intp]
    ) -> dict[str, NDArray[Any]]:
        """Return the columns of `neighbor_columns` for the examples at `indices` of a split."""
        split = self.splits[name]
        points, labels = self.embeddings(name, checkpoint)[indices], split.labels[indices]
        compared = comparisons(name, split, self.splits["train"], indices)
        galleries = {
            comparison.gallery: Embedded(
                self.embeddings(comparison.gallery, checkpoint),
                self.splits[comparison.gallery].labels,
            )
            for comparison in compared
        }
        key = {
            "examples": digest([points, labels, indices]),
            "galleries": {gallery: digest(both) for gallery, both in galleries.items()},
            "neighbors": [NUM_VOTES, NUM_NEARBY],
        }

        def could_be_found(kept: NDArray[Any]) -> bool:
            return (
                kept.shape == (len(indices), 4)
                and kept.dtype == np.float64
                and bool(np.isin(kept[:, 0], np.arange(-1, len(split.class_names))).all())
            )

        found = cached(
            self._cache_path(cache_name, checkpoint, "neighbors"),
            key,
            lambda: find_neighbors(Embedded(points, labels), compared, galleries),
            could_be_found,
        )
        compared_with = np.full(len(indices), name, object)
        for comparison in compared:
            compared_with[comparison.rows] = comparison.gallery
        return neighbor_columns(found, labels, split.class_names, compared_with)

    def forget_old_checkpoints(self) -> None:
        """Remove cache files of checkpoints that no longer exist."""
        steps = set(self.experiment.checkpoints())
        for path in self.experiment.cache_dir.glob("*_step_*.npz"):
            step = path.stem.split("_step_")[1].split("_")[0]
            if step.isdecimal() and int(step) not in steps:
                path.unlink()

    def _cache_path(self, name: str, checkpoint: Path, what: str) -> Path:
        return self.experiment.cache_dir / f"{name}_step_{step_of(checkpoint)}_{what}.npz"


def _read_with_a_bar(images: Images) -> Iterator[NDArray[np.uint8]]:
    """Yield images in pieces and show a progress bar."""
    with progress_bar("reading images", len(images), "images") as bar:
        for piece in in_pieces(images):
            yield piece
            bar.update(len(piece))
