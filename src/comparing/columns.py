"""The columns of a comparison: which metrics there are, and how each is shown and sorted."""

from collections.abc import Iterable
from dataclasses import dataclass

from src.errors import UserError
from src.params.metric_names import (
    AGAINST_GALLERY,
    LOWER_IS_BETTER,
    OPEN_SET,
    WITHIN,
)
from src.printable import printable
from src.registry import did_you_mean

# Choose margins on this split; use `test` only at the end.
DEFAULT_SPLIT = "validation"


@dataclass(frozen=True)
class Metric:
    """A metric that can be a column.

    Attributes:
        key: its name in `metrics.json`.
        split: the split it belongs to; "" for the split the user chooses; None if the metric
            belongs to the whole experiment.
        decimals: the number of decimals shown; None for four significant digits.
        higher_is_better: the direction of sorting; False if neither direction is better.
        shown: whether it is a column by default.
        if_measured: whether it is left out by default if no experiment has it.
    """

    key: str
    split: str | None
    decimals: int | None
    higher_is_better: bool
    shown: bool = False
    if_measured: bool = False


_SHOWN = (
    Metric("fraction_positive", "train", 5, False, shown=True),
    Metric("fraction_positive", "validation", 5, False, shown=True),
    Metric("fraction_positive_at_reference", "", 5, False, shown=True),
    Metric("loss", "train", 4, False, shown=True),
    Metric("loss", "validation", 4, False, shown=True),
    Metric("map_at_r_within", "", 4, True, shown=True),
    Metric("recall_at_1_within", "", 4, True, shown=True),
    Metric("recall_at_1", "", 4, True, shown=True),
    *(Metric(name, "open_set", 4, True, shown=True, if_measured=True) for name in OPEN_SET),
    Metric("embedding_mean_norm", "", 3, False, shown=True),
    Metric("seconds", None, 0, False, shown=True),
    Metric("images_per_second", None, 0, True, shown=True),
)
_OF_UNSEEN = ("map_at_r_among_known", "recall_at_1_among_known")  # the others are found too
# Metrics whose columns need more than a name. Any other number in metrics.json can also be a
# column.
METRICS = (
    *_SHOWN,
    *(
        Metric(name, "", 4, name not in LOWER_IS_BETTER)
        for name in dict.fromkeys((*WITHIN, *AGAINST_GALLERY))
        if name not in {metric.key for metric in _SHOWN}
    ),
    *(Metric(name, "unseen", 4, True) for name in _OF_UNSEEN),
    Metric("global_step", None, 0, False),
    Metric("num_examples", "", 0, False),
)
# Entries of metrics.json that have numbers but are not splits.
_NOT_SPLITS = {"baselines", "best", "open_set", "thresholds"}
_OTHERS = Metric("", "", None, False)


@dataclass(frozen=True)
class Column:
    """A metric of a split.

    Attributes:
        path: its key in `Result.metrics`: `train.loss`, `seconds`.
        metric: says how it is shown and sorted.
    """

    path: str
    metric: Metric


def path_of(metric: Metric, split: str) -> str:
    """Return a metric's key in `Result.metrics`; `split` applies if the metric names no split."""
    return metric.key if metric.split is None else f"{metric.split or split}.{metric.key}"


def column_of(name: str, split: str, known: Iterable[str], others: Iterable[str] = ()) -> Column:
    """Return the column of the metric `name`; errors also suggest the columns in `others`."""
    ours = {path_of(metric, split): metric for metric in METRICS}
    paths = ours.keys() | set(known)
    own_splits = {metric.split for metric in METRICS if metric.key == name}
    # A metric that only one split has needs no split in front.
    alone = [f"{own}.{name}" for own in own_splits if own and len(own_splits) == 1]
    for path in (name, f"{split}.{name}", *alone):
        if path in paths:
            key = path.rpartition(".")[2]
            usual = next((metric for metric in METRICS if metric.key == key), _OTHERS)
            return Column(path, ours.get(path, usual))
    keys = {path.rpartition(".")[2] for path in paths}
    accepted = printable(", ".join(sorted(keys.union(others))))
    raise UserError(
        f"column {name!r}: found no such column"
        f"{printable(did_you_mean(name, [*keys, *paths, *others]))}; "
        f"accepted: {accepted}; for another split: train.loss, ..."
    )


def check_split(split: str, known: Iterable[str]) -> None:
    """Raise `UserError` if no experiment was evaluated on this split."""
    splits = {path.split(".")[0] for path in known if "." in path} - _NOT_SPLITS | {DEFAULT_SPLIT}
    if split not in splits:
        raise UserError(
            f"--split: found {split!r}{printable(did_you_mean(split, splits))}; accepted: "
            + printable(", ".join(sorted(splits)))
        )
