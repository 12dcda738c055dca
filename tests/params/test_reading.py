"""A params.json as a file: its syntax, its size, what is said of it, and what is written."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from params_file import PUBLIC, load, message

from src.errors import UserError
from src.params.reading import format_value, load_params, save_params
from src.params.schema import Augment, Params

ROOT = Path(__file__).parents[2]


def test_schema_key_is_passed_over(path):
    assert load(path, {"$schema": "../params.schema.json", "margin": 2}) == load(
        path, {"margin": 2}
    )


def test_byte_order_mark_is_accepted(path):
    assert load(path, b'\xef\xbb\xbf{"margin": 2}').margin == 2


def test_round_trip(path):
    params = Params(margin=0.1 + 0.2, triplet_strategy="batch_hard", image_size=28)
    save_params(path, params)
    assert load_params(path) == params
    assert set(json.loads(path.read_text())) == set(Params.model_fields)


def test_key_there_twice(path):
    expected = "found key 'margin' twice; accepted: each key once"
    assert message(path, '{"margin": 1, "batch_size": 8, "margin": 1}') == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "line 1, column 1: Expecting value; accepted: JSON"),
        ('{"margin": 1', "line 1, column 13: Expecting ',' delimiter; accepted: JSON"),
        (
            '{\n  "margin": 1\n  "seed": 2}',
            "line 3, column 3: Expecting ',' delimiter; accepted: JSON",
        ),
        ('{\n  "margin": .5\n}', "line 2, column 13: Expecting value; accepted: JSON"),
        ('{"squared": True}', "line 1, column 13: Expecting value; accepted: JSON"),
        ("{} {}", "line 1, column 4: Extra data; accepted: JSON"),
    ],
)
def test_syntax_error(path, content, expected):
    assert message(path, content) == expected


@pytest.mark.parametrize("content", ['{"margin": 1,}', '{"margin": 1} // why', "{'margin': 1}"])
def test_other_dialects_of_json(path, content):
    assert message(path, content).startswith("line 1, column ")


@pytest.mark.parametrize(
    ("content", "position"),
    [(b'{"dataset": "\xe9"}', 13), (b"\xff\xfe{\x00}\x00", 0)],
    ids=["latin-1", "utf-16"],
)
def test_not_utf_8(path, content, position):
    assert message(path, content) == f"byte {position}: not UTF-8; accepted: JSON in UTF-8"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[]", "a list"),
        ("3.5", "a number"),
        ('"margin"', "text"),
        ("null", "null"),
        ("true", "true"),
    ],
)
def test_top_level_is_no_object(path, content, found):
    assert message(path, content) == f"found {found}; accepted: a JSON object {{...}}"


def test_missing_file(path):
    with pytest.raises(UserError) as caught:
        load_params(path)
    assert str(caught.value) == (
        f"{path}: not found; accepted: an experiment, which is a directory with this file"
    )


def test_directory_in_place_of_the_file(path):
    path.mkdir()
    with pytest.raises(UserError) as caught:
        load_params(path)
    assert str(caught.value) == f"{path}: a directory; accepted: a regular file"


def test_file_in_place_of_the_directory(path):
    path.write_text("{}")
    with pytest.raises(UserError) as caught:
        load_params(path / "params.json")
    assert str(caught.value) == (
        f"{path}/params.json: Not a directory; accepted: a regular file that this user may read"
    )


@pytest.mark.parametrize(
    "content",
    [
        {f"key {number}": number for number in range(50_000)},
        {f"{number}_batch_size": number for number in range(40_000)},
        {"augment": {str(number): 1 for number in range(60_000)}},
        {"hidden_sizes": [0] * 60_000},
        {"holdout_classes": ["\0"] * 100_000},
        {"x" * 1_000_000: 1},
        {"dataset": "x" * 1_000_000},
        {"margin": list(range(150_000))},
    ],
    ids=lambda content: f"{min(content):.20}",
)
def test_however_wrong_a_file_is_little_is_said_and_soon(path, content):
    started = time.process_time()
    lines = message(path, content).split("\n")
    assert time.process_time() - started < 3
    assert len(lines) <= 21 and max(map(len, lines)) < 300


def test_errors_that_are_not_named_are_counted(path):
    lines = message(path, {**{f"zz{number}": 1 for number in range(30)}, "margin": -1}).split("\n")
    assert len(lines) == 21 and lines[-1] == "... and 11 more errors"


def test_a_file_of_more_than_a_megabyte(path):
    assert message(path, b'{"a": "' + b" " * 2**20) == (
        "1,048,583 bytes or more; accepted: at most 1,048,576"
    )


def test_a_device_in_place_of_the_file(path):
    path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="a device; accepted: a regular file"):
        load_params(path)


def test_the_name_of_a_file_in_a_message(tmp_path):
    folder = tmp_path / "a\x1b[2J\u202eb"
    folder.mkdir()
    (folder / "params.json").write_text('{"margn": 1}')
    with pytest.raises(UserError) as caught:
        load_params(folder / "params.json")
    assert str(caught.value) == (
        rf"{tmp_path}/a\x1b[2J\u202eb/params.json: unknown key 'margn'; did you mean 'margin'?"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((1.0, "1"), (0.1, "0.1"), (None, "null"), (True, "true"), ("soft", "soft")),
        *((Augment(), "{}"), (Augment(shift=2, crop=0.5), '{"shift": 2, "crop": 0.5}')),
        *(((128, 64), "[128, 64]"), (["ü", 1], '["ü", 1]')),
        *(("\x1b[2J\u202e", r"\x1b[2J\u202e"), (["\u202e"], r'["\u202e"]')),
    ],
    ids=repr,
)
def test_values_as_they_could_stand_in_the_file(value, text):
    assert format_value(value) == text


def test_loading_imports_no_tensorflow(path):
    path.write_text(json.dumps(PUBLIC))
    code = (
        "import sys; from pathlib import Path; from src.params.reading import load_params; "
        "load_params(Path(sys.argv[1])); "
        "print([name for name in sys.modules if 'tensorflow' in name or 'keras' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,  # it takes half a second; importing TensorFlow, on a slow machine, much more
    )
    assert done.stdout.strip() == "[]"
