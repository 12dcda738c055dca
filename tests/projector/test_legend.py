"""The projector's colours: the order of a legend, as JavaScript keeps it."""

from src.projector.legend import PALETTE, legend


def test_integers_come_first_ascending_and_other_values_as_they_come():
    values = ["10", "b", "2", "a", "b", "0", "007", "1.5", "-1", "a"]
    assert list(legend(values)) == ["0", "2", "10", "b", "a", "007", "1.5", "-1"]


def test_colours_come_again_after_ten():
    colors = legend(f"class {index}" for index in range(25))
    assert list(colors.values()) == [index % 10 for index in range(25)]


def test_palette_is_every_third_of_category10():
    assert PALETTE[:4] == ((31, 119, 180), (214, 39, 40), (227, 119, 194), (23, 190, 207))
    assert len(set(PALETTE)) == 10


def test_integers_up_to_those_that_javascript_counts_as_places():
    """Of 2^32 - 1 on, a key is a name like any other: it stays where it came."""
    values = ["2000000001", "x", "1000000001", "4294967295", "4294967294"]
    assert list(legend(values)) == ["1000000001", "2000000001", "4294967294", "x", "4294967295"]
