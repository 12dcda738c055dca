"""Formats metrics as text: one line, or a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.params.metric_names import MAX_CLASSES, MAX_QUERIES
from src.printable import printable

MISSING = "-"
"""Stands for an undefined value."""


def format_number(value: float | int | None) -> str:
    """Return a float with four significant digits, an integer with all, None as MISSING."""
    if value is None:
        return MISSING
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def format_metrics(metrics: Mapping[str, float | int | None]) -> str:
    """Return `name value` of each metric, on one line."""
    return "  ".join(f"{name} {format_number(value)}" for name, value in metrics.items())


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the terminal: the first column left-aligned, the others right-aligned."""
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
        baselines: for each baseline, its metrics of some of these splits.

    Returns:
        One row per split, followed by a row for each of its baselines; MISSING for undefined
        values.
    """
    names = ("map_at_r_within", "recall_at_1_within", "recall_at_1", "loss", "fraction_positive")
    rows = []
    for split, metrics in splits.items():
        rows.append((printable(split), metrics))
        for baseline, of_splits in baselines.items():
            if split in of_splits:
                rows.append((f"  {printable(baseline)}", of_splits[split]))
    return format_table(
        ["split", *names],
        [[label, *(format_number(m.get(name)) for name in names)] for label, m in rows],
    )


def queries_notes(splits: Mapping[str, Mapping[str, float | int | None]]) -> list[str]:
    """Return notes on the queries of the table's metrics, one line each.

    Args:
        splits: the metrics of each split, including counts.
    """
    lines = ["(_within: neighbours come from the same split; otherwise from the training images)"]
    for split, metrics in splits.items():
        within, gallery = (
            int(metrics.get(name) or 0) for name in ("num_queries_within", "num_queries")
        )
        size = int(metrics.get("num_own_queries", metrics.get("num_examples")) or 0)
        asking = min(size, MAX_QUERIES)
        if "num_own_queries" in metrics:
            lines.append(f"({split}: {size} queries and a gallery of {metrics['num_own_gallery']})")
        if size > asking:
            lines.append(f"({split}: the queries are a stratified sample of {asking} images)")
        apart = " in another group" if "num_groups" in metrics else ""
        if within < asking:
            lines.append(
                f"({split}: {within} of {asking} queries have another image of their class there"
                f"{apart})"
            )
        if gallery < asking:
            lines.append(
                f"({split}: {gallery} of {asking} queries have a training image of their class"
                f"{apart})"
            )
        if "map_at_r_among_known" in metrics:
            alone, among = (
                format_number(metrics.get(name))
                for name in ("map_at_r_within", "map_at_r_among_known")
            )
            lines.append(
                f"({split}: MAP@R {alone} alone, {among} with the {metrics['num_known_among']} "
                "test images of known classes in the gallery too)"
            )
        is_clustered = metrics.get("nmi") is not None
        if is_clustered and metrics.get("num_clustered_classes") == MAX_CLASSES:
            lines.append(f"({split}: nmi and ami are computed on {MAX_CLASSES} of its classes)")
    return lines


def threshold_notes(thresholds: Mapping[str, Any], open_set: Mapping[str, Any]) -> list[str]:
    """Return how well pairs and strangers are told apart, one line each.

    Args:
        thresholds: the object of metrics.json.
        open_set: the object of metrics.json.
    """
    lines = []
    pairs = thresholds["at"]["far_1e-2"]
    if pairs["threshold"] is not None:
        far, tar = (format_number(pairs["test"][name]) for name in ("far", "tar"))
        lines.append(
            f"verification: at distance {format_number(pairs['threshold'])} (FAR 0.01 on "
            f"{thresholds['measured_on']}), test has FAR {far} and TAR {tar}"
        )
    if open_set["auroc"] is None:
        return [*lines, f"open set: not measured: {open_set['why']}"]
    line = f"open set, strangers are {open_set['calibrated_on']}: AUROC "
    line += format_number(open_set["auroc"])
    at = open_set["at"]["fpir_1e-2"]
    if at["threshold"] is None:
        line += f"; no threshold for FPIR 0.01: {at['why']}"
    else:
        fpir, found = (format_number(at["reported"][name]) for name in ("fpir", "dir"))
        line += f"; at the threshold for FPIR 0.01: FPIR {fpir}, DIR {found}"
    if open_set["calibrated_on"] == "known classes":
        line += " (this flatters: set holdout_classes to measure strangers)"
    return [*lines, line]
