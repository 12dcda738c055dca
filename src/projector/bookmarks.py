"""Writes the projector's bookmarks: one click shows a finished layout without recomputing it."""

import json
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

# Every layout uses the UMAP slot, because its bookmarks stay still. A t-SNE bookmark makes the
# projector continue computing. See docs/decisions/0011-finished-layouts.md.
_SLOT = "umap"

NO_COLORS = "No color map"
"""The projector's own name for it in its list of columns."""

# The page fails without these values. They do not affect a finished layout.
_REQUIRED = {
    "tSNEPerplexity": 30,
    "tSNELearningRate": 1,
    "tSNEIteration": 0,
    "tSNEis3d": False,
    "umapIs3d": False,
    "umapNeighbors": 15,
    "pcaComponentDimensions": [0, 1],
    "customXLeftText": "",
    "customXRightText": "",
    "customYUpText": "",
    "customYDownText": "",
    "selectedPoints": [],
}


def bookmarks(
    layouts: Mapping[str, NDArray[np.float32]], *, color_by: str, label_by: str
) -> Iterator[bytes]:
    """Yield the bookmarks file (JSON) in pieces: with 100 000 points it has several megabytes.

    Args:
        layouts: float32 [N, 2], by the title in the bookmarks panel.
        color_by: the metadata column that colours the points, or NO_COLORS.
        label_by: the metadata column that names the points.
    """
    separator = b"["
    for title, layout in layouts.items():
        state = {
            "label": title,
            "selectedProjection": _SLOT,
            "dataSetDimensions": list(layout.shape),
            "selectedColorOptionName": color_by,
            "selectedLabelOption": label_by,
            **_REQUIRED,
        }
        yield separator + json.dumps(state)[:-1].encode() + b', "projections": [\n'
        point = f'{{"{_SLOT}-0":%.5g,"{_SLOT}-1":%.5g}}'
        yield ",\n".join(point % (x, y) for x, y in layout.tolist()).encode()
        yield b"]}"
        separator = b",\n"
    yield b"]\n" if layouts else b"[]\n"
