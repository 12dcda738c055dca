"""The schema of `params.json`: every key, its type, range, default and meaning.

`python -m src.params` writes the JSON schema of it, by which editors complete and check the files.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from src.atomic import atomic_write
from src.errors import UserError
from src.registry import (
    DATASETS,
    NETWORKS,
    SOFT_MARGIN_STRATEGIES,
    TRIPLET_STRATEGIES,
    did_you_mean,
)

SCHEMA_PATH = Path(__file__).parent.parent / "experiments" / "params.schema.json"

# Keys that leave what is learned per step as it is: an experiment goes on when only these change.
DURATION_KEYS = frozenset(
    {"num_epochs", "save_summary_steps", "save_checkpoints_steps", "keep_checkpoint_max"}
    | {"num_parallel_calls", "image_size", "num_labels", "train_size", "eval_size"}
)


def _contradiction(key: str, found: str, accepted: str) -> PydanticCustomError:
    """Return the error of a key that does not go with another one."""
    text = f"{key}: found {found}; accepted: {accepted}"
    return PydanticCustomError("contradiction", "{text}", {"text": text})


def _name_in(registry: dict[str, str]) -> AfterValidator:
    """Return the check of a key whose value names an entry of `registry`."""

    def check(name: str) -> str:
        if name not in registry:
            accepted = " or ".join(f"'{choice}'" for choice in sorted(registry))
            hint = did_you_mean(name, registry)
            raise PydanticCustomError("unknown_name", "{text}", {"text": accepted + hint})
        return name

    return AfterValidator(check)


def _choices(registry: dict[str, str]) -> dict[str, JsonValue]:
    """Return what the JSON schema says of such a key."""
    return {"enum": list[JsonValue](sorted(registry))}


def _soft(value: str) -> str:
    if value != "soft":
        text = "a number greater than 0, or 'soft'"
        raise PydanticCustomError("margin", "{text}", {"text": text})
    return value


# A number, or "soft". Tagged, so that a wrong value gets the one error that fits it.
Margin = Annotated[
    Annotated[float, Field(gt=0), Tag("number")]
    | Annotated[Literal["soft"], BeforeValidator(_soft), Tag("text")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "number"),
]


class Augment(BaseModel):
    """Random changes of the training images, each off by default; applied to whole batches."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    shift: int = Field(
        0, ge=0, description="Moves by up to so many pixels, each way, along both axes."
    )
    rotation: float = Field(0.0, ge=0, le=180, description="Turns by up to so many degrees.")
    flip: bool = Field(False, description="Mirrors left and right, every second image.")
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
    dataset: Annotated[str, _name_in(DATASETS)] = Field(
        "mnist", json_schema_extra=_choices(DATASETS), description="Where the images come from."
    )
    validation_fraction: float = Field(
        1 / 6,
        gt=0,
        lt=1,
        description="Share of the training file held out for validation, stratified by class. "
        "1/6 leaves 50 000 of MNIST's 60 000.",
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
    num_blocks: int = Field(
        2, ge=1, le=6, description="Convolution blocks; each halves the image's height and width."
    )
    num_channels: int = Field(
        32, ge=1, le=1024, description="Channels of the first block; each next block has twice it."
    )
    use_batch_norm: bool = Field(False, description="Batch normalization after each convolution.")
    bn_momentum: float = Field(
        0.9, ge=0, lt=1, description="Momentum of batch normalization's moving statistics."
    )
    embedding_size: int = Field(64, ge=1, le=8192, description="D, the length of an embedding.")
    l2_normalize: bool = Field(
        False, description="Scale each embedding to length 1, so that distances are at most 2."
    )

    # Loss
    triplet_strategy: Annotated[str, _name_in(TRIPLET_STRATEGIES)] = Field(
        "batch_all",
        json_schema_extra=_choices(TRIPLET_STRATEGIES),
        description="Which triplets of a batch count.",
    )
    margin: Margin = Field(
        0.5,
        description="How much farther than the positive the negative shall be, in units of the "
        'distance; or "soft", the softplus of batch-hard.',
    )
    distance: Literal["euclidean", "squared_euclidean", "mean_squared", "cosine"] | None = Field(
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
    batch_size: int = Field(
        64, ge=2, le=65536, description="B, the images in a shuffled batch, and in an evaluation's."
    )
    classes_per_batch: int | None = Field(
        None, ge=2, description="P: train on batches of P classes with K images each."
    )
    examples_per_class: int | None = Field(None, ge=2, description="K; goes with P.")
    augment: Augment = Field(
        Augment(), description="Random changes of the training images: shift, rotation, flip, ..."
    )
    num_epochs: int = Field(20, ge=1, description="Passes over the training split.")
    deterministic: bool = Field(
        False,
        description="Train bit-identically, also when interrupted: one thread, fixed orders.",
    )

    # What is kept, and how often
    save_summary_steps: int = Field(
        50, ge=1, description="Steps between two points of TensorBoard's training curves."
    )
    save_checkpoints_steps: int | None = Field(
        None,
        ge=1,
        description="Steps between two checkpoints, each followed by an evaluation on the whole "
        "validation split. Default: an epoch.",
    )
    keep_checkpoint_max: int = Field(5, ge=1, description="How many checkpoints are kept.")

    # Facts about the data, stated by files of other implementations of this layout
    image_size: int | None = Field(
        None, ge=1, description="Checked against the data: the images' height and width."
    )
    num_labels: int | None = Field(
        None, ge=1, description="Checked against the data: the number of classes."
    )
    train_size: int | None = Field(
        None, ge=1, description="Checked against the data: the images of the train split."
    )
    eval_size: int | None = Field(
        None, ge=1, description="Checked against the data: the images of the test split."
    )
    num_parallel_calls: int | None = Field(
        None, ge=1, description="Ignored; accepted for compatibility. Batches need no threads."
    )

    @property
    def distance_name(self) -> str:
        """The distance in use, whether named by `distance` or by `squared`."""
        return self.distance or ("squared_euclidean" if self.squared else "euclidean")

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
        return self

    def differences(self, other: "Params") -> list[str]:
        """Return the keys that make `other` another experiment, sorted; see `DURATION_KEYS`."""
        mine, theirs = self.model_dump(), other.model_dump()
        return sorted(key for key in set(mine) - DURATION_KEYS if mine[key] != theirs[key])


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
    values = _read_json_object(path)
    values.pop("$schema", None)
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(f"{path}: {_explain(e)}" for e in error.errors())) from None


def save_params(path: Path, params: Params) -> None:
    """Write all `params`, defaults included, to `path` as JSON."""
    with atomic_write(path) as file:
        file.write(json.dumps(params.model_dump(), indent=2).encode() + b"\n")


def json_schema() -> str:
    """Return the JSON schema of `params.json`, as committed beside the experiments."""
    schema = Params.model_json_schema()
    schema["properties"] = {"$schema": {"type": "string"}, **schema["properties"]}
    return json.dumps(schema, indent=2) + "\n"


def _explain(error: Any) -> str:
    """Return *key: what was found; what is accepted* for one of pydantic's errors."""
    if error["type"] == "contradiction":
        return str(error["msg"])
    path = [str(part) for part in error["loc"] if part not in ("number", "text")]  # Margin's tags
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        keys = sorted(Augment.model_fields if path[0] == "augment" else Params.model_fields)
        hint = did_you_mean(path[-1], keys) or f"; accepted: {', '.join(keys)}"
        return f"unknown key {_shortened(repr(key))}{hint}"
    found = _shortened(json.dumps(error["input"], default=str))
    return f"{key}: found {found}; accepted: {error['msg'].removeprefix('Input should be ')}"


def _shortened(text: str, length: int = 80) -> str:
    """Return what of a found value fits on a line."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; a key that is there twice is an error."""

    def reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                found = _shortened(repr(key))
                raise UserError(f"{path}: key {found} is there twice; accepted: each key once")
            values[key] = value
        return values

    try:
        text = path.read_bytes().decode("utf-8-sig")
        values = json.loads(text, object_pairs_hook=reject_duplicates)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; an experiment is a directory with this file") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; accepted: a readable JSON file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start}: not UTF-8; accepted: JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: line {error.lineno}, column {error.colno}: {error.msg}; accepted: JSON"
        ) from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply; accepted: a JSON object {{...}}") from None
    except UserError:
        raise
    except ValueError:  # Python's own limit
        raise UserError(f"{path}: an integer of thousands of digits; accepted: JSON") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: found {type(values).__name__}; accepted: a JSON object {{...}}")
    return values


if __name__ == "__main__":
    SCHEMA_PATH.write_text(json_schema())
