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
    names; between two different datasets not if these are numbers. A source's `extra_data` count.

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
        trained = _class_names(seen, before, unseen)
        dataset = params.dataset_name
        known = [
            label
            for label in held_out
            if (dataset, name := record.class_names[label]) in trained
            or (not name.isdecimal() and name in {of_any for _, of_any in trained})
        ]
        what = [
            *_classes(known, held_out, record),
            *_pictures(_digests(seen, unseen), record, held_out, known),
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


def _is_trained(record: DataRecord, held_out: list[int]) -> NDArray[np.bool_]:
    in_train: NDArray[np.bool_] = record.splits == SPLITS.index("train")
    return in_train & ~np.isin(record.labels, held_out)


def _digests(record: DataRecord, held_out: list[int]) -> NDArray[np.uint64]:
    """Return the digests of the examples that are trained on, with those of `extra_data`."""
    own, extra = record.digests[_is_trained(record, held_out)], record.extra_data
    return own if extra is None else np.concatenate([own, extra.digests])


def _class_names(record: DataRecord, params: Params, held_out: list[int]) -> set[tuple[str, str]]:
    """Return the classes that are trained on, each with the name of its dataset."""
    labels = np.unique(record.labels[_is_trained(record, held_out)])
    found = {(params.dataset_name, record.class_names[label]) for label in labels}
    if (extra := record.extra_data) is not None:
        names = [extra.class_names[label] for label in np.unique(extra.labels)]
        found |= {
            (entry.dataset_name, name.removeprefix(entry.prefix))
            for entry in params.extra_data
            for name in names
            if name.startswith(entry.prefix)
        }
    return found


def _classes(known: list[int], held_out: list[int], record: DataRecord) -> list[str]:
    """Return in words which held-out classes were trained on."""
    if not known:
        return []
    names = listed([printable(record.class_names[label]) for label in known], _MAX_NAMED)
    return [f"{len(known)} of the {len(held_out)} classes of {UNSEEN} ({names})"]


def _pictures(
    seen: NDArray[np.uint64], record: DataRecord, held_out: list[int], known: list[int]
) -> list[str]:
    """Return in words how many examples were trained on, by split.

    Examples that are equal to one that this experiment trains on do not count, nor do those of the
    classes `known`, which have been named.
    """
    own = _digests(record, held_out)
    was_seen = np.isin(record.digests, seen) & ~np.isin(record.digests, own)
    was_seen &= ~np.isin(record.labels, known)
    is_unseen = np.isin(record.labels, held_out)
    of_splits = {
        name: (record.splits == SPLITS.index(name)) & ~is_unseen for name in ("validation", "test")
    }
    return [
        f"{count} of {int(of_split.sum())} {name} examples"
        for name, of_split in {**of_splits, UNSEEN: is_unseen}.items()
        if (count := int((was_seen & of_split).sum()))
    ]
