"""The rules between keys of `params.json`: which values contradict each other."""

import math
import posixpath
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from src.params.applications import LITE0_WEIGHTS
from src.params.kinds import ReadBy
from src.params.messages import CONTRADICTION, one_of, shown
from src.registry import (
    OFFLINE_STRATEGIES,
    PICTURE_DATASETS,
    SIMILARITY_STRATEGIES,
    SOFT_MARGIN_STRATEGIES,
    TRIPLET_STRATEGIES,
)

if TYPE_CHECKING:
    from src.params.schema import DatasetKeys, Params


def check_together(params: "Params") -> None:
    """Check the keys against each other; each is valid by itself.

    Raises:
        PydanticCustomError: a key contradicts another one. The message names the first such key.
    """
    _check_loss(params)
    _check_pairs(params)
    _check_offline(params)
    _check_memory(params)
    _check_drops(params)
    _check_augment(params)
    _check_weights(params)
    _check_whitening(params)
    if params.dataset in PICTURE_DATASETS and params.image_size is None:
        raise _contradiction(
            params,
            "image_size",
            f"a whole number from 1 on: the size, in pixels, to which {params.dataset} resizes "
            "pictures",
        )
    _check_named(params)
    _check_read(params)
    _check_extra_data(params)


def _check_named(keys: "DatasetKeys", where: str = "") -> None:
    """Refuse a dataset whose name is missing; `where` stands before the key in the message."""
    for dataset, key, what in (
        ("tfds", "tfds_name", "a prepared dataset of TensorFlow Datasets, such as mnist"),
        ("hugging_face", "hf_name", "a folder, a Parquet file, or a dataset of the hub"),
    ):
        if keys.dataset == dataset and getattr(keys, key) is None:
            raise _contradiction(keys, key, what, where)


def _check_extra_data(params: "Params") -> None:
    """Refuse keys of another dataset in `extra_data`, and a dataset that is named twice."""
    if params.extra_share is not None and not (params.extra_data and params.classes_per_batch):
        accepted = "null, or extra_data, classes_per_batch and examples_per_class"
        raise _contradiction(params, "extra_share", accepted)
    names = {_same_name(params): "the experiment's own dataset"}
    for number, entry in enumerate(params.extra_data):
        where = f"extra_data[{number}]."
        _check_named(entry, where)
        _check_read_by_dataset(entry, where)
        if (same := names.setdefault(_same_name(entry), f"extra_data[{number}]")) != where[:-1]:
            accepted = f"another dataset, because {same} is the same"
            raise _contradiction(entry, "dataset", accepted, where)


def _same_name(keys: "DatasetKeys") -> tuple[str, ...]:
    """Return what two spellings of one dataset have in common."""
    kind, *places = keys.dataset_name.split(" ", 1)
    if kind == "glyphs":  # as arrays
        kind, places = "npz", ["glyphs/glyphs.npz"]
    return (kind, *map(posixpath.normpath, places))


def _check_weights(params: "Params") -> None:
    if params.init_from is not None and params.weights is not None:
        accepted = "null, because init_from names where the initial weights come from"
        raise _contradiction(params, "weights", accepted)
    if params.network == "efficientnet_lite0" and params.weights == "imagenet":
        accepted = f"'{LITE0_WEIGHTS}', which `make weights-efficientnet-lite0` writes"
        raise _contradiction(params, "weights", accepted)


def _check_whitening(params: "Params") -> None:
    if params.embedding_whitening is not None and params.embedding_activation != "linear":
        accepted = "'linear', because embedding_whitening makes the layer a linear map"
        raise _contradiction(params, "embedding_activation", accepted)


def _contradiction(
    params: "DatasetKeys", key: str, accepted: str, where: str = ""
) -> PydanticCustomError:
    """Return the error for a key that contradicts another key; `where` stands before the key."""
    text = f"{where}{key}: found {shown(getattr(params, key))}; accepted: {accepted}"
    return PydanticCustomError(CONTRADICTION, "{text}", {"text": text})


def _is_default(params: "DatasetKeys", key: str) -> bool:
    return bool(getattr(params, key) == type(params).model_fields[key].default)


def _check_loss(params: "Params") -> None:
    """Refuse a margin or a distance with a strategy that cannot use it, and two distances."""
    by_similarity = params.strategies & SIMILARITY_STRATEGIES
    by_margin = params.strategies - SIMILARITY_STRATEGIES
    if params.margin == "soft" and by_margin and not by_margin <= SOFT_MARGIN_STRATEGIES:
        raise _contradiction(
            params,
            "margin",
            f'a number; "soft" only with the strategy {one_of(sorted(SOFT_MARGIN_STRATEGIES))}, '
            "because softplus makes every triplet positive",
        )
    if not by_margin and not _is_default(params, "margin"):
        accepted = f"no value, because the loss of {one_of(sorted(by_similarity))} has no margin"
        raise _contradiction(params, "margin", accepted)
    if by_similarity and params.distance != "cosine":
        strategy = one_of(sorted(by_similarity))
        accepted = f"'cosine', because the strategy {strategy} compares cosine similarities"
        raise _contradiction(params, "distance", accepted)
    if params.squared and params.distance not in (None, "squared_euclidean"):
        raise _contradiction(params, "squared", f"false, because distance is '{params.distance}'")


def _check_pairs(params: "Params") -> None:
    """Refuse keys that are given without their partner, and a pose that is given twice."""
    for pair in (("classes_per_batch", "examples_per_class"), ("warmup_strategy", "warmup_steps")):
        missing = [key for key in pair if not getattr(params, key)]
        if len(missing) == 1:
            raise _contradiction(params, missing[0], f"both {pair[0]} and {pair[1]}, or neither")
    if len(set(params.extra_classes)) < len(params.extra_classes):
        raise _contradiction(params, "extra_classes", "each pose once")


def _check_offline(params: "Params") -> None:
    """Refuse keys that contradict offline triplets, and keys that require them."""
    offline = one_of(sorted(OFFLINE_STRATEGIES))
    if params.is_offline:
        if params.warmup_strategy:
            accepted = f"null, because triplet_strategy {offline} trains on triplets, not batches"
            raise _contradiction(params, "warmup_strategy", accepted)
        if params.classes_per_batch:
            accepted = (
                f"null, because with triplet_strategy {offline} a batch is batch_size triplets"
            )
            raise _contradiction(params, "classes_per_batch", accepted)
    elif params.warmup_strategy in OFFLINE_STRATEGIES:
        others = one_of(sorted(TRIPLET_STRATEGIES.keys() - OFFLINE_STRATEGIES))
        raise _contradiction(params, "warmup_strategy", others)
    elif params.offline_mining != "random":
        accepted = f"'random', or triplet_strategy {offline}"
        raise _contradiction(params, "offline_mining", accepted)
    if params.remine_epochs != 1 and params.offline_mining == "random":
        raise _contradiction(params, "remine_epochs", "1, or offline_mining 'hard' or 'semihard'")


def _check_memory(params: "Params") -> None:
    """Refuse a memory that the strategy cannot use or that a batch does not fit into."""
    if params.micro_batch_size and params.use_batch_norm:
        accepted = "null, because use_batch_norm normalizes over the whole batch"
        raise _contradiction(params, "micro_batch_size", accepted)
    if params.memory_start_steps and not params.memory_size:
        raise _contradiction(params, "memory_start_steps", "0, or a memory_size")
    if not params.memory_size:
        return
    if params.is_offline:
        offline = one_of(sorted(OFFLINE_STRATEGIES))
        accepted = f"0, because triplet_strategy {offline} chooses its triplets before the step"
        raise _contradiction(params, "memory_size", accepted)
    if params.memory_size < params.largest_batch:
        accepted = f"0, or at least {params.largest_batch}, the images of a batch"
        raise _contradiction(params, "memory_size", accepted)


def _check_drops(params: "Params") -> None:
    """Refuse a learning rate that should drop but never does, and drops out of order."""
    drops = params.learning_rate_drop_steps
    if params.learning_rate_schedule == "steps" and not drops:
        accepted = "at least one number of steps, because learning_rate_schedule is 'steps'"
        raise _contradiction(params, "learning_rate_drop_steps", accepted)
    if list(drops) != sorted(set(drops)):
        raise _contradiction(params, "learning_rate_drop_steps", "numbers in increasing order")


def _check_augment(params: "Params") -> None:
    """Refuse intervals that are none, two kinds of crop, and keys of augment without effect."""

    def contradiction(key: str, accepted: str) -> PydanticCustomError:
        text = f"augment.{key}: found {shown(getattr(augment, key))}; accepted: {accepted}"
        return PydanticCustomError(CONTRADICTION, "{text}", {"text": text})

    augment = params.augment
    for key, most in (("crop_area", 1.0), ("crop_ratio", math.inf)):
        low, high = getattr(augment, key) or (1.0, 1.0)
        if not low <= high <= most:
            above = ", at most 1" if most == 1 else ""
            raise contradiction(key, f"the smallest value, then the largest{above}")
    if augment.crop_area and augment.crop < 1:
        raise contradiction("crop", "1, because crop_area is given; or crop alone")
    if augment.crop_ratio != type(augment)().crop_ratio and not augment.crop_area:
        raise contradiction("crop_ratio", "no value, or a crop_area")
    shows_outside = augment.shift or augment.rotation or augment.elastic
    if augment.fill == "white" and not (shows_outside or augment.erasing):
        raise contradiction("fill", "'black', or a shift, rotation, elastic or erasing")
    if augment.fill in ("edge", "reflect") and not shows_outside:
        raise contradiction("fill", "'black', or a shift, rotation or elastic")


def unread_keys(params: "Params") -> frozenset[str]:
    """Return the keys that have no effect because of the values of other keys.

    In valid params, each has its default.
    """
    keys = set(_unread(params))
    if not params.strategies - SIMILARITY_STRATEGIES:
        keys.add("margin")
    if not params.is_offline:
        keys.add("offline_mining")
    if params.offline_mining == "random":
        keys.add("remine_epochs")
    if not params.memory_size:
        keys.add("memory_start_steps")
    return frozenset(keys)


def _check_read_by_dataset(entry: "DatasetKeys", where: str) -> None:
    """Refuse keys of an entry of `extra_data` that its dataset does not read."""
    for key, field in sorted(type(entry).model_fields.items()):
        for reader in field.metadata:
            if not isinstance(reader, ReadBy) or _is_default(entry, key):
                continue
            if entry.dataset not in reader.choices:
                raise _contradiction(entry, key, _only_read_by(reader, entry.dataset), where)


def _only_read_by(reader: ReadBy, chosen: str) -> str:
    *others, last = (f"'{choice}'" for choice in reader.choices)
    readers = f"{', '.join(others)} and {last}" if others else last
    return f"no value with {reader.key} '{chosen}', because only {readers} can use it"


def _check_read(params: "Params") -> None:
    """Refuse keys that have no effect because of the values of other keys."""
    for key, accepted in _unread(params).items():
        if not _is_default(params, key):
            raise _contradiction(params, key, accepted)


def _unread(params: "Params") -> dict[str, str]:
    """Return keys without effect, and what is accepted for each; the others have own checks."""
    found = {}
    for key, field in sorted(type(params).model_fields.items()):
        for reader in field.metadata:
            if not isinstance(reader, ReadBy):
                continue
            chosen = getattr(params, reader.key)
            if reader.key == "triplet_strategy":
                is_read = not params.strategies.isdisjoint(reader.choices)
            else:
                is_read = chosen in reader.choices
            if not is_read:
                found[key] = _only_read_by(reader, chosen)
    has_hidden = params.network != "mlp" or bool(params.hidden_sizes)
    for key, is_read, accepted in (
        ("dropout", has_hidden, "0, or hidden_sizes, between which it drops"),
        ("use_batch_norm", has_hidden, "false, or hidden_sizes, between which it normalizes"),
        ("bn_momentum", params.use_batch_norm, "no value, or use_batch_norm true"),
        ("resize", params.input_size is not None, "no value, or an input_size"),
        ("easy_positive_temperature", params.margin == "soft", 'no value, or margin "soft"'),
    ):
        if not is_read:
            found.setdefault(key, accepted)
    return found
