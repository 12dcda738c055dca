"""Which score tells digits from strangers? The comparison in docs/gallery.md.

    make demo-open
    .venv/bin/python -m benchmarks.open_scores

Half of the validation digits, without their own class, set the threshold at far 0.01; half of the
test digits and all drawings of `benchmarks/strangers.py` are judged.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.harness import REPOSITORY, add_arguments, print_circumstances, print_table, progress
from benchmarks.strangers import CHOOSING, REPORTED, draw
from src.data.loading import load_data
from src.embeddings.open_set_evaluation import auroc
from src.gallery import Gallery

_FAR = 0.01
_SHRINKAGES = (None, 0.5, 0.2, 0.05)
_KEPT = 20
_SEEDS = range(5)
_NUM_DRAWINGS = 100


class Points(NamedTuple):
    """Embeddings float32 [N, D] and labels int32 [N]."""

    x: np.ndarray
    y: np.ndarray


def main(argv: Sequence[str] | None = None) -> None:
    """Embed digits and drawings, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_scores", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--model_dir", type=Path, default=REPOSITORY / "experiments/open_digits")
    parser.add_argument("--data_dir", type=Path, default=REPOSITORY / "data")
    args = parser.parse_args(argv)
    with Gallery(args.model_dir) as gallery:
        pictures = gallery.snapshot().pictures
        splits = load_data(gallery.params, args.data_dir).splits
        validation, test = (
            Points(gallery.embed(np.asarray(splits[name].images)[::2]), splits[name].labels[::2])
            for name in ("validation", "test")
        )
        strangers = {
            shape: gallery.embed(np.concatenate([draw(shape, _NUM_DRAWINGS, s) for s in _SEEDS]))
            for shape in (*REPORTED, *CHOOSING)
        }
    train = Points(pictures.embeddings, pictures.labels)
    header = [
        *("shrinkage", "distance", "hearts, AUROC", "other shapes, mean", "least"),
        *(f"digits accepted at far {_FAR:g}", "other shapes accepted"),
    ]
    print_table(header, compared(train, validation, test, strangers), markdown=args.markdown)
    print_circumstances("benchmarks.open_scores", f"{_NUM_DRAWINGS} drawings a shape and seed.")


def compared(
    train: Points, validation: Points, test: Points, strangers: dict[str, np.ndarray]
) -> list[list[str]]:
    """Return a row for each way to compare; labels are positions 0 to C - 1."""
    rows = []
    for shrinkage in _SHRINKAGES:
        progress(f"shrinkage {shrinkage}")
        matrix = _whitening(train, shrinkage)
        known, of_test, *drawn = (
            _to_classes(x @ matrix, Points(train.x @ matrix, train.y))
            for x in (validation.x, test.x, *strangers.values())
        )
        without = known.copy()
        without[np.arange(len(known)), validation.y] = np.inf
        for name, score in _SCORES.items():
            limit = np.quantile(score(without), _FAR)
            digits = score(of_test)
            of_shape = dict(zip(strangers, map(score, drawn), strict=True))
            others = [of_shape[shape] for shape in CHOOSING]
            aurocs = [auroc(digits, other) or 0.0 for other in others]
            rows.append(
                [
                    "not whitened" if shrinkage is None else f"{shrinkage:g}",
                    name,
                    f"{auroc(digits, of_shape['heart']):.4f}",
                    *(f"{np.mean(aurocs):.4f}", f"{min(aurocs):.4f}"),
                    f"{np.mean(digits <= limit):.3f}",
                    f"{np.mean(np.concatenate(others) <= limit):.3f}",
                ]
            )
    return rows


def _ratio(to_classes: np.ndarray) -> np.ndarray:
    first, second = np.sort(to_classes[:, :, 0], axis=1)[:, :2].T
    return first / second


def _mean_of(count: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda to_classes: to_classes[:, :, :count].mean(axis=2).min(axis=1)


_SCORES = {
    "nearest picture": _mean_of(1),
    "mean of 5 of a class": _mean_of(5),
    "mean of 20 of a class": _mean_of(_KEPT),
    "nearest picture / another class": _ratio,
}


def _whitening(train: Points, shrinkage: float | None) -> np.ndarray:
    """Return the inverse root of the covariance within classes, shrunk; or the identity."""
    size = train.x.shape[1]
    if shrinkage is None:
        return np.eye(size)
    parts = [train.x[train.y == label].astype(np.float64) for label in np.unique(train.y)]
    centred = np.concatenate([part - part.mean(axis=0) for part in parts])
    scatter = centred.T @ centred
    scatter *= size / np.trace(scatter)
    values, vectors = np.linalg.eigh((1 - shrinkage) * scatter + shrinkage * np.eye(size))
    return vectors / np.sqrt(values) @ vectors.T


def _to_classes(x: np.ndarray, gallery: Points) -> np.ndarray:
    """Return each query's smallest distances to each class, ascending [Q, C, 20]."""
    parts = [gallery.x[gallery.y == label].astype(np.float32) for label in np.unique(gallery.y)]
    found = np.empty((len(x), len(parts), _KEPT))
    for start in range(0, len(x), 500):
        block = x[start : start + 500].astype(np.float32)
        for label, part in enumerate(parts):
            squared = (part**2).sum(1) - 2 * block @ part.T + (block**2).sum(1)[:, None]
            nearest = np.sort(np.partition(squared, _KEPT - 1, axis=1)[:, :_KEPT], axis=1)
            found[start : start + 500, label] = np.sqrt(np.maximum(nearest, 0))
    return found


if __name__ == "__main__":
    main()
