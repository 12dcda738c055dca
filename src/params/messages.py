"""What is said of params that are wrong: a line for each, in words of our own.

What is accepted is read from the JSON schema, the same that editors check the files by: so every
error of a key, whatever its kind, names the key's whole range.
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
"""The type of an error of several keys together, whose message is the whole line."""

MAX_LINES = 20
"""Errors that are named; of the others it is said how many they are."""

MAX_WHOLE_NUMBER = 10**12
"""So large a count can be multiplied by the steps of an epoch without overflow."""

_MAX_VALUE = 80  # characters of what was found
_MAX_ACCEPTED = 280  # characters of a list of names

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def explain(errors: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> Iterator[str]:
    """Yield *key: what was found; what is accepted* for every key that has errors, once.

    Args:
        errors: as pydantic's `ValidationError.errors` gives them.
        model: whose they are.
    """
    schema = _schema(model)
    explained = set()
    for found in errors:
        schemas, path = _resolve(schema, found["loc"])
        if found["type"] == CONTRADICTION:
            line = printable(found["msg"])
        elif found["type"] == "extra_forbidden":
            line = unknown_key(".".join(path), schemas[-1]["properties"])
        elif ".".join(path) in explained:  # by another alternative of the key
            continue
        else:
            explained.add(".".join(path))
            value, accepted = found["input"], describe(schemas[-1], schema)
            if found["type"] == "unknown_name":
                accepted = found["msg"]
            elif _is_infinite(value):
                accepted = accepted.replace("a number", "a finite number", 1)
            elif isinstance(value, str):
                accepted += did_you_mean(value[:_MAX_VALUE], schemas[-1].get("enum", ()))
            line = f"{'.'.join(path)}: found {shown(value)}; accepted: {accepted}"
        yield line


def unknown_key(key: str, keys: Iterable[str]) -> str:
    """Return what is said of a key, nested ones with a dot, in whose place are only `keys`."""
    found, known = shortened(repr(key)), sorted(keys)
    hint = did_you_mean(key.rpartition(".")[2][:_MAX_VALUE], known)
    if not hint:
        names = ", ".join(known)
        hint = (
            f"; accepted: {names if len(names) <= _MAX_ACCEPTED else 'the keys of docs/params.md'}"
        )
    return f"unknown key {found}{hint}"


def wrong_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of each key with text in it that UTF-8 or the system cannot take.

    That is half of a surrogate pair, or a NUL; JSON can write both.
    """
    return {
        key: f"{key}: found {shown(part)}; accepted: text without NUL and lone surrogates"
        for key, value in values.items()
        for part in _parts(value)
        if isinstance(part, str) and _NO_TEXT.search(part)
    }


def too_large(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of each key with a whole number in it that calculations cannot take."""
    return {
        key: f"{key}: found {shown(part)}; accepted: whole numbers up to {MAX_WHOLE_NUMBER}"
        for key, value in values.items()
        for part in _parts(value)
        if isinstance(part, int) and abs(part) > MAX_WHOLE_NUMBER
    }


def _parts(value: Any) -> Iterator[Any]:
    """Yield a value and all that it holds, keys of objects too, however deep it is nested."""
    pending = [value]
    while pending:
        part = pending.pop()
        yield part
        if isinstance(part, Mapping):
            pending += [*part, *part.values()]
        elif isinstance(part, list | tuple):
            pending += part


def describe(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """Return what a JSON schema accepts: `a whole number from 1 to 6`, `true or false`, ...

    Args:
        schema: of a value.
        whole: the schema that it is a part of, which has the definitions.
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
        return f"a list{least}, each {describe(schema['items'], whole)}"
    if kind == "object":
        keys = ", ".join(schema.get("properties", ()))
        return f"an object {{...}} of {keys}" if keys else "an object {...}"
    if kind in ("integer", "number"):
        return _range(schema)
    return {"string": "text", "boolean": "true or false"}.get(str(kind), str(kind))


def one_of(names: Iterable[str]) -> str:
    """Return `'a', 'b' or 'c'`; of many names, only how many they are."""
    *others, last = (f"'{name}'" for name in names)
    text = f"{', '.join(others)} or {last}" if others else last
    if len(text) > _MAX_ACCEPTED:
        return f"one of {len(others) + 1} names, which experiments/params.schema.json lists"
    return text


def shown(value: Any) -> str:
    """Return a value of a params.json as it could stand there, on a line, cut to 80 characters.

    Of an object with a schema, what is not at its default.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True)
    try:
        return shortened(printable(json.dumps(value, ensure_ascii=False)))
    except (RecursionError, TypeError, ValueError):
        return f"{kind_of(value)} that is nested too deeply"


def kind_of(value: Any) -> str:
    """Return what JSON calls a value."""
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
    """Return the words for the numbers that a schema accepts."""
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
    """Return the schemas on the way to where an error is, and the keys and positions that led on.

    A location also has the names of a key's alternatives, which are passed over.
    """
    schemas, path = [schema], []
    for part in location:
        for inner in _alternatives(schemas[-1], schema):
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


def _alternatives(
    schema: Mapping[str, Any], whole: Mapping[str, Any]
) -> Iterator[Mapping[str, Any]]:
    """Yield the schema, or those of which a value fits one."""
    schema = _follow(schema, whole)
    for inner in schema.get("oneOf", schema.get("anyOf", [schema])):
        yield _follow(inner, whole)


def _follow(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a reference leads to; a schema that is none itself."""
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _takes_null(schema: Mapping[str, Any]) -> bool:
    return {"type": "null"} in schema.get("anyOf", ())


def _is_infinite(value: Any) -> bool:
    """Return whether no finite floating-point number is near a number."""
    try:
        return isinstance(value, int | float) and not math.isfinite(value)
    except OverflowError:  # an integer of more than 308 digits
        return True


def shortened(text: str) -> str:
    """Return what of a found value fits on a line."""
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 3]}..."
