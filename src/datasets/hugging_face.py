"""Loads a dataset of pictures and labels with Hugging Face's library `datasets`."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.decode import BadImage
from src.data.picture_tables import (
    UNUSED,
    PictureTable,
    TableSplit,
    choose,
    file_state,
    group_column,
    own_splits,
    picture_bytes,
    table_dataset,
)
from src.data.split import Dataset
from src.errors import UserError
from src.printable import printable

if TYPE_CHECKING:
    from src.params.schema import Params

FOLDER = "hugging_face"
"""The folder in `data_dir` whose `.tripletboard` has the decoded pictures."""

_LABELS = ("label", "labels", "class", "target")
_IMAGES = ("image", "img", "picture", "pixel_values")

# The hub is asked once, and given this long: the library itself would ask for half a minute.
_SECONDS = 10

_MAX_BYTES = 1 << 28  # of a picture

_OF_HUB = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)  # an owner, and the name of a dataset

_SAVED = ("dataset_dict.json", "state.json")  # as `save_to_disk` writes them


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load a dataset of Hugging Face; its pictures are decoded once.

    Args:
        data_dir: the folder of all datasets. If `hf_name` is in it, that is read: a Parquet file, a
            folder that `save_to_disk` wrote, or any other folder that `load_dataset` accepts.
            Otherwise `hf_name` is a name on the hub, or in the library's cache.
        params: uses `hf_name`, `hf_config`, `image_column`, `label_column`, `group_column`, and
            those of `src.data.picture_tables.table_dataset`.

    Returns:
        See `src.data.picture_tables.table_dataset`.

    Raises:
        UserError: the library or the dataset is missing or cannot be read, or see `table_dataset`.
    """
    assert params.hf_name is not None  # Params requires it
    local = data_dir / params.hf_name
    source = local if local.exists() else Path(params.hf_name)
    splits = _opened(source, params, is_local=local.exists())
    used = own_splits(list(splits))
    features = splits[used.get("train", next(iter(splits)))].features
    images = [name for name, feature in features.items() if _is_picture(feature)]
    image, chose_image = choose(
        "image_column", params.image_column, images, _IMAGES, "pictures", source, list(features)
    )
    classes = [name for name, feature in features.items() if _is_label(feature)]
    named = [name for name in classes if _class_names(features[name]) is not None]
    usual = _LABELS if len(named) != 1 or named[0] in _LABELS else (*named, *_LABELS)
    label, chose_label = choose(
        "label_column", params.label_column, classes, usual, "labels", source, list(features)
    )
    group = group_column(params, classes, source, list(features))
    for own in used.values():
        where = f"{source}: split '{printable(own)}'"
        _check_alike(splits[own].features, features, (image, label, group), where)
    folders = _picture_folders(local if local.is_dir() else None)
    table = PictureTable(
        source=source,
        columns=", ".join(filter(None, [params.hf_config, chose_image, chose_label])),
        splits={
            name: _split(split, image, (label, group), folders) if name in used.values() else UNUSED
            for name, split in splits.items()
        },
        class_names=_class_names(features[label]),
        group_names=None if group is None else _class_names(features[group]),
        data_dir_folder=data_dir / FOLDER,
    )
    return table_dataset(data_dir, table, params)


def _opened(source: Path, params: "Params", *, is_local: bool) -> Mapping[str, Any]:
    """Return the dataset's splits by name; nothing that the dataset brings is run.

    `datasets` 4 and later load no scripts.

    Raises:
        UserError: the library is missing, or the dataset.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"hf_name: the library datasets cannot be imported ({error}); accepted: an environment "
            'with the extra hf; install it with pip install ".[hf]"'
        ) from None
    where = printable(str(source))
    needs_owner = is_local and "/" not in str(params.hf_name)
    is_saved = is_local and any((source / name).is_file() for name in _SAVED)
    if params.hf_config is not None and (is_saved or (is_local and source.is_file())):
        raise UserError(
            f'{where}: hf_config: found "{printable(params.hf_config)}"; accepted: null, because a '
            "Parquet file, or a folder of save_to_disk, has no configurations"
        )
    if not is_local:
        _check_name(str(params.hf_name))
    try:
        if is_saved:
            found = datasets.load_from_disk(str(source))
        elif is_local and source.is_file():
            found = datasets.load_dataset("parquet", data_files=str(source))
        elif is_local:
            found = datasets.load_dataset(str(source.absolute()), params.hf_config)
        else:
            with _asked_once(where):
                found = datasets.load_dataset(where, params.hf_config)
    except UserError:
        raise
    except Exception as error:  # the library raises many types, because it reads many formats
        place = "a Parquet file or a folder that datasets.load_dataset reads"
        hint = f'; for a dataset of the hub, its owner as well: "owner/{params.hf_name}"'
        hint = hint if needs_owner else ""
        raise UserError(
            f"{where}: hf_name: not readable ({_said(error)}); accepted: {place}{hint}"
        ) from None
    if isinstance(found, datasets.Dataset):
        found = {"train": found}
    if not found:
        raise UserError(f"{where}: hf_name: found no split; accepted: at least one")
    return dict(found)


def _check_name(name: str) -> None:
    """Refuse a name that the hub cannot have: it may be a reader of the library, for any files."""
    is_of_hub = _OF_HUB.fullmatch(name) and not {".", ".."} & set(name.split("/"))
    if not is_of_hub or os.path.isdir(name):
        raise UserError(
            f'hf_name: found "{printable(name)}"; accepted: a folder or a Parquet file in '
            "data_dir, or owner/name on the hub"
        )


def _said(error: Exception) -> str:
    """Return what an error says, on a line."""
    said = printable(" ".join(str(error).split()))
    return f"{type(error).__name__}: {said[:300]}"


@contextmanager
def _asked_once(name: str) -> Iterator[None]:
    """Ask the hub for a dataset; without a hub, let the block use what was loaded before.

    Raises:
        UserError: the hub has no such dataset, or there is neither a hub nor a copy.
    """
    import huggingface_hub
    from huggingface_hub import constants

    import datasets

    was = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    reason = "offline, by HF_HUB_OFFLINE" if any(was) else ""
    if not reason:
        try:
            huggingface_hub.HfApi().dataset_info(name, timeout=_SECONDS)
        except (
            huggingface_hub.errors.RepositoryNotFoundError,
            huggingface_hub.errors.HFValidationError,
        ) as error:
            raise UserError(
                f'hf_name: found "{name}", which the hub does not have, or only for its members '
                f"({_said(error)}); accepted: a name of the hub, or a folder or Parquet file in "
                "data_dir"
            ) from None
        except Exception as error:  # of the library's HTTP client, which has changed before
            reason = _said(error)
    try:
        if reason:
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
        yield
    except Exception as error:
        if not reason:
            raise
        raise UserError(
            f'hf_name: found "{name}", which is neither in data_dir nor in the cache of datasets, '
            f"and the hub cannot be reached ({reason}); accepted: a folder or Parquet file in "
            f"data_dir, or a connection"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = was


def _is_picture(feature: Any) -> bool:
    """Return whether a column has encoded pictures: an Image, or bytes with or without a path."""
    import datasets

    if isinstance(feature, datasets.Image):
        return True
    if isinstance(feature, Mapping):
        return "bytes" in feature and set(feature) <= {"bytes", "path"}
    return isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")


def _is_label(feature: Any) -> bool:
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return True
    return isinstance(feature, datasets.Value) and (
        feature.dtype in ("string", "large_string", "bool")
        or feature.dtype.startswith(("int", "uint"))
    )


def _class_names(feature: Any) -> Sequence[str] | None:
    import datasets

    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _picture_folders(local: Path | None) -> list[str]:
    """Return the folders in which a picture may be that the table names by its path."""
    import datasets

    caches = (datasets.config.HF_CACHE_HOME, datasets.config.HF_DATASETS_CACHE)
    return [os.path.realpath(folder) for folder in (local, *caches) if folder is not None]


def _check_alike(
    of_split: Mapping[str, Any],
    of_train: Mapping[str, Any],
    columns: tuple[str, str, str | None],
    where: str,
) -> None:
    """Refuse a split whose columns have other types or class names than those of train.

    A folder that `save_to_disk` wrote may have such splits. The same label would be another class.
    A split without the column of labels has no labels.

    Args:
        of_split: the split's columns.
        of_train: those of train.
        columns: the columns of pictures, of labels and of groups.
        where: for messages.

    Raises:
        UserError: a column is missing or differs.
    """
    for column in filter(None, columns):
        if column not in of_split and column == columns[1]:
            continue
        if column not in of_split:
            raise UserError(
                f"{where}: found no column '{printable(column)}'; accepted: the columns of train, "
                "in each split"
            )
        if of_split[column] != of_train[column]:
            names = [_class_names(features[column]) for features in (of_split, of_train)]
            what = "types" if None in names else "class names"
            raise UserError(
                f"{where}: column '{printable(column)}': found other {what} than in train; "
                f"accepted: the {what} of train, in each split"
            )


def _split(
    split: Any, image: str, facts: tuple[str, str | None], folders: Sequence[str]
) -> TableSplit:
    """Return the rows of a split; their pictures are read later.

    Args:
        split: a `datasets.Dataset`.
        image: the column of pictures.
        facts: the columns of labels and of groups.
        folders: see `_picture_folders`.
    """
    import datasets

    if isinstance(split.features[image], datasets.Image):
        split = split.cast_column(image, datasets.Image(decode=False))
    pictures = split.select_columns([image]).with_format(None)
    label, group = facts
    present = [column for column in {label, group} if column in split.features]
    values = split.select_columns(present).with_format(None)[:] if present else {}
    return TableSplit(
        labels=values.get(label, [None] * len(split)),
        groups=None if group is None else values[group],
        states=_states(pictures, image),
        content=partial(_content, pictures, image, folders),
    )


def _states(pictures: Any, image: str) -> list[str]:
    """Return a text for each row that changes if the table's files do, or the picture's own."""
    files = [Path(file["filename"]) for file in pictures.cache_files]
    of_table = " ".join(map(file_state, files)) or str(pictures._fingerprint)
    states = []
    for batch in pictures.with_format("arrow").iter(1 << 14):
        column = batch.column(image)
        if column.type.num_fields and column.type.get_field_index("path") >= 0:
            import pyarrow.compute as pc

            for part in column.chunks:  # one array of all could not hold 2 GiB
                paths = pc.if_else(
                    pc.is_null(pc.struct_field(part, "bytes")), pc.struct_field(part, "path"), None
                ).to_pylist()
                states += [
                    of_table if path is None else file_state(Path(path)) if path else "missing"
                    for path in paths
                ]
        else:
            states += [of_table] * len(batch)
    return states


def _content(pictures: Any, image: str, folders: Sequence[str], row: int) -> bytes:
    """Return the bytes of a row's picture; raise BadImage if there are none."""
    cell = pictures[row][image]
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if content is None and isinstance(cell, Mapping) and cell.get("path"):
        path = os.path.realpath(cell["path"])
        if not any(path.startswith(os.path.join(folder, "")) for folder in folders):
            raise BadImage("outside the folder of the dataset")
        content = picture_bytes(Path(path), _MAX_BYTES)
    if not content:
        raise BadImage("no picture")
    if len(content) > _MAX_BYTES:
        raise BadImage(f"more than {_MAX_BYTES} bytes")
    return bytes(content)
