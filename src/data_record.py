"""What an experiment has been trained on: each example, its class and its split, in a file.

An experiment is its params and its data: by this record a change of the data is noticed, and named.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.atomic import atomic_write
from src.class_names import listed
from src.data import Data, load_data
from src.errors import UserError
from src.experiment import Experiment
from src.params import Params
from src.regular_file import read_regular
from src.split import SPLITS, Split

MAX_BYTES = 1 << 30
"""Of a record: several millions of examples."""

_VERSION = 1

# What reading a damaged file of NumPy's may raise.
_DAMAGED = (
    *(ValueError, KeyError, TypeError, EOFError, OSError, RuntimeError, MemoryError),
    *(IndexError, OverflowError, NotImplementedError, SyntaxError, struct.error),
    *(zipfile.BadZipFile, zlib.error, RecursionError),
)


@dataclass(frozen=True)
class DataRecord:
    """The examples of all splits, one behind the other, N in all.

    Attributes:
        keys: N different names: the files' paths or, where there are none, made of the digests.
        has_paths: whether they are paths.
        digests: uint64 [N], of the files or of the pixels.
        labels: int32 [N], positions in `class_names`.
        class_names: of the dataset.
        splits: int8 [N], the position in SPLITS of the split that each was in.
        own: int8 [N], of the split in which the dataset's own files have it.
        validation_by: see `Data`.
    """

    keys: tuple[str, ...]
    has_paths: bool
    digests: NDArray[np.uint64]
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    splits: NDArray[np.int8]
    own: NDArray[np.int8]
    validation_by: str

    def of(self, split: Split) -> NDArray[np.int8]:
        """Return the position in SPLITS of each example of a split, -1 of one that is not known."""
        known = dict(zip(self.keys, self.splits.tolist(), strict=True))
        paths, digests = _paths([split]), _digests(split)
        keys = paths if self.has_paths and paths is not None else _numbered(digests)
        return np.array([known.get(key, -1) for key in keys], np.int8)


def record_of(data: Data) -> DataRecord:
    """Return the record of the splits, every class in them."""
    splits = [data.splits[name] for name in SPLITS]
    paths, digests = _paths(splits), np.concatenate([_digests(split) for split in splits])
    return DataRecord(
        keys=tuple(paths or _numbered(digests)),
        has_paths=paths is not None,
        digests=digests,
        labels=np.concatenate([split.labels for split in splits]),
        class_names=splits[0].class_names,
        splits=np.repeat(np.arange(len(SPLITS), dtype=np.int8), [len(s) for s in splits]),
        own=np.concatenate([data.own[name] for name in SPLITS]),
        validation_by=data.validation_by,
    )


def changes(before: DataRecord, now: DataRecord) -> str:
    """Return in words how the data have changed, nothing where they have not.

    Args:
        before: what was trained on.
        now: what there is, whatever splits it is in.
    """
    old, new = ({key: row for row, key in enumerate(r.keys)} for r in (before, now))
    gone = [row for key, row in old.items() if key not in new]
    added = [row for key, row in new.items() if key not in old]
    # A file of another name and the same content: renamed, or in the folder of another class.
    gone_by_digest = {int(before.digests[row]): row for row in gone}
    pairs = []
    for row in added:
        if (other := gone_by_digest.pop(int(now.digests[row]), None)) is not None:
            pairs.append((other, row))
    renamed = {row for _, row in pairs}
    num_gone, num_added = len(gone) - len(pairs), len(added) - len(pairs)
    same_key = [(row, new[key]) for key, row in old.items() if key in new]
    num_replaced = sum(before.digests[a] != now.digests[b] for a, b in same_key)
    both = [*same_key, *pairs]
    relabelled = [
        (a, b)
        for a, b in both
        if before.class_names[before.labels[a]] != now.class_names[now.labels[b]]
    ]
    num_renamed = len(renamed - {b for _, b in relabelled})
    num_moved = sum(before.own[a] != now.own[b] for a, b in both)
    counts = {
        "added": num_added,
        "gone": num_gone,
        "replaced": num_replaced,
        "relabelled": len(relabelled),
        "renamed": num_renamed,
        "moved to another split": num_moved,
    }
    words = [f"{count} {what}" for what, count in counts.items() if count]
    new_classes = [name for name in now.class_names if name not in set(before.class_names)]
    lost_classes = [name for name in before.class_names if name not in set(now.class_names)]
    if new_classes:
        words.append(f"classes new: {listed(new_classes)}")
    if lost_classes:
        words.append(f"classes gone: {listed(lost_classes)}")
    return ", ".join(words)


class Loaded(NamedTuple):
    """The data of an experiment, and how they have changed since its training began.

    Attributes:
        data: what there is.
        record: of them.
        changes: in words; "" where there are none, or nothing has been trained.
        warnings: a line each.
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
) -> Loaded:
    """Load the data of an experiment, every example in the split where it was trained.

    Args:
        params: of the experiment.
        data_dir: the folder of all datasets.
        experiment: which holds the record.
        begins: whether its training begins, so that no record counts.
        keeps_splits: whether data that have changed are accepted.

    Raises:
        UserError: the data are not those of the training; the message says in what they differ.
    """
    before = None if begins else read_record(experiment.data_record_path)
    data = load_data(params, data_dir, params_path=experiment.params_path, kept=before)
    record = record_of(data)
    if before is None:
        no_record = (
            f"{experiment.data_record_path}: not found, so whether the data have changed since the "
            "training began is not known; from now on it is"
        )
        return Loaded(data, record, "", () if begins else (no_record,))
    if not (found := changes(before, record)):
        return Loaded(data, record, "", ())
    what = f"{experiment.model_dir}: the data have changed since the training began: {found}"
    if not keeps_splits:
        raise UserError(
            f"{what}; accepted: the data that trained, --keep_splits to go on with images of "
            "before where they were, or --overwrite to start afresh"
        )
    return Loaded(data, record, found, (f"{what}; those of before stay where they were",))


def save_record(path: Path, record: DataRecord) -> None:
    """Write a record as an `.npz` file of arrays."""
    facts = {
        "class_names": record.class_names,
        "has_paths": record.has_paths,
        "validation_by": record.validation_by,
    }
    with atomic_write(path) as file:
        np.savez(
            file,
            version=np.array(_VERSION),
            facts=_bytes(json.dumps(facts)),
            paths=_bytes("\0".join(record.keys) if record.has_paths else ""),
            digests=record.digests,
            labels=record.labels,
            splits=record.splits,
            own=record.own,
        )


def read_record(path: Path) -> DataRecord | None:
    """Read what `save_record` wrote; None where there is nothing.

    Raises:
        UserError: the file is damaged.
    """
    try:
        content = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:  # what it unpacks to has a bound as well
            if sum(member.file_size for member in file.infolist()) > MAX_BYTES:
                raise ValueError("too large")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return _record(dict(file))
    except _DAMAGED:
        raise UserError(
            f"{path}: damaged; accepted: the file that train.py writes (without it, a change of "
            "the data since the training began is not noticed: remove it if there was none)"
        ) from None


def _record(arrays: Mapping[str, NDArray[np.generic]]) -> DataRecord:
    """Return the record in the arrays of a file; raises ValueError and others where it has none."""
    if int(arrays["version"]) != _VERSION:
        raise ValueError("another version")
    facts = json.loads(_text(arrays["facts"]))
    names, by, has_paths = facts["class_names"], facts["validation_by"], facts["has_paths"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names")
    if by not in ("image", "class", "dataset") or not isinstance(has_paths, bool):
        raise ValueError("facts")
    record = DataRecord(
        keys=(),
        has_paths=has_paths,
        digests=_column(arrays["digests"], np.uint64, None),
        labels=_column(arrays["labels"], np.int32, len(names)),
        class_names=tuple(names),
        splits=_column(arrays["splits"], np.int8, len(SPLITS)),
        own=_column(arrays["own"], np.int8, len(SPLITS)),
        validation_by=by,
    )
    keys = _text(arrays["paths"]).split("\0") if has_paths else _numbered(record.digests)
    columns = (record.digests, record.labels, record.splits, record.own)
    if len(set(keys)) < len(keys) or {len(column) for column in columns} != {len(keys)}:
        raise ValueError("a key twice, or columns of several lengths")
    return replace(record, keys=tuple(keys))


def _column(values: NDArray[Any], dtype: type[np.generic], limit: int | None) -> NDArray[Any]:
    """Return a column of integers from 0 to `limit` - 1, checked."""
    if values.dtype != dtype or values.ndim != 1 or values.size == 0:
        raise ValueError("type or shape")
    if limit is not None and (values.min() < 0 or values.max() >= limit):
        raise ValueError("out of range")
    return values


def _paths(splits: Sequence[Split]) -> list[str] | None:
    """Return the path of each example; None where a dataset keeps its images otherwise."""
    found: list[str] = []
    for split in splits:
        if split.paths is None:
            return None
        found += split.paths.tolist()
    return found


def _numbered(digests: NDArray[np.uint64]) -> list[str]:
    """Return a name for each digest, of equal ones with a running number."""
    seen: dict[int, int] = {}
    keys = []
    for digest in digests.tolist():
        number = seen[digest] = seen.get(digest, -1) + 1
        keys.append(f"{digest:x}.{number}" if number else f"{digest:x}")
    return keys


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
