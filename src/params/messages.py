"""Error messages for wrong params: one line per error.

The accepted values are read from the JSON schema, which editors use too. So every error of a key
names all the values that the key accepts.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel

from src.printable import printable
from src.registry import did_you_mean

CONTRADICTION = "contradiction"
"""The type of an error that concerns several keys. Its message is the whole line."""

MAX_LINES = 20
"""The number of errors that are listed; the others are only counted."""

MAX_WHOLE_NUMBER = 10**12
"""The largest accepted count. Multiplied by the steps of an epoch, it does not overflow."""

_MIN_FLOAT32, _MAX_FLOAT32 = 2.0**-126, (2 - 2**-23) * 2.0**127

_MAX_VALUE = 80  # characters of the value found
_MAX_ACCEPTED = 280  # characters of a list of names

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def explain(errors: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> Iterator[str]:
    """Yield *key: what was found; what is accepted*, once for each key with errors.

    Args:
        errors: as `ValidationError.errors` of pydantic returns them.
        model: the model that was validated.
    """
    schema = _schema(model)
    explained = set()
    for found in errors:
        schemas, path = _resolve(schema, found["loc"])
        if found["type"] == CONTRADICTION:
            line = printable(found["msg"])
        elif found["type"] == "extra_forbidden":
            line = unknown_key(_dotted(path), schemas[-1]["properties"])
        elif _dotted(path) in explained:  # reported for another alternative of the key
            continue
        else:
            explained.add(_dotted(path))
            value, accepted = found["input"], describe(schemas[-1], schema)
            if found["type"] == "unknown_name":
                accepted = found["msg"]
            elif _is_infinite(value):
                accepted = accepted.replace("a number", "a finite number", 1)
            elif isinstance(value, str):
                accepted += did_you_mean(value[:_MAX_VALUE], schemas[-1].get("enum", ()))
            line = f"{_dotted(path)}: found {shown(value)}; accepted: {accepted}"
        yield line


def _dotted(path: Sequence[str]) -> str:
    """Return a path as text: `augment.shift`, `hidden_sizes.1`, `extra_data[0].dataset`."""
    text = ""
    for place, part in enumerate(path):
        if part.isdecimal() and place < len(path) - 1:
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def unknown_key(key: str, keys: Iterable[str]) -> str:
    """Return the message for an unknown key, if `keys` are accepted. Nested keys have a dot."""
    found, known = shortened(repr(key)), sorted(keys)
    hint = did_you_mean(key.rpartition(".")[2][:_MAX_VALUE], known)
    if not hint:
        names = ", ".join(known)
        hint = (
            f"; accepted: {names if len(names) <= _MAX_ACCEPTED else 'the keys of docs/params.md'}"
        )
    return f"unknown key {found}{hint}"


def wrong_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Return a message for each key whose text UTF-8 or the system cannot represent.

    That is text with half of a surrogate pair, or with NUL; JSON can write both.
    """
    return {
        key: f"{name}: found {shown(part)}; accepted: text without NUL and lone surrogates"
        for key, value in values.items()
        for name, part in _parts(key, value)
        if isinstance(part, str) and _NO_TEXT.search(part)
    }


def too_large(values: Mapping[str, Any]) -> dict[str, str]:
    """Return a message for each key with a finite number that calculations cannot represent."""
    return {
        key: f"{name}: found {shown(part)}; accepted: {accepted}"
        for key, value in values.items()
        for name, part in _parts(key, value)
        for kind, least, most, accepted in (
            (int, 0, MAX_WHOLE_NUMBER, f"whole numbers up to {MAX_WHOLE_NUMBER}"),
            (
                float,
                _MIN_FLOAT32,
                _MAX_FLOAT32,
                f"0, or numbers from {_MIN_FLOAT32:.5g} to {_MAX_FLOAT32:.5g}, as float32 has them",
            ),
        )
        if isinstance(part, kind) and (most < abs(part) < math.inf or 0 < abs(part) < least)
    }


def _parts(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of a key and of everything nested in it, at any depth.

    The keys of objects are values too, with the name of their object.
    """
    pending: list[tuple[tuple[str, ...], Any]] = [((key,), value)]
    while pending:
        path, part = pending.pop()
        yield _dotted(path), part
        if isinstance(part, Mapping):
            pending += [(path, name) for name in part]
            pending += [((*path, str(name)), nested) for name, nested in part.items()]
        elif isinstance(part, list | tuple):
            pending += [((*path, str(place)), nested) for place, nested in enumerate(part)]


def describe(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """Return what a JSON schema accepts, in words: `a whole number from 1 to 6`, ...

    Args:
        schema: the schema of a value.
        whole: the full schema, which has the definitions.
    """
    if "$ref" in schema:
        return describe(_follow(schema, whole), whole)
    if "enum" in schema:
        return one_of(schema["enum"]) + (", or null" if _takes_null(schema) else "")
    if "const" in schema:
        return f"'{schema['const']}'"
    if alternatives := schema.get("oneOf", schema.get("anyOf")):
        return ", or ".join(describe(alternative, whole) for alternative in alternatives)
    kind = schema.get("type")
    if kind == "array":
        least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
        if "maxItems" in schema:  # so far, only lists of a fixed length have one
            least = f" of {schema['maxItems']}"
        return f"a list{least}, each {describe(schema['items'], whole)}"
    if kind == "object":
        keys = ", ".join(schema.get("properties", ()))
        return f"an object {{...}} with the keys {keys}" if keys else "an object {...}"
    if kind in ("integer", "number"):
        return _range(schema)
    if kind == "string" and schema.get("minLength"):
        return "text that is not empty"
    return {"string": "text", "boolean": "true or false"}.get(str(kind), str(kind))


def one_of(names: Iterable[str]) -> str:
    """Return `'a', 'b' or 'c'`; if there are many names, only their number."""
    *others, last = (f"'{name}'" for name in names)
    text = f"{', '.join(others)} or {last}" if others else last
    if len(text) > _MAX_ACCEPTED:
        return f"one of {len(others) + 1} names, which experiments/params.schema.json lists"
    return text


def shown(value: Any) -> str:
    """Return a value as params.json would write it, on one line of at most 80 characters.

    Of an object with a schema, only keys that differ from their defaults are shown.
    """
    try:
        return shortened(printable(json.dumps(value, ensure_ascii=False, default=_set_keys)))
    except (RecursionError, TypeError, ValueError):
        return f"{kind_of(value)} that is nested too deeply"


def _set_keys(value: Any) -> Mapping[str, Any]:
    """Return the keys of an object that differ from their defaults."""
    if not isinstance(value, BaseModel):
        raise TypeError(f"a {type(value).__name__} is not of JSON")
    return value.model_dump(exclude_defaults=True)


def kind_of(value: Any) -> str:
    """Return JSON's name for the kind of a value."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, Sequence) else "a number"


@cache
def _schema(model: type[BaseModel]) -> Mapping[str, Any]:
    return model.model_json_schema()


def _range(schema: Mapping[str, Any]) -> str:
    """Return in words the numbers that a schema accepts."""
    is_whole = schema["type"] == "integer"
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if is_whole:
        least = above + 1 if above is not None else least
        most = below - 1 if below is not None else most
        above = below = None
    name = "a whole number" if is_whole else "a number"
    if least is not None and most is not None:
        return f"{name} from {least} to {most}"
    if least is not None and below is None:
        return f"{name} from {least} on"
    limits = {"greater than": above, "of at least": least, "less than": below, "at most": most}
    words = " and ".join(f"{word} {n}" for word, n in limits.items() if n is not None)
    return f"{name} {words}".rstrip()


def _resolve(
    schema: Mapping[str, Any], location: Iterable[str | int]
) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Return the schemas on the path to an error, and the keys and positions of that path.

    A location also has the names of a key's alternatives; they are skipped.
    """
    schemas, path = [schema], []
    for part in location:
        for inner in alternatives(schemas[-1], schema):
            if isinstance(part, int) and "items" in inner:
                schemas.append(inner["items"])
                path.append(str(part))
                break
            if isinstance(part, str) and "properties" in inner:
                if part in inner["properties"]:
                    schemas.append(inner["properties"][part])
                else:  # an unknown key
                    schemas.append(inner)
                path.append(part)
                break
    return schemas, path


def alternatives(
    schema: Mapping[str, Any], whole: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield the schema itself, or its alternatives, at any depth, one of which a value must fit."""
    schema = _follow(schema, whole)
    inners = schema.get("oneOf", schema.get("anyOf"))
    if inners is None:
        yield schema
        return
    for inner in inners:
        yield from alternatives(inner, whole)


def _follow(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that a reference points to; other schemas are returned as they are."""
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _takes_null(schema: Mapping[str, Any]) -> bool:
    return {"type": "null"} in schema.get("anyOf", ())


def _is_infinite(value: Any) -> bool:
    """Return whether a number is infinite or NaN as a floating-point number."""
    try:
        return isinstance(value, int | float) and not math.isfinite(value)
    except OverflowError:  # an integer of more than 308 digits
        return True


def shortened(text: str) -> str:
    """Return a value's text, cut so that it fits on a line."""
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 3]}..."
