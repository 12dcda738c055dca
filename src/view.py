"""All there is to see of a split: embeddings, layouts, and what neighbours say, computed once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src import layouts
from src.cache import cached, digest
from src.curves import read_curves
from src.experiment import Experiment
from src.figure_page import animations
from src.figures import FigureData, write_figures
from src.holdout import UNSEEN
from src.mapped_images import in_pieces
from src.neighborhood import NUM_NEARBY, NUM_VOTES, Neighborhood, neighborhood
from src.params import Params
from src.projector import check_embeddings
from src.split import Split, stratified_indices

Embed = Callable[[Split, Path], NDArray[np.float32]]
"""Embeds a split with a checkpoint: float32 [N, D]."""


@dataclass(frozen=True)
class View:
    """The points of a split that are shown.

    Attributes:
        name: the split's name.
        split: the N examples shown.
        indices: int [N], their positions in the whole split, ascending.
        embeddings: float32 [N, D].
        layouts: float32 [N, 2] by name, t-SNE first.
        columns: what neighbours say of each, N values by name (see `neighbor_columns`).
    """

    name: str
    split: Split
    indices: NDArray[np.intp]
    embeddings: NDArray[np.float32]
    layouts: Mapping[str, NDArray[np.float32]]
    columns: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Viewer:
    """Computes views of an experiment, or takes from its cache what nothing has changed about.

    Attributes:
        experiment: a trained one.
        params: those it was trained with.
        splits: by name, those to show and `train`.
        embed: what is called for embeddings that the cache has not.
    """

    experiment: Experiment
    params: Params
    splits: Mapping[str, Split]
    embed: Embed

    def view(self, name: str, max_points: int) -> View:
        """Return the view of a split by the checkpoint that is evaluated: the best, or the latest.

        Args:
            name: of the split.
            max_points: of a larger split, a stratified sample of this size.
        """
        step = self.experiment.evaluated_step()
        assert step is not None  # there are trained params
        missing = self.experiment.model_dir / f"model.ckpt-{step}"  # whoever opens it says so
        checkpoint = self.experiment.checkpoints().get(step, missing)
        whole = self.splits[name]
        indices = self._sample(whole, max_points)
        split = whole.take(indices)
        embeddings = self.embeddings(name, checkpoint)[indices]
        return View(
            name,
            split,
            indices,
            embeddings,
            {
                layout: self._layout(layout, name, checkpoint, embeddings)
                for layout in layouts.available_layouts()
            },
            self._columns(name, name, checkpoint, embeddings, split),
        )

    def evolution(self, name: str, max_points: int) -> tuple[View, dict[int, NDArray[np.float32]]]:
        """Return t-SNE layouts of a split by every checkpoint that is kept, in one common frame.

        Each starts from the one before, so that what has not moved stays where it was.

        Args:
            name: of the split.
            max_points: of a larger split, a stratified sample of this size.

        Returns:
            The view of those points by the latest checkpoint, with no layout, and the layouts by
            the step, float32 [N, 2], the untrained network's first.
        """
        whole = self.splits[name]
        indices = self._sample(whole, max_points)
        split = whole.take(indices)
        frames: dict[int, NDArray[np.float32]] = {}
        before = None
        for step, checkpoint in self.experiment.checkpoints().items():
            embeddings = self.embeddings(name, checkpoint)[indices]
            before = self._layout(
                "tsne", f"{name}_evolution", checkpoint, embeddings, before, f"t-SNE, step {step}"
            )
            frames[step] = before
        columns = self._columns(name, f"{name}_evolution", checkpoint, embeddings, split)
        return View(name, split, indices, embeddings, {}, columns), frames

    def figures(self, view: View) -> list[Path]:
        """Draw the pictures of a view and the page that shows them.

        Returns:
            The files, the page first.
        """
        step = self.experiment.evaluated_step()
        assert step is not None  # there are trained params
        untrained = self.experiment.checkpoints().get(0)
        data = FigureData(
            experiment=str(self.experiment.model_dir),
            split_name=view.name,
            split=view.split,
            embeddings=view.embeddings,
            params=self.params,
            step=step,
            num_examples=len(self.splits[view.name]),
            layouts=view.layouts,
            untrained=self.embeddings(view.name, untrained)[view.indices] if untrained else None,
            curves={
                "training": read_curves(self.experiment.model_dir),
                "validation": read_curves(self.experiment.model_dir / "eval_validation"),
            },
            metrics=(self.experiment.metrics() or {}).get("splits", {}),
        )
        arrays: list[NDArray[Any] | bytes] = [data.embeddings, *data.layouts.values()]
        arrays += [view.split.labels, view.indices]
        figures_dir = self.experiment.figures_dir(view.name)
        arrays += [path.read_bytes() for path in animations(figures_dir)]
        drawing = sorted(Path(__file__).parent.rglob("*.py"))
        key = {
            "data": digest(arrays if data.untrained is None else [*arrays, data.untrained]),
            "facts": [data.experiment, data.params.model_dump(), step, data.curves, data.metrics],
            "program": digest(path.read_bytes() for path in drawing),
            "matplotlib": version("matplotlib"),
        }
        path = self.experiment.cache_dir / f"{view.name}_figures.npz"

        def draw() -> NDArray[Any]:
            written = write_figures(figures_dir, data)
            return np.array([str(file) for file in written])

        files = [Path(file) for file in cached(path, key, draw)]
        if not all(file.exists() for file in files):
            path.unlink()
            files = [Path(file) for file in cached(path, key, draw)]
        return files

    def _sample(self, whole: Split, max_points: int) -> NDArray[np.intp]:
        """Return the positions of the examples that are shown, ascending."""
        count = min(max_points, len(whole))
        return stratified_indices(whole.labels, count, self.params.seed)

    def embeddings(self, name: str, checkpoint: Path) -> NDArray[np.float32]:
        """Return the embeddings of a whole split, float32 [N, D].

        Raises:
            UserError: the split has fewer than two examples, or an embedding is not finite.
        """
        split = self.splits[name]
        files = sorted(checkpoint.parent.glob(f"{checkpoint.name}.[id]*"))  # .index, .data-...
        key = {
            "checkpoint": digest(file.read_bytes() for file in files),
            "params": self.params.model_dump(),
            "images": digest(in_pieces(split.images)),
            "tensorflow": version("tensorflow"),
        }
        path = self._cache_path(name, checkpoint, "embeddings")
        embeddings = cached(path, key, lambda: self.embed(split, checkpoint))
        check_embeddings(self.experiment.projector_dir(name), embeddings, split)
        return embeddings

    def _layout(
        self,
        layout: str,
        name: str,
        checkpoint: Path,
        embeddings: NDArray[np.float32],
        initial: NDArray[np.float32] | None = None,
        description: str = "t-SNE",
    ) -> NDArray[np.float32]:
        """Return a layout of embeddings, float32 [N, 2]."""
        seed = self.params.seed
        compute: dict[str, Callable[[], NDArray[np.float32]]] = {
            "pca": lambda: layouts.pca(embeddings),
            "tsne": lambda: layouts.tsne(
                embeddings, seed=seed, initial=initial, description=description
            ),
            "umap": lambda: layouts.umap(embeddings, seed=seed, initial=initial),
        }
        key = {
            "embeddings": digest([embeddings]),
            "initial": None if initial is None else digest([initial]),
            "seed": seed,
            **layouts.settings(layout),
        }
        return cached(self._cache_path(name, checkpoint, layout), key, compute[layout])

    def _columns(
        self,
        name: str,
        cache_name: str,
        checkpoint: Path,
        embeddings: NDArray[np.float32],
        split: Split,
    ) -> dict[str, NDArray[Any]]:
        """Return the columns of `neighbor_columns`.

        Examples of `train` are compared among themselves, each without itself, and so are those of
        `unseen`, whose classes the training split has not.
        """
        gallery: tuple[Any, ...] = ()
        if name not in ("train", UNSEEN):
            gallery = (self.embeddings("train", checkpoint), self.splits["train"].labels)
        key = {
            "examples": digest([embeddings, split.labels, *gallery]),
            "neighbors": [NUM_VOTES, NUM_NEARBY],
            "scikit-learn": version("scikit-learn"),
        }
        found = cached(
            self._cache_path(cache_name, checkpoint, "neighbors"),
            key,
            lambda: np.column_stack(neighborhood(embeddings, split.labels, *gallery)),
        )
        return neighbor_columns(Neighborhood(*found.T), split.labels, split.class_names)

    def forget_old_checkpoints(self) -> None:
        """Remove from the cache what belongs to checkpoints that are no longer there."""
        steps = set(self.experiment.checkpoints())
        for path in self.experiment.cache_dir.glob("*_step_*.npz"):
            step = path.stem.split("_step_")[1].split("_")[0]
            if step.isdecimal() and int(step) not in steps:
                path.unlink()

    def _cache_path(self, name: str, checkpoint: Path, what: str) -> Path:
        step = checkpoint.name.removeprefix("model.ckpt-")
        return self.experiment.cache_dir / f"{name}_step_{step}_{what}.npz"


def neighbor_columns(
    found: Neighborhood, labels: NDArray[np.int32], class_names: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    """Return what neighbours say of each example, as columns.

    `outcome` says it in words, "4 right" or "4 taken for 9": the projector shows it beside a point
    and searches in it, where the names of classes are numbers. `predicted_label` is the class that
    most of the 5 nearest training examples have, `prediction` whether that is right;
    `own_class_distance` and `other_class_distance` are the Euclidean distances to the nearest
    training example of its own and of any other class; `errors_nearby` is the share of wrong
    predictions around it.
    """
    names = np.array(class_names, dtype=object)
    predicted_names = names[found.predicted.astype(int)]
    return {
        "outcome": np.where(
            found.is_wrong,
            names[labels] + " taken for " + predicted_names,
            names[labels] + " right",
        ),
        "predicted_label": predicted_names,
        "prediction": np.where(found.is_wrong, "wrong", "right"),
        "own_class_distance": found.own_distance.astype(np.float32),
        "other_class_distance": found.other_distance.astype(np.float32),
        "errors_nearby": found.errors_nearby.astype(np.float32),
    }
