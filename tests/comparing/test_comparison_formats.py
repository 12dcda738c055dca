"""The comparison as text: each format, read back where it is for programs."""

import csv
import fcntl
import io
import json
import math
import os
import re
import struct
import termios
from pathlib import Path

import pytest

from src.comparing import formats
from src.comparing.comparison import Comparison, Row, compare
from src.comparing.formats import as_csv, as_json, as_markdown, as_text
from src.comparing.results import Result
from src.params.schema import Params


def result(name, status="finished", metrics=None, notes=(), **params):
    return Result(Path("experiments") / name, status, Params(**params), metrics or {}, notes)


@pytest.fixture
def seeds():
    """Margin 1 with seeds of loss 2, 4, 9: mean 5, deviation sqrt 13, 3.6056. Margin 3 diverged."""
    losses = [2.0, 4.0, 9.0]
    results = [
        result(f"margin_1-seed_{seed}", metrics={"train.loss": loss}, margin=1.0, seed=seed)
        for seed, loss in enumerate(losses)
    ]
    results.append(result("margin_3", "diverged", {"seconds": 8.4}, ("a note",), margin=3.0))
    return compare(results, columns=["train.loss", "seconds"])


@pytest.fixture
def plain():
    """Two experiments, finished, one seed each."""
    results = [
        result("a", metrics={"train.loss": 0.5, "validation.recall_at_1": 0.98765}, margin=0.5),
        result("b", metrics={"train.loss": 10.0}, margin="soft", triplet_strategy="batch_hard"),
    ]
    return compare(results, columns=["train.loss", "recall_at_1"])


def test_text(seeds):
    assert as_text(seeds) == (
        "experiments: 4 experiments; mean ± standard deviation over n seeds\n"
        "\n"
        "                                                 loss\n"
        "experiment       margin  n  status              train  seconds\n"
        "margin_1-seed_*       1  3  finished  5.0000 ± 3.6056        -\n"
        "margin_3              3  1  diverged       -                 8\n"
        "\n"
        "note: a note"
    )


def test_text_shows_n_and_status_only_where_they_say_something(plain):
    assert as_text(plain) == (
        "experiments: 2 experiments\n"
        "\n"
        "            triplet_               loss  recall_at_1\n"
        "experiment  strategy    margin    train   validation\n"
        "a           batch_all   0.5      0.5000       0.9877\n"
        "b           batch_hard  soft    10.0000            -"
    )


def test_one_experiment():
    comparison = compare([result("a")], columns=["seconds"])
    assert (
        as_text(comparison)
        == "experiments: 1 experiment\n\nexperiment  seconds\na                 -"
    )


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_a_narrow_terminal_gets_the_columns_in_several_tables(width):
    metrics = {"train.loss": 0.5, "validation.loss": 0.25, "seconds": 3.0}
    results = [result("first", metrics=metrics, margin=1.0), result("second", margin=2.0)]
    wide, narrow = as_text(compare(results)), as_text(compare(results), width)
    assert max(map(len, narrow.split("\n"))) <= width
    assert sorted(set(wide.split())) == sorted(set(narrow.split()))  # nothing is lost
    for table in narrow.split("\n\n")[1:]:
        assert [line.split()[0] for line in table.split("\n")[-2:]] == ["first", "second"]


def test_a_column_wider_than_the_terminal_is_shown_all_the_same():
    results = [result("x" * 50, metrics={"seconds": 1.0}), result("y", metrics={}, margin=2.0)]
    text = as_text(compare(results, columns=["seconds"]), 20)
    assert "x" * 50 in text and text.count("seconds") == 1


def test_another_sign_for_consoles_without_it(seeds):
    text = as_text(seeds, plus_minus="+-")
    assert "5.0000 +- 3.6056" in text and text.isascii()


def test_large_and_odd_numbers():
    metrics = {"train.loss": 123456789.0, "validation.loss": math.nan, "test.loss": -math.inf}
    comparison = compare([result("a", metrics=metrics)], columns=list(metrics))
    assert as_text(comparison).split("\n")[-1].split() == ["a", "1.235e+08", "nan", "-inf"]


def test_markdown(seeds):
    assert as_markdown(seeds) == (
        "| experiment | margin | n | status | loss (train) | seconds |\n"
        "| --- | ---: | ---: | --- | ---: | ---: |\n"
        "| margin_1-seed_* | 1 | 3 | finished | 5.0000 ± 3.6056 | - |\n"
        "| margin_3 | 3 | 1 | diverged | - | 8 |\n"
        "\n"
        "- a note"
    )


def test_markdown_escapes_what_would_be_a_column():
    table = as_markdown(compare([result("a|b")], columns=["seconds"]))
    assert table.split("\n")[-1] == r"| a\|b | - |"


def test_csv_read_back(seeds):
    rows = list(csv.DictReader(io.StringIO(as_csv(seeds))))
    assert rows[0] == {
        "experiment": "margin_1-seed_*",
        "margin": "1",
        "n": "3",
        "status": "finished",
        "train.loss": "5.0",
        "train.loss_sd": repr(math.sqrt(13)),
        "seconds": "",
        "seconds_sd": "",
        "notes": "",
    }
    assert rows[1]["status"] == "diverged"
    assert (rows[1]["train.loss"], rows[1]["seconds"]) == ("", "8.4")
    assert rows[1]["notes"] == "a note"
    assert len(rows) == 2


def test_csv_of_names_and_notes_with_commas_and_quotes():
    comparison = compare([result('a,"b"', notes=("x, y", "z"))], columns=["seconds"])
    [row] = csv.DictReader(io.StringIO(as_csv(comparison)))
    assert (row["experiment"], row["notes"]) == ('a,"b"', "x, y; z")


def test_csv_keeps_every_digit_and_what_is_not_finite():
    metrics = {"train.loss": 0.1 + 0.2, "test.loss": math.inf, "validation.loss": math.nan}
    comparison = compare([result("a", metrics=metrics)], columns=list(metrics))
    [row] = csv.DictReader(io.StringIO(as_csv(comparison)))
    assert float(row["train.loss"]) == 0.1 + 0.2
    assert (row["test.loss"], row["validation.loss"]) == ("inf", "nan")


def test_json_read_back(seeds):
    first, second = json.loads(as_json(seeds))
    assert first == {
        "experiment": "margin_1-seed_*",
        "directories": [f"experiments/margin_1-seed_{seed}" for seed in range(3)],
        "n": 3,
        "status": "finished",
        "params": {"margin": 1.0},
        "metrics": {"train.loss": {"mean": 5.0, "sd": math.sqrt(13), "n": 3}, "seconds": None},
        "notes": [],
    }
    assert second["metrics"] == {
        "train.loss": None,
        "seconds": {"mean": 8.4, "sd": None, "n": 1},
    }
    assert second["notes"] == ["a note"]


def test_json_is_strict():
    def refuse(constant):
        raise AssertionError(constant)

    metrics = {"train.loss": math.nan, "test.loss": -math.inf}
    comparison = compare([result("a", metrics=metrics)], columns=list(metrics))
    [row] = json.loads(as_json(comparison), parse_constant=refuse)
    assert {path: m["mean"] for path, m in row["metrics"].items()} == {
        "train.loss": "nan",
        "test.loss": "-inf",
    }


# A metric that not all experiments of a row have


@pytest.fixture
def partial():
    """Three seeds; MAP@R of the second is null, and recall@1 of all."""
    values = [0.5, None, 0.75]
    results = [
        result(
            f"s_{seed}",
            metrics={"test.loss": 1.0} | ({} if value is None else {"test.map_at_r": value}),
            seed=seed,
        )
        for seed, value in enumerate(values)
    ] + [result("other", metrics={"test.loss": 2.0, "test.map_at_r": 0.25}, margin=2.0)]
    return compare(results, columns=["test.map_at_r", "test.loss", "validation.recall_at_1"])


def test_text_says_over_how_many_a_mean_is(partial):
    assert as_text(partial).split("\n")[-2:] == [
        "s_*            0.5  3  0.6250 ± 0.1768 (n=2)  1.0000 ± 0.0000            -",
        "other            2  1  0.2500                 2.0000                     -",
    ]
    assert "| 0.6250 ± 0.1768 (n=2) |" in as_markdown(partial)


def test_csv_and_json_say_so_too(partial):
    first, second = csv.DictReader(io.StringIO(as_csv(partial)))
    assert first["notes"] == "test.map_at_r: known for 2 of 3"
    assert (second["notes"], first["validation.recall_at_1"]) == ("", "")
    metrics = json.loads(as_json(partial))[0]["metrics"]
    assert (metrics["test.map_at_r"]["n"], metrics["test.loss"]["n"]) == (2, 3)
    assert metrics["validation.recall_at_1"] is None


def test_counts_are_shown_as_such():
    metrics = {"test.num_queries": 12345, "best.step": 98765, "test.new": 0.123456}
    comparison = compare([result("a", metrics=metrics)], columns=list(metrics))
    assert as_text(comparison).split("\n")[-1].split() == ["a", "12345", "98765", "0.1235"]


# Names from outside

ESC, RIGHT_TO_LEFT = "\x1b[2J", "\u202e"


@pytest.fixture
def hostile():
    """Names, params, states and notes of everything that means something somewhere."""
    results = [
        result(
            f"=1+1{ESC}",
            f"<b>done</b>{RIGHT_TO_LEFT}",
            {"test.=cmd()": 1.0, "test.*a* *b*": 2.0},
            (f"@note\n{ESC} | <script>",),
            image_dir=f"+1{ESC}\t|`code`",
            dataset="image_folder",
            image_size=8,
        ),
        result(
            "[link](x) *bold* _thin_",
            image_dir="-2\r" + "x" * 200,
            dataset="image_folder",
            image_size=8,
        ),
    ]
    return compare(results, columns=["test.=cmd()", "test.*a* *b*"])


@pytest.mark.parametrize("write", [as_text, as_markdown, as_csv, as_json])
def test_no_format_lets_controls_through(hostile, write):
    assert all(line.isprintable() for line in write(hostile).split("\n"))
    lines = len(write(hostile).split("\n"))
    assert write is as_json or lines == {as_text: 8, as_markdown: 6, as_csv: 3}[write]


def test_a_terminal_shows_the_beginning_of_a_long_value(hostile):
    assert "x" * 70 + "..." in as_text(hostile) and "x" * 81 not in as_text(hostile)
    assert "x" * 200 in as_csv(hostile)


def test_markdown_shows_text_as_it_is(hostile):
    table = as_markdown(hostile)
    assert "<" not in table and "&lt;b&gt;done&lt;/b&gt;" in table
    assert r"\[link\](x) \*bold\* \_thin\_" in table
    assert r"\|\`code\`" in table
    assert "- &#64;note" in table
    for line in table.split("\n")[:4]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 6  # five columns
    columns = as_markdown(compare([result("m_1/a"), result("m_1/b*", margin=1.0)]))
    assert "embedding_mean_norm (validation)" in columns and "b* " in columns


def test_csv_has_no_formulas(hostile):
    rows = list(csv.reader(io.StringIO(as_csv(hostile))))
    for row in rows:
        assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    by_image_dir = {row[1][:3]: row for row in rows[1:]}
    assert by_image_dir["'+1"][0] == r"'=1+1\x1b[2J"
    assert rows[0][4] == "test.=cmd()"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\uff1d", "\uff20"])
def test_csv_marks_every_beginning_of_a_formula(start):
    results = [result(f"{start}1", f"{start}2", notes=(f"{start}3",), seed=1)]
    [row] = csv.reader(io.StringIO(as_csv(compare(results, columns=["seconds"])).split("\n")[1]))
    for cell in (row[0], row[2], row[-1]):
        assert cell.startswith(("'", "\\t")), cell


def test_csv_numbers_stay_numbers():
    results = [result("a", metrics={"test.loss": -1.5}), result("b", margin=2.0)]
    rows = list(csv.DictReader(io.StringIO(as_csv(compare(results, columns=["test.loss"])))))
    assert (rows[0]["test.loss"], rows[1]["margin"]) == ("-1.5", "2")


def test_letters_of_any_script_stay():
    comparison = compare([result("größe-猫")], columns=["seconds"])
    for write in (as_text, as_markdown, as_csv):
        assert "größe-猫" in write(comparison)


def test_json_is_utf8_as_it_is_where_the_console_has_it(monkeypatch):
    """`café` stays readable in a pipe; a terminal of ASCII, and controls, get escapes."""
    row = Row("café 猫\x1b", (), "finished", {}, {})
    comparison = Comparison(Path("experiments"), (), (), (row,), ())
    for encoding, written in (("utf-8", "café 猫\\u001b"), ("latin-1", "café \\u732b\\u001b")):
        console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr("sys.stdout", console)
        text = as_json(comparison)
        assert f'"experiment": "{written}"' in text
        assert json.loads(text)[0]["experiment"] == row.name


def test_a_table_in_a_pipe_fits_the_terminal_behind_it(monkeypatch):
    """`compare.py | less`: standard output is no terminal, standard error is the one on screen."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    monkeypatch.setattr("sys.stdin", None)
    parent, child = os.openpty()
    with open(parent, "rb", buffering=0), open(child, "w") as terminal:
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 61, 0, 0))
        monkeypatch.setattr("sys.stderr", terminal)
        assert formats._width() == 61
        monkeypatch.setenv("COLUMNS", "47")
        assert formats._width() == 47
        monkeypatch.delenv("COLUMNS")
        monkeypatch.setattr("sys.stderr", io.StringIO())
        assert formats._width() is None  # a file: as wide as the table
