"""Does experiments/open_digits know strangers, and can they be enrolled? Tables of docs/gallery.md.

    make demo-open
    .venv/bin/python -m benchmarks.open_set

The gallery is that of the experiment, and it judges as `query.py` does. Strangers are the drawings
of `benchmarks/strangers.py`. The params were chosen with both sets of shapes in view, from nine
trainings; so were the score, how far it whitens, and how many pictures of a class it compares.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import (
    REPOSITORY,
    add_arguments,
    print_circumstances,
    print_table,
    progress,
)
from benchmarks.strangers import CHOOSING, REPORTED, draw
from src.data.loading import load_data
from src.embeddings.open_set_evaluation import auroc
from src.gallery import Gallery

_FARS = (0.1, 0.01)
_ENROLLED = (1, 2, 5, 10)
_SEEDS = range(5)
_NUM_DRAWINGS = 100


def main(argv: Sequence[str] | None = None) -> None:
    """Query digits and drawings, enrol drawings, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_set", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--model_dir", type=Path, default=REPOSITORY / "experiments/open_digits")
    parser.add_argument("--data_dir", type=Path, default=REPOSITORY / "data")
    args = parser.parse_args(argv)
    with Gallery(args.model_dir) as gallery:
        test = load_data(gallery.params, args.data_dir).splits["test"]
        progress("test digits and strangers")
        digits = _Judged(gallery, np.asarray(test.images))
        strangers = {
            shape: _Judged(gallery, np.concatenate([draw(shape, _NUM_DRAWINGS, s) for s in _SEEDS]))
            for shape in (*REPORTED, *CHOOSING)
        }
    names = np.array(test.class_names)[test.labels]
    rows = [
        [
            shape,
            "reported" if shape in REPORTED else "of the choice",
            f"{auroc(digits.scores, judged.scores):.4f}",
            *(f"{np.mean(judged.names[far] != 'unknown'):.3f}" for far in _FARS),
        ]
        for shape, judged in strangers.items()
    ]
    right = [f"{np.mean(digits.names[far] == names):.3f}" for far in _FARS]
    rows.append(["test digits, with the right class", "-", "-", *right])
    header = ["drawing", "", "AUROC", *(f"accepted at far {far:g}" for far in _FARS)]
    print_table(header, rows, markdown=args.markdown)

    for rows, header in _enrolments(args.model_dir, np.asarray(test.images[::10]), digits):
        print_table(header, rows, markdown=args.markdown)
    print_circumstances(
        "benchmarks.open_set",
        f"{_NUM_DRAWINGS} drawings of each shape with each of {len(_SEEDS)} seeds.",
    )


class _Judged:
    """What a gallery says about images.

    Attributes:
        scores: float64 [N], distance / threshold.
        names: by rate, the classes or "unknown", [N].
    """

    def __init__(self, gallery: Gallery, images: np.ndarray) -> None:
        """Query the images, uint8 [N, H, W, C]."""
        answers = {far: gallery.query(images, neighbours=1, far=far) for far in _FARS}
        self.scores = np.array([one.distance / one.threshold for one in answers[_FARS[0]]])
        self.names = {
            far: np.array([one.class_name or "unknown" for one in of_rate])
            for far, of_rate in answers.items()
        }


def _enrolments(
    model_dir: Path, images: np.ndarray, digits: _Judged
) -> list[tuple[list[list[str]], list[str]]]:
    """Return tables: what is found after some drawings were enrolled, and what that costs."""
    found: dict[float, list[list[str]]] = {far: [] for far in _FARS}
    price: dict[float, list[list[str]]] = {far: [] for far in _FARS}
    others = np.concatenate([draw(shape, _NUM_DRAWINGS, _SEEDS[0]) for shape in CHOOSING])
    with Gallery(model_dir) as network:
        asked = [network.embed(images), network.embed(others)]
        for shape in REPORTED:
            progress(f"enrolling {shape}")
            cells = {far: ([shape], [shape]) for far in _FARS}
            for count in _ENROLLED:
                shares = np.mean(
                    [_enrolled(network, shape, count, seed, asked, digits) for seed in _SEEDS],
                    axis=0,
                )
                for far, (of_shape, of_digits, of_others) in zip(_FARS, shares, strict=True):
                    cells[far][0].append(f"{of_shape:.3f}")
                    cells[far][1].append(f"{of_digits:.4f} / {of_others:.3f}")
            for far in _FARS:
                found[far].append(cells[far][0])
                price[far].append(cells[far][1])
    counts = [str(count) for count in _ENROLLED]
    tables = []
    for far in _FARS:
        tables.append((found[far], [f"found at far {far:g} after enrolling", *counts]))
        title = f"taken for it at far {far:g}: digits / other drawings"
        tables.append((price[far], [title, *counts]))
    return tables


def _enrolled(
    network: Gallery,
    shape: str,
    count: int,
    seed: int,
    asked: Sequence[np.ndarray],
    digits: _Judged,
) -> list[tuple[float, ...]]:
    """Enrol some drawings.

    Returns:
        For each rate the shares: of the other drawings of the shape that are found, of the digits
        that were accepted before and are taken for it, of other shapes' drawings taken for it.
    """
    drawn = draw(shape, _NUM_DRAWINGS, seed)
    model_dir = network.experiment.model_dir
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(model_dir / "gallery.sqlite", Path(folder))
        with Gallery(model_dir, copy) as gallery:
            gallery.embed = network.embed  # TensorFlow is started once
            gallery.add(shape, drawn[:count])
            found = []
            for far in _FARS:
                of_shape, of_digits, of_others = (
                    np.array([a.class_name for a in gallery.answer(x, neighbours=1, far=far)])
                    == shape
                    for x in (gallery.embed(drawn[count:]), *asked)
                )
                was_known = digits.names[far][::10] != "unknown"
                lost = of_digits & was_known
                found.append((of_shape.mean(), lost.mean(), of_others.mean()))
            return found


if __name__ == "__main__":
    main()
