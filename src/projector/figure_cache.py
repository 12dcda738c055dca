"""Draws the figures of a view again only if something they show has changed."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.drawing.page import animations
from src.figures import FigureData, write_figures
from src.projector.figure_images import write_images
from src.system.cache import cached, digest


def write_changed_figures(
    directory: Path, data: FigureData, *, cache: Path, images: str
) -> list[Path]:
    """Write the figures and their page, unless the files are already those of the same data.

    Args:
        directory: the output directory.
        data: the data to draw.
        cache: the file that lists what was drawn last, with a digest of each file.
        images: a digest of all images of the split.

    Returns:
        The paths of the files, the page first.
    """
    key = _key(directory, data, images)

    def draw() -> NDArray[Any]:
        written = write_figures(directory, data)
        pngs = [path for path in written if path.suffix == ".png"]
        if pngs:
            written.append(write_images(directory, pngs, data.step))
        return np.array([[file.name, digest([file.read_bytes()])] for file in written])

    drawn = cached(cache, key, draw, _could_be_drawn)
    if not all(_holds(directory / name, content) for name, content in drawn):
        cache.unlink(missing_ok=True)  # a file was removed or changed
        drawn = cached(cache, key, draw, _could_be_drawn)
    return [directory / name for name, _ in drawn]


def _key(directory: Path, data: FigureData, images: str) -> dict[str, object]:
    """Return everything on which the figures depend, as a key of the cache."""
    split = data.split
    arrays: list[NDArray[Any] | bytes] = [data.embeddings, *data.layouts.values(), split.labels]
    arrays += [path.read_bytes() for path in animations(directory)]
    paths = None if split.paths is None else split.paths.tolist()
    program = sorted(Path(__file__).parent.parent.rglob("*.py"))
    return {
        "data": digest(arrays),
        "indices": None if data.indices is None else digest([data.indices]),
        "untrained": None if data.untrained is None else digest([data.untrained]),
        "images": images,
        "names": [split.class_names, paths, list(data.layouts)],
        "facts": [
            *(data.experiment, data.params.model_dump(), data.step),
            *(data.num_examples, data.curves, data.metrics, data.report, data.open_set),
        ],
        "program": digest(path.read_bytes() for path in program),
        "matplotlib": version("matplotlib"),
    }


def _could_be_drawn(kept: NDArray[Any]) -> bool:
    """Return whether a cached array has the expected form: rows of a file name and a digest."""
    if kept.ndim != 2 or kept.shape[1] != 2 or len(kept) == 0 or kept.dtype.kind != "U":
        return False
    return all(name == Path(name).name for name in kept[:, 0].tolist())


def _holds(path: Path, content: str) -> bool:
    """Return whether a file exists and its content has this digest."""
    return path.is_file() and digest([path.read_bytes()]) == content
