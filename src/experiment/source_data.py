"""Which data an experiment has seen by its initial weights: those that `init_from` trained on.

A network that begins with the weights of one that was trained on this experiment's unseen classes,
or on its test pictures, knows them already. Its metrics then say too much.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.class_names import listed
from src.data.holdout import UNSEEN, held_out_labels
from src.data.split import SPLITS
from src.errors import UserError
from src.experiment.data_record import DataRecord, read_record
from src.experiment.experiment import Experiment
from src.experiment.warm_start import read_warm_start_record
from src.params.schema import Params
from src.printable import printable

_MAX_NAMED = 5


def seen_by_source(
    source: Experiment, params: Params, record: DataRecord, params_path: Path
) -> tuple[str, ...]:
    """Return a line for each experiment whose training data are this one's to evaluate.

    The source may itself have begun with the weights of another one, and so on: all are compared.
    Pictures are compared by their digests: of files, or of pixels. Classes are compared by their
    names; between two different datasets not if these are numbers.

    Args:
        source: the experiment that `init_from` names.
        params: those of the new experiment.
        record: the new experiment's data.
        params_path: of the new experiment, for the messages.

    Returns:
        Lines that name the classes and count the pictures; or say that a source's data are unknown.
    """
    held_out = held_out_labels(params, record.class_names, params_path)
    lines = []
    for each in _lineage(source):
        where = f"{params_path}: init_from: {printable(str(each.model_dir))}"
        try:
            before = each.trained_params()
            seen = read_record(each.data_record_path)
            if seen is None:
                raise UserError("no record of its data")
            unseen = held_out_labels(before, seen.class_names, each.params_path)
        except (UserError, OSError):
            lines.append(
                f"{where}: it is unknown on which data it was trained; if on what is evaluated "
                "here, the metrics flatter"
            )
            continue
        is_trained = (seen.splits == SPLITS.index("train")) & ~np.isin(seen.labels, unseen)
        is_same = before.dataset == params.dataset
        what = [
            *_classes(seen, is_trained, record, held_out, is_same=is_same),
            *_pictures(seen, is_trained, record, held_out),
        ]
        if what:
            lines.append(f"{where} was trained on {' and '.join(what)}: their metrics flatter")
    return tuple(lines)


def _lineage(source: Experiment) -> Iterator[Experiment]:
    """Yield an experiment, the one whose weights it began with, and so on."""
    known: set[Path] = set()
    while source.model_dir.resolve() not in known:
        known.add(source.model_dir.resolve())
        yield source
        try:
            begun = read_warm_start_record(source)
            if begun is None:
                return
            source = Experiment(Path(begun.init_from))
        except (UserError, OSError):
            return


def _classes(
    seen: DataRecord,
    is_trained: NDArray[np.bool_],
    record: DataRecord,
    held_out: list[int],
    *,
    is_same: bool,
) -> list[str]:
    """Return in words which held-out classes were trained on."""
    trained = {seen.class_names[label] for label in np.unique(seen.labels[is_trained])}
    own = [record.class_names[label] for label in held_out]
    common = [name for name in own if name in trained and (is_same or not name.isdecimal())]
    if not common:
        return []
    names = listed([printable(name) for name in common], _MAX_NAMED)
    return [f"{len(common)} of the {len(own)} classes of {UNSEEN} ({names})"]


def _pictures(
    seen: DataRecord, is_trained: NDArray[np.bool_], record: DataRecord, held_out: list[int]
) -> list[str]:
    """Return in words how many examples of known classes were trained on, by split.

    Examples that are equal to one of this experiment's own training split do not count.
    """
    own = record.digests[record.splits == SPLITS.index("train")]
    was_seen = np.isin(record.digests, seen.digests[is_trained]) & ~np.isin(record.digests, own)
    was_seen &= ~np.isin(record.labels, held_out)
    found = []
    for name in ("validation", "test"):
        of_split = record.splits == SPLITS.index(name)
        if count := int((was_seen & of_split).sum()):
            found.append(f"{count} of {int(of_split.sum())} {name} examples")
    return found
