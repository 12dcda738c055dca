"""The reading, checking and writing of `params.json`."""

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ValidationError,
)

from src.errors import UserError
from src.params.messages import (
    CONTRADICTION,
    MAX_LINES,
    MAX_WHOLE_NUMBER,
    explain,
    kind_of,
    shortened,
    too_large,
    unknown_key,
    wrong_text,
)
from src.params.schema import Params
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

IGNORED = ("$schema", "$comment")
"""Keys that are no params: for editors, and for people."""

MAX_BYTES = 2**20
"""The size limit of a params.json: a hundred times the size of all keys."""


def load_params(path: Path) -> Params:
    """Read and check a `params.json`.

    Args:
        path: the file. The keys `$schema`, which editors use, and `$comment` are ignored.

    Returns:
        The params; keys missing in the file have their defaults.

    Raises:
        UserError: the file is missing, is not a JSON object, or has errors. All errors are in one
            message, one line each.
    """
    return check_params(read_json_object(path), path)


def check_params(values: Mapping[str, Any], path: Path) -> Params:
    """Check the content of a `params.json`.

    Args:
        values: its keys and values. The keys `$schema`, which editors use, and `$comment` are
            ignored.
        path: the file, for the messages.

    Returns:
        The params; keys missing in `values` have their defaults.

    Raises:
        UserError: `values` has errors. All errors are in one message, one line each.
    """
    unknown = [key for key in values if key not in {*IGNORED, *Params.model_fields}]
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
        # Errors of several keys together count only if each key is right by itself.
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
    """Write all `params` to `path` as JSON, including defaults."""
    with atomic_write(path) as file:
        file.write(json.dumps(params.model_dump(), indent=2).encode() + b"\n")


def format_value(value: Any) -> str:
    """Return a param's value as JSON, but text without quotes, and 1.0 as 1."""
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    return printable(json.dumps(value, ensure_ascii=False))


def hashable(value: Any) -> Any:
    """Return a param's value with text in the place of a list, which may have objects."""
    return format_value(value) if isinstance(value, list | tuple) else value


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
                    f"{where}: found key {shortened(repr(key))} twice; accepted: each key once"
                )
            values[key] = value
        return values

    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
        values = json.loads(text, object_pairs_hook=reject_duplicates)
    except FileNotFoundError:
        raise UserError(
            f"{where}: not found; accepted: an experiment, which is a directory with this file"
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
        raise UserError(
            f"{where}: found an integer with thousands of digits; accepted: whole numbers up to "
            f"{MAX_WHOLE_NUMBER}"
        ) from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: found {kind_of(values)}; accepted: a JSON object {{...}}")
    return values
