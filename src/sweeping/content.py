"""The content of a child's `params.json`: the parent's, with some values replaced."""

from collections.abc import Mapping
from typing import Any

from src.errors import UserError
from src.params.messages import shown


def one_deeper(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a parent's `params.json` as a directory below it needs it."""
    content = {key: value for key, value in content.items() if key != "$comment"}
    if str(content.get("$schema", "")).startswith("."):
        content["$schema"] = f"../{content['$schema']}"
    return content


def with_values(content: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a `params.json` with other values; a dotted key is of a nested object.

    Raises:
        UserError: a dotted key is of something else.
    """
    changed = dict(content)
    for key, value in chosen.items():
        outer, dot, inner = key.partition(".")
        if not dot:
            changed[key] = value
            continue
        nested = changed.get(outer)
        if nested is not None and not isinstance(nested, dict):
            raise UserError(
                f"{outer}: found {shown(nested)}; accepted: an object, because {key} is chosen"
            )
        changed[outer] = with_values(nested or {}, {inner: value})
    return changed
