"""Compare experiments in one table: `python compare.py experiments/naive_cnn`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from src.comparing.columns import DEFAULT_SPLIT
from src.comparing.comparison import Comparison, compare
from src.comparing.formats import as_csv, as_json, as_markdown, encodable, for_console
from src.comparing.results import read_results, read_searches
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.cli import program_parser, run

EXAMPLES = """\
  python compare.py experiments/naive_cnn
  python compare.py experiments --split test --sort map_at_r_within --baselines
  python compare.py experiments/margins --split test --columns recall_at_1,train.loss --markdown
  python compare.py experiments/margins --plot margins.png"""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    args = _arguments(argv)
    comparison = compare(
        read_results(args.directories),
        split=args.split,
        columns=args.columns,
        sort=args.sort,
        reverse=args.reverse,
        baselines=args.baselines,
    )
    if args.markdown:
        print(encodable(as_markdown(comparison)))
    elif args.csv:
        print(encodable(as_csv(comparison)))
    elif args.json:
        print(as_json(comparison))
    else:
        print(for_console(comparison))
    if args.csv or args.json:  # these have the notes of rows alone
        of_rows = {note for row in comparison.rows for one in row.results for note in one.notes}
        for note in comparison.notes:
            if note not in of_rows:
                print(f"note: {encodable(printable(note))}", file=sys.stderr)
    if args.plot:
        _plot(args.plot, comparison, args.split, args.directories)
        print(f"wrote {args.plot}", file=sys.stderr)  # standard output is for the table


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = program_parser(
        "Compare experiments in one table: the params in which they differ, and their metrics. "
        "Experiments that differ only in their seed share a row of means and standard deviations.",
        EXAMPLES,
    )
    parser.add_argument(
        "directories",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="an experiment, or a directory with experiments at any depth",
    )
    parser.add_argument(
        "--split",
        default=DEFAULT_SPLIT,
        help="the split of metrics that are named without one (default: %(default)s); choose "
        "params on validation, and use test only at the end",
    )
    parser.add_argument(
        "--columns",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAME,...",
        help="the metrics to show, named as in metrics.json: recall_at_1, train.loss, seconds",
    )
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        help="experiment, status, n, a param or a metric, best first (default: by the params)",
    )
    parser.add_argument("--reverse", action="store_true", help="reverse the order")
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="add a row for each baseline of an experiment: raw pixels, the untrained network",
    )
    parser.add_argument(
        "--plot",
        type=_figure_path,
        metavar="FILE",
        help="also draw fraction_positive, recall@1 and MAP@R against the margin or another param, "
        "and the curves of all runs, or what searches found, to a .png, .svg or .pdf file",
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    formats.add_argument("--csv", action="store_true", help="print CSV with all digits")
    formats.add_argument("--json", action="store_true", help="print JSON with all digits")
    return parser.parse_args(argv)


def _figure_path(text: str) -> Path:
    """Return the path of a figure; argparse reports other file types."""
    path = Path(text)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(
            f"found {text!r}; accepted: a file name in .png, .svg or .pdf"
        )
    return path


def _plot(path: Path, comparison: Comparison, split: str, directories: Sequence[Path]) -> None:
    """Draw the comparison. Its modules are slow to import, so they are imported only here."""
    from src.comparing.figure import comparison_figure
    from src.comparing.search_figure import search_figure
    from src.experiment.curves import read_curves

    searches = read_searches(directories)
    if searches:
        figure = search_figure(searches)
        with atomic_write(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150)
        names = encodable(", ".join(map(str, searches)))
        print(
            f"{path}: shows the searches alone ({names}); for metrics and curves, name directories "
            "without a search",
            file=sys.stderr,
        )
        return
    curves = {
        result.model_dir: read_curves(result.model_dir / "eval_validation")
        for row in comparison.rows
        for result in row.results
    }
    plot = comparison_figure(comparison, split, curves)
    with atomic_write(path) as file:
        plot.figure.savefig(file, format=path.suffix[1:], dpi=150)
    for note in plot.notes:
        print(f"{path}: {encodable(note)}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
