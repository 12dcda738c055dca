"""What the declaration of a key consists of: its type, the choices that read it, and its roles."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag
from pydantic_core import PydanticCustomError

from src.params.messages import one_of
from src.registry import did_you_mean


@dataclass(frozen=True)
class ReadBy:
    """Marks a key that only some choices of another key read; other choices refuse it.

    Attributes:
        key: the other key, such as `dataset` or `optimizer`. If it is `triplet_strategy`,
            `warmup_strategy` reads the key as well.
        choices: its values that read this one.
    """

    key: str
    choices: tuple[str, ...]


class Role(Enum):
    """Marks how a change of a key is treated; see `src.params.schema.keys_with`."""

    MAY_CHANGE = "may change on resume: it does not affect what a step learns"
    WITHOUT_EFFECT = "does not affect what is learned: no column of comparisons and HPARAMS"
    FINDS_DATA = "decides, as the keys that a dataset reads, which data are found"
    CHECKS_DATA = "decides whether the data found can be trained on"


# Unions are tagged, so that a wrong value gets only the error of the alternative that fits it.
_BY_TYPE = Discriminator(lambda value: "text" if isinstance(value, str) else "number")

# A number, or "soft".
Margin = Annotated[
    Annotated[float, Field(gt=0), Tag("number")] | Annotated[Literal["soft"], Tag("text")],
    _BY_TYPE,
]

# A number of layers, or the name of a layer. Or a class by its name, which may be a number.
NumberOrName = Annotated[
    Annotated[int, Field(ge=0), Tag("number")] | Annotated[str, Tag("text")], _BY_TYPE
]

# The smallest and the largest value; src/params/rules.py checks their order and range.
Interval = Annotated[
    tuple[Annotated[float, Field(gt=0, strict=True)], ...],
    Field(strict=False, min_length=2, max_length=2),
]

# A folder, or several.
Folders = Annotated[
    Annotated[str, Field(min_length=1), Tag("text")]
    | Annotated[
        tuple[Annotated[str, Field(strict=True, min_length=1)], ...],
        Field(strict=False, min_length=1),
        Tag("list"),
    ],
    Discriminator(lambda value: "text" if isinstance(value, str) else "list"),
]


# Classes by name, or the share of the classes.
ClassesOrShare = Annotated[
    Annotated[list[NumberOrName], Field(min_length=2), Tag("list")]
    | Annotated[float, Field(gt=0, lt=1), Tag("number")],
    Discriminator(lambda value: "number" if isinstance(value, int | float) else "list"),
]


def name_in(registry: Collection[str], meaning: str | None = None) -> AfterValidator:
    """Return the check that a key's value is a name in `registry`.

    The error lists all names, unless `meaning` describes them.
    """

    def check(name: str) -> str:
        if name not in registry:
            accepted = meaning or one_of(sorted(registry))
            hint = did_you_mean(name, registry)
            raise PydanticCustomError("unknown_name", "{text}", {"text": accepted + hint})
        return name

    return AfterValidator(check)


def choices(registry: Collection[str]) -> dict[str, JsonValue]:
    """Return the JSON schema of a key whose value is a name in `registry`."""
    return {"enum": list[JsonValue](sorted(registry))}
