"""Does experiments/open_digits know strangers, and can they be enrolled? Tables of docs/gallery.md.

    make demo-open
    .venv/bin/python -m benchmarks.open_set

The gallery is that of the experiment, and it judges as `query.py` does. Strangers are the drawings
of `benchmarks/strangers.py`. The params were chosen with both sets of
shapes in view, from nine trainings; the score was not chosen with any of them.
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

    rows = [_enrolment(args.model_dir, shape) for shape in REPORTED]
    header = ["found at far 0.1 after enrolling", *map(str, _ENROLLED)]
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


def _enrolment(model_dir: Path, shape: str) -> list[str]:
    """Return which share of the other drawings is found after some were enrolled."""
    progress(f"enrolling {shape}")
    shares = []
    for count in _ENROLLED:
        found = []
        for seed in _SEEDS:
            drawn = draw(shape, _NUM_DRAWINGS, seed)
            with tempfile.TemporaryDirectory() as folder:
                copy = shutil.copy(model_dir / "gallery.sqlite", Path(folder))
                with Gallery(model_dir, copy) as gallery:
                    gallery.add(shape, drawn[:count])
                    answers = gallery.query(drawn[count:], neighbours=1, far=0.1)
            found += [answer.class_name == shape for answer in answers]
        shares.append(f"{np.mean(found):.3f}")
    return [shape, *shares]


if __name__ == "__main__":
    main()
