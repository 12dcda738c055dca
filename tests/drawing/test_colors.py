"""Colours of classes: everybody can tell ten apart; more classes share them by groups."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from src.drawing.colors import NO_COLOR, TEN_COLORS, class_colors, darker

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision
# deficiency", IEEE TVCG 15, 2009, severity 1: linear RGB to linear RGB.
SEEN = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
TEN = np.array([to_rgb(color) for color in TEN_COLORS])


def linear(rgb):
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb, seen=SEEN["normal"]):
    """sRGB, as somebody sees it, in CIELAB (D65)."""
    xyz = np.clip(linear(rgb) @ seen.T, 0, 1) @ TO_XYZ.T / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(one, other):
    """The difference of two colours in CIELAB; formulas of Sharma, Wu and Dalal, 2005."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + 25.0**7)))
    a1, a2 = a1 * (1 + g), a2 * (1 + g)
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn, total = h2 - h1, h1 + h2
    if c1 * c2 == 0:
        turn, middle = 0, total
    elif abs(turn) <= 180:
        middle = total / 2
    else:
        turn -= np.copysign(360, turn)
        middle = (total + 360) / 2 if total < 360 else (total - 360) / 2
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    t = 1 - 0.17 * np.cos(np.radians(middle - 30)) + 0.24 * np.cos(np.radians(2 * middle))
    t += 0.32 * np.cos(np.radians(3 * middle + 6)) - 0.2 * np.cos(np.radians(4 * middle - 63))
    rotation = -np.sin(np.radians(60 * np.exp(-(((middle - 275) / 25) ** 2))))
    rotation *= 2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    off = (lightness - 50) ** 2
    by_lightness = (l2 - l1) / (1 + 0.015 * off / np.sqrt(20 + off))
    by_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    by_hue = hue / (1 + 0.015 * chroma * t)
    return np.sqrt(by_lightness**2 + by_chroma**2 + by_hue**2 + rotation * by_chroma * by_hue)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [  # from the table of Sharma, Wu and Dalal
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (56, -27, -3), 31.9030),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ],
)
def test_the_measure_itself(one, other, expected):
    assert ciede2000(one, other) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("vision", "least"), [("normal", 25), *((vision, 15) for vision in list(SEEN)[1:])]
)
def test_nobody_confuses_two_of_the_ten(vision, least):
    found = lab(TEN, SEEN[vision])
    assert min(ciede2000(found[i], found[j]) for i in range(10) for j in range(i)) > least


@pytest.mark.parametrize("vision", SEEN)
def test_all_are_seen_on_white(vision):
    white = lab(np.ones(3), SEEN[vision])
    assert min(ciede2000(color, white) for color in lab(TEN, SEEN[vision])) > 15


def test_names_in_a_colour_are_legible():
    for color in [*TEN, np.ones(3), np.zeros(3)]:
        luminance = linear(darker(color)) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) >= 4.5
    np.testing.assert_array_equal(darker(TEN[2]), TEN[2])  # dark enough as it is


def of_classes(num_classes, size=300):
    """Classes on a line, neighbours by their number, the first one the largest."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(num_classes).repeat(2), np.zeros(size, int)])
    embeddings = np.stack([labels, rng.normal(size=len(labels))], axis=1)
    return labels.astype(np.int32), embeddings.astype(np.float32)


@pytest.mark.parametrize("with_embeddings", [True, False])
def test_up_to_ten_classes_have_their_own(with_embeddings):
    labels, embeddings = of_classes(10)
    found = class_colors(labels, 12, embeddings if with_embeddings else None)
    np.testing.assert_array_equal(found.colors[:10], TEN)
    assert found.is_own.tolist() == [True] * 10 + [False] * 2
    assert found.said == "Each class has its own colour."


def test_colours_are_for_the_classes_shown():
    found = class_colors(np.array([140, 3, 3], np.int32), 150)
    np.testing.assert_array_equal(found.colors[[3, 140]], TEN[:2])


def test_of_more_classes_neighbours_share_a_colour():
    labels, embeddings = of_classes(40)
    found = class_colors(labels, 40, embeddings)
    groups = [tuple(color) for color in found.colors]
    changes = sum(one != other for one, other in zip(groups, groups[1:], strict=False))
    assert changes == 9  # each group is a piece of the line
    assert set(groups) == set(map(tuple, TEN))
    alone = [groups.count(group) == 1 for group in groups]
    assert found.is_own.tolist() == alone
    assert "40" in found.said and "form 10 groups" in found.said


def test_where_classes_have_no_neighbours_none_has_a_colour(monkeypatch):
    labels, embeddings = of_classes(40)
    grey = to_rgb(NO_COLOR)
    equal = class_colors(labels, 40, np.ones_like(embeddings))
    monkeypatch.setattr("src.drawing.colors.MAX_GROUPED", 39)
    for found in (equal, class_colors(labels, 40, embeddings)):
        assert (found.colors == grey).all()
        assert not found.is_own.any()
        assert "there are none" in found.said


def test_without_embeddings_the_ten_largest_have_one():
    labels, _ = of_classes(40)
    labels = np.concatenate([labels, np.arange(20, 29).repeat(5)]).astype(np.int32)
    found = class_colors(labels, 40)
    assert np.flatnonzero(found.is_own).tolist() == [0, *range(20, 29)]
    assert (found.colors[~found.is_own] == to_rgb(NO_COLOR)).all()
    assert "10 largest of 40 classes are coloured" in found.said


def test_numbers_of_any_size_have_groups():
    labels, embeddings = of_classes(40)
    for scale in (1e-30, 1e30):
        found = class_colors(labels, 40, embeddings * np.float32(scale))
        np.testing.assert_array_equal(found.colors, class_colors(labels, 40, embeddings).colors)
