"""Layouts brought into one frame."""

import numpy as np
import pytest

from src.embeddings.alignment import align


def turned(layout, angle, *, mirrored=False):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (layout * ([-1, 1] if mirrored else [1, 1]) @ rotation).astype(np.float32)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0, np.pi, 5.0])
def test_any_turn_and_reflection_is_undone(angle, mirrored):
    layout = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    moved = turned(layout, angle, mirrored=mirrored) + np.float32(3)
    np.testing.assert_allclose(align(moved, layout), layout, atol=1e-5)


def test_no_turn_comes_nearer_and_distances_stay():
    rng = np.random.default_rng(1)
    before = rng.normal(size=(40, 2)).astype(np.float32)
    layout = (2 * turned(before, 1.0) + 0.4 * rng.normal(size=(40, 2))).astype(np.float32)
    aligned = align(layout, before)
    assert np.linalg.norm(aligned[3] - aligned[7]) == pytest.approx(
        np.linalg.norm(layout[3] - layout[7]), rel=1e-5
    )  # and so is not scaled
    centre = before.mean(axis=0)
    error = ((aligned - before) ** 2).sum()
    for angle in np.linspace(0, 2 * np.pi, 360):
        for mirrored in (False, True):
            other = turned(layout - layout.mean(axis=0), angle, mirrored=mirrored) + centre
            assert error <= ((other - before) ** 2).sum() + 1e-3


def test_points_that_are_all_one():
    aligned = align(np.ones((4, 2), np.float32), np.zeros((4, 2), np.float32))
    np.testing.assert_array_equal(aligned, np.zeros((4, 2)))
