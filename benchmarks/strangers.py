"""Shapes drawn by an imaginary hand, as MNIST's digits are drawn: strangers to a model of digits.

Each drawing starts from a shape's strokes. It is bent, turned, slanted and stretched, and its lines
wobble. It has a random size and position. A round pen draws it, anti-aliased, white on black.

MNIST's digits were drawn anywhere on paper, then scaled to 20 pixels and centred. `as_mnist` does
the same to a drawing.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE = 28
"""Height and width of an image, in pixels."""

MNIST_SIZE = 20
"""The longer side of MNIST's digits, in pixels."""

Stroke = NDArray[np.float64]
"""The points of one line of the pen: [n, 2], x to the right and y down."""

# Before `as_mnist`, in pixels
_LONGER_SIDE = (16.0, 21.0)
_SHIFT = 2.0
_PEN_WIDTH = (2.0, 3.6)

_TURN = 12.0  # degrees
_STRETCH = 0.12  # of width / height, as a logarithm
_SLANT = 0.1
# Standard deviations of displacements, as shares of the drawing's side
_BEND = 0.03
_WOBBLE = 0.012
_WOBBLE_LENGTH = 0.2  # of the path between two independent displacements
_POINT_DISTANCE = 0.01


class Drawing(NamedTuple):
    """One drawing.

    Attributes:
        strokes: the lines of the pen, in pixels: (0, 0) is the upper left corner of the image.
            Neighbouring points are equally far apart.
        pen_width: in pixels.
    """

    strokes: list[Stroke]
    pen_width: float


def draw(shape: str, count: int, seed: int, *, normalized: bool = True) -> NDArray[np.uint8]:
    """Draw a shape several times.

    Args:
        shape: a key of `SHAPES`.
        count: how many drawings, N. The first drawings of a seed are the same for every N.
        seed: fixes the drawings, together with `shape`.
        normalized: whether to apply `as_mnist`.

    Returns:
        uint8 [N, 28, 28, 1].
    """
    drawn = drawings(shape, count, seed)
    return np.stack([raster(as_mnist(d) if normalized else d) for d in drawn])


def drawings(shape: str, count: int, seed: int) -> list[Drawing]:
    """Return the lines that `draw` draws, for instance to draw them with a mouse."""
    rng = np.random.default_rng([seed, *shape.encode()])
    return [_by_hand(SHAPES[shape](rng), rng) for _ in range(count)]


def as_mnist(drawing: Drawing) -> Drawing:
    """Return a drawing scaled to 20 pixels, with its centre of mass in the image's centre.

    The pen is scaled, too.

    Source: http://yann.lecun.com/exdb/mnist/
    """
    points = np.concatenate(drawing.strokes)
    scale = MNIST_SIZE / (np.ptp(points, axis=0).max() + drawing.pen_width)
    strokes = [(s - points.mean(axis=0)) * scale + SIDE / 2 for s in drawing.strokes]
    return Drawing(strokes, drawing.pen_width * scale)


def raster(drawing: Drawing) -> NDArray[np.uint8]:
    """Return the image of a drawing, uint8 [28, 28, 1].

    A pixel's value falls from 255 to 0 within one pixel around the edge of the line.
    """
    points = np.concatenate(drawing.strokes)
    centres = np.indices((SIDE, SIDE))[::-1].reshape(2, 1, -1) + 0.5  # x and y, [2, 1, pixels]
    distances = np.hypot(*(centres - points.T[:, :, None])).min(axis=0)
    coverage = np.clip(drawing.pen_width / 2 + 0.5 - distances, 0, 1)
    return np.rint(255 * coverage).astype(np.uint8).reshape(SIDE, SIDE, 1)


def _by_hand(strokes: list[Stroke], rng: np.random.Generator) -> Drawing:
    """Return a drawing of `strokes`, whose coordinates lie roughly in [0, 1]."""
    angle = np.radians(rng.uniform(-_TURN, _TURN))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag(np.exp(rng.uniform(-_STRETCH, _STRETCH) * np.array([1, -1])))
    slant = np.array([[1, rng.uniform(-_SLANT, _SLANT)], [0, 1]])
    bent = _bend(rng)
    lines = [_wobbled(bent(_dense(stroke)) @ (turn @ slant @ stretch).T, rng) for stroke in strokes]
    points = np.concatenate(lines)
    scale = rng.uniform(*_LONGER_SIDE) / np.ptp(points, axis=0).max()
    centre = SIDE / 2 + rng.uniform(-_SHIFT, _SHIFT, 2)
    placed = [(line - points.mean(axis=0)) * scale + centre for line in lines]
    return Drawing(placed, rng.uniform(*_PEN_WIDTH))


def _dense(corners: Stroke) -> Stroke:
    """Return the line through `corners` as points `_POINT_DISTANCE` apart."""
    steps = np.hypot(*np.diff(corners, axis=0).T)
    at = np.concatenate([[0], np.cumsum(steps)])
    positions = np.linspace(0, at[-1], max(2, round(at[-1] / _POINT_DISTANCE)))
    return np.column_stack([np.interp(positions, at, axis) for axis in corners.T])


def _bend(rng: np.random.Generator) -> Callable[[Stroke], Stroke]:
    """Return a function that displaces points smoothly: points close together move together."""
    waves = rng.normal(0, 1, (4, 2, 2)) * 2  # [4 waves, along x or y, 2]
    phases = rng.uniform(0, 2 * np.pi, (4, 2))
    size = _BEND / np.sqrt(2)  # of 4 sines, each with a variance of 1/2

    def bend(points: Stroke) -> Stroke:
        return points + size * np.sin(
            np.einsum("nc,wac->wna", points, waves) + phases[:, None]
        ).sum(0)

    return bend


def _wobbled(line: Stroke, rng: np.random.Generator) -> Stroke:
    """Return the line with its points displaced smoothly."""
    num_knots = 2 + round(len(line) * _POINT_DISTANCE / _WOBBLE_LENGTH)
    knots = rng.normal(0, _WOBBLE, (num_knots, 2))
    at = np.linspace(0, num_knots - 1, len(line))
    return line + np.column_stack([np.interp(at, np.arange(num_knots), axis) for axis in knots.T])


def _line(*points: tuple[float, float]) -> Stroke:
    return np.array(points, np.float64)


def _closed(*points: tuple[float, float]) -> Stroke:
    return _line(*points, points[0])


def _arc(
    centre: tuple[float, float], radii: tuple[float, float], start: float, end: float
) -> Stroke:
    """Return part of an ellipse; degrees, clockwise as seen, from the right."""
    angles = np.radians(np.linspace(start, end, 48))
    return np.array(centre) + np.column_stack([np.cos(angles), np.sin(angles)]) * radii


def _fixed(*strokes: Stroke) -> "Shape":
    return lambda rng: list(strokes)


def _heart(rng: np.random.Generator) -> list[Stroke]:
    """From the notch, around and back; the tip is more or less deep."""
    t = np.linspace(0, 2 * np.pi, 96)
    x = 16 * np.sin(t) ** 3
    y = -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    return [np.column_stack([x, y * rng.uniform(0.9, 1.15)]) / 32 + 0.5]


def _star(rng: np.random.Generator) -> list[Stroke]:
    """The outline of a star with five points."""
    radii = np.tile([0.5, rng.uniform(0.18, 0.25)], 5)
    angles = np.radians(np.arange(10) * 36 - 90)
    return [_closed(*zip(0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles), strict=True))]


def _triangle(rng: np.random.Generator) -> list[Stroke]:
    """One corner above the other two."""
    return [_closed((0.5 + rng.uniform(-0.15, 0.15), 0), (1, rng.uniform(0.75, 1)), (0, 0.9))]


def _letter_a(rng: np.random.Generator) -> list[Stroke]:
    height = rng.uniform(0.5, 0.7)
    bar = _line((0.5 - height / 2, height), (0.5 + height / 2, height))
    return [_line((0, 1), (0.5, 0), (1, 1)), bar]


def _eight(rng: np.random.Generator) -> list[Stroke]:
    """One line that crosses itself; the upper loop is smaller."""
    t = np.linspace(0, 2 * np.pi, 96) + np.pi / 4
    x, y = np.sin(2 * t) * (0.3 - 0.05 * np.cos(t)), -np.cos(t) / 2
    return [np.column_stack([x, y]) + 0.5]


def _spiral(rng: np.random.Generator) -> list[Stroke]:
    t = np.linspace(0, 1, 96)
    angles = 2 * np.pi * rng.uniform(2, 2.6) * t
    return [0.5 + 0.5 * t[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])]


Shape = Callable[[np.random.Generator], list[Stroke]]

REPORTED: dict[str, Shape] = {
    "heart": _heart,
    "star": _star,
    "triangle": _triangle,
    "A": _letter_a,
}
"""The strangers of which results are reported."""

CHOOSING: dict[str, Shape] = {
    "square": _fixed(_closed((0, 0), (1, 0), (1, 1), (0, 1))),
    "diamond": _fixed(_closed((0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5))),
    "cross": _fixed(_line((0.5, 0), (0.5, 1)), _line((0, 0.5), (1, 0.5))),
    "arrow": _fixed(_line((0, 0.5), (1, 0.5)), _line((0.65, 0.2), (1, 0.5), (0.65, 0.8))),
    "spiral": _spiral,
    "house": _fixed(_closed((0, 1), (0, 0.45), (0.5, 0), (1, 0.45), (1, 1))),
    "zigzag": _fixed(_line((0, 0.3), (0.25, 0.7), (0.5, 0.3), (0.75, 0.7), (1, 0.3))),
    "moon": _fixed(
        np.concatenate(
            [_arc((0.5, 0.5), (0.5, 0.5), 60, 300), _arc((0.75, 0.5), (0.4, 0.43), 270, 90)]
        )
    ),
    "fish": _fixed(
        np.concatenate(
            [
                _line((1, 0.75), (0.7, 0.5)),
                _arc((0.38, 0.5), (0.38, 0.3), 30, 330),
                _line((0.7, 0.5), (1, 0.25), (1, 0.75)),
            ]
        )
    ),
    "E": _fixed(_line((1, 0), (0, 0), (0, 1), (1, 1)), _line((0, 0.5), (0.8, 0.5))),
    "H": _fixed(_line((0, 0), (0, 1)), _line((1, 0), (1, 1)), _line((0, 0.5), (1, 0.5))),
    "K": _fixed(_line((0, 0), (0, 1)), _line((0.8, 0), (0, 0.55), (0.8, 1))),
    "M": _fixed(_line((0, 1), (0.1, 0), (0.5, 0.6), (0.9, 0), (1, 1))),
    "R": _fixed(
        _line((0, 1), (0, 0)),
        np.concatenate([_arc((0.3, 0.27), (0.5, 0.27), -90, 90), _line((0.1, 0.54), (0.9, 1))]),
    ),
    "W": _fixed(_line((0, 0), (0.25, 1), (0.5, 0.3), (0.75, 1), (1, 0))),
}
"""The strangers on which the score was chosen. None of them looks like a digit in any script that
MNIST knows: no circle, because it is a 0."""

DIGITS: dict[str, Shape] = {
    "0": _fixed(_arc((0.5, 0.5), (0.35, 0.5), -90, 270)),
    "1": _fixed(_line((0.5, 0), (0.5, 1))),
    "2": _fixed(
        np.concatenate([_arc((0.4, 0.3), (0.4, 0.3), 190, 390), _line((0.05, 1), (0.85, 1))])
    ),
    "3": _fixed(
        np.concatenate(
            [_arc((0.35, 0.25), (0.4, 0.25), 200, 450), _arc((0.35, 0.75), (0.42, 0.25), 270, 520)]
        )
    ),
    "4": _fixed(_line((0.1, 0), (0, 0.55), (0.8, 0.5)), _line((0.7, 0.05), (0.65, 1))),
    "5": _fixed(
        np.concatenate(
            [_line((0.75, 0), (0.15, 0), (0.1, 0.45)), _arc((0.3, 0.7), (0.42, 0.3), -110, 150)]
        )
    ),
    "6": _fixed(
        np.concatenate(
            [_arc((0.75, 0.62), (0.7, 0.62), 265, 180), _arc((0.4, 0.7), (0.35, 0.3), 180, -180)]
        )
    ),
    "7": _fixed(_line((0, 0.05), (0.75, 0), (0.3, 1))),
    "8": _eight,
    "9": _fixed(
        np.concatenate([_arc((0.35, 0.28), (0.33, 0.28), -20, -350), _line((0.7, 0.2), (0.55, 1))])
    ),
}
"""Digits by the same hand: what is rejected because of the hand, not of the shape, shows here."""

SHAPES: dict[str, Shape] = {**REPORTED, **CHOOSING, **DIGITS}
