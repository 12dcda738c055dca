"""What `--param` says: the values of a key, or a range of numbers."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from src.errors import UserError
from src.params.messages import alternatives
from src.params.reading import format_value
from src.params.schema import Params
from src.printable import printable

MAX_GRID_VALUES = 10_000
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})((?::[^:]*)*)")
_MAX_STEPS = 1e15  # of a range, as many as floats can tell apart
_FORMS = "LOW..HIGH, LOW..HIGH:log, LOW..HIGH:int, LOW..HIGH:STEP"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: the smallest.
        high: the largest; with a step, the largest that the steps reach.
        is_log: whether equal ratios, not equal differences, are equally likely.
        is_whole: whether only whole numbers belong to it.
        step: the distance of neighbours; None for any number, or any whole number.
    """

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False
    step: float | None = None

    def values(self, key: str) -> list[Any]:
        """Return all numbers of the range.

        Raises:
            UserError: there are infinitely many, or more than MAX_GRID_VALUES.
        """
        if self.step is None and not self.is_whole:
            raise UserError(
                f"--param {key}: found a range without a step; accepted: in a grid, values, or a "
                "range with a step or of whole numbers; or --search random or tpe"
            )
        if (count := self._count()) > MAX_GRID_VALUES:
            raise UserError(
                f"--param {key}: found {count:,} values; accepted: at most {MAX_GRID_VALUES:,}"
            )
        return [self.nth(n) for n in range(count)]

    def nth(self, n: int) -> float:
        """Return the n-th number of a range with steps, without errors of binary fractions."""
        value = _decimal(self.low) + n * _decimal(self.step or 1)
        return int(value) if self.is_whole else float(value)

    def exact(self, value: float) -> float:
        """Return the number of the range that `value` is up to rounding."""
        if self.is_whole:
            return round(value)
        if self.step is None:
            return value
        return self.nth(round((value - self.low) / self.step))

    def _count(self) -> int:
        return int((_decimal(self.high) - _decimal(self.low)) // _decimal(self.step or 1)) + 1


Dimension = Range | list[Any]
"""A range, or the values to choose from."""


def parse_dimension(text: str) -> tuple[str, Dimension]:
    """Return the key and its range or values, of `key=LOW..HIGH` or `key=value,value`.

    A range is followed by any of `:log`, `:int` and a step, in any order: `0.05..1:log`,
    `16..256:log:int`, `0..1:0.25`. A key that takes only whole numbers needs no `:int`. Values are
    read by `parse_param`. Keys of nested objects are dotted: `augment.shift`.

    Raises:
        UserError: neither can be read.
    """
    key, equals, rest = text.partition("=")
    if not (key and equals) or key.startswith("$"):
        raise UserError(
            f"--param: found {printable(repr(text))}; accepted: KEY=VALUE,VALUE,... or "
            "KEY=LOW..HIGH"
        )
    found = _RANGE.fullmatch(rest)
    return key, _values(key, rest) if found is None else _range(key, rest, found)


def parse_param(text: str) -> tuple[str, list[Any]]:
    """Return the key and the values of `key=value,value`; a range with steps is its numbers.

    Values are JSON (`0.5`, `true`, `null`, `[1, 2]`, `{"shift": 2}`); anything else is text
    (`batch_all`, `soft`).

    Raises:
        UserError: `=` or the key is missing, a value is empty, a value occurs twice, or a range has
            infinitely many numbers.
    """
    key, dimension = parse_dimension(text)
    return key, dimension.values(printable(key)) if isinstance(dimension, Range) else dimension


def _values(key: str, rest: str) -> list[Any]:
    """Return the values of `value,value`."""
    values: list[Any] = []
    seen = set()
    decoder = json.JSONDecoder()
    position = 0
    while position <= len(rest):
        try:
            value, end = decoder.raw_decode(rest, position)
        except (ValueError, RecursionError):
            value, end = None, -1
        if end != len(rest) and rest[end : end + 1] != ",":  # not JSON, or only partly
            end = rest.find(",", position) if "," in rest[position:] else len(rest)
            value = rest[position:end]
        if value == "":
            key = printable(key)
            raise UserError(f"--param {key}: found an empty value; accepted: {key}=VALUE,VALUE,...")
        if json.dumps(value) in seen:
            raise UserError(
                f"--param {printable(key)}: found {printable(format_value(value))} twice; "
                "accepted: each value once"
            )
        seen.add(json.dumps(value))
        values.append(value)
        position = end + 1
    return values


def _range(key: str, text: str, found: re.Match[str]) -> Range:
    """Return the range of a text that begins with `LOW..HIGH`."""

    def refused(why: str) -> UserError:
        return UserError(
            f"--param {printable(key)}: found {printable(text[:100])} ({why}); accepted: {_FORMS}"
        )

    is_log, is_whole, step = False, _takes_whole_numbers(key), None
    for word in found[3].split(":")[1:]:
        if word == "log":
            is_log = True
        elif word == "int":
            is_whole = True
        elif re.fullmatch(_NUMBER, word) and step is None:
            step = float(word)
        else:
            raise refused(f"{printable(word[:20])!r} is neither log, int nor a step")
    low, high = float(found[1]), float(found[2])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise refused("the first number is not below the second")
    if is_log and step is not None:
        raise refused("equal ratios have no step")
    if is_log and low <= 0:
        raise refused("a logarithm needs numbers above 0")
    if step is not None and not 0 < step <= high - low:
        raise refused("the step is not above 0, or larger than the range")
    if step is not None and (high - low) / step > _MAX_STEPS:
        raise refused("too many steps")
    if is_whole and not all(n.is_integer() and abs(n) < 2**53 for n in (low, high, step or 1.0)):
        raise refused("only whole numbers")
    if step is not None:
        count = (_decimal(high) - _decimal(low)) // _decimal(step)
        high = float(_decimal(low) + count * _decimal(step))
    if is_whole:
        return Range(int(low), int(high), is_log, True, None if step is None else int(step))
    return Range(low, high, is_log, False, step)


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))


@cache
def _schema() -> dict[str, Any]:
    return Params.model_json_schema()


def _takes_whole_numbers(key: str) -> bool:
    """Return whether a key, dotted if nested, accepts whole numbers but no other numbers."""
    schema = _schema()
    kinds: list[Mapping[str, Any]] = [schema]
    for part in key.split("."):
        kinds = [
            inner
            for kind in kinds
            if part in kind.get("properties", ())
            for inner in alternatives(kind["properties"][part], schema)
        ]
    types = {kind.get("type") for kind in kinds}
    return "integer" in types and "number" not in types
