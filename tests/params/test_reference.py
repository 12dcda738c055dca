"""The JSON schema and docs/params.md: up to date, and with every key."""

import json
import subprocess
from pathlib import Path

import pytest

from src.params.reading import load_params
from src.params.reference import SCHEMA_PATH, TABLE_PATH, json_schema, markdown
from src.params.schema import Augment, Params
from src.registry import DATASETS

ROOT = Path(__file__).parents[2]


def committed_params():
    """Return the params.json files that git knows, or all that are there where it knows none."""
    listed = subprocess.run(
        ["git", "ls-files", "experiments"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    paths = [ROOT / name for name in listed if Path(name).name == "params.json"]
    return sorted(paths or ROOT.glob("experiments/**/params.json"))


def test_the_schema_is_up_to_date():
    assert SCHEMA_PATH == ROOT / "experiments" / "params.schema.json"
    assert SCHEMA_PATH.read_text() == json_schema(), "write it again: make schema"


def test_the_schema_describes_every_key():
    properties = json.loads(json_schema())["properties"]
    assert set(properties) == {"$schema", "$comment", *Params.model_fields}
    assert all(properties[key].get("description") for key in Params.model_fields)
    assert properties["dataset"]["enum"] == sorted(DATASETS)
    assert properties["reference_margin"]["exclusiveMinimum"] == 0
    number, soft = properties["margin"]["oneOf"]
    assert number == {"type": "number", "exclusiveMinimum": 0}
    assert soft["const"] == "soft"


@pytest.mark.parametrize(
    "path", committed_params(), ids=lambda path: path.parent.relative_to(ROOT).as_posix()
)
def test_committed_experiments_load_and_name_the_schema(path):
    load_params(path)
    schema = path.parent / json.loads(path.read_text())["$schema"]
    assert schema.resolve() == SCHEMA_PATH


def test_the_reference_is_up_to_date_and_has_every_key():
    assert TABLE_PATH == ROOT / "docs" / "params.md"
    text = TABLE_PATH.read_text()
    assert text == markdown(), "write it again: make schema"
    for key, field in [*Params.model_fields.items(), *Augment.model_fields.items()]:
        assert f"| `{key}` | " in text
        assert f" | {field.description} |\n" in text
    assert "| `dataset` | required | " in text  # in extra_data
