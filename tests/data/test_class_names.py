"""Names of classes: read as a person reads them, in order, and found again by params."""

import unicodedata
from pathlib import Path

import pytest

from src.data.class_names import as_read, find_classes, in_order, listed, nearly_equal
from src.errors import UserError

PATH = Path("experiments/x/params.json")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cat", "cat"),
        (" cat", "cat"),
        ("cat\t", "cat"),
        ("\u00a0cat\u3000", "cat"),
        ("big  black \n cat", "big black cat"),
        ("c\u00adat\u200b\ufeff\u200e", "cat"),
        (unicodedata.normalize("NFD", "Käfer é"), "Käfer é"),
        ("e\u200b\u0301", "é"),
        ("'cat'", "cat"),
        ('"cat"', "cat"),
        ('""cat""', "cat"),
        ("'\"cat\"'", "cat"),
        (" ' cat ' ", "cat"),
        ("‘cat’", "cat"),
        ("“cat”", "cat"),
        ("„cat“", "cat"),
        ("«cat»", "cat"),
        ("'a' and 'b'", "'a' and 'b'"),
        ("rock 'n' roll", "rock 'n' roll"),
        ("'tis", "'tis"),
        ('12"', '12"'),
        ("''", "''"),
        ("'", "'"),
        ("”cat“", "”cat“"),
        ("1.0", "1.0"),
        ("cat\x1b[31m", "cat\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("r\udce9d", "r\\udce9d"),
        ("\u200b", ""),
        ("", ""),
        ("猫", "猫"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("می\u200cخ", "می\u200cخ"),
    ],
)
def test_as_read(given, expected):
    assert as_read(given) == expected
    assert as_read(as_read(given)) == as_read(given)


@pytest.mark.parametrize("count", [2_500, 100_000])
def test_a_text_of_quotes_alone_takes_no_time(count):
    assert as_read(count * "'") == count * "'"
    assert as_read(f"{9 * '«'}cat{9 * '»'}") == "cat"


@pytest.mark.parametrize(
    "names",
    [
        ["0", "1", "2", "10", "11", "100"],
        ["-10", "-2", "0", "3"],
        ["01", "1", "02", "10"],
        ["1.0", "1.5", "2", "10.25"],
        ["7", "id10", "id9"],
        ["9" * 30, "1" + "0" * 30, "9" * 5000],
        ["Zebra", "apple", "ärmel"],
    ],
)
def test_order(names):
    assert in_order(reversed(names * 2)) == tuple(names)
    assert in_order(names) == in_order(reversed(names))


def test_the_order_of_numbers_in_other_scripts_is_that_of_text():
    assert in_order(["٣", "apple", "²", "3"]) == ("3", "apple", "²", "٣")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["cat", "dog"], []),
        (["cat", "Cat", "dog", "CAT"], [("cat", "Cat", "CAT")]),
        (["straße", "STRASSE"], [("straße", "STRASSE")]),
        (["1", "01", "1.0", "10"], [("1", "01", "1.0")]),
        (["1", "1", "one"], []),
        (["-1", "1"], []),
    ],
)
def test_nearly_equal(names, groups):
    assert nearly_equal(names) == groups


def test_listed():
    assert listed([]) == ""
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c"], 2) == "a, b, ... (3 in all)"
    assert len(listed(["x" * 100_000] * 100)) < 400


NUMBERED = in_order(map(str, range(12)))


@pytest.mark.parametrize("given", [[2, 3], ["2", "3"], [" 2", "'3'"]])
def test_numbers_are_names(given):
    assert [NUMBERED[label] for label in find_classes(given, NUMBERED, PATH)] == ["2", "3"]
    nine = in_order(map(str, range(1, 10)))
    assert [nine[label] for label in find_classes([7, 8], nine, PATH)] == ["7", "8"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([12], "found 12, which is not a class name; accepted: class names: 0, 1, 2,"),
        (["12"], 'found "12", which is not a class name; accepted: class names: 0, 1, 2,'),
        (["01"], "; did you mean '1'?"),
        (["1.0"], "; did you mean '1'?"),
        ([3, "3"], "found the class '3' twice; accepted: each class once"),
        ([3, 4, " 3"], "found the class '3' twice; accepted: each class once"),
        (["a\x1b\n"], 'found "a\\x1b\\n", which'),
        ([""], 'found "", which is not a class name'),
    ],
)
def test_no_such_class(given, expected):
    with pytest.raises(UserError) as caught:
        find_classes(given, NUMBERED, PATH)
    text = str(caught.value)
    assert text.startswith(f"{PATH}: holdout_classes: found ") and "\n" not in text
    assert expected in text and len(text) < 500


@pytest.mark.parametrize(
    ("wanted", "meant"), [("CAT", "Cat"), ("Kat", "Cat"), ("strasse", "Straße"), (7, "07")]
)
def test_what_may_be_meant(wanted, meant):
    with pytest.raises(UserError, match=f"; did you mean '{meant}'\\?$"):
        find_classes([wanted], ("07", "8", "Cat", "Straße"), PATH)


def test_a_position_is_said_to_be_one():
    with pytest.raises(UserError, match=r"found 1, .* \(position 1 is the class 'b'\); accepted: "):
        find_classes([1], ("a", "b", "c"), PATH)


def test_many_classes_and_long_names_stay_on_a_line_of_some_length():
    names = tuple(f"{number} {'x' * 10_000}" for number in range(1000))
    with pytest.raises(UserError) as caught:
        find_classes(["y" * 100_000], names, PATH)
    assert len(str(caught.value)) < 2000 and "(1000 in all)" in str(caught.value)
