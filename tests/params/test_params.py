"""The schema of params.json: each way a file can be wrong and the line that says so."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from src.errors import UserError
from src.params.kinds import Role
from src.params.metric_names import BEST_METRICS
from src.params.reading import format_value, load_params, save_params
from src.params.reference import SCHEMA_PATH, TABLE_PATH, json_schema, markdown
from src.params.schema import DURATION_KEYS, Augment, Params, keys_with

ROOT = Path(__file__).parents[2]

# Written by hand: per key the values just inside its range, those just outside, and its words.
POSITIVE = ([1e-9, 1, 1e6], [0, -0.5], "a number greater than 0")
AT_LEAST_ONE = ([1, 10**9], [0, -1], "a whole number from 1 on")
SHARE = ([1e-6, 0.999], [0, 1], "a number greater than 0 and less than 1")
SHARE_OR_NONE = ([0, 0.999], [-0.1, 1], "a number of at least 0 and less than 1")
FLOATS = {
    "validation_fraction": SHARE,
    "bn_momentum": SHARE_OR_NONE,
    "dropout": SHARE_OR_NONE,
    "test_fraction": SHARE,
    "margin": (*POSITIVE[:2], "a number greater than 0, or 'soft'"),
    "reference_margin": POSITIVE,
    "learning_rate": POSITIVE,
}
INTEGERS = {
    "seed": ([0, 2147483647], [-1, 2147483648], "a whole number from 0 to 2147483647"),
    "num_blocks": ([1, 6], [0, 7], "a whole number from 1 to 6"),
    "convolutions_per_block": ([1, 8], [0, 9], "a whole number from 1 to 8"),
    "num_channels": ([1, 1024], [0, 1025], "a whole number from 1 to 1024"),
    "embedding_size": ([1, 8192], [0, 8193], "a whole number from 1 to 8192"),
    "batch_size": ([2, 65536], [1, 65537], "a whole number from 2 to 65536"),
    "warmup_steps": ([0], [-1], "a whole number from 0 on"),
    "learning_rate_warmup_steps": ([0, 10**9], [-1], "a whole number from 0 on"),
    "num_epochs": AT_LEAST_ONE,
    "remine_epochs": ([1], *AT_LEAST_ONE[1:]),  # more goes with offline mining only, below
    "save_summary_steps": AT_LEAST_ONE,
    "keep_checkpoint_max": AT_LEAST_ONE,
}
AT_LEAST_ONE_OR_NULL = (*AT_LEAST_ONE[:2], "a whole number from 1 on, or null")
OPTIONAL_INTEGERS = {
    "save_checkpoints_steps": AT_LEAST_ONE_OR_NULL,
    "patience_evaluations": AT_LEAST_ONE_OR_NULL,
    "image_size": AT_LEAST_ONE_OR_NULL,
    "input_size": AT_LEAST_ONE_OR_NULL,
    "num_labels": AT_LEAST_ONE_OR_NULL,
    "train_size": AT_LEAST_ONE_OR_NULL,
    "eval_size": AT_LEAST_ONE_OR_NULL,
    "num_parallel_calls": AT_LEAST_ONE_OR_NULL,
    "classes_per_batch": ([], [1], "a whole number from 2 on, or null"),
    "examples_per_class": ([], [1], "a whole number from 2 on, or null"),
}
BOOLEANS = ("use_batch_norm", "l2_normalize", "squared", "stop_on_collapse", "deterministic")
NAMES = {
    "dataset": "'cifar10', 'fashion_mnist', 'image_folder' or 'mnist'",
    "network": "'keras_application', 'mlp' or 'naive_cnn'",
    "triplet_strategy": "'batch_all', 'batch_hard', 'batch_semihard' or 'offline'",
    "best_metric": ", ".join(f"'{name}'" for name in sorted(BEST_METRICS)[:-1])
    + f" or '{max(BEST_METRICS)}'",
}
# Tested by themselves, below
OTHERS = (
    *("application", "augment", "distance", "embedding_activation", "extra_classes"),
    "frozen_layers",
    *("hidden_sizes", "holdout_classes", "image_cache", "image_csv", "image_dir", "image_mode"),
    *(
        "image_resize",
        "learning_rate_schedule",
        "live_figures",
        "offline_mining",
        "on_bad_image",
        "on_duplicates",
        "resize",
        "validation_by",
    ),
    *("warmup_strategy", "weights"),
)
# What goes with keys that only one dataset or network reads.
OWNER = {
    "bn_momentum": {"use_batch_norm": True},
    "dropout": {"network": "mlp"},
    "hidden_sizes": {"network": "mlp"},
    "embedding_activation": {"network": "mlp"},
    "test_fraction": {"dataset": "image_folder", "image_size": 28},
    "input_size": {"network": "keras_application"},
}
RANGES = {**FLOATS, **INTEGERS, **OPTIONAL_INTEGERS}

# As the best known public implementations of this layout state them.
PUBLIC = {
    "learning_rate": 1e-3,
    "batch_size": 64,
    "num_epochs": 20,
    "num_channels": 32,
    "use_batch_norm": False,
    "bn_momentum": 0.9,
    "margin": 0.5,
    "embedding_size": 64,
    "triplet_strategy": "batch_all",
    "squared": False,
    "image_size": 28,
    "num_labels": 10,
    "train_size": 50000,
    "eval_size": 10000,
    "num_parallel_calls": 4,
    "save_summary_steps": 50,
}


def committed_params():
    """Return the params.json files that git knows, or all that are there where it knows none."""
    listed = subprocess.run(
        ["git", "ls-files", "experiments"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    paths = [ROOT / name for name in listed if Path(name).name == "params.json"]
    return sorted(paths or ROOT.glob("experiments/**/params.json"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "params.json"


def load(path, content):
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_params(path)


def message(path, content):
    """Return what is said of a wrong file, less the file's name, which every line begins with."""
    with pytest.raises(UserError) as caught:
        load(path, content)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return "\n".join(line.removeprefix(f"{path}: ") for line in lines)


def test_the_tables_of_this_file_name_every_key():
    assert sorted([*RANGES, *BOOLEANS, *NAMES, *OTHERS]) == sorted(Params.model_fields)


def test_defaults_are_those_of_the_public_implementations(path):
    params = load(path, {})
    for key, value in PUBLIC.items():
        assert getattr(params, key) == (None if key in OPTIONAL_INTEGERS else value), key


@pytest.mark.parametrize("triplet_strategy", ["batch_all", "batch_hard"])
@pytest.mark.parametrize("learning_rate", [1e-3, 1e-4])
def test_public_files_load_unchanged(path, triplet_strategy, learning_rate):
    stated = {**PUBLIC, "triplet_strategy": triplet_strategy, "learning_rate": learning_rate}
    params = load(path, json.dumps(stated, indent=4))
    assert {key: getattr(params, key) for key in stated} == stated


def test_a_public_file_as_text(path):
    params = load(path, '{"learning_rate": 1e-4, "squared": false, "margin": 0.5}')
    assert (params.learning_rate, params.squared, params.margin) == (0.0001, False, 0.5)


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (inside, *_) in RANGES.items() for value in inside]
)
def test_inside_the_range(path, key, value):
    assert getattr(load(path, {**OWNER.get(key, {}), key: value}), key) == value


@pytest.mark.parametrize("key", OPTIONAL_INTEGERS)
def test_null_is_to_leave_out(path, key):
    assert getattr(load(path, {key: None}), key) is None


@pytest.mark.parametrize("key", ["margin", "learning_rate"])
def test_an_integer_is_a_number(path, key):
    value = getattr(load(path, f'{{"{key}": 1}}'), key)
    assert value == 1 and isinstance(value, float)


@pytest.mark.parametrize("key", BOOLEANS)
@pytest.mark.parametrize("value", [True, False])
def test_booleans(path, key, value):
    assert getattr(load(path, {key: value}), key) is value


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


@pytest.mark.parametrize("key", [*Params.model_fields, "margn"])
def test_frozen(key):
    with pytest.raises(ValidationError):
        setattr(Params(), key, 1)


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, (_, outside, _) in RANGES.items() for value in outside]
)
def test_out_of_range(path, key, value):
    assert message(path, {key: value}) == f"{key}: found {value}; accepted: {RANGES[key][2]}"


@pytest.mark.parametrize("key", RANGES)
def test_not_a_number(path, key):
    for found in ('"1"', "true", "false", "[1]", '{"value": 1}', '"a\\nb"'):
        expected = f"{key}: found {found}; accepted: {RANGES[key][2]}"
        assert message(path, f'{{"{key}": {found}}}') == expected


@pytest.mark.parametrize("key", [*INTEGERS, *OPTIONAL_INTEGERS])
def test_float_for_an_integer(path, key):
    for found in ("2.0", "2.5", "10.0"):
        expected = f"{key}: found {found}; accepted: {RANGES[key][2]}"
        assert message(path, f'{{"{key}": {found}}}') == expected


@pytest.mark.parametrize("key", [*FLOATS, *INTEGERS])
def test_null_for_a_number(path, key):
    assert message(path, {key: None}) == f"{key}: found null; accepted: {RANGES[key][2]}"


@pytest.mark.parametrize("key", BOOLEANS)
def test_not_a_boolean(path, key):
    for found in ("0", "1", "0.0", '"true"', '"false"', "null", "[]"):
        expected = f"{key}: found {found}; accepted: true or false"
        assert message(path, f'{{"{key}": {found}}}') == expected


@pytest.mark.parametrize("key", NAMES)
def test_not_a_name(path, key):
    for found in ("0", "null", "true", '["mnist"]'):
        expected = f"{key}: found {found}; accepted: {NAMES[key]}"
        assert message(path, f'{{"{key}": {found}}}') == expected


@pytest.mark.parametrize(
    ("key", "found", "meant"),
    [
        ("dataset", "minst", "mnist"),
        ("dataset", "fashion-mnist", "fashion_mnist"),
        ("network", "naive_cn", "naive_cnn"),
        ("triplet_strategy", "batchall", "batch_all"),
        ("triplet_strategy", "batch_hrd", "batch_hard"),
        ("best_metric", "map_at_r", "map_at_r_within"),
    ],
)
def test_unknown_name_with_a_near_one(path, key, found, meant):
    assert message(path, {key: found}) == (
        f"{key}: found \"{found}\"; accepted: {NAMES[key]}; did you mean '{meant}'?"
    )


@pytest.mark.parametrize("key", NAMES)
def test_unknown_name_like_no_other(path, key):
    expected = f'{key}: found "zzz"; accepted: {NAMES[key]}'
    assert message(path, {key: "zzz"}) == expected


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("margn", "margin"),
        ("Margin", "margin"),
        ("batchsize", "batch_size"),
        ("triplet_stategy", "triplet_strategy"),
        ("learning-rate", "learning_rate"),
        ("num_epoch", "num_epochs"),
    ],
)
def test_unknown_key_with_a_near_one(path, key, meant):
    assert message(path, {key: 1}) == f"unknown key '{key}'; did you mean '{meant}'?"


@pytest.mark.parametrize("key", ["zzzzzz", "a\nb", ""])
def test_unknown_key_like_no_other(path, key):
    assert message(path, {key: 1}) == f"unknown key {key!r}; accepted: the keys of docs/params.md"


@pytest.mark.parametrize("found", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("key", FLOATS)
def test_not_finite(path, key, found):
    accepted = RANGES[key][2].replace("a number", "a finite number")
    expected = f"{key}: found {found}; accepted: {accepted}"
    assert message(path, f'{{"{key}": {found}}}') == expected


def test_too_large_to_be_finite(path):
    expected = "margin: found Infinity; accepted: a finite number greater than 0, or 'soft'"
    assert message(path, '{"margin": 1e999}') == expected


@pytest.mark.parametrize("found", ["NaN", "Infinity"])
def test_not_finite_for_an_integer(path, found):
    line = message(path, f'{{"batch_size": {found}}}')
    assert line.startswith(f"batch_size: found {found}; accepted: ")


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


# Of every JSON type, and such as libraries have words of their own for
VALUES = [
    *(None, True, False, 0, -1, 1, 2**31, 10**15, 10**400, 0.5, -1e300, float("nan"), float("inf")),
    *("", "a", "\x1b[2J\u202eü", "x" * 5000, "nul\0", "\ud800", "soft", "mnist"),
    *([], [[]], [None, 1], ["a", "a"], [0.5], [{}], [True], {}, {"a": 1}, {"number": "soft"}),
]
WORDS_OF_LIBRARIES = re.compile(
    r"[Ii]nput should|valid (string|integer|number|boolean|tuple|list|dictionary)|Augment"
    r"|instance of|should have|unable to parse|greater than or equal|None\b|True\b|Extra inp"
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_every_key_says_what_it_accepts_in_our_words(path, value):
    places = [{key: value} for key in Params.model_fields]
    places += [{key: [value]} for key in Params.model_fields]
    places += [{"augment": {key: value}} for key in Augment.model_fields]
    places += [{"text": value}, {"number": value}, {"augment": {"a.b": value, "": value}}]
    for content in places:
        for text in {json.dumps(content), json.dumps(content, ensure_ascii=False)}:
            try:
                load(path, text.encode(errors="surrogatepass"))
            except UserError as error:
                (line,) = str(error).split("\n")[:1]
                line = line.removeprefix(str(path))
                assert re.search("; accepted: |did you mean", line), line
                assert not WORDS_OF_LIBRARIES.search(line), line
                assert line.isprintable() and len(line) < 450, line
                if "ü" in text and "found" in line and "UTF-8" not in line:
                    assert "ü" in line and r"\u202e" in line, line


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
    assert time.process_time() - started < 1
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


@pytest.mark.parametrize("key", ["image_dir", "image_csv", "image_cache", "weights", "augment"])
@pytest.mark.parametrize("text", [r"x\u0000", r"\ud800", r"a\udfffb"])
def test_text_that_no_file_can_be_named_by(path, key, text):
    line = message(path, f'{{"dataset": "image_folder", "image_size": 8, "{key}": "{text}"}}')
    assert line == f'{key}: found "{text}"; accepted: text without NUL and lone surrogates'
    assert message(path, f'{{"{key}": [["{text}"]]}}').startswith(f'{key}: found "{text}"')
    assert message(path, f'{{"{key}": {{"{text}": 1}}}}').startswith(f'{key}: found "{text}"')


def test_keys_that_are_names_of_alternatives(path):
    assert message(path, {"number": 1}) == "unknown key 'number'; did you mean 'num_labels'?"
    assert message(path, {"augment": {"text": 1}}).startswith("unknown key 'augment.text'; acc")


def test_whole_numbers_that_overflow(path):
    assert load(path, {"num_epochs": 10**12}).num_epochs == 10**12
    assert message(path, {"num_epochs": 10**12 + 1, "augment": {"shift": 10**30}}) == (
        f"augment: found {10**30}; accepted: whole numbers up to 1000000000000\n"
        "num_epochs: found 1000000000001; accepted: whole numbers up to 1000000000000"
    )


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


def test_all_errors_in_one_pass(path):
    content = {"margn": 1, "batch_size": "64", "margin": -1, "dataset": "minst", "squared": True}
    assert sorted(message(path, content).splitlines()) == [
        'batch_size: found "64"; accepted: a whole number from 2 to 65536',
        f"dataset: found \"minst\"; accepted: {NAMES['dataset']}; did you mean 'mnist'?",
        "margin: found -1; accepted: a number greater than 0, or 'soft'",
        "unknown key 'margn'; did you mean 'margin'?",
    ]


def test_duration_keys_are_keys():
    assert set(Params.model_fields) > DURATION_KEYS


def test_differences_are_none_between_equals():
    assert Params(margin=2.0).differences(Params(margin=2.0)) == []


def test_differences_are_sorted_and_without_durations():
    one = Params()
    other = Params(squared=True, margin=2.0, num_epochs=99, eval_size=7, batch_size=8)
    assert one.differences(other) == other.differences(one) == ["batch_size", "margin", "squared"]


def test_of_a_cosine_schedule_the_number_of_epochs_is_no_duration():
    cosine = {"learning_rate_schedule": "cosine"}
    assert Params(**cosine).differences(Params(**cosine, num_epochs=7)) == ["num_epochs"]
    assert Params(**cosine).differences(Params(**cosine, keep_checkpoint_max=7)) == []
    assert Params(num_epochs=7).differences(Params(num_epochs=8)) == []
    assert "num_epochs" in Params(**cosine).differences(Params(num_epochs=7))


def test_live_figures(path):
    assert load(path, {}).live_figures == ()
    assert load(path, {"live_figures": ["progress", "confusion"]}).live_figures == (
        "progress",
        "confusion",
    )
    assert message(path, {"live_figures": ["progres"]}) == (
        "live_figures.0: found \"progres\"; accepted: 'before_after', 'confusion', 'curves', "
        "'distances', 'mistakes', 'pca', 'progress' or 'triplets'; did you mean 'progress'?"
    )
    assert "tsne" in message(path, {"live_figures": ["tsne"]})
    assert message(path, {"live_figures": "progress"}).startswith('live_figures: found "progress"')
    assert message(path, {"live_figures": [1]}).startswith(
        "live_figures.0: found 1; accepted: 'before_after', "
    )


def test_extra_classes(path):
    assert load(path, {}).extra_classes == ()
    assert load(path, {"extra_classes": ["rot90", "mirror"]}).extra_classes == ("rot90", "mirror")
    assert message(path, {"extra_classes": ["rot9"]}) == (
        "extra_classes.0: found \"rot9\"; accepted: 'mirror', 'mirror_rot180', "
        "'mirror_rot270', 'mirror_rot90', 'rot180', 'rot270' or 'rot90'; "
        "did you mean 'rot90'?"
    )
    assert message(path, {"extra_classes": ["rot90", "rot90"]}) == (
        'extra_classes: found ["rot90", "rot90"]; accepted: each pose once'
    )


@pytest.mark.parametrize("found", [[8, 9], ["8", "9"], [0, "sandal", 3]])
def test_holdout_classes(path, found):
    assert load(path, {"holdout_classes": found}).holdout_classes == found


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ([8], "holdout_classes: found [8]; accepted: a list of at least 2, each a whole number "),
        ([8, -1], "holdout_classes.1: found -1; accepted: a whole number from 0 on, or text"),
        ([8, 1.5], "holdout_classes.1: found 1.5; accepted: a whole number from 0 on, or text"),
        ([True, 8], "holdout_classes.0: found true; accepted: a whole number from 0 on, or text"),
        (8, "holdout_classes: found 8; accepted: a list of at least 2, each a whole number from 0"),
    ],
)
def test_holdout_classes_that_cannot_be(path, found, line):
    assert message(path, {"holdout_classes": found}).startswith(line)


def test_learning_rate_schedule(path):
    assert load(path, {"learning_rate_schedule": "cosine"}).learning_rate_schedule == "cosine"
    assert message(path, {"learning_rate_schedule": "linear"}) == (
        "learning_rate_schedule: found \"linear\"; accepted: 'constant' or 'cosine'"
    )


def test_the_size_of_images_is_a_choice_only_where_they_are_brought_to_it():
    assert Params(image_size=28).differences(Params()) == []
    small, large = (Params(dataset="image_folder", image_size=size) for size in (32, 64))
    assert small.differences(large) == ["image_size"]
    assert small.differences(small.model_copy(update={"image_cache": "elsewhere"})) == []


def test_the_schema_is_up_to_date():
    assert SCHEMA_PATH == ROOT / "experiments" / "params.schema.json"
    assert SCHEMA_PATH.read_text() == json_schema(), "write it again: make schema"


def test_soft_margin(path):
    assert load(path, {"margin": "soft", "triplet_strategy": "batch_hard"}).margin == "soft"
    for wrong in ({}, {"triplet_strategy": "batch_hard", "warmup_strategy": "batch_all"}):
        line = message(path, {"margin": "soft", "warmup_steps": len(wrong) // 2, **wrong})
        assert line.startswith('margin: found "soft"; accepted: a number; "soft" only with the ')


@pytest.mark.parametrize(
    ("content", "distance"),
    [
        ({}, "euclidean"),
        ({"squared": True}, "squared_euclidean"),
        ({"distance": "cosine"}, "cosine"),
        ({"distance": "mean_squared", "squared": False}, "mean_squared"),
        ({"distance": "squared_euclidean", "squared": True}, "squared_euclidean"),
        ({"distance": None, "squared": True}, "squared_euclidean"),
    ],
)
def test_distance_and_squared(path, content, distance):
    assert load(path, content).distance_name == distance


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"squared": True, "distance": "cosine"},
            "squared: found true; accepted: false, because distance is 'cosine'",
        ),
        (
            {"distance": "manhattan"},
            "distance: found \"manhattan\"; accepted: 'euclidean', 'squared_euclidean', "
            "'mean_squared' or 'cosine', or null",
        ),
        (
            {"classes_per_batch": 10},
            "examples_per_class: found null; accepted: both classes_per_batch and "
            "examples_per_class, or neither",
        ),
        (
            {"examples_per_class": 4},
            "classes_per_batch: found null; accepted: both classes_per_batch and "
            "examples_per_class, or neither",
        ),
        (
            {"warmup_steps": 100},
            "warmup_strategy: found null; accepted: both warmup_strategy and warmup_steps, or "
            "neither",
        ),
        (
            {"warmup_strategy": "batch_all"},
            "warmup_steps: found 0; accepted: both warmup_strategy and warmup_steps, or neither",
        ),
        (
            {"augment": {"shift": -1}},
            "augment.shift: found -1; accepted: a whole number from 0 on",
        ),
        (
            {"dataset": "image_folder"},
            "image_size: found null; accepted: a whole number from 1 on: the size, in pixels, to "
            "which image_folder resizes pictures",
        ),
        (
            {"image_mode": "L"},
            "image_mode: found \"L\"; accepted: no value with dataset 'mnist', because only "
            "'image_folder' can use it",
        ),
        (
            {"weights": "imagenet"},
            "weights: found \"imagenet\"; accepted: no value with network 'naive_cnn', because "
            "only 'keras_application' can use it",
        ),
        (
            {"network": "keras_application", "application": "Resnet50"},
            'application: found "Resnet50"; accepted: the name of a network in keras.applications; '
            "did you mean 'ResNet50'?",
        ),
        (
            {"network": "keras_application", "frozen_layers": -1},
            "frozen_layers: found -1; accepted: a whole number from 0 on, or text",
        ),
        (
            {"network": "keras_application", "frozen_layers": True},
            "frozen_layers: found true; accepted: a whole number from 0 on, or text",
        ),
        (
            {"network": "keras_application", "resize": "crop"},
            "resize: found \"crop\"; accepted: 'scale' or 'pad'",
        ),
        (
            {"augment": {"crop": 0}},
            "augment.crop: found 0; accepted: a number greater than 0 and at most 1",
        ),
        ({"augment": {"flip": 1}}, "augment.flip: found 1; accepted: true or false"),
        ({"augment": {"flp": True}}, "unknown key 'augment.flp'; did you mean 'flip'?"),
        (
            {"augment": {"zzz": 1}},
            "unknown key 'augment.zzz'; accepted: crop, elastic, erasing, flip, rotation, shift",
        ),
    ],
)
def test_keys_that_do_not_go_together(path, content, line):
    assert message(path, content) == line


@pytest.mark.parametrize("sizes", [[], [64], [128, 128]])
def test_hidden_sizes(path, sizes):
    params = load(path, {"network": "mlp", "hidden_sizes": sizes})
    assert params.hidden_sizes == tuple(sizes)
    save_params(path, params)
    assert load_params(path) == params


@pytest.mark.parametrize(
    ("found", "key", "accepted"),
    [
        ("64", "hidden_sizes", "a list, each a whole number from 1 to 65536"),
        ('"64"', "hidden_sizes", "a list, each a whole number from 1 to 65536"),
        ("null", "hidden_sizes", "a list, each a whole number from 1 to 65536"),
        ("[64, 0]", "hidden_sizes.1", "a whole number from 1 to 65536"),
        ("[65537]", "hidden_sizes.0", "a whole number from 1 to 65536"),
        ("[64.0]", "hidden_sizes.0", "a whole number from 1 to 65536"),
        ('["64"]', "hidden_sizes.0", "a whole number from 1 to 65536"),
        ("[true]", "hidden_sizes.0", "a whole number from 1 to 65536"),
    ],
)
def test_wrong_hidden_sizes(path, found, key, accepted):
    text = f'{{"hidden_sizes": {found}}}'
    value = found.strip("[]").split(", ")[-1] if "." in key else found
    assert message(path, text) == f"{key}: found {value}; accepted: {accepted}"


@pytest.mark.parametrize("activation", ["linear", "relu", "sigmoid", "tanh"])
def test_embedding_activation(path, activation):
    content = {"network": "mlp", "embedding_activation": activation}
    assert load(path, content).embedding_activation == activation
    assert message(path, {"embedding_activation": "sine"}) == (
        "embedding_activation: found \"sine\"; accepted: 'linear', 'relu', 'sigmoid' or 'tanh'; "
        "did you mean 'linear'?"
    )


@pytest.mark.parametrize("mining", ["random", "hard", "semihard"])
def test_offline_mining(path, mining):
    content = {"triplet_strategy": "offline", "offline_mining": mining}
    params = load(path, {**content, "augment": {"shift": 1}})
    assert params.is_offline and params.offline_mining == mining
    if mining != "random":
        assert load(path, {**content, "remine_epochs": 5}).remine_epochs == 5


OFFLINE = {"triplet_strategy": "offline"}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            {"offline_mining": "hard"},
            "offline_mining: found \"hard\"; accepted: 'random', or triplet_strategy 'offline'",
        ),
        (
            {**OFFLINE, "offline_mining": "hrd"},
            "offline_mining: found \"hrd\"; accepted: 'random', 'hard' or 'semihard'; "
            "did you mean 'hard'?",
        ),
        (
            {**OFFLINE, "remine_epochs": 2},
            "remine_epochs: found 2; accepted: 1, or offline_mining 'hard' or 'semihard'",
        ),
        (
            {"remine_epochs": 2},
            "remine_epochs: found 2; accepted: 1, or offline_mining 'hard' or 'semihard'",
        ),
        (
            {**OFFLINE, "warmup_strategy": "batch_all", "warmup_steps": 100},
            'warmup_strategy: found "batch_all"; accepted: null, because triplet_strategy '
            "'offline' trains on triplets, not batches",
        ),
        (
            {"warmup_strategy": "offline", "warmup_steps": 100},
            "warmup_strategy: found \"offline\"; accepted: 'batch_all', 'batch_hard' or "
            "'batch_semihard'",
        ),
        (
            {**OFFLINE, "classes_per_batch": 10, "examples_per_class": 4},
            "classes_per_batch: found 10; accepted: null, because with triplet_strategy 'offline' "
            "a batch is batch_size triplets",
        ),
        (
            {**OFFLINE, "margin": "soft"},
            'margin: found "soft"; accepted: a number; "soft" only with the strategy '
            "'batch_hard', because softplus makes every triplet positive",
        ),
    ],
)
def test_keys_that_do_not_go_with_offline_triplets(path, content, line):
    assert message(path, content) == line


def test_the_schema_describes_every_key():
    properties = json.loads(json_schema())["properties"]
    assert set(properties) == {"$schema", *Params.model_fields}
    assert all(properties[key].get("description") for key in Params.model_fields)
    assert properties["dataset"]["enum"] == ["cifar10", "fashion_mnist", "image_folder", "mnist"]
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


def test_the_reference_is_up_to_date_and_has_every_key():
    assert TABLE_PATH == ROOT / "docs" / "params.md"
    text = TABLE_PATH.read_text()
    assert text == markdown(), "write it again: make schema"
    for key, field in [*Params.model_fields.items(), *Augment.model_fields.items()]:
        assert f"| `{key}` | " in text
        assert f" | {field.description} |\n" in text


def test_which_keys_matter_is_declared_with_the_keys():
    free = {
        *("num_parallel_calls", "image_size", "num_labels", "train_size", "eval_size"),
        *("save_summary_steps", "keep_checkpoint_max", "live_figures", "image_cache"),
    }
    assert keys_with(Role.WITHOUT_EFFECT) == free
    assert (
        keys_with(Role.MAY_CHANGE)
        == DURATION_KEYS
        == free
        | {
            *("num_epochs", "save_checkpoints_steps", "patience_evaluations", "on_duplicates"),
        }
    )
    assert keys_with(Role.FINDS_DATA) == {
        *("dataset", "image_size", "validation_fraction", "validation_by"),
        *("holdout_classes", "on_duplicates"),
    }
    assert keys_with(Role.CHECKS_DATA) == {
        *("num_labels", "train_size", "eval_size"),
        *("classes_per_batch", "examples_per_class", "extra_classes"),
    }
