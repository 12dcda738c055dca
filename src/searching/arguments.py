"""The arguments of `sweep.py` about searches."""

import argparse

from src.errors import UserError
from src.searching.goal import DEFAULT_METRIC, SEARCHES
from src.system.cli import positive_int, positive_number

PARAMS = """\
--param is one of
  KEY=VALUE,...        values, as in params.json, but text without quotes
  KEY=LOW..HIGH        a range; then any of :log (equal ratios are equally likely), :int (whole
                       numbers; keys that take only those need no :int) and :STEP
  OUTER.INNER=...      a key of a nested object: augment.shift=0..4
--prune median stops a training whose best value so far is worse than the median of the finished
ones at the same evaluation, once 4 have finished. It misleads if early values say little about late
ones: learning_rate_schedule cosine, warm-ups, trainings of different num_epochs."""
"""What the help says of `--param` and of pruning."""


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a search."""
    parser.add_argument(
        "--search",
        choices=SEARCHES,
        help="propose one training after the other: combinations in a random order, random values, "
        "or values near good ones (TPE); write the winner to best/params.json",
    )
    parser.add_argument(
        "--trials", type=positive_int, metavar="N", help="end the search after N proposals"
    )
    parser.add_argument(
        "--minutes",
        type=positive_number,
        metavar="M",
        help="end the search after M minutes, all runs of the command together; trainings save",
    )
    parser.add_argument(
        "--prune", choices=("median", "none"), help="stop bad trainings early (default: none)"
    )
    parser.add_argument(
        "--metric", metavar="NAME", help=f"what to search for (default: {DEFAULT_METRIC})"
    )


def refuse_without_search(args: argparse.Namespace) -> None:
    """Refuse options that a sweep of all combinations does not have."""
    for name in ("trials", "minutes", "metric", "prune"):
        if getattr(args, name) is not None:
            raise UserError(
                f"--{name}: found without --search; accepted: with --search {', '.join(SEARCHES)}"
            )
