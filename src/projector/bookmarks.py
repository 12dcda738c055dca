"""The projector's bookmarks: finished layouts that one click shows, nothing being computed anew."""

import json
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

# A bookmark of the projector's t-SNE makes it compute on. That of UMAP stands still, whatever it is
# that was laid out; and the 2-D view of PCA takes no more than two numbers a point either.
_SLOT = "umap"

# Without these the page fails; none of them matters to a layout that stands still.
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
    """Yield the file of bookmarks, JSON, in pieces: with 100 000 points it has megabytes.

    Args:
        layouts: by what the panel calls each, float32 [N, 2].
        color_by: the column of the metadata that colours the points.
        label_by: the column that names them.
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
