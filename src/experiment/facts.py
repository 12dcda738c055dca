"""Messages about the data before training: how they were read, and what will cause problems."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from src.data.class_names import listed, shortened
from src.data.extra_classes import with_extra_classes
from src.data.holdout import UNSEEN
from src.data.loading import Data
from src.data.roles import Roles, num_answers, roles_of
from src.data.sampling import BalancedBatches
from src.data.split import Split
from src.distance import DISTANCES
from src.errors import UserError
from src.mining.batches import steps_without_triplet, training_batches
from src.params.metric_names import CLUSTERING, VERIFICATION
from src.params.poses import POSES, changes_shape
from src.params.schema import Augment, Params
from src.printable import printable

# From this share of an epoch's steps without a triplet on, the warning names a remedy.
_MANY_WITHOUT_TRIPLET = 0.1

# An epoch with at most so many steps is reported.
_FEW_STEPS = 20


def check_facts(params: Params, splits: Mapping[str, Split], path: Path) -> list[str]:
    """Compare the facts that `params` states about the data with the data.

    Args:
        params: `image_size`, `num_labels`, `train_size`, `eval_size`, `extra_classes`, `augment`.
        splits: every split of the dataset, without the held-out classes.
        path: the file of the params, for the messages.

    Returns:
        One line for each number that differs, if the data's number is used instead.

    Raises:
        UserError: the image size or the number of classes differs, so the params were written for
            other data; or `extra_classes` would turn images that are not square; or `augment`
            would change the colours of grey images.
    """
    train, test = splits["train"], splits["test"]
    if train.holds_vectors:
        _check_vectors(params, train, path)
    image_size = "{} x {}".format(*train.images.shape[1:3])
    if params.image_size and image_size != f"{params.image_size} x {params.image_size}":
        raise UserError(
            f"{path}: image_size: found {params.image_size}; accepted: {image_size}, the "
            f"image size of {params.dataset}, or no image_size"
        )
    turned = [pose for pose in params.extra_classes if changes_shape(pose)]
    if turned and train.images.shape[1] != train.images.shape[2]:
        kept = " or ".join(f"'{pose}'" for pose in POSES if not changes_shape(pose))
        raise UserError(
            f'{path}: extra_classes: found "{turned[0]}", for images of {image_size} pixels; '
            f"accepted: {kept}, because the images are not square"
        )
    _check_colors(params, train, path)
    num_labels = len(train.class_names)
    if params.num_labels and num_labels != params.num_labels:
        raise UserError(
            f"{path}: num_labels: found {params.num_labels}; accepted: {num_labels}, the "
            f"number of classes of {params.dataset}, or no num_labels"
        )
    return [
        f"{path}: {key}: found {size}, but the data have {len(split)}; {len(split)} is used"
        for key, size, split in (
            ("train_size", params.train_size, train),
            ("eval_size", params.eval_size, test),
        )
        if size and size != len(split)
    ]


def check_without_data(params: Params, path: Path) -> None:
    """Refuse what nothing should be trained with any more; what was can still be used.

    Raises:
        UserError: `augment.flip` makes an extra class of another one, so that equal images have two
            classes; or `extra_data` has groups, which are for splits.
    """
    shown_as = {(False, 0): "the images themselves"}
    shown_as |= {POSES[pose]: f"'{pose}'" for pose in params.extra_classes}
    for pose in params.extra_classes if params.augment.flip else ():
        mirrored, turns = POSES[pose]
        if twin := shown_as.get((not mirrored, -turns % 4)):
            raise UserError(
                f"{path}: extra_classes: found '{pose}'; accepted: others, because augment.flip "
                f"makes it of {twin}"
            )
    for number, entry in enumerate(params.extra_data):
        if entry.group_column is not None:
            raise UserError(
                f"{path}: extra_data[{number}].group_column: found "
                f'"{printable(entry.group_column)}"; accepted: null, because these examples are in '
                "no split but train"
            )


def _check_vectors(params: Params, train: Split, path: Path) -> None:
    """Refuse what only images have.

    Raises:
        UserError: one line for each such key.
    """
    why = f"because {params.dataset} has vectors of {train.images.shape[2]} numbers"
    refused = {
        "network": (params.network, '"mlp"', params.network != "mlp"),
        "augment": ("changes of images", "no value", params.augment != Augment()),
        "extra_classes": ("poses of images", "no value", bool(params.extra_classes)),
        "image_size": (params.image_size, "no value", params.image_size is not None),
        "embed_views": (params.embed_views, "1", params.embed_views != 1),
    }
    lines = [
        f"{path}: {key}: found {found}; accepted: {accepted}, {why}"
        for key, (found, accepted, is_refused) in refused.items()
        if is_refused
    ]
    if lines:
        raise UserError("\n".join(lines))


def _check_colors(params: Params, train: Split, path: Path) -> None:
    """Raise UserError if `augment` would change the colours of grey images."""
    if train.images.shape[3] != 1:
        return
    for key in ("saturation", "hue", "grayscale"):
        if found := getattr(params.augment, key):
            raise UserError(
                f"{path}: augment.{key}: found {found}; accepted: 0, for images in grey"
            )


def check_training(
    params: Params,
    splits: Mapping[str, Split],
    path: Path,
    extra_data: Split | None = None,
    *,
    own_validation: bool = False,
) -> list[str]:
    """Check the training data, without the held-out classes and with the extra ones.

    Args:
        params: the keys about batches, validation and triplets.
        splits: `train` and `validation`.
        path: the file of the params, for the messages.
        extra_data: see `Data`.
        own_validation: whether `validation` is not drawn from the training images.

    Returns:
        One line for each thing that a user should know before the training.

    Raises:
        UserError: there is no triplet to learn from.
    """
    counts = np.unique(splits["train"].labels, return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        raise UserError(
            f"{params.dataset}: the train split has {len(counts)} classes, the largest with "
            f"{counts.max(initial=0)} examples; accepted: at least two classes, one of them with "
            "at least two examples"
        )
    _check_scatter(params, splits["train"], extra_data, path)
    train = with_extra_classes(splits["train"], params, extra_data)
    counts = np.unique(train.labels, return_counts=True)[1]
    lines = []
    num_extra = 0 if extra_data is None else len(np.unique(extra_data.labels))
    lines += _of_classes_per_batch(params, len(counts) - num_extra, num_extra)
    if params.examples_per_class and (fewer := int((counts < params.examples_per_class).sum())):
        lines.append(
            f"examples_per_class: found {params.examples_per_class}, but {fewer} of {len(counts)} "
            f"classes have fewer images (at least {counts.min()}): all of them are used"
        )
    lines += _of_batches(params, train)
    lines += _of_lengths(params)
    lines += _of_validation(params, splits["validation"], is_own=own_validation)
    return [f"{path}: {line}" for line in lines]


def _of_lengths(params: Params) -> list[str]:
    """Return a warning if the loss compares directions, and evaluations distances."""
    if params.l2_normalize or not DISTANCES[params.distance_name].compares_directions:
        return []
    return [
        f"l2_normalize: found false with distance {params.distance_name}: the loss ignores the "
        "length of embeddings, but metrics compare them by Euclidean distance; true makes them "
        "agree"
    ]


def describe(data: Data, splits: Mapping[str, Split], params: Params) -> list[str]:
    """Return how the data were read, one line each: the classes, and the origin of each split.

    Args:
        data: with all classes.
        splits: without the held-out classes, which are in `unseen`.
        params: `num_epochs`, and the keys about batches.
    """
    class_names = data.splits["train"].class_names
    labels = np.concatenate([split.labels for split in data.splits.values()])
    present, counts = np.unique(labels, return_counts=True)
    first, last = (shortened(class_names[label]) for label in (present[0], present[-1]))
    lines = [
        f"{len(counts)} classes, {first} to {last}; "
        f"images per class: {counts.min()} to {counts.max()}, median {np.median(counts):.4g}",
        "; ".join(f"{name}: {origin}" for name, origin in data.origins.items()),
    ]
    if UNSEEN in splits:
        unseen = [class_names[label] for label in np.unique(splits[UNSEEN].labels)]
        lines.append(f"{UNSEEN}: all images of the held-out classes, {listed(unseen, 10)}")
    of_split = {name: np.unique(split.labels) for name, split in splits.items() if name != UNSEEN}
    for name, found in of_split.items():
        if others := len(np.setdiff1d(found, of_split["train"])):
            lines.append(f"{name}: {others} of its {len(found)} classes are not in train")
    if (extra := data.extra_data) is not None:
        per = params.extra_per_batch
        names = [extra.class_names[label] for label in np.unique(extra.labels)]
        share = f"; {per} of {params.classes_per_batch} classes of a batch" if per else ""
        lines.append(
            f"extra_data: {len(extra)} more training images of {len(names)} more classes, "
            f"{shortened(names[0])} to {shortened(names[-1])}{share}"
        )
    train = with_extra_classes(splits["train"], params, data.extra_data)
    steps = training_batches(train, params).steps_per_epoch
    if steps <= _FEW_STEPS:
        epoch = "1 step" if steps == 1 else f"{steps} steps"
        lines.append(f"{epoch} per epoch, {steps * params.num_epochs} in total")
    return lines


def _check_scatter(params: Params, train: Split, extra_data: Split | None, path: Path) -> None:
    """Raise UserError if `embedding_whitening` has nothing to fit: equal images in each class.

    It fits later, when `--overwrite` has removed the earlier training.
    """
    if params.embedding_whitening is None or params.augment.flip:  # mirror images differ
        return
    for split in (train, extra_data):
        if split is None:
            continue
        assert split.digests is not None
        kinds = set(zip(split.labels.tolist(), split.digests.tolist(), strict=True))
        if len(kinds) > len(np.unique(split.labels)):
            return
    raise UserError(
        f"{path}: embedding_whitening: found {params.embedding_whitening}; accepted: null, because "
        "no class of the train split has two images that differ"
    )


def _of_classes_per_batch(params: Params, num_own: int, num_extra: int) -> list[str]:
    """Return a line if there are fewer classes than a batch should have.

    Args:
        params: `classes_per_batch` (P), `extra_share`.
        num_own: the classes without those of `extra_data`.
        num_extra: the classes of `extra_data`.
    """
    wanted, extra = params.classes_per_batch, params.extra_per_batch
    if wanted is None:
        return []
    if extra is None:
        num_all = num_own + num_extra
        line = f"classes_per_batch: found {wanted}, but the train split has {num_all} classes"
        return [f"{line}; all are used"] if wanted > num_all else []
    found = f"extra_share: found {params.extra_share}, of {wanted} classes_per_batch"
    return [
        f"{found}: {number} should be of {where}, which has {there} to train on; all are used"
        for number, there, where in (
            (wanted - extra, num_own, params.dataset),
            (extra, num_extra, "extra_data"),
        )
        if number > there
    ]


def _of_batches(params: Params, train: Split) -> list[str]:
    """Return how many steps of an epoch have no triplet; if there are many, also a remedy."""
    batches = training_batches(train, params)
    without = steps_without_triplet(batches, train.labels)
    if not without:
        return []
    line = (
        f"{without} of {batches.steps_per_epoch} steps of an epoch have no triplet, so nothing is "
        "learned in them"
    )
    if without <= _MANY_WITHOUT_TRIPLET * batches.steps_per_epoch:
        return [line]
    class_sizes = np.unique(train.labels, return_counts=True)[1]
    per_class = int(np.clip(np.median(class_sizes[class_sizes > 1]), 2, 4))
    num_classes = int(np.clip(params.batch_size // per_class, 2, len(class_sizes)))
    balanced = BalancedBatches(train.labels, num_classes, per_class, params.seed)
    share = steps_without_triplet(balanced, train.labels) / balanced.steps_per_epoch
    if params.is_offline or share > _MANY_WITHOUT_TRIPLET:  # P x K batches have the same problem
        return [f"{line}: most classes have a single image"]
    return [
        f'{line}; "classes_per_batch": {num_classes} with "examples_per_class": {per_class} gives '
        "batches with triplets"
    ]


def _of_validation(params: Params, validation: Split, *, is_own: bool) -> list[str]:
    """Return a warning with a remedy if validation cannot choose the best checkpoint."""
    metric = params.best_metric
    of_all_images = metric in (*CLUSTERING, "loss")  # whoever searches whom
    roles = Roles() if of_all_images else roles_of(validation, params)
    has_positive = bool(num_answers(validation.labels, roles).any())
    has_negative = len(np.unique(validation.labels)) > 1
    needs_both = of_all_images or metric in VERIFICATION
    if has_positive and (has_negative or not needs_both):
        return []
    apart = " in two groups" if roles.groups is not None else ""
    cure = f"more {'groups' if apart else 'images'} per class"
    cure = f"{cure} in it" if is_own else f"a larger validation_fraction, {cure}"
    if params.validation_by != "class" and not is_own:
        cure += ', or "validation_by": "class" with at least 4 classes'
    what = f"no two images of one class{apart}" if not has_positive else "a single class"
    if roles.is_query is not None and not has_positive:
        apart = " in another group" if apart else ""
        what = f"no query with another image of its class{apart} in the gallery"
        cure = "such images in the gallery"
    return [
        f"best_metric: {metric} is undefined on the validation split, which has {what}; the latest "
        f"checkpoint is kept as the best, and patience has no effect; to change this: {cure}"
    ]
