"""The data of figures, made without training."""

from dataclasses import replace

import numpy as np
from matplotlib.text import Text

from src.data.split import Split
from src.drawing.style import figure_image, style
from src.embeddings.layouts import pca
from src.figures import FigureData
from src.params.schema import Params

CURVES = {
    "training": {"loss": ([1, 51, 101], [1.0, 0.5, 0.3]), "fraction_positive": ([1], [0.9])},
    "validation": {
        "loss": ([100], [0.6]),
        "fraction_positive": ([100], [0.4]),
        "map_at_r_within": ([101], [0.7]),
    },
}

OPEN_SET = {
    "calibrated_on": "unseen classes",
    "num_known": 60,
    "num_strangers": 40,
    "auroc": 0.9125,
    "at": {
        "fpir_1e-1": {"threshold": 0.5, "reported": {"fpir": 0.125, "dir": 0.9}},
        "fpir_1e-2": {"threshold": 0.25, "reported": {"fpir": 0.0, "dir": 0.8}},
        "fpir_1e-3": {"threshold": None, "reported": {"fpir": None, "dir": None}},
    },
    "curve": {"fpir": [0.025, 0.1, 1.0], "dir": [0.7, 0.9, 0.95]},
    "histograms": {
        "edges": [0.0, 0.25, 0.5, 0.75, 1.0],
        "known": [40, 15, 5, 0],
        "unknown": [0, 5, 15, 20],
    },
}


def data_of(size=60, num_classes=4, *, names=None, channels=1, spread=1.0, seed=0, **params):
    """An experiment whose classes overlap a little."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), rng.integers(num_classes, size=size)])
    labels = labels[:size].astype(np.int32)
    centers = spread * rng.normal(size=(num_classes, 6))
    embeddings = (centers[labels] + 0.5 * rng.normal(size=(size, 6))).astype(np.float32)
    images = rng.integers(256, size=(size, 9, 7, channels), dtype=np.uint8)
    class_names = tuple(names or map(str, range(num_classes)))
    return FigureData(
        experiment="experiments/x",
        split_name="test",
        split=Split(images, labels, class_names),
        embeddings=embeddings,
        params=Params(**params),
        step=101,
        num_examples=size,
        layouts={"pca": pca(embeddings), "tsne": embeddings[:, :2], "umap": embeddings[:, 1:3]},
        untrained=rng.normal(size=(size, 6)).astype(np.float32),
        curves=CURVES,
        metrics={"test": {"loss": 0.25, "recall_at_1_within": 0.875}},
        open_set=OPEN_SET,
    )


# Long ones, and two that would do harm if they were printed or written as they are
PATHS = tuple(
    [f"kept/{'deep/' * 12}{number:04}.png" for number in range(58)]
    + ["a\x1b[31m\u202egnp.exe", '"><script>alert(1)</script>.png']
)


def with_paths(data):
    """The data, 60 images, as a sample of a larger split whose images have files."""
    split = replace(data.split, paths=np.array(PATHS, dtype=object))
    return replace(data, split=split, indices=np.arange(60) * 7 + 1, num_examples=999)


def seen(drawn):
    """Render a figure and return its texts; check that nothing is beyond the edge of its canvas."""
    with style():
        figure_image(drawn.figure)
    box, canvas = drawn.figure.get_tightbbox(), drawn.figure.bbox_inches
    inside = canvas.padded(0.02)
    assert inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1), (box, canvas)
    texts = [text.get_text() for text in drawn.figure.findobj(Text) if text.get_visible()]
    return [text for text in texts if text.strip()]
