"""Draws the contact sheet of a class, and queries beside their nearest pictures."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from src.drawing.strips import draw_image, prepare
from src.drawing.style import (
    FAINT,
    NEGATIVE_COLOR,
    POSITIVE_COLOR,
    display_file,
    display_names,
    new_figure,
    style,
)
from src.gallery.answer import Answer
from src.gallery.record import Enrolled
from src.printable import counted
from src.system.atomic import atomic_write

MAX_ON_SHEET = 120
"""Pictures on a contact sheet; of a larger class, the last enrolled."""

MAX_QUERIES = 20
"""Queries on a strip."""

_COLUMNS = 10

_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}


class Asked(NamedTuple):
    """A query to draw.

    Attributes:
        name: of the picture.
        image: uint8 [H, W, C].
        answer: of the gallery.
    """

    name: str
    image: NDArray[np.uint8]
    answer: Answer


def write_sheet(path: Path, class_name: str, pictures: Sequence[Enrolled], total: int) -> Path:
    """Write the contact sheet of a class as PNG, and return its path.

    Args:
        path: of the PNG file.
        class_name: the class.
        pictures: at most MAX_ON_SHEET, in order.
        total: how many pictures the class has.
    """
    num_columns = min(_COLUMNS, max(4, len(pictures)))
    num_rows = -(-len(pictures) // num_columns)
    with style():
        figure = new_figure(0.9 * num_columns, 0.55 + 1.05 * num_rows)
        axes = figure.add_subplot()
        prepare(axes, 1.1 * num_columns, 1.3 * num_rows)
        for position, picture in enumerate(pictures):
            row, column = divmod(position, num_columns)
            left, top = 1.1 * column + 0.05, 1.3 * row
            draw_image(axes, _pixels(picture.thumbnail), left, top)
            axes.text(left + 0.5, top + 1.12, str(picture.id), ha="center", fontsize=7, color=FAINT)
        shown = "" if len(pictures) == total else f", the last {len(pictures)}"
        name = display_names([class_name])[0]
        figure.suptitle(f"{name}: {counted(total, 'picture')}{shown}")
        return _save(figure, path)


def write_strips(
    path: Path, asked: Sequence[Asked], thumbnails: Mapping[int, bytes], *, distance: str
) -> Path:
    """Write queries and their nearest pictures as PNG, a row for each, and return the path.

    Args:
        path: of the PNG file.
        asked: at most MAX_QUERIES.
        thumbnails: of the neighbours, PNG, by id.
        distance: its name, for the title.
    """
    num_neighbours = max((len(query.answer.neighbours) for query in asked), default=0)
    width = 2.3 + 1.25 * num_neighbours
    with style():
        figure = new_figure(max(5.0, 1.05 * width), 0.7 + 1.55 * len(asked))
        axes = figure.add_subplot()
        prepare(axes, width, 1.75 * len(asked))
        for row, query in enumerate(asked):
            top = 1.75 * row
            _draw_query(axes, query, top)
            # One may have been removed since the answer.
            present = [near for near in query.answer.neighbours if near.id in thumbnails]
            for column, near in enumerate(present):
                left = 2.1 + 1.25 * column
                threshold = query.answer.threshold
                is_near = threshold is not None and near.distance <= threshold
                color = POSITIVE_COLOR if is_near else NEGATIVE_COLOR
                draw_image(
                    axes, _pixels(thumbnails[near.id]), left, top, color=color, line_width=2.2
                )
                name = display_names([near.class_name], 14)[0]
                axes.text(left + 0.5, top + 1.17, name, color=color, **_CENTRED)
                axes.text(
                    left + 0.5,
                    top + 1.36,
                    f"{near.distance:.3g}",
                    fontsize=7.5,
                    color=FAINT,
                    **_CENTRED,
                )
        figure.suptitle(f"Nearest pictures, by {distance}")
        return _save(figure, path)


def _draw_query(axes: Axes, query: Asked, top: float) -> None:
    """Draw the picture of a query with its verdict and the threshold."""
    draw_image(axes, query.image, 0, top)
    answer = query.answer
    verdict = "unknown" if answer.class_name is None else display_names([answer.class_name], 18)[0]
    axes.text(0.5, top + 1.17, verdict, fontweight="bold", **_CENTRED)
    name = display_file(query.name, 26, "")
    axes.text(0.5, top + 1.36, name, fontsize=6.5, color=FAINT, **_CENTRED)
    if answer.threshold is not None:
        axes.text(
            1.55,
            top + 0.5,
            f"accepted\nup to\n{answer.threshold:.3g}",
            fontsize=7.5,
            color=FAINT,
            **_CENTRED,
        )


def _pixels(thumbnail: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(thumbnail)).convert("RGB"))


def _save(figure: Figure, path: Path) -> Path:
    with atomic_write(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    return path
