"""Metrics as text: one line of them, or a table."""

from collections.abc import Mapping, Sequence

MISSING = "-"
"""Stands for what is not defined."""


def format_number(value: float | int | None) -> str:
    """Return a number with four significant digits, an integer with all, None as MISSING."""
    if value is None:
        return MISSING
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def format_metrics(metrics: Mapping[str, float | int | None]) -> str:
    """Return `name value` of each metric, on one line."""
    return "  ".join(f"{name} {format_number(value)}" for name, value in metrics.items())


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the terminal: the first column to the left, the others to the right."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )


def format_splits(
    splits: Mapping[str, Mapping[str, float | int | None]],
    baselines: Mapping[str, Mapping[str, Mapping[str, float | int | None]]],
) -> str:
    """Return the metrics of an experiment as a table.

    Args:
        splits: the metrics of each split.
        baselines: of each baseline, those of some of these splits.

    Returns:
        A row for each split, and below it one for each of its baselines; MISSING for what is
        not defined.
    """
    names = ("map_at_r_within", "recall_at_1_within", "recall_at_1", "loss", "fraction_positive")
    rows = []
    for split, metrics in splits.items():
        rows.append((split, metrics))
        for baseline, of_splits in baselines.items():
            if split in of_splits:
                rows.append((f"  {baseline}", of_splits[split]))
    return format_table(
        ["split", *names],
        [[label, *(format_number(m.get(name)) for name in names)] for label, m in rows],
    )
