"""Metrics as text: one line of them, or a table."""

from collections.abc import Mapping, Sequence

from src.params.metric_names import MAX_CLASSES, MAX_QUERIES

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


def queries_notes(splits: Mapping[str, Mapping[str, float | int | None]]) -> list[str]:
    """Return what the metrics of the table are over, a line each.

    Args:
        splits: the metrics of each split, its counts among them.
    """
    lines = ["(_within: neighbours come from the same split; otherwise from the training images)"]
    for split, metrics in splits.items():
        size, within, gallery = (
            int(metrics.get(name) or 0)
            for name in ("num_examples", "num_queries_within", "num_queries")
        )
        asking = min(size, MAX_QUERIES)
        if size > asking:
            lines.append(f"({split}: the queries are a stratified sample of {asking} images)")
        if within < asking:
            lines.append(
                f"({split}: {within} of {asking} queries have another image of their class in it)"
            )
        if gallery < asking:
            lines.append(
                f"({split}: {gallery} of {asking} queries have one among the training images)"
            )
        is_clustered = metrics.get("nmi") is not None
        if is_clustered and metrics.get("num_clustered_classes") == MAX_CLASSES:
            lines.append(f"({split}: nmi and ami are of {MAX_CLASSES} of its classes)")
    return lines
