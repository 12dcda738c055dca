"""`export/exports.json`: what was exported, from which checkpoint, how it compares."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from src.errors import UserError
from src.exporting.formats import FORMATS
from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

_MAX_BYTES = 1 << 20


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError("not a format of this version")
    return name


class Exported(BaseModel):
    """An exported model, and how its embeddings compare with those of the checkpoint.

    Attributes:
        format: a key of `src.exporting.formats.FORMATS`.
        file: its path in `export/`.
        size: in bytes.
        step: the checkpoint's global step.
        checkpoint: the SHA-256 of the checkpoint's values.
        num_calibration_images: how many training images fixed the ranges of an int8 model; None if
            it is not quantized.
        num_images: how many test images both have embedded.
        largest_difference: the largest difference of a coordinate.
        map_at_r_before: MAP@R on these images with the checkpoint; None if undefined.
        map_at_r_after: the same with the exported model.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    format: Annotated[str, AfterValidator(_known_format)]
    file: str = Field(max_length=200)
    size: int = Field(ge=0)
    step: int = Field(ge=0)
    checkpoint: str = Field(max_length=64)
    num_calibration_images: int | None
    num_images: int = Field(ge=0)
    largest_difference: float = Field(ge=0)
    map_at_r_before: float | None
    map_at_r_after: float | None


_All = TypeAdapter(list[Exported])


def read_exports(path: Path) -> list[Exported]:
    """Return what was exported; empty if there is no file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return _All.validate_json(read_regular(path, _MAX_BYTES))
    except FileNotFoundError:
        return []
    except ValidationError:
        raise UserError(
            f"{path}: damaged; accepted: the file that export.py wrote; to continue, remove it"
        ) from None


def add_export(path: Path, exported: Exported) -> list[Exported]:
    """Write `exported` in place of an earlier one of the same name, and return all.

    A new step of a SavedModel has a new name, but replaces the older one, too.
    """
    found = [old for old in read_exports(path) if _kind(old) != _kind(exported)] + [exported]
    found.sort(key=lambda each: each.file)
    with atomic_write(path) as file:
        file.write(f"{json.dumps([e.model_dump() for e in found], indent=2)}\n".encode())
    return found


def _kind(exported: Exported) -> tuple[str, bool]:
    return exported.format, exported.num_calibration_images is None
