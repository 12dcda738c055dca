"""The schema of `params.json`: every key, its type, range, default and meaning.

`make schema` writes docs/params.md and the JSON schema from it (`src/params/reference.py`).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from src.distance import DISTANCES
from src.errors import UserError
from src.params.applications import APPLICATIONS
from src.params.messages import (
    CONTRADICTION,
    MAX_LINES,
    explain,
    kind_of,
    one_of,
    shortened,
    shown,
    too_large,
    unknown_key,
    wrong_text,
)
from src.params.metric_names import BEST_METRICS
from src.params.poses import POSES
from src.printable import printable
from src.registry import (
    DATASETS,
    LIVE_FIGURES,
    NETWORKS,
    OFFLINE_STRATEGIES,
    SOFT_MARGIN_STRATEGIES,
    TRIPLET_STRATEGIES,
    did_you_mean,
)
from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

MAX_BYTES = 2**20
"""Of a params.json; a hundred times what all keys take."""


@dataclass(frozen=True)
class ReadBy:
    """Stands beside a key that only some choices of another key read; with others it is refused.

    Attributes:
        key: the other key: `dataset` or `network`.
        choices: its values that read this one.
    """

    key: str
    choices: tuple[str, ...]


class Role(Enum):
    """Stands beside a key: how a change of it is treated. `keys_with` lists the keys of a role."""

    MAY_CHANGE = "may change on resume: it does not affect what a step learns"
    WITHOUT_EFFECT = "does not affect what is learned: no column of comparisons and HPARAMS"
    FINDS_DATA = "decides, as the keys that a dataset reads, which data are found"
    CHECKS_DATA = "decides whether the data found can be trained on"


_OF_IMAGE_FOLDER = ReadBy("dataset", ("image_folder",))
_OF_NAIVE_CNN = ReadBy("network", ("naive_cnn",))
_OF_MLP = ReadBy("network", ("mlp",))
_OF_KERAS_APPLICATION = ReadBy("network", ("keras_application",))
_OF_OWN_LAYERS = ReadBy("network", ("naive_cnn", "mlp"))
_MAY_CHANGE = Role.MAY_CHANGE
_WITHOUT_EFFECT = Role.WITHOUT_EFFECT
_FINDS_DATA = Role.FINDS_DATA
_CHECKS_DATA = Role.CHECKS_DATA


def _contradiction(key: str, found: str, accepted: str) -> PydanticCustomError:
    """Return the error of a key that does not go with another one."""
    text = f"{key}: found {shortened(found)}; accepted: {accepted}"
    return PydanticCustomError(CONTRADICTION, "{text}", {"text": text})


def _name_in(registry: Collection[str], meaning: str | None = None) -> AfterValidator:
    """Return the check of a key whose value is one of the names in `registry`.

    An error lists them all, unless `meaning` says what they are.
    """

    def check(name: str) -> str:
        if name not in registry:
            accepted = meaning or one_of(sorted(registry))
            hint = did_you_mean(name, registry)
            raise PydanticCustomError("unknown_name", "{text}", {"text": accepted + hint})
        return name

    return AfterValidator(check)


def _choices(registry: Collection[str]) -> dict[str, JsonValue]:
    """Return what the JSON schema says of such a key."""
    return {"enum": list[JsonValue](sorted(registry))}


# A number, or "soft". Tagged, so that a wrong value gets the one error that fits it.
Margin = Annotated[
    Annotated[float, Field(gt=0), Tag("number")] | Annotated[Literal["soft"], Tag("text")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "number"),
]

# A count, or the name of a layer.
Layers = Annotated[
    Annotated[int, Field(ge=0), Tag("number")] | Annotated[str, Tag("text")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "number"),
]


# A label, or a class's name. Tagged likewise.
Class = Annotated[
    Annotated[int, Field(ge=0), Tag("number")] | Annotated[str, Tag("text")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "number"),
]


class Augment(BaseModel):
    """Random changes of the training images, each off by default; applied to whole batches."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    shift: int = Field(
        0, ge=0, description="Moves by up to so many pixels, each way, along both axes."
    )
    rotation: float = Field(0.0, ge=0, le=180, description="Turns by up to so many degrees.")
    flip: bool = Field(
        False, description="Mirrors left and right, each image with probability 1/2."
    )
    crop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Enlarges a part whose side is this share of the image's at the least.",
    )
    erasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the images of which a rectangle is erased (arXiv:1708.04896).",
    )
    elastic: float = Field(
        0.0,
        ge=0,
        description="Bends the image: a coarse grid of random displacements of so many pixels "
        "(standard deviation), interpolated smoothly (arXiv:1505.04597, section 3.1).",
    )


class Params(BaseModel):
    """The choices that make an experiment. Facts about the data come from the data."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"$schema": "http://json-schema.org/draft-07/schema#"},
    )

    # What is learned from
    dataset: Annotated[str, _name_in(DATASETS), _FINDS_DATA] = Field(
        "mnist", json_schema_extra=_choices(DATASETS), description="Where the images come from."
    )
    validation_fraction: Annotated[float, _FINDS_DATA] = Field(
        1 / 6,
        gt=0,
        lt=1,
        description="Share of the training file held out for validation, stratified by class. "
        "1/6 leaves 50 000 of MNIST's 60 000.",
    )
    validation_by: Annotated[Literal["image", "class"] | None, _FINDS_DATA] = Field(
        None,
        description="What is held out for validation: images of every class, or all images of some "
        "classes. Default: images, unless most of them would be the only one of their class there.",
    )
    holdout_classes: Annotated[list[Class] | None, _FINDS_DATA] = Field(
        None,
        min_length=2,
        description="Classes, by name, that are left out of the train, validation and test splits; "
        "all their images are evaluated by themselves, as `unseen`.",
    )
    on_duplicates: Annotated[Literal["warn", "error", "drop"], _MAY_CHANGE, _FINDS_DATA] = Field(
        "warn",
        description="What becomes of images whose pixels are equal in two splits or two classes: "
        "a warning, or an error. With drop one of equal images is kept, wherever they are: that "
        "of the dataset's own test split, else of validation, else the first.",
    )
    image_dir: Annotated[str, _OF_IMAGE_FOLDER] = Field(
        "image_folder",
        description="Of image_folder: the folder of pictures in data_dir, with a folder for each "
        "class.",
    )
    image_csv: Annotated[str | None, _OF_IMAGE_FOLDER] = Field(
        None,
        description="Of image_folder: a CSV file in image_dir, with the columns path, label and "
        "perhaps split, in place of class folders.",
    )
    image_mode: Annotated[Literal["RGB", "L"], _OF_IMAGE_FOLDER] = Field(
        "RGB", description="Of image_folder: colour, or grey (L)."
    )
    image_resize: Annotated[Literal["scale", "pad"], _OF_IMAGE_FOLDER] = Field(
        "scale",
        description="Of image_folder: how pictures come to image_size: stretched, or in their "
        "shape and filled up with black.",
    )
    on_bad_image: Annotated[Literal["error", "skip"], _OF_IMAGE_FOLDER] = Field(
        "error",
        description="Of image_folder: whether files that cannot be read end the run or are named "
        "and left out.",
    )
    image_cache: Annotated[str | None, _OF_IMAGE_FOLDER, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        None,
        description="Of image_folder: the folder in data_dir for the decoded pictures. Default: "
        "`.tripletboard` in image_dir.",
    )
    test_fraction: Annotated[float, _OF_IMAGE_FOLDER] = Field(
        0.2,
        gt=0,
        lt=1,
        description="Of image_folder: share held out as test split where there is none, stratified "
        "by class.",
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="Fixes the validation split, the order of the batches and the initial weights.",
    )

    # Network
    network: Annotated[str, _name_in(NETWORKS)] = Field(
        "naive_cnn", json_schema_extra=_choices(NETWORKS), description="What embeds an image."
    )
    num_blocks: Annotated[int, _OF_NAIVE_CNN] = Field(
        2, ge=1, le=6, description="Convolution blocks; each halves the image's height and width."
    )
    convolutions_per_block: Annotated[int, _OF_NAIVE_CNN] = Field(
        1, ge=1, le=8, description="3x3 convolutions in a block, each followed by ReLU."
    )
    num_channels: Annotated[int, _OF_NAIVE_CNN] = Field(
        32, ge=1, le=1024, description="Channels of the first block; each next block has twice it."
    )
    hidden_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65536, strict=True)], ...], Field(strict=False), _OF_MLP
    ] = Field((128, 128), description="Of mlp: the units of each hidden layer; [] for none.")
    dropout: Annotated[float, _OF_MLP] = Field(
        0.0,
        ge=0,
        lt=1,
        description="Of mlp: the share of each hidden layer's units that is left out of a step.",
    )
    use_batch_norm: Annotated[bool, _OF_OWN_LAYERS] = Field(
        False, description="Batch normalization after each convolution or hidden layer."
    )
    bn_momentum: Annotated[float, _OF_OWN_LAYERS] = Field(
        0.9, ge=0, lt=1, description="Momentum of batch normalization's moving statistics."
    )
    application: Annotated[
        str,
        _name_in(APPLICATIONS, "the name of a network in keras.applications"),
        _OF_KERAS_APPLICATION,
    ] = Field(
        "ResNet50",
        json_schema_extra=_choices(APPLICATIONS),
        description="Of keras_application: the network of keras.applications, without classifier.",
    )
    weights: Annotated[str | None, _OF_KERAS_APPLICATION] = Field(
        None,
        description='Of keras_application: what training starts from: "imagenet", or a file of '
        "weights (.h5) in data_dir. Default: random weights.",
    )
    frozen_layers: Annotated[Layers, _OF_KERAS_APPLICATION] = Field(
        0,
        description="Of keras_application: how many of its first layers stay as they are, or the "
        "name of the last that does.",
    )
    input_size: Annotated[int | None, _OF_KERAS_APPLICATION] = Field(
        None,
        ge=1,
        description="Of keras_application: the side, in pixels, to which images are brought. "
        "Default: as they are.",
    )
    resize: Annotated[Literal["scale", "pad"], _OF_KERAS_APPLICATION] = Field(
        "scale",
        description="Of keras_application: how images come to input_size: scaled, or unscaled "
        "with black around.",
    )
    embedding_size: int = Field(64, ge=1, le=8192, description="D, the length of an embedding.")
    embedding_activation: Annotated[Literal["linear", "relu", "sigmoid", "tanh"], _OF_MLP] = Field(
        "linear", description="Of mlp: what the last layer's outputs go through."
    )
    l2_normalize: bool = Field(
        False, description="Scale each embedding to length 1, so that distances are at most 2."
    )

    # Loss
    triplet_strategy: Annotated[str, _name_in(TRIPLET_STRATEGIES)] = Field(
        "batch_all",
        json_schema_extra=_choices(TRIPLET_STRATEGIES),
        description="Which triplets of a batch count; offline: the batch is triplets, chosen by "
        "`offline_mining`.",
    )
    offline_mining: Literal["random", "hard", "semihard"] = Field(
        "random",
        description="Of offline: draw the positive and negative of each anchor, or choose them by "
        "the embeddings' distances.",
    )
    remine_epochs: int = Field(
        1,
        ge=1,
        description="Of offline hard and semihard: epochs from one choice to the next; random "
        "triplets come before the first.",
    )
    margin: Margin = Field(
        0.5,
        description="How much farther than the positive the negative shall be, in units of the "
        'distance; or "soft", the softplus of batch-hard.',
    )
    distance: Literal[tuple(DISTANCES)] | None = Field(  # type: ignore[valid-type]
        None,
        description="How far two embeddings are apart: euclidean, squared_euclidean, mean_squared "
        "(over the dimensions) or cosine (1 - cos). Default: by `squared`.",
    )
    squared: bool = Field(
        False, description="Short for distance squared_euclidean; otherwise it is euclidean."
    )
    warmup_strategy: Annotated[str, _name_in(TRIPLET_STRATEGIES)] | None = Field(
        None,
        json_schema_extra=_choices(TRIPLET_STRATEGIES),
        description="The strategy of the first `warmup_steps` steps: batch_all keeps batch_hard "
        "from its early collapse.",
    )
    warmup_steps: int = Field(0, ge=0, description="How long the warm-up lasts.")
    reference_margin: float = Field(
        0.5,
        gt=0,
        description="Evaluations also report batch-all's fraction_positive at this margin, on "
        "Euclidean distances: comparable between experiments of whatever strategy and margin.",
    )
    stop_on_collapse: bool = Field(
        False, description="End a training whose embeddings have collapsed to a point."
    )

    # Training
    learning_rate: float = Field(1e-3, gt=0, description="Of Adam.")
    learning_rate_schedule: Literal["constant", "cosine"] = Field(
        "constant",
        description='How the learning rate goes on: "cosine" falls to 0 at the end of num_epochs.',
    )
    learning_rate_warmup_steps: int = Field(
        0, ge=0, description="Steps over which the learning rate first rises, linearly."
    )
    batch_size: int = Field(
        64,
        ge=2,
        le=65536,
        description="B, the images in a shuffled batch, and in an evaluation's; of offline, the "
        "triplets.",
    )
    classes_per_batch: Annotated[int | None, _CHECKS_DATA] = Field(
        None, ge=2, description="P: train on batches of P classes with K images each."
    )
    examples_per_class: Annotated[int | None, _CHECKS_DATA] = Field(
        None, ge=2, description="K; goes with P."
    )
    extra_classes: Annotated[
        tuple[Annotated[str, _name_in(POSES), Field(strict=True)], ...],
        Field(strict=False),
        _CHECKS_DATA,
    ] = Field(
        (),
        json_schema_extra={"items": {"type": "string", **_choices(POSES)}},
        description="Of each class, its images turned (counter-clockwise) or mirrored make one "
        "more class to train on: for embeddings of classes never seen (arXiv:2003.00804).",
    )
    augment: Augment = Field(
        Augment(), description="Random changes of the training images: shift, rotation, flip, ..."
    )
    num_epochs: Annotated[int, _MAY_CHANGE] = Field(
        20,
        ge=1,
        description="Passes over the training split; of offline, each image once as an anchor.",
    )
    deterministic: bool = Field(
        False,
        description="Train bit-identically, also when interrupted: one thread, fixed orders.",
    )

    # What is kept, and how often
    save_summary_steps: Annotated[int, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        50, ge=1, description="Steps between two points of TensorBoard's training curves."
    )
    save_checkpoints_steps: Annotated[int | None, _MAY_CHANGE] = Field(
        None,
        ge=1,
        description="Steps between two checkpoints, each followed by an evaluation on the whole "
        "validation split. Default: an epoch.",
    )
    live_figures: Annotated[
        tuple[Annotated[str, _name_in(LIVE_FIGURES), Field(strict=True)], ...],
        Field(strict=False),
        _MAY_CHANGE,
        _WITHOUT_EFFECT,
    ] = Field(
        (),
        json_schema_extra={"items": {"type": "string", **_choices(LIVE_FIGURES)}},
        description="Pictures that are drawn after each evaluation, of always the same 1000 "
        'test images: "progress" is PCA beside the loss so far. They come to TensorBoard\'s '
        "images, to `figures/live`, and at the end to an animated GIF.",
    )
    keep_checkpoint_max: Annotated[int, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        5, ge=1, description="How many checkpoints are kept."
    )
    best_metric: Annotated[str, _name_in(BEST_METRICS)] = Field(
        "map_at_r_within",
        json_schema_extra=_choices(BEST_METRICS),
        description="By which the best checkpoint is chosen, on the validation split; it is kept "
        "and exported, and the final evaluation is of it.",
    )
    patience_evaluations: Annotated[int | None, _MAY_CHANGE] = Field(
        None,
        ge=1,
        description="End a training when so many evaluations in a row have not bettered "
        "best_metric.",
    )

    # Facts about the data, stated by files of other implementations of this layout
    image_size: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT, _FINDS_DATA] = Field(
        None,
        ge=1,
        description="Checked against the data: the images' height and width. For image_folder, "
        "those to which pictures are brought.",
    )
    num_labels: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT, _CHECKS_DATA] = Field(
        None, ge=1, description="Checked against the data: the number of classes."
    )
    train_size: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT, _CHECKS_DATA] = Field(
        None, ge=1, description="Checked against the data: the images of the train split."
    )
    eval_size: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT, _CHECKS_DATA] = Field(
        None, ge=1, description="Checked against the data: the images of the test split."
    )
    num_parallel_calls: Annotated[int | None, _MAY_CHANGE, _WITHOUT_EFFECT] = Field(
        None, ge=1, description="Ignored; accepted for compatibility. Batches need no threads."
    )

    @property
    def distance_name(self) -> str:
        """The distance in use, whether named by `distance` or by `squared`."""
        return self.distance or ("squared_euclidean" if self.squared else "euclidean")

    @property
    def is_offline(self) -> bool:
        """Whether batches are triplets, stacked in thirds, and not examples."""
        return self.triplet_strategy in OFFLINE_STRATEGIES

    @model_validator(mode="after")
    def _check_together(self) -> "Params":
        """Refuse keys that contradict each other."""
        strategies = {self.triplet_strategy, self.warmup_strategy} - {None}
        if self.margin == "soft" and not strategies <= SOFT_MARGIN_STRATEGIES:
            raise _contradiction(
                "margin",
                '"soft"',
                f"a number, or triplet_strategy {' or '.join(sorted(SOFT_MARGIN_STRATEGIES))}: "
                "under softplus every triplet is positive, and there is nothing to mine",
            )
        if self.squared and self.distance not in (None, "squared_euclidean"):
            raise _contradiction("squared", "true", f"false, for distance is '{self.distance}'")
        if (self.classes_per_batch is None) != (self.examples_per_class is None):
            key = "examples_per_class" if self.classes_per_batch else "classes_per_batch"
            raise _contradiction(key, "nothing", "classes_per_batch and examples_per_class, both")
        if (self.warmup_strategy is None) != (self.warmup_steps == 0):
            key = "warmup_steps" if self.warmup_strategy else "warmup_strategy"
            raise _contradiction(key, "nothing", "warmup_strategy and warmup_steps, both")
        if len(set(self.extra_classes)) < len(self.extra_classes):
            raise _contradiction("extra_classes", shown(self.extra_classes), "each of them once")
        self._check_offline()
        if self.dataset == "image_folder" and self.image_size is None:
            raise _contradiction(
                "image_size", "nothing", "the pixels to which dataset image_folder brings pictures"
            )
        self._check_read()
        return self

    def _check_read(self) -> None:
        """Refuse keys that nothing reads beside the others: a value there would have no effect."""
        for key, field in sorted(type(self).model_fields.items()):
            for reader in field.metadata:
                if not isinstance(reader, ReadBy) or getattr(self, key) == field.default:
                    continue
                if (chosen := getattr(self, reader.key)) not in reader.choices:
                    readers = " or ".join(f"'{choice}'" for choice in reader.choices)
                    raise _contradiction(
                        key,
                        shown(getattr(self, key)),
                        f"nothing with {reader.key} '{chosen}', for it is of {readers}",
                    )
        if self.bn_momentum != 0.9 and not self.use_batch_norm:
            raise _contradiction(
                "bn_momentum", json.dumps(self.bn_momentum), "nothing, or use_batch_norm true"
            )
        if self.resize != "scale" and self.input_size is None:
            raise _contradiction("resize", json.dumps(self.resize), "nothing, or an input_size")

    def _check_offline(self) -> None:
        """Refuse keys that do not go with offline triplets, and those that go with nothing else."""
        offline = " or ".join(f"'{name}'" for name in sorted(OFFLINE_STRATEGIES))
        if self.is_offline:
            if self.warmup_strategy:
                raise _contradiction(
                    "warmup_strategy",
                    f'"{self.warmup_strategy}"',
                    f"none, for triplet_strategy {offline} is trained on triplets, not on batches",
                )
            if self.classes_per_batch:
                raise _contradiction(
                    "classes_per_batch",
                    str(self.classes_per_batch),
                    f"none, for with triplet_strategy {offline} a batch is batch_size triplets",
                )
        elif self.warmup_strategy in OFFLINE_STRATEGIES:
            raise _contradiction(
                "warmup_strategy",
                f'"{self.warmup_strategy}"',
                "a strategy that chooses the triplets of a batch itself",
            )
        elif self.offline_mining != "random":
            raise _contradiction(
                "offline_mining", f'"{self.offline_mining}"', f"none, or triplet_strategy {offline}"
            )
        if self.remine_epochs != 1 and self.offline_mining == "random":
            raise _contradiction(
                "remine_epochs",
                str(self.remine_epochs),
                "1, or offline_mining 'hard' or 'semihard'",
            )

    def differences(self, other: "Params") -> list[str]:
        """Return the keys that make `other` another experiment, sorted: none that may change."""
        mine, theirs = self.model_dump(), other.model_dump()
        free = DURATION_KEYS
        if self.learning_rate_schedule == "cosine":  # what each step learns depends on the last
            free -= {"num_epochs"}
        if self.dataset == "image_folder":  # whose image size is a choice, not a fact
            free -= {"image_size"}
        return sorted(key for key in set(mine) - free if mine[key] != theirs[key])


def keys_read_by(key: str) -> frozenset[str]:
    """Return the keys that only some choices of another key read: of `dataset` or `network`."""
    return frozenset(
        name
        for name, field in Params.model_fields.items()
        for reader in field.metadata
        if isinstance(reader, ReadBy) and reader.key == key
    )


def keys_with(role: Role) -> frozenset[str]:
    """Return the keys that are declared with a role."""
    return frozenset(name for name, key in Params.model_fields.items() if role in key.metadata)


DURATION_KEYS = keys_with(Role.MAY_CHANGE)


def load_params(path: Path) -> Params:
    """Read and check a `params.json`.

    Args:
        path: the file. A key `$schema`, which editors use, is passed over.

    Returns:
        The params, every key that the file leaves out at its default.

    Raises:
        UserError: the file is missing, is not a JSON object, or has errors; all of them in one
            message, one line each.
    """
    return check_params(read_json_object(path), path)


def check_params(values: Mapping[str, Any], path: Path) -> Params:
    """Check the content of a `params.json`.

    Args:
        values: its keys and values. A key `$schema`, which editors use, is passed over.
        path: the file, for the messages.

    Returns:
        The params, every key that `values` leaves out at its default.

    Raises:
        UserError: `values` has errors; all of them in one message, one line each.
    """
    unknown = [key for key in values if key not in {"$schema", *Params.model_fields}]
    lines = [unknown_key(key, Params.model_fields) for key in unknown[:MAX_LINES]]
    known = {key: values[key] for key in Params.model_fields if key in values}
    unreadable = wrong_text(known)
    lines += unreadable.values()
    num_lines = len(unknown) + len(unreadable)
    try:
        params = Params.model_validate({k: v for k, v in known.items() if k not in unreadable})
        excessive = too_large(known)
        lines += excessive.values()
        num_lines += len(excessive)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        # What is wrong with keys together counts only where each is right by itself.
        if not lines or errors[0]["type"] != CONTRADICTION:
            lines += islice(explain(errors, Params), MAX_LINES)
            num_lines += len(errors)
    if not lines:
        return params
    lines = lines[:MAX_LINES]
    if num_lines > len(lines):
        lines.append(f"... and {num_lines - len(lines)} more errors")
    raise UserError("\n".join(f"{printable(str(path))}: {line}" for line in lines))


def save_params(path: Path, params: Params) -> None:
    """Write all `params`, defaults included, to `path` as JSON."""
    with atomic_write(path) as file:
        file.write(json.dumps(params.model_dump(), indent=2).encode() + b"\n")


def format_value(value: Any) -> str:
    """Return a param's value as JSON, but text without quotes; equal numbers alike, 1.0 as 1."""
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return printable(json.dumps(value, ensure_ascii=False))


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, unchecked.

    Raises:
        UserError: the file is missing, is not a JSON object of at most `MAX_BYTES`, or has a key
            twice.
    """
    where = printable(str(path))

    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                raise UserError(
                    f"{where}: key {shortened(repr(key))} is there twice; accepted: each key once"
                )
            values[key] = value
        return values

    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
        values = json.loads(text, object_pairs_hook=reject_duplicates)
    except FileNotFoundError:
        raise UserError(
            f"{where}: not found; an experiment is a directory with this file"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: byte {error.start}: not UTF-8; accepted: JSON in UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}: line {error.lineno}, column {error.colno}: {error.msg}; accepted: JSON"
        ) from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply; accepted: a JSON object {{...}}") from None
    except UserError:
        raise
    except ValueError:  # Python's own limit
        raise UserError(f"{where}: an integer of thousands of digits; accepted: JSON") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: found {kind_of(values)}; accepted: a JSON object {{...}}")
    return values
