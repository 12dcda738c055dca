"""Records the data of a training in a file: each example, its class and its split.

An experiment is defined by its params and its data. The record shows if and how the data changed.
"""

# Long: what is recorded, how it is compared and how it is written change together.

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.class_names import listed
from src.data.holdout import held_out_labels, hold_out
from src.data.loading import Data, load_data
from src.data.near_duplicates import near_duplicate_warnings
from src.data.split import SPLITS, Split
from src.errors import START_OVER, UserError
from src.experiment.experiment import Experiment
from src.params.schema import Params
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

MAX_BYTES = 1 << 30
"""The size limit of a record: several million examples."""

_VERSION = 1

# What the arrays of `extra_data` begin with.
_EXTRA = "extra_data_"

# Errors that reading a damaged NumPy file may raise.
_DAMAGED = (
    *(ValueError, KeyError, TypeError, EOFError, OSError, RuntimeError, MemoryError),
    *(IndexError, OverflowError, NotImplementedError, SyntaxError, struct.error),
    *(zipfile.BadZipFile, zlib.error, RecursionError),
)


@dataclass(frozen=True)
class DataRecord:
    """The N examples of all splits, in the order of the dataset's own files.

    Attributes:
        paths: N different file paths; None if the dataset stores its images otherwise.
        digests: uint64 [N], of the files or of the pixels.
        labels: int32 [N], positions in `class_names`.
        class_names: the class names of the dataset.
        splits: int8 [N], the split of each example, as a position in SPLITS.
        own: int8 [N], the split in the dataset's own files, as a position in SPLITS.
        validation_by: see `Data`.
        groups: the group of each example, by name; None if the dataset states no groups.
        roles: int8 [N], 1 for a query, plus 2 for a member of the gallery; None if the dataset
            states no roles.
        extra_data: the record of `extra_data`, of which all is in the training split; None if
            there are none.
    """

    paths: tuple[str, ...] | None
    digests: NDArray[np.uint64]
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    splits: NDArray[np.int8]
    own: NDArray[np.int8]
    validation_by: str
    groups: tuple[str, ...] | None = None
    roles: NDArray[np.int8] | None = None
    extra_data: "DataRecord | None" = None

    def of(self, splits: Mapping[str, Split]) -> dict[str, NDArray[np.int8]]:
        """Return the recorded split of each example; see `src.data.loading.Membership`."""
        names = sorted(splits, key=SPLITS.index)
        sizes = [len(splits[name]) for name in names]
        own = np.repeat(np.array([SPLITS.index(name) for name in names], np.int8), sizes)
        now = _joined([splits[name] for name in names], splits_of=own, own=own)
        rows = _rows_before(self, now)
        before = np.where(rows >= 0, self.splits[rows], np.int8(-1))
        parts = np.split(before, np.cumsum(sizes)[:-1])
        return dict(zip(names, parts, strict=True))


def record_of(data: Data) -> DataRecord:
    """Return the record of the splits, with all classes."""
    own = np.concatenate([data.own[name] for name in SPLITS])
    order = np.lexsort((np.concatenate([data.rows[name] for name in SPLITS]), own))
    splits = [data.splits[name] for name in SPLITS]
    places = np.repeat(np.arange(len(SPLITS), dtype=np.int8), [len(split) for split in splits])
    record = _joined(splits, splits_of=places, own=own, validation_by=data.validation_by)
    extra_data = None
    if (extra := data.extra_data) is not None:
        in_train = np.zeros(len(extra), np.int8)
        extra_data = _joined(
            [extra], splits_of=in_train, own=in_train, validation_by=data.validation_by
        )
    return replace(
        record,
        paths=None if record.paths is None else tuple(record.paths[row] for row in order),
        digests=record.digests[order],
        labels=record.labels[order],
        splits=record.splits[order],
        own=record.own[order],
        groups=None if record.groups is None else tuple(record.groups[row] for row in order),
        roles=None if record.roles is None else record.roles[order],
        extra_data=extra_data,
    )


def changes(before: DataRecord, now: DataRecord) -> str:
    """Return in words how the data have changed; empty if they have not.

    Args:
        before: the record of the training.
        now: the record of the present data; its splits do not matter. If it has no `extra_data`,
            they were not loaded and are not compared.
    """
    words = [_changes_of_own(before, now)]
    if now.extra_data is not None:
        what = "not recorded"
        if before.extra_data is not None:
            what = _changes_of_own(before.extra_data, now.extra_data)
        words.append(what and f"extra_data: {what}")
    return ", ".join(filter(None, words))


def _changes_of_own(before: DataRecord, now: DataRecord) -> str:
    """Return how the examples have changed, but for `extra_data`."""
    rows = _rows_before(before, now)
    added = np.flatnonzero(rows < 0)
    new = np.flatnonzero(rows >= 0)
    old = rows[new]
    is_replaced = before.digests[old] != now.digests[new]
    is_relabelled = _names_by_row(before)[old] != _names_by_row(now)[new]
    is_moved = before.own[old] != now.own[new]
    is_renamed = np.zeros(len(new), bool)
    if before.paths is not None and now.paths is not None:
        paths = np.array(before.paths, object)[old], np.array(now.paths, object)[new]
        is_renamed = (paths[0] != paths[1]) & ~is_relabelled & ~is_moved
    counts = {
        "added": len(added),
        "gone": len(before.digests) - len(old),
        "replaced": int(is_replaced.sum()),
        "relabelled": int(is_relabelled.sum()),
        "renamed": int(is_renamed.sum()),
        "moved to another split": int(is_moved.sum()),
        "in another group": _num_different(before.groups, now.groups, old, new),
        "with another role (is_query, is_gallery)": _num_different(
            before.roles, now.roles, old, new
        ),
    }
    words = [f"{count} {what}" for what, count in counts.items() if count]
    for what, some, others in (
        ("new", now.class_names, before.class_names),
        ("gone", before.class_names, now.class_names),
    ):
        known = set(others)
        if names := [printable(name) for name in some if name not in known]:
            words.append(f"classes {what}: {listed(names)}")
    if not words and (np.diff(old) < 0).any():
        words.append("the same examples in another order")
    return ", ".join(words)


def _num_different(
    before: Sequence[object] | NDArray[np.int8] | None,
    now: Sequence[object] | NDArray[np.int8] | None,
    old: NDArray[np.intp],
    new: NDArray[np.intp],
) -> int:
    """Return how many examples have another value; all of them if only one record has any."""
    if before is None and now is None:
        return 0
    if before is None or now is None:
        return len(new)
    return int((np.array(before, object)[old] != np.array(now, object)[new]).sum())


def _rows_before(before: DataRecord, now: DataRecord) -> NDArray[np.intp]:
    """Return the row in `before` of each example of `now`, int [N]; -1 for a new example.

    An example is matched by the first that applies: the same file and content; the same content
    (its file may be renamed, or be in the folder of another class or split); the same file name
    with other content.
    """
    rows = np.full(len(now.digests), -1, np.intp)
    is_free = np.ones(len(before.digests), bool)
    old, new = _columns(before), _columns(now)
    for names in (
        ("path", "digest"),
        ("digest", "class", "own"),
        ("digest", "class"),
        ("digest",),
        ("path",),
    ):
        free, unknown = np.flatnonzero(is_free), np.flatnonzero(rows < 0)
        if not (len(free) and len(unknown)):
            break
        if not all(name in old and name in new for name in names):
            continue
        waiting: dict[Hashable, list[int]] = {}
        for row in free[::-1].tolist():  # reversed, so that `pop` takes the first row first
            waiting.setdefault(tuple(old[name][row] for name in names), []).append(row)
        for row in unknown.tolist():
            if found := waiting.get(tuple(new[name][row] for name in names)):
                rows[row] = found.pop()
                is_free[rows[row]] = False
    return rows


def _columns(record: DataRecord) -> dict[str, Sequence[Hashable]]:
    """Return the properties that identify an example, one value per example."""
    columns: dict[str, Sequence[Hashable]] = {
        "digest": record.digests.tolist(),
        "class": _names_by_row(record).tolist(),
        "own": record.own.tolist(),
    }
    return columns if record.paths is None else {**columns, "path": record.paths}


def _names_by_row(record: DataRecord) -> NDArray[np.object_]:
    return np.array(record.class_names, object)[record.labels]


class Loaded(NamedTuple):
    """The data of an experiment, and how they have changed since its training began.

    Attributes:
        data: the present data.
        record: the record of `data`.
        changes: in words; "" if there are none, or if nothing was trained.
        warnings: one line each.
    """

    data: Data
    record: DataRecord
    changes: str
    warnings: tuple[str, ...]


def load_recorded(
    params: Params,
    data_dir: Path,
    experiment: Experiment,
    *,
    begins: bool,
    keeps_splits: bool,
    to_train: bool = False,
) -> Loaded:
    """Load the data of an experiment, each example in the split it had in the training.

    Args:
        params: the experiment's params.
        data_dir: the folder of all datasets.
        experiment: the experiment with the record.
        begins: whether its training begins now; then any record is ignored.
        keeps_splits: whether changed data are accepted.
        to_train: whether to load and compare `extra_data`, which only a training needs.

    Raises:
        UserError: the data differ from those of the training; the message says how.
    """
    before = None if begins else read_record(experiment.data_record_path)
    data = load_data(
        params, data_dir, params_path=experiment.params_path, kept=before, to_train=to_train
    )
    record = record_of(data)
    if begins and params.near_duplicates is not None:
        data = _with_near_duplicates(data, params, experiment.params_path)
    if before is None:
        no_record = (
            f"{experiment.data_record_path}: not found, so it is unknown whether the data have "
            "changed since training began; train.py writes it when training resumes"
        )
        return Loaded(data, record, "", () if begins else (no_record,))
    if not (changed := changes(before, record)):
        return Loaded(data, record, "", ())
    what = f"{experiment.model_dir}: the data have changed since training began: {changed}"
    if not keeps_splits:
        raise UserError(
            f"{what}; accepted: the data used for training; to resume with known images in their "
            f"splits, use --keep_splits{START_OVER}"
        )
    _check_held_out(params, before, record, what, experiment.params_path)
    return Loaded(data, record, changed, (f"{what}; known images keep their splits",))


def _with_near_duplicates(data: Data, params: Params, path: Path) -> Data:
    """Return the data with a warning for any two splits of images that look alike."""
    assert params.near_duplicates is not None
    splits = hold_out(data.splits, params, path)
    if data.extra_data is not None:
        splits = {**splits, "extra_data": data.extra_data}
    found = near_duplicate_warnings(
        splits, params.near_duplicates, params.on_duplicates, Path(params.dataset)
    )
    return replace(data, warnings=(*data.warnings, *found))


def _check_held_out(
    params: Params, before: DataRecord, record: DataRecord, what: str, params_path: Path
) -> None:
    """Refuse a share of the classes that would now hold out others than the training did."""
    if not isinstance(params.holdout_classes, float):
        return
    then, now = (
        {one.class_names[label] for label in held_out_labels(params, one.class_names, params_path)}
        for one in (before, record)
    )
    if then != now:
        raise UserError(
            f"{what}; holdout_classes: the share {params.holdout_classes:.4g} would now hold out "
            "other classes than were unseen in the training; accepted: the classes of then; to "
            "start over, use --overwrite"
        )


def save_record(path: Path, record: DataRecord) -> None:
    """Write a record as an `.npz` file of arrays."""
    arrays = {"version": np.array(_VERSION), **_arrays(record)}
    if record.extra_data is not None:
        of_extra = _arrays(record.extra_data)
        arrays |= {f"{_EXTRA}{name}": array for name, array in of_extra.items()}
    with atomic_write(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _arrays(record: DataRecord) -> dict[str, NDArray[Any]]:
    """Return what `_record` reads, but for the version and `extra_data`."""
    facts = {
        "class_names": record.class_names,
        "has_paths": record.paths is not None,
        "validation_by": record.validation_by,
        "has_groups": record.groups is not None,
    }
    return {
        "facts": _bytes(json.dumps(facts)),
        "paths": _bytes("\0".join(record.paths or ())),
        "digests": record.digests,
        "labels": record.labels,
        "splits": record.splits,
        "own": record.own,
        "groups": _bytes("\0".join(record.groups or ())),
        "roles": np.zeros(0, np.int8) if record.roles is None else record.roles,
    }


def read_record(path: Path) -> DataRecord | None:
    """Read what `save_record` wrote; None if the file does not exist.

    Raises:
        UserError: the file is damaged.
    """
    try:
        content = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:  # the unpacked size is limited as well
            if sum(member.file_size for member in file.infolist()) > MAX_BYTES:
                raise ValueError("too large")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
        if int(arrays["version"]) != _VERSION:
            raise ValueError("another version")
        record = _record({n: a for n, a in arrays.items() if not n.startswith(_EXTRA)})
        extra = {n.removeprefix(_EXTRA): a for n, a in arrays.items() if n.startswith(_EXTRA)}
        return replace(record, extra_data=_record(extra)) if extra else record
    except _DAMAGED:
        raise UserError(
            f"{path}: damaged; accepted: the file that train.py wrote; if the data have not "
            "changed since training began, remove it"
        ) from None


def _record(arrays: Mapping[str, NDArray[np.generic]]) -> DataRecord:
    """Return the record in a file's arrays; raises ValueError and others if they hold none."""
    facts = json.loads(_text(arrays["facts"]))
    names, by, has_paths = facts["class_names"], facts["validation_by"], facts["has_paths"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names")
    if by not in ("image", "class", "dataset") or not isinstance(has_paths, bool):
        raise ValueError("facts")
    roles = arrays.get("roles")  # records of earlier versions have none
    paths = tuple(_text(arrays["paths"]).split("\0")) if has_paths else None
    record = DataRecord(
        paths=paths,
        digests=_column(arrays["digests"], np.uint64, None),
        labels=_column(arrays["labels"], np.int32, len(names)),
        class_names=tuple(names),
        splits=_column(arrays["splits"], np.int8, len(SPLITS)),
        own=_column(arrays["own"], np.int8, len(SPLITS)),
        validation_by=by,
        groups=tuple(_text(arrays["groups"]).split("\0")) if facts.get("has_groups") else None,
        roles=_column(roles, np.int8, 4) if roles is not None and len(roles) else None,
    )
    sizes = {len(column) for column in (record.labels, record.splits, record.own)}
    sizes |= {len(column) for column in (record.groups, record.roles) if column is not None}
    if paths is not None:
        sizes |= {len(paths), len(set(paths))}
    if sizes != {len(record.digests)}:
        raise ValueError("columns of several lengths, or a path twice")
    return record


def _column(values: NDArray[Any], dtype: type[np.generic], limit: int | None) -> NDArray[Any]:
    """Return a column after checking that it holds integers from 0 to `limit` - 1."""
    if values.dtype != dtype or values.ndim != 1 or values.size == 0:
        raise ValueError("type or shape")
    if limit is not None and (values.min() < 0 or values.max() >= limit):
        raise ValueError("out of range")
    return values


def _joined(
    splits: Sequence[Split],
    *,
    splits_of: NDArray[np.int8],
    own: NDArray[np.int8],
    validation_by: str = "",
) -> DataRecord:
    """Return the record of several splits, one after the other."""
    paths: list[str] | None = []
    groups: list[str] | None = []
    roles: list[NDArray[np.int8]] | None = []
    for split in splits:
        paths = None if split.paths is None or paths is None else [*paths, *split.paths.tolist()]
        if split.groups is None or groups is None:
            groups = None
        else:
            groups += [split.group_names[group] for group in split.groups.tolist()]
        if split.is_query is None or split.is_gallery is None or roles is None:
            roles = None
        else:
            roles.append(split.is_query.astype(np.int8) + 2 * split.is_gallery.astype(np.int8))
    return DataRecord(
        paths=None if paths is None else tuple(paths),
        digests=np.concatenate([_digests(split) for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
        class_names=splits[0].class_names,
        splits=splits_of,
        own=own,
        validation_by=validation_by,
        groups=None if groups is None else tuple(groups),
        roles=None if roles is None else np.concatenate(roles),
    )


def _digests(split: Split) -> NDArray[np.uint64]:
    found = split.digests if split.file_digests is None else split.file_digests
    assert found is not None, "digests are made when data are loaded"
    return found


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)


def _text(values: NDArray[np.generic]) -> str:
    if values.dtype != np.uint8 or values.ndim != 1:
        raise ValueError("no text")
    return values.tobytes().decode(errors="surrogateescape")
