"""The metadata file: as many rows as points, whatever the values are."""

import numpy as np
import pytest

import src.projector.metadata
from src.projector.legend import legend
from src.projector.metadata import write_metadata


def parse_as_the_browser_does(path):
    """Column names and rows, by the rules of the projector's own parser (TensorBoard 2.21)."""
    lines = [line for line in path.read_bytes().decode().split("\n") if line.strip(" \t\r\ufeff")]
    if "\t" in lines[0]:
        return lines[0].split("\t"), [line.split("\t") for line in lines[1:]]
    return ["label"], [[line] for line in lines]


def test_several_columns_have_a_header(tmp_path):
    path = tmp_path / "metadata.tsv"
    write_metadata(path, {"label": ["cat", "dog"], "index": np.array([3, 8]), "known": [True, 0.5]})
    assert path.read_text() == "label\tindex\tknown\ncat\t3\tTrue\ndog\t8\t0.5\n"


def test_one_column_has_no_header(tmp_path):
    path = tmp_path / "metadata.tsv"
    write_metadata(path, {"label": ["cat", "dog"]})
    assert path.read_text() == "cat\ndog\n"


@pytest.mark.parametrize(
    "separator", ["\t", "\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85"]
    + ["\u2028", "\u2029", "\t\n\t"],
)  # fmt: skip
def test_separators_in_values_and_names_become_one_space(tmp_path, separator):
    path = tmp_path / "metadata.tsv"
    write_metadata(path, {f"a{separator}b": [f"c{separator}d", "e"], "index": [0, 1]})
    text = path.read_bytes().decode()
    assert text == "a b\tindex\nc d\t0\ne\t1\n"
    assert len(text.splitlines()) == 3
    write_metadata(path, {"label": [f"c{separator}d", "e"]})
    assert path.read_bytes().decode() == "c d\ne\n"


@pytest.mark.parametrize("blank", ["", " ", "\t", "\n", "\u00a0", "\u3000", "\ufeff", " \ufeff"])
def test_blank_values_are_made_visible_so_that_no_row_is_lost(tmp_path, blank):
    path = tmp_path / "metadata.tsv"
    write_metadata(path, {"label": ["a", blank, "b"]})
    assert parse_as_the_browser_does(path) == (["label"], [["a"], ["(empty)"], ["b"]])
    write_metadata(path, {"label": [blank, "b"], "more": [blank, "c"]})
    assert parse_as_the_browser_does(path) == (
        ["label", "more"],
        [["(empty)", "(empty)"], ["b", "c"]],
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("x\x00y\x7f", "x\\x00y\\x7f"),
        ("\u200f", "\\u200f"),
    ],
)
def test_what_would_not_print_as_itself_is_escaped(tmp_path, name, written):
    path = tmp_path / "metadata.tsv"
    write_metadata(path, {"label": [name, "b"], "path": ["x", name]})
    assert parse_as_the_browser_does(path)[1] == [[written, "x"], ["b", written]]


def test_what_is_not_defined_is_a_dash(tmp_path):
    path = tmp_path / "metadata.tsv"
    columns = {"prediction": [None, "right"], "distance": np.array([np.nan, 1])}
    write_metadata(path, columns)
    assert parse_as_the_browser_does(path)[1] == [["-", ""], ["right", "1"]]


def test_names_in_any_script_and_quotes_are_kept(tmp_path):
    names = ["7", "ꦲ", "日本 語", "日本\u3000語", 'say "a, b"', "naïve 🙂", "עברית"]
    names += ["می\u200cخواهم", "👨\u200d👩\u200d👧"]
    path = tmp_path / "metadata.tsv"
    write_metadata(path, {"label": names, "index": range(len(names))})
    header, rows = parse_as_the_browser_does(path)
    assert header == ["label", "index"]
    assert rows == [[name, str(index)] for index, name in enumerate(names)]


def test_undecodable_file_name_as_a_class_name_does_not_stop_the_writing(tmp_path):
    path = tmp_path / "metadata.tsv"
    write_metadata(path, {"label": [b"caf\xe9".decode(errors="surrogateescape")]})
    assert path.read_text() == "caf\\udce9\n"


def test_columns_of_different_length_are_refused_and_leave_no_file(tmp_path):
    with pytest.raises(ValueError):
        write_metadata(tmp_path / "metadata.tsv", {"label": ["a", "b"], "index": [0]})
    assert list(tmp_path.iterdir()) == []


def test_numbers_have_four_digits_and_are_missing_where_not_finite(tmp_path):
    path = tmp_path / "metadata.tsv"
    values = np.array([1 / 3, 12345.6, np.inf, np.nan, 0], np.float32)
    write_metadata(path, {"distance": values, "index": range(5)})
    assert parse_as_the_browser_does(path)[1] == [
        ["0.3333", "0"],
        ["1.235e+04", "1"],
        ["", "2"],
        ["", "3"],
        ["0", "4"],
    ]


@pytest.mark.parametrize("name", ["é", "日本", "🙂🙂", "aé日🙂"])
@pytest.mark.parametrize("chunk_size", [20, 21, 22, 23, 31, 64, 100])
def test_no_character_stands_across_the_end_of_a_chunk(tmp_path, monkeypatch, name, chunk_size):
    """The browser decodes each chunk by itself: what is cut becomes U+FFFD."""
    monkeypatch.setattr(src.projector.metadata, "CHUNK_SIZE", chunk_size)
    path = tmp_path / "metadata.tsv"
    names = [name * (index % 3 + 1) for index in range(200)]
    names[0] = "a"  # the header's and the first line's: there is no row before, to pad
    write_metadata(path, {"label": [n[:4] for n in names], "index": range(200)})
    content = path.read_bytes()
    chunks = [content[start : start + chunk_size] for start in range(0, len(content), chunk_size)]
    text = "".join(chunk.decode(errors="replace") for chunk in chunks)
    assert text == content.decode()
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    assert [row[0] for row in rows] == [n[:4] for n in names]
    assert [int(row[1]) for row in rows] == list(range(200))


@pytest.mark.parametrize("name", ["01", "007", "1.0", "1e3", "0x10", "+5", "12345678901234567890"])
def test_a_name_that_javascript_would_write_as_another_number_is_text(tmp_path, name):
    """The projector shows and colours what it reads as a number by that number's own text."""
    path = tmp_path / "metadata.tsv"
    write_metadata(path, {"label": [name, "7", "cat", "-12"]})
    written = path.read_text(encoding="utf-8").splitlines()
    assert written == [name + "\u2060", "7", "cat", "-12"]
    assert list(legend(written))[0] == "7"
