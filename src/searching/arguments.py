"""The arguments of `sweep.py` about searches."""

import argparse

from src.errors import UserError
from src.searching.goal import DEFAULT_METRIC, SEARCHES
from src.system.cli import positive_int, positive_number

PARAMS = """\
KEY=VALUE,...    values as in params.json, text without quotes; OUTER.INNER for nested keys
KEY=LOW..HIGH    a range; then :log, :int or :STEP
A search proposes params from the results so far and writes the best to best/params.json.
Its budget: --trials or --minutes. Pruning stops trainings that are worse than the median.
A launcher runs the trainings: here (local), or as jobs of a cluster (slurm).
All of this in detail: docs/searching.md"""
"""What the help says of `--param`, searches, budgets, pruning and launchers."""


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a search."""
    parser.add_argument(
        "--search",
        choices=SEARCHES,
        metavar="HOW",
        help=f"{', '.join(SEARCHES)}: instead of all combinations",
    )
    parser.add_argument(
        "--trials", type=positive_int, metavar="N", help="the search ends after N proposals"
    )
    parser.add_argument(
        "--minutes",
        type=positive_number,
        metavar="M",
        help="the search ends after M minutes, over all its runs",
    )
    parser.add_argument(
        "--prune",
        choices=("median", "none"),
        metavar="HOW",
        help="median: stop bad trainings early (default: none)",
    )
    parser.add_argument(
        "--metric", metavar="NAME", help=f"what is searched for (default: {DEFAULT_METRIC})"
    )


def refuse_without_search(args: argparse.Namespace) -> None:
    """Refuse options that a sweep of all combinations does not have."""
    for name in ("trials", "minutes", "metric", "prune"):
        if getattr(args, name) is not None:
            raise UserError(
                f"--{name}: found without --search; accepted: with --search {', '.join(SEARCHES)}"
            )
