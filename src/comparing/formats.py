"""Formats a comparison as text for the terminal, Markdown, CSV or JSON."""

import csv
import io
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from src.comparing.columns import Column
from src.comparing.comparison import Comparison, Row, Statistic
from src.experiment.status import Status
from src.params.reading import format_value
from src.printable import printable

MISSING = "-"
# Tables show at most this many characters of a text from outside.
_TEXT_LENGTH = 80
# A spreadsheet reads these characters as the start of a formula; the last four are full-width.
_FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
_GAP = "  "
# If a heading is wider than this and than its cells, it is broken at underscores and dots.
_HEADING_WIDTH = 11


@dataclass(frozen=True)
class _TextColumn:
    """A column of a table for people to read.

    Attributes:
        name: its key.
        split: the split that the key belongs to, or "".
        cells: one text for each row.
        is_number: whether the cells are aligned to the right.
    """

    name: str
    split: str
    cells: list[str]
    is_number: bool = False


def for_console(comparison: Comparison) -> str:
    """Return the table in the width and the characters that standard output can show."""
    plus_minus = "±" if encodable("±") == "±" else "+-"
    return encodable(as_text(comparison, _width(), plus_minus))


def _width() -> int | None:
    """Return the width of the terminal that shows the table; None if there is none.

    Standard output may be a pipe to a program on the same terminal, such as `less`. Then another
    stream tells the terminal's width; the variable COLUMNS precedes both.
    """
    if os.environ.get("COLUMNS", "").isdecimal() and int(os.environ["COLUMNS"]) > 0:
        return int(os.environ["COLUMNS"])
    for stream in (sys.stdout, sys.stderr, sys.stdin):
        try:
            if stream.isatty():
                return os.get_terminal_size(stream.fileno()).columns or None
        except (AttributeError, OSError, ValueError):  # closed, missing, or not a real file
            continue
    return None


def encodable(text: str) -> str:
    """Return `text`, escaping characters that standard output's encoding does not have."""
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def as_text(comparison: Comparison, width: int | None = None, plus_minus: str = "±") -> str:
    """Return the table for a terminal.

    Args:
        comparison: the table.
        width: the terminal's width in characters; None for no limit. Columns that do not fit follow
            in a second table below, with the experiments' names repeated.
        plus_minus: the text between a mean and its deviation.
    """
    count = len({result.model_dir for row in comparison.rows for result in row.results})
    caption = f"{printable(str(comparison.directory))}: {count} experiment{'s' * (count != 1)}"
    if _has_several(comparison):
        caption += f"; mean {plus_minus} standard deviation over n seeds"
    first, *others = [_padded(column) for column in _text_columns(comparison, f" {plus_minus} ")]
    tables = [_side_by_side([first, *part]) for part in _parts(first, others, width)]
    notes = "\n".join(f"note: {printable(note)}" for note in comparison.notes)
    return "\n\n".join([caption, *tables, *([notes] if notes else [])])


def as_markdown(comparison: Comparison) -> str:
    """Return the table in Markdown, with the notes as a list below it."""
    columns = _text_columns(comparison, " ± ")
    names = [_markdown(f"{c.name} ({c.split})" if c.split else c.name) for c in columns]
    rules = ["---:" if column.is_number else "---" for column in columns]
    cells = [[_markdown(" ".join(cell.split())) for cell in column.cells] for column in columns]
    rows = [names, rules, *zip(*cells, strict=True)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in rows)
    notes = "\n".join(f"- {_markdown(printable(note))}" for note in comparison.notes)
    return f"{table}\n\n{notes}" if notes else table


def as_csv(comparison: Comparison) -> str:
    """Return the table as CSV at full precision; each metric also has a column of deviations.

    If a spreadsheet would read a text as a formula, an apostrophe is put before it.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    paths = [column.path for column in comparison.columns]
    writer.writerow(
        ["experiment", *comparison.params, "n", "status"]
        + [_csv_text(name) for path in paths for name in (path, f"{path}_sd")]
        + ["notes"]
    )
    for row in comparison.rows:
        writer.writerow(
            [_csv_text(row.name)]
            + [
                _csv_param(row.params[key]) if key in row.params else ""
                for key in comparison.params
            ]
            + [len(row.results), _csv_text(row.status)]
            + [cell for path in paths for cell in _csv_cells(row.statistics.get(path))]
            + [_csv_text("; ".join([*_notes(row), *_of_fewer(row, paths)]))]
        )
    return file.getvalue().removesuffix("\n")


def as_json(comparison: Comparison) -> str:
    """Return the rows as a JSON list, at full precision; text is UTF-8 as far as it is printable.

    JSON has no NaN or infinity, so they become the strings "nan", "inf" and "-inf". A metric is
    null if no experiment of the row has it.
    """
    rows = [
        {
            "experiment": row.name,
            "directories": [str(result.model_dir) for result in row.results],
            "n": len(row.results),
            "status": row.status,
            "params": dict(row.params),
            "metrics": {
                column.path: _json_statistic(row.statistics.get(column.path))
                for column in comparison.columns
            },
            "notes": _notes(row),
        }
        for row in comparison.rows
    ]
    text = json.dumps(rows, indent=2, allow_nan=False, ensure_ascii=False)
    return "".join(map(_json_character, text)) if not text.isascii() else text


def _json_character(character: str) -> str:
    """Return a character of JSON; escaped if it is unprintable or the console does not have it."""
    is_shown = character == "\n" or (character.isprintable() and encodable(character) == character)
    return character if is_shown else json.dumps(character)[1:-1]


def shown(text: str) -> str:
    """Return a text from outside, made printable and shortened for a table."""
    text = printable(text)
    return text if len(text) <= _TEXT_LENGTH else f"{text[: _TEXT_LENGTH - 3]}..."


def _has_several(comparison: Comparison) -> bool:
    return any(len(row.results) > 1 for row in comparison.rows)


def _notes(row: Row) -> list[str]:
    return [note for result in row.results for note in result.notes]


def _of_fewer(row: Row, paths: Sequence[str]) -> list[str]:
    """Return a note for each metric that only some experiments of a row have."""
    n = len(row.results)
    found = {path: row.statistics[path].n for path in paths if path in row.statistics}
    return [f"{path}: known for {of_path} of {n}" for path, of_path in found.items() if of_path < n]


def _markdown(text: str) -> str:
    """Return `text`, escaped so that Markdown shows it unchanged.

    Characters without effect are not escaped, because the source is easier to read: underscores
    between letters or digits (`map_at_r`), and a single star or other underscore
    (`margin_1-seed_*`).
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"[\\`\[\]|~$#!]", r"\\\g<0>", text)
    for emphasis in (r"\*", r"(?<![^\W_])_|_(?![^\W_])"):
        if len(re.findall(emphasis, text)) > 1:
            text = re.sub(emphasis, r"\\\g<0>", text)
    text = text.replace("@", "&#64;")  # otherwise GitHub would notify a person
    return re.sub(r"^(\d*)([-+.)])(?=\s)", r"\1\\\2", text)


def _csv_text(text: str) -> str:
    """Return `text` on one line, marked so that no spreadsheet computes it."""
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _csv_param(value: Any) -> str:
    return _csv_text(value) if isinstance(value, str) else format_value(value)


def _text_columns(comparison: Comparison, plus_minus: str) -> list[_TextColumn]:
    """Return all columns; `n` and `status` only if they are informative."""
    rows = comparison.rows
    columns = [_TextColumn("experiment", "", [printable(row.name) for row in rows])]
    for key in comparison.params:
        is_number = not any(isinstance(row.params.get(key), str | bool) for row in rows)
        cells = [
            shown(format_value(row.params[key])) if key in row.params else MISSING for row in rows
        ]
        columns.append(_TextColumn(key, "", cells, is_number=is_number))
    if _has_several(comparison):
        columns.append(
            _TextColumn("n", "", [str(len(row.results)) for row in rows], is_number=True)
        )
    if any(row.status != Status.FINISHED for row in rows):
        columns.append(_TextColumn("status", "", [shown(row.status) for row in rows]))
    for column in comparison.columns:
        split, _, key = map(shown, column.path.rpartition("."))
        cells = _metric_cells(rows, column, plus_minus)
        columns.append(_TextColumn(key, split, cells, is_number=True))
    return columns


def _number(value: float, decimals: int | None) -> str:
    if not math.isfinite(value) or abs(value) >= 1e7:
        return f"{value:.4g}"
    if decimals is None:
        return str(int(value)) if value == int(value) else f"{value:.4g}"
    return f"{value:.{decimals}f}"


def _metric_cells(rows: Sequence[Row], column: Column, plus_minus: str) -> list[str]:
    """Return a cell for each row, with means and deviations aligned.

    If a mean covers fewer experiments than the row has, the cell says how many.
    """
    found = [row.statistics.get(column.path) for row in rows]
    decimals = column.metric.decimals
    means = [MISSING if s is None else _number(s.mean, decimals) for s in found]
    deviations = [
        "" if s is None or s.deviation is None else _number(s.deviation, decimals) for s in found
    ]
    counts = [
        f" (n={s.n})" if s is not None and s.n < len(row.results) else ""
        for s, row in zip(found, rows, strict=True)
    ]
    width, count_width = (max(map(len, texts), default=0) for texts in (deviations, counts))
    return [
        mean
        + (plus_minus + sd.rjust(width) if sd else " " * (width and width + len(plus_minus)))
        + count.ljust(count_width)
        for mean, sd, count in zip(means, deviations, counts, strict=True)
    ]


def _csv_cells(found: Statistic | None) -> list[str]:
    if found is None:
        return ["", ""]
    return [repr(found.mean), "" if found.deviation is None else repr(found.deviation)]


def _json_statistic(found: Statistic | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "mean": _json_number(found.mean),
        "sd": None if found.deviation is None else _json_number(found.deviation),
        "n": found.n,
    }


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _padded(column: _TextColumn) -> list[str]:
    """Return the lines of a column, heading and cells, padded to the same width.

    Headings may have different numbers of lines: columns of a table are aligned at the bottom.
    """
    cells_width = max(map(len, column.cells))
    heading = _broken(column.name, max(_HEADING_WIDTH, cells_width))
    lines = [*heading, *([column.split] if column.split else []), *column.cells]
    width = max(map(len, lines))
    return [line.rjust(width) if column.is_number else line.ljust(width) for line in lines]


def _broken(heading: str, width: int) -> list[str]:
    """Return a heading as lines; if too long, it is broken after underscores and dots."""
    lines = [""]
    for piece in re.findall(r"[^_.]*[_.]|[^_.]+", heading):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return lines


def _parts(
    first: list[str], columns: Sequence[list[str]], width: int | None
) -> list[list[list[str]]]:
    """Divide columns into tables that each fit the width beside the first column."""
    parts: list[list[list[str]]] = [[]]
    used = len(first[0])
    for column in columns:
        needed = len(_GAP) + len(column[0])
        if width is not None and parts[-1] and used + needed > width:
            parts.append([])
            used = len(first[0])
        parts[-1].append(column)
        used += needed
    return parts


def _side_by_side(columns: Sequence[list[str]]) -> str:
    """Return columns of lines as a table; shorter columns begin further down."""
    height = max(map(len, columns))
    padded = [[" " * len(c[0])] * (height - len(c)) + c for c in columns]
    return "\n".join(_GAP.join(line).rstrip() for line in zip(*padded, strict=True))
