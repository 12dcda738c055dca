"""What `--param` says: values and ranges."""

import pytest

from src.errors import UserError
from src.sweeping.space import Range, parse_dimension, parse_param


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("margin=0.05..1", Range(0.05, 1.0)),
        ("margin=0.05..1:log", Range(0.05, 1.0, is_log=True)),
        ("margin=1..3", Range(1.0, 3.0)),  # a key that takes any number
        ("margin=1..3:int", Range(1, 3, is_whole=True)),
        ("margin=0..1:0.3", Range(0.0, 0.9, step=0.3)),
        ("batch_size=16..256:log", Range(16, 256, is_log=True, is_whole=True)),
        ("batch_size=32..128:32", Range(32, 128, is_whole=True, step=32)),
        ("augment.shift=0..4", Range(0, 4, is_whole=True)),
        ("frozen_layers=0..10", Range(0, 10, is_whole=True)),  # or the name of a layer
        ("augment.rotation=0..4", Range(0.0, 4.0)),
        ("learning_rate=1e-4..1e-2:log", Range(1e-4, 1e-2, is_log=True)),
        ("triplet_strategy=batch_all,batch_hard", ["batch_all", "batch_hard"]),
        ("image_dir=../faces", ["../faces"]),  # no range
    ],
)
def test_values_and_ranges(text, expected):
    key, found = parse_dimension(text)
    assert key == text.partition("=")[0]
    assert found == expected
    if isinstance(expected, Range):
        assert type(found.low) is type(expected.low)


@pytest.mark.parametrize(
    "text",
    [
        "margin=1..0.5",
        "margin=1..1",
        "margin=0..1:log",
        "margin=0.1..1:log:0.1",
        "margin=0..1:0",
        "margin=0..1:2",
        "margin=0..1:logarithmic",
        "margin=0..1:",
        "margin=0..1e999",
        "margin=0..1e30:1",
        "margin=0..1:1e-28",
        "batch_size=1.5..3",
        "batch_size=1..3:0.5",
        "$comment=1..2",
        "margin",
    ],
)
def test_what_is_refused(text):
    with pytest.raises(UserError, match="^--param.*found .*; accepted: "):
        parse_dimension(text)


def test_a_grid_has_the_numbers_of_the_steps():
    """Not 0.30000000000000004."""
    assert parse_param("margin=0..1:0.1")[1] == [
        0.0,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
        1,
    ]
    assert parse_param("augment.shift=0..4")[1] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="range without a step"):
        parse_param("margin=0..1")
    with pytest.raises(UserError, match="at most 10,000"):
        parse_param("margin=0..1:1e-9")


def test_a_number_of_steps_is_found_again_from_a_rounded_one():
    assert Range(0.0, 1.0, step=0.1).exact(0.1 + 0.2) == 0.3
    assert Range(0, 10, is_whole=True, step=5).exact(5.0) == 5
    assert Range(0.0, 1.0).exact(0.1 + 0.2) == 0.1 + 0.2
