"""Writes the reference of `params.json` from its schema: `python -m src.params.reference`.

It writes docs/params.md and the JSON schema, which editors use to complete and check the files.
"""

import json
from pathlib import Path

from pydantic import BaseModel

from src.params.reading import IGNORED
from src.params.schema import Augment, ExtraDataset, Params

_ROOT = Path(__file__).parent.parent.parent
SCHEMA_PATH = _ROOT / "experiments" / "params.schema.json"
TABLE_PATH = _ROOT / "docs" / "params.md"

# The key that opens each section of `Params`.
_SECTIONS = {
    "dataset": "Data",
    "network": "Network",
    "triplet_strategy": "Loss",
    "learning_rate": "Training",
    "save_summary_steps": "Output",
    "image_size": "Facts about the data, and compatibility",
}
# Defaults that a reader would write differently from JSON.
_DEFAULTS = {"validation_fraction": "1/6", "augment": "{}", "crop_ratio": "[3/4, 4/3]"}


def json_schema() -> str:
    """Return the JSON schema of `params.json`, as committed beside the experiments."""
    schema = Params.model_json_schema()
    ignored = {key: {"type": "string"} for key in IGNORED}
    schema["properties"] = {**ignored, **schema["properties"]}
    return json.dumps(schema, indent=2) + "\n"


def markdown() -> str:
    """Return docs/params.md: every key with its default and meaning."""
    lines = [
        "# The keys of params.json",
        "",
        "`make schema` writes this page from `src/params/schema.py`. It also writes",
        "`experiments/params.schema.json`, which editors use to complete and check the files. A",
        "missing key has its default.",
    ]
    for key in Params.model_fields:
        if key in _SECTIONS:
            lines += ["", f"## {_SECTIONS[key]}", *_TABLE_HEAD]
        lines.append(_row(Params, key))
    lines += ["", "## The keys of augment", *_TABLE_HEAD]
    lines += [_row(Augment, key) for key in Augment.model_fields]
    lines += ["", "## The keys of each entry of extra_data", *_TABLE_HEAD]
    lines += [_row(ExtraDataset, key) for key in ExtraDataset.model_fields]
    return "\n".join(lines) + "\n"


_TABLE_HEAD = ("", "| key | default | meaning |", "|---|---|---|")


def _row(model: type[BaseModel], key: str) -> str:
    """Return the table row of a key."""
    field = model.model_fields[key]
    default = "" if field.default is None else json.dumps(field.default, default=str)
    shown = "required" if field.is_required() else _DEFAULTS.get(key, default)
    return f"| `{key}` | {shown} | {field.description} |"


if __name__ == "__main__":
    SCHEMA_PATH.write_text(json_schema())
    TABLE_PATH.write_text(markdown())
