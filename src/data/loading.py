"""Loads an experiment's dataset, and draws the splits that the dataset does not define."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from src.data.digests import digests_of
from src.data.duplicates import duplicate_warnings, without_duplicates
from src.data.extra_data import load_extra_data
from src.data.groups import class_warnings, group_warnings, grouped_indices, join_classes, linked
from src.data.holdout import held_out_labels
from src.data.split import (
    SPLITS,
    Dataset,
    Split,
    class_indices,
    share_with_positive,
    stratified_indices,
)
from src.errors import START_OVER, UserError
from src.params.schema import Params
from src.registry import DATASETS, look_up
from src.seeds import TEST_SPLIT_SEED

# The smallest share of validation images that must have another image of their class in the split.
# Below it, validation is drawn by class, because retrieval metrics need pairs.
_ENOUGH_WITH_POSITIVE = 0.5


@dataclass(frozen=True)
class Data:
    """The splits of an experiment, before any class is held out.

    Attributes:
        splits: `train`, `validation` and `test`, all non-empty.
        own: by split name, int8 [N]: for each example, its split in the dataset's own files, as a
            position in SPLITS.
        rows: by split name, int [N]: for each example, its position in that original split.
        origins: where each split comes from, in a few words.
        validation_by: how validation was drawn, "image" or "class"; "dataset" if the dataset
            defines it.
        warnings: what the user should know, a line each.
        extra_data: the examples of `extra_data`, which join only the training; None if there are
            none or they were not asked for.
    """

    splits: dict[str, Split]
    own: dict[str, NDArray[np.int8]]
    rows: dict[str, NDArray[np.intp]]
    origins: dict[str, str]
    validation_by: str
    warnings: tuple[str, ...] = ()
    extra_data: Split | None = None


class Membership(Protocol):
    """Which split each example of an earlier run was in."""

    @property
    def validation_by(self) -> str:
        """See `Data`."""

    def of(self, splits: Mapping[str, Split]) -> dict[str, NDArray[np.int8]]:
        """Return the position in SPLITS of each example's earlier split, int8 [N]; -1 if new.

        The arrays have the same keys and order as `splits`, the dataset's own splits.
        """


def load_data(
    params: Params,
    data_dir: Path,
    *,
    params_path: Path = Path("params.json"),
    kept: Membership | None = None,
    to_train: bool = False,
) -> Data:
    """Load the dataset that `params` name, and draw the splits that it does not define.

    If test is missing, `test_fraction` of the training images are held out, stratified by class.
    If validation is missing, `validation_fraction` of the rest are held out, by image or by class.
    Both take whole groups if the dataset states groups.

    Args:
        params: the experiment's params.
        data_dir: the folder of all datasets.
        params_path: the params file, for messages.
        kept: the splits of an earlier run; its examples stay in their splits.
        to_train: whether to load `extra_data`, which only a training needs.

    Raises:
        UserError: the data are missing or invalid, or a split would be empty.
    """
    dataset = _with_digests(look_up(DATASETS, params.dataset)(data_dir, params))
    if params.on_duplicates == "drop":
        dataset = without_duplicates(dataset)
    train = dataset.splits["train"]
    held_out = held_out_labels(params, train.class_names, params_path)
    _check_keys(params, dataset, params_path)
    known = kept.of(dataset.splits) if kept else {}
    places, validation_by = _places(dataset, params, held_out, kept, known)
    data = Data(
        *_dealt(dataset, places, params, was_kept=kept is not None),
        _origins(dataset, params, validation_by, known.get("train")),
        validation_by,
    )
    _check_roles(data.splits, dataset.source)
    warnings = (
        *duplicate_warnings(data.splits, params.on_duplicates, dataset.source),
        *group_warnings(data.splits, held_out, dataset.source, apart=params.exclude_same_group),
        *class_warnings(data.splits, held_out, dataset.source, validation_by),
    )
    if to_train:
        extra_data, lines = load_extra_data(params, data_dir, data.splits, params_path)
        data, warnings = replace(data, extra_data=extra_data), (*warnings, *lines)
    return replace(data, warnings=(*dataset.warnings, *warnings))


def _check_keys(params: Params, dataset: Dataset, params_path: Path) -> None:
    """Raise UserError if params ask for groups or a validation split that cannot be had."""
    if params.exclude_same_group and dataset.splits["train"].groups is None:
        raise UserError(
            f"{params_path}: exclude_same_group: found true; accepted: false, because "
            f"{dataset.source} states no groups (column group of a CSV file, group_column of a "
            "table, array group of an .npz file)"
        )
    if params.validation_by and "validation" in dataset.splits:
        raise UserError(
            f'{params_path}: validation_by: found "{params.validation_by}"; accepted: null, '
            f"because {dataset.source} has its own validation split"
        )
    for name in ("validation", "test"):
        key = f"{name}_fraction"
        value, default = getattr(params, key), Params.model_fields[key].default
        if name in dataset.splits and value != default:
            raise UserError(
                f"{params_path}: {key}: found {value:.4g}; accepted: no value, because "
                f"{dataset.source} has its own {name} split"
            )


def _check_roles(splits: Mapping[str, Split], source: Path) -> None:
    """Raise UserError if bad or duplicate images were all of a split's queries, or its gallery."""
    for name, split in splits.items():
        if split.is_query is None or split.is_gallery is None:
            continue
        if split.is_query.any() != split.is_gallery.any():
            missing = "gallery" if split.is_query.any() else "query"
            raise UserError(
                f"{source}: found no {missing} in the {name} split, after images were left out; "
                "accepted: queries and a gallery"
            )


def _with_digests(dataset: Dataset) -> Dataset:
    """Return the dataset with digests; those of a split are computed if it has none."""
    splits = {
        name: split
        if split.digests is not None
        else replace(split, digests=digests_of(split.images))
        for name, split in dataset.splits.items()
    }
    return replace(dataset, splits=splits)


def _places(
    dataset: Dataset,
    params: Params,
    held_out: Sequence[int],
    kept: Membership | None,
    known: Mapping[str, NDArray[np.int8]],
) -> tuple[dict[str, NDArray[np.int8]], str]:
    """Return the position in SPLITS of each example's split, and how validation is drawn.

    The positions are int8 [N], by the name of the dataset's own split. `known` is the result of
    `kept.of`, with the same keys; it is empty if `kept` is None.
    """
    places = {
        name: np.full(len(split), SPLITS.index(name), np.int8)
        for name, split in dataset.splits.items()
    }
    place = places["train"]
    is_new = np.ones(len(place), bool)
    for name, before in known.items():
        places[name][before >= 0] = before[before >= 0]
        if name == "train":
            is_new = before < 0
    train = dataset.splits["train"]
    if kept is not None and train.groups is not None:
        _follow_groups(train.groups, place, is_new)
    if "test" not in dataset.splits:
        pool = np.flatnonzero(is_new)
        drawn = _by_image(train, pool, params.test_fraction, TEST_SPLIT_SEED)
        place[drawn] = SPLITS.index("test")
        is_new[drawn] = False
    if "validation" in dataset.splits:
        return places, "dataset"
    pool = np.flatnonzero(is_new)
    if kept is None:
        drawn, drawn_by = _draw_validation(train, pool, params, held_out)
    elif kept.validation_by == "class":
        drawn, drawn_by = _draw_beside(train, place, pool, params), "class"
    else:
        drawn, drawn_by = _by_image(train, pool, params.validation_fraction, params.seed), "image"
    place[drawn] = SPLITS.index("validation")
    return places, drawn_by


def _follow_groups(
    groups: NDArray[np.int32], place: NDArray[np.int8], is_new: NDArray[np.bool_]
) -> None:
    """Put new images of known groups into the split of these; change `place` and `is_new`."""
    known, first = np.unique(groups[~is_new], return_index=True)
    of_known = place[~is_new][first]
    follows = is_new & np.isin(groups, known)
    place[follows] = of_known[np.searchsorted(known, groups[follows])]
    is_new[follows] = False


def _draw_validation(
    train: Split, pool: NDArray[np.intp], params: Params, held_out: Sequence[int]
) -> tuple[NDArray[np.intp], str]:
    """Return the examples of `pool` to hold out for validation, and "image" or "class".

    Args:
        train: all examples.
        pool: int [M], the examples that may be drawn.
        params: uses `validation_by`, `validation_fraction` and `seed`.
        held_out: the labels of the classes that are later removed from every split.
    """
    labels, groups = train.labels, train.groups
    by_image = _by_image(train, pool, params.validation_fraction, params.seed)
    if params.validation_by == "image":
        return by_image, "image"
    if params.validation_by is None:
        rows = by_image[~np.isin(labels[by_image], held_out)]
        apart = groups[rows] if params.exclude_same_group and groups is not None else None
        share = share_with_positive(labels[rows], apart)
        if share is None or share >= _ENOUGH_WITH_POSITIVE:
            return by_image, "image"
    seen = pool[~np.isin(labels[pool], held_out)]
    count = round(params.validation_fraction * len(seen))
    classes = labels[seen] if groups is None else linked(labels[seen], groups[seen])
    by_class = seen[class_indices(classes, count, params.seed)]
    if len(by_class) == 0 and params.validation_by is None:  # too few classes
        return by_image, "image"
    return by_class, "class"


def _by_image(train: Split, pool: NDArray[np.intp], fraction: float, seed: int) -> NDArray[np.intp]:
    """Return a share of the examples `pool`, stratified by class; whole groups if there are any."""
    count, labels = round(fraction * len(pool)), train.labels[pool]
    if train.groups is None:
        return pool[stratified_indices(labels, count, seed)]
    return pool[grouped_indices(labels, train.groups[pool], count, seed)]


def _draw_beside(
    train: Split, place: NDArray[np.int8], pool: NDArray[np.intp], params: Params
) -> NDArray[np.intp]:
    """Return which of the new examples `pool` join a validation split of whole classes."""
    labels, old = train.labels, np.setdiff1d(np.arange(len(place)), pool)
    of_train, of_validation = (
        np.isin(labels[pool], labels[old[place[old] == SPLITS.index(name)]])
        for name in ("train", "validation")
    )
    groups = labels if train.groups is None else train.groups
    fraction, seed = params.validation_fraction, params.seed
    return pool[join_classes(labels[pool], groups[pool], of_train, of_validation, fraction, seed)]


def _dealt(
    dataset: Dataset, places: dict[str, NDArray[np.int8]], params: Params, *, was_kept: bool
) -> tuple[dict[str, Split], dict[str, NDArray[np.int8]], dict[str, NDArray[np.intp]]]:
    """Return the splits and, for each example, its split and position in the dataset's files.

    See `Data`: `splits`, `own` and `rows`.
    """
    splits, own, positions = {}, {}, {}
    for position, name in enumerate(SPLITS):
        found = {part: np.flatnonzero(place == position) for part, place in places.items()}
        rows = {part: of_part for part, of_part in found.items() if len(of_part)}
        if not rows:
            raise _empty_split(dataset, name, params, was_kept=was_kept)
        splits[name] = reduce(
            Split.joined,
            (
                # A whole part is not copied.
                split if len(split := dataset.splits[part]) == len(r) else split.take(r)
                for part, r in rows.items()
            ),
        )
        own[name] = np.concatenate(
            [np.full(len(r), SPLITS.index(part), np.int8) for part, r in rows.items()]
        )
        positions[name] = np.concatenate(list(rows.values()))
    return splits, own, positions


def _empty_split(dataset: Dataset, name: str, params: Params, *, was_kept: bool) -> UserError:
    if was_kept:
        found = f"no image of the {name} split is left since training began"
        accepted = f"the data used for training{START_OVER}"
        return UserError(f"{dataset.source}: {found}; accepted: {accepted}")
    train = dataset.splits["train"]
    in_groups = f" in {len(np.unique(train.groups))} groups" if train.groups is not None else ""
    if name == "validation" and params.validation_by == "class" and in_groups:
        return UserError(
            f'{dataset.source}: validation_by: found "class", but classes and groups do not leave '
            '4 sets of linked images, 3 of them with two or more; accepted: "image", or a '
            "validation split of the dataset's own"
        )
    if name == "validation" and params.validation_by == "class":
        return UserError(
            f'{dataset.source}: validation_by: found "class"; accepted: "image", or at least 4 '
            "training classes, 3 of them with two or more examples"
        )
    drawn = {name} if name == "test" else {"validation", "test"} - dataset.splits.keys()
    keys = [f"{one}_fraction" for one in ("validation", "test") if one in drawn]
    of = f"{', '.join(f'{key} {getattr(params, key):.4g}' for key in keys)} of {len(train)}"
    return UserError(
        f"{dataset.source}: split {name}: found 0 examples ({of}{in_groups}); accepted: at least 1"
        + (", of a group of its own" if in_groups else "")
    )


def _origins(
    dataset: Dataset, params: Params, validation_by: str, known: NDArray[np.int8] | None
) -> dict[str, str]:
    """Return where each split comes from; `known` is the entry "train" of that in `_places`."""
    origins = dict(dataset.origins)
    groups = "" if dataset.splits["train"].groups is None else ", whole groups"
    is_dealt = known is not None and bool((known < 0).any())
    beside = "; images of earlier runs keep their split" if is_dealt else ""
    if "test" not in origins:
        origins["test"] = (
            f"{100 * params.test_fraction:.3g} % of train, stratified by class{groups}{beside}"
        )
    if "validation" not in origins:
        drawn = {"image": "stratified by class", "class": "whole classes"}[validation_by]
        rest = "" if "test" in dataset.splits else "the rest of "
        origins["validation"] = (
            f"{100 * params.validation_fraction:.3g} % of {rest}train, {drawn}{groups}{beside}"
        )
    return {name: origins[name] for name in SPLITS}
