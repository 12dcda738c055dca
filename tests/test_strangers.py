"""The drawings of strangers: reproducible, white on black, normalized as MNIST's digits are."""

from functools import cache, partial

import numpy as np
import pytest

from benchmarks.strangers import MNIST_SIZE, SHAPES, SIDE, as_mnist, draw, drawings

# Of two tests; to normalize takes longest.
draw_ten = cache(partial(draw, count=10, seed=0))

each_shape = pytest.mark.parametrize("shape", SHAPES)


def test_a_seed_fixes_the_drawings_whatever_their_number():
    np.testing.assert_array_equal(draw("heart", 3, seed=1), draw("heart", 5, seed=1)[:3])
    assert not np.array_equal(draw("heart", 3, seed=1), draw("heart", 3, seed=2))
    assert not np.array_equal(draw("star", 3, seed=1), draw("triangle", 3, seed=1))


@each_shape
@pytest.mark.parametrize("normalized", [True, False])
def test_drawings_are_white_lines_on_black(shape, normalized):
    images = draw_ten(shape, normalized=normalized)
    assert images.shape == (10, SIDE, SIDE, 1) and images.dtype == np.uint8
    assert (images.max(axis=(1, 2, 3)) == 255).all()
    assert (np.mean(images > 127, axis=(1, 2, 3)) < 0.5).all()


@each_shape
def test_as_mnist_scales_to_20_pixels_and_centres_the_mass(shape):
    for image in draw_ten(shape, normalized=True)[..., 0]:
        rows, columns = np.nonzero(image > 127)
        longer_side = 1 + max(np.ptp(rows), np.ptp(columns))
        assert abs(longer_side - MNIST_SIZE) <= 1
        weights = image / image.sum()
        for axis in (0, 1):
            at = np.arange(SIDE) + 0.5
            # Crossing lines are drawn once, but their points are counted twice.
            assert abs(weights.sum(axis=axis) @ at - SIDE / 2) < 1.5


def test_as_mnist_undoes_position_and_scale():
    (drawing,) = drawings("A", 1, seed=0)
    moved = drawing._replace(
        strokes=[2 * stroke + [3, 5] for stroke in drawing.strokes],
        pen_width=2 * drawing.pen_width,
    )
    expected, found = as_mnist(drawing), as_mnist(moved)
    assert found.pen_width == pytest.approx(expected.pen_width)
    for a, b in zip(found.strokes, expected.strokes, strict=True):
        np.testing.assert_allclose(a, b)


def test_drawings_of_a_shape_differ():
    images = draw("triangle", 30, seed=0)
    assert len(np.unique(images.reshape(30, -1), axis=0)) == 30
