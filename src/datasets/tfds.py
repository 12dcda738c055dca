"""Loads a dataset of pictures and labels that TensorFlow Datasets has prepared.

Its records are read without TensorFlow: here only to find out what they are, the library is asked.
"""

import hashlib
import json
import re
import shlex
import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src.data.decode import BadImage
from src.data.listed_pictures import cache_folders
from src.data.picture_tables import (
    UNUSED,
    PictureTable,
    TableSplit,
    choose,
    file_state,
    group_column,
    own_splits,
    table_dataset,
)
from src.data.split import Dataset
from src.errors import UserError
from src.printable import printable
from src.registry import did_you_mean
from src.system.cache import kept_in, save_cached
from src.system.progress import progress_bar

if TYPE_CHECKING:
    from src.params.schema import Params

FOLDER = "tfds"
"""The folder in `data_dir` whose `.tripletboard` has the decoded pictures."""

# name, name/config, name:version: as the library writes them. Namespaces, and arguments of a
# builder, are not accepted: they let a name run code from elsewhere.
_NAME = re.compile(r"\w+(/[\w.+-]+)?(:\d+\.(\d+|\*)\.(\d+|\*))?", re.ASCII)

_FRAME = struct.Struct("<QI")  # of a TFRecord: the length, and its checksum; then data, checksum
_BEHIND = 4
_LABELS = ("label", "labels", "class", "target")
_IMAGES = ("image",)


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load a prepared dataset of TensorFlow Datasets; its pictures are decoded once.

    Args:
        data_dir: the folder of all datasets.
        params: uses `tfds_name`, `tfds_data_dir` (within `data_dir`; without, the library's own
            folder), `image_column`, `label_column`, `group_column`, and those of
            `src.data.picture_tables.table_dataset`.

    Returns:
        See `src.data.picture_tables.table_dataset`.

    Raises:
        UserError: the library or the dataset is missing, is not prepared or damaged, or see
            `table_dataset`.
    """
    builder = _prepared(data_dir, params)
    source = Path(str(builder.data_path))
    features = dict(builder.info.features)
    supervised = builder.info.supervised_keys or ()
    pictures = [name for name, feature in features.items() if _is_picture(feature)]
    usual = (*(key for key in supervised if key in pictures), *_IMAGES)
    image, chose_image = choose(
        "image_column", params.image_column, pictures, usual, "pictures", source, list(features)
    )
    classes = [name for name, feature in features.items() if _is_label(feature)]
    usual = (*(key for key in supervised if key in classes), *_LABELS)
    label, chose_label = choose(
        "label_column", params.label_column, classes, usual, "labels", source, list(features)
    )
    group = group_column(params, classes, source, list(features))
    folder = cache_folders(data_dir, data_dir / FOLDER, params)[0]
    used = set(own_splits(list(builder.info.splits)).values())
    table = PictureTable(
        source=source,
        columns=f"{chose_image}, {chose_label}",
        splits={
            name: _split(builder.info, name, image, (label, group), folder)
            if name in used
            else UNUSED
            for name in builder.info.splits
        },
        class_names=getattr(features[label], "names", None),
        group_names=None if group is None else getattr(features[group], "names", None),
        data_dir_folder=data_dir / FOLDER,
    )
    return table_dataset(data_dir, table, params)


def _prepared(data_dir: Path, params: "Params") -> Any:
    """Return the builder of a dataset whose files are there; nothing is downloaded.

    The library itself would try for minutes without a network, and needs TensorFlow, which must not
    be started before a training is set up. So its own program does that.
    """
    name = params.tfds_name
    assert name is not None  # Params requires it
    shown = printable(name)
    if not _NAME.fullmatch(name):
        raise UserError(
            f'tfds_name: found "{shown}"; accepted: name, name/config or name/config:1.0.0'
        )
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import registered
    except ImportError as error:
        raise UserError(
            f"tfds_name: the library tensorflow_datasets cannot be imported ({error}); accepted: "
            'an environment with the extra tfds; install it with pip install ".[tfds]"'
        ) from None
    _import_no_features(tfds)
    folder = None if params.tfds_data_dir is None else data_dir / params.tfds_data_dir
    try:
        builder = tfds.builder(name, **({} if folder is None else {"data_dir": str(folder)}))
    except registered.DatasetNotFoundError:
        bare = re.split("[/:]", name)[0]
        raise UserError(
            f'tfds_name: found "{shown}", which is not in {folder or "the folder of datasets"}; '
            f"accepted: a dataset of TensorFlow Datasets{did_you_mean(bare, tfds.list_builders())}"
        ) from None
    except Exception as error:  # of many types: a damaged dataset_info.json, an unknown version
        said = printable(" ".join(str(error).split()))[:300]
        raise UserError(
            f'tfds_name: found "{shown}", which cannot be opened ({type(error).__name__}: {said}); '
            "accepted: a prepared dataset, by its name, config and version"
        ) from None
    if not builder.info.splits:
        where = Path(str(builder.data_path))
        command = ["tfds", "build", name.split(":")[0]]
        command += ["--data_dir", str(folder)] if folder else []
        raise UserError(
            f'tfds_name: found "{shown}", which is not prepared in {printable(str(where))}; '
            f"accepted: a prepared dataset; `{shlex.join(command)}` downloads and prepares it"
        )
    return builder


def _import_no_features(tfds: Any) -> None:
    """Have the library know its own features alone: it would import what `features.json` names."""

    def registered(connector: Any, name: str) -> Any:
        if name not in connector._registered_features:
            raise ValueError(f"features.json: {name} is none of the library's features")
        return connector._registered_features[name]

    tfds.features.FeatureConnector.cls_from_name = classmethod(registered)


def _is_picture(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image) and np.dtype(feature.np_dtype) in (
        np.uint8,
        np.uint16,
    )


def _is_label(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel | tfds.features.Text):
        return True
    is_scalar = type(feature) in (tfds.features.Scalar, tfds.features.Tensor)
    return is_scalar and feature.shape == () and np.dtype(feature.np_dtype).kind in "iub"


def _split(
    info: Any, name: str, image: str, facts: tuple[str, str | None], folder: Path
) -> TableSplit:
    """Return the rows of a split; their labels and groups are read now, their pictures later.

    Args:
        info: of the dataset.
        name: of the split.
        image: the column of pictures.
        facts: the columns of labels and of groups.
        folder: for files of labels and groups; without, each start would read all.
    """
    of_split = info.splits[name]
    paths = [Path(str(path)) for path in of_split.filepaths] if of_split.num_examples else []
    examples = _Examples(paths, info.file_format.value, f"{info.full_name}: split {name}")
    if len(examples) != of_split.num_examples:
        raise UserError(
            f"{paths[0].parent}: split {name}: found {len(examples)} examples; accepted: "
            f"{of_split.num_examples}, as dataset_info.json says; prepare the dataset again"
        )

    state = " ".join(map(file_state, paths))

    def values(column: str) -> list[int | str | None]:
        files = [column, *(str(path.absolute()) for path in paths)]
        digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:8]
        key = {"state": state, "files": files}
        path = folder / f"labels-{digest}.npz"
        text = kept_in(path, key)
        if text is None:
            found = []
            with progress_bar(f"{printable(column)} of {name}", len(examples), "records") as bar:
                for row in range(len(examples)):
                    found.append(examples.label(column, row))
                    bar.update(1)
            text = np.array(json.dumps(found))
            with suppress(OSError, UserError):  # the folder may be read-only
                folder.mkdir(parents=True, exist_ok=True)
                save_cached(path, key, text)
        return list(json.loads(str(text)))

    label, group = facts
    return TableSplit(
        labels=values(label),
        groups=None if group is None else values(group),
        states=[state] * len(examples),
        content=partial(examples.picture, image),
    )


class _Examples:
    """The Examples of a split, by row."""

    def __init__(self, paths: Sequence[Path], file_format: str, where: str) -> None:
        """Find the records; `where` names the split in messages."""
        if paths and file_format not in ("array_record", "tfrecord"):
            raise UserError(
                f"{paths[0]}: found the format {file_format}; accepted: tfrecord or array_record, "
                "the usual ones of TensorFlow Datasets"
            )
        is_array = file_format == "array_record"
        self._records: Any = _array_records(paths) if is_array else _TFRecords(paths)
        self._where = where

    def __len__(self) -> int:
        return len(self._records)

    def _feature(self, column: str, row: int) -> Any:
        from tensorflow_datasets.proto import tf_example_pb2

        try:
            example = tf_example_pb2.Example.FromString(bytes(self._records[row]))
        except Exception as error:  # DecodeError, and those of array_record
            raise UserError(
                f"{self._where}, row {row}: damaged ({type(error).__name__}); accepted: the files "
                "that TensorFlow Datasets prepared"
            ) from None
        return example.features.feature[column]

    def label(self, column: str, row: int) -> int | str | None:
        """Return a row's label or group; None if it has none."""
        found = self._feature(column, row)
        values = found.int64_list.value or found.bytes_list.value
        if len(values) != 1:
            return None
        value = values[0]
        return value.decode(errors="backslashreplace") if isinstance(value, bytes) else int(value)

    def picture(self, column: str, row: int) -> bytes:
        """Return the bytes of a row's picture file; raise BadImage if there are none."""
        values = self._feature(column, row).bytes_list.value
        if len(values) != 1 or not values[0]:
            raise BadImage("no picture")
        return bytes(values[0])


def _array_records(paths: Sequence[Path]) -> Any:
    if not paths:
        return []
    try:
        from array_record.python.array_record_data_source import ArrayRecordDataSource
    except ImportError as error:
        raise UserError(
            f"{paths[0]}: array_record cannot be imported ({error}); accepted: an environment with "
            "the extra tfds, on Linux; elsewhere a dataset prepared with --file_format tfrecord"
        ) from None
    try:
        return ArrayRecordDataSource([str(path) for path in paths])
    except Exception as error:
        raise UserError(
            f"{paths[0].parent}: damaged ({type(error).__name__}); accepted: the files that "
            "TensorFlow Datasets prepared"
        ) from None


class _TFRecords:
    """The records of TFRecord files, by number; they are read from disk."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Find where each record begins: that reads twelve bytes of each.

        Raises:
            UserError: a file is missing, or ends within a record.
        """
        self._file_of: list[int] = []
        self._ranges: list[tuple[int, int]] = []  # start and length of the data
        for number, path in enumerate(paths):
            ranges = _ranges(path)
            self._ranges += ranges
            self._file_of += [number] * len(ranges)
        # An empty file cannot be mapped, and has no record.
        self._maps: dict[int, NDArray[np.uint8]] = {
            number: np.memmap(paths[number], np.uint8, "r") for number in set(self._file_of)
        }

    def __len__(self) -> int:
        return len(self._ranges)

    def __getitem__(self, row: int) -> bytes:
        start, length = self._ranges[row]
        return self._maps[self._file_of[row]][start : start + length].tobytes()


def _ranges(path: Path) -> list[tuple[int, int]]:
    try:
        size = path.stat().st_size
        found: list[tuple[int, int]] = []
        with path.open("rb") as file:
            position = 0
            while position < size:
                file.seek(position)
                frame = file.read(_FRAME.size)
                length = _FRAME.unpack(frame)[0] if len(frame) == _FRAME.size else size
                start = position + _FRAME.size
                position = start + length + _BEHIND
                if position > size:
                    raise UserError(
                        f"{path}: ends within record {len(found)}; accepted: the file that "
                        "TensorFlow Datasets prepared"
                    )
                found.append((start, length))
        return found
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; accepted: the file that TensorFlow Datasets prepared"
        ) from None
