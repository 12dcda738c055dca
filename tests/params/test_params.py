"""The keys of params.json: the values that each accepts, and the line for any other value."""

import json
import re

import pytest
from params_file import PUBLIC, load, message
from pydantic import ValidationError

from src.errors import UserError
from src.params.kinds import Role
from src.params.metric_names import BEST_METRICS
from src.params.reading import load_params, save_params
from src.params.schema import MAY_CHANGE_KEYS, Augment, Params, keys_with

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
    "distance_weighted_cutoff": ([1e-9, 1.9], [0, 2], "a number greater than 0 and less than 2"),
    "distance_weighted_farthest": (
        [1e-9, 2.0],
        [0, 2.1],
        "a number greater than 0 and at most 2",
    ),
    "easy_positive_temperature": POSITIVE,
    "multi_similarity_alpha": POSITIVE,
    "multi_similarity_beta": POSITIVE,
    "multi_similarity_base": ([-1, 1], [-1.1, 1.1], "a number from -1 to 1"),
    "multi_similarity_epsilon": ([0], [-0.1], "a number from 0 on"),
    "supervised_contrastive_temperature": POSITIVE,
    "learning_rate": POSITIVE,
    "learning_rate_drop_factor": ([0.1, 0.5], [0, 1], "a number greater than 0 and less than 1"),
    "momentum": SHARE_OR_NONE,
    "weight_decay": SHARE_OR_NONE,
}
OPTIONAL_FLOATS = {
    "ema_decay": ([0.5, 0.9999], [0, 1], "a number greater than 0 and less than 1, or null"),
    "embedding_whitening": (
        [1e-9, 1],
        [0, 1.1],
        "a number greater than 0 and at most 1, or null",
    ),
    "clip_norm": ([0.5, 100.0], [0, -1.0], "a number greater than 0, or null"),
    "extra_share": ([0.25, 0.75], [0, 1], "a number greater than 0 and less than 1, or null"),
}
INTEGERS = {
    "seed": ([0, 2147483647], [-1, 2147483648], "a whole number from 0 to 2147483647"),
    "num_blocks": ([1, 6], [0, 7], "a whole number from 1 to 6"),
    "convolutions_per_block": ([1, 8], [0, 9], "a whole number from 1 to 8"),
    "num_channels": ([1, 1024], [0, 1025], "a whole number from 1 to 1024"),
    "embed_views": ([1, 9], [0, 10], "a whole number from 1 to 9"),
    "embedding_size": ([1, 8192], [0, 8193], "a whole number from 1 to 8192"),
    "batch_size": ([2, 65536], [1, 65537], "a whole number from 2 to 65536"),
    "warmup_steps": ([0], [-1], "a whole number from 0 on"),
    "memory_size": ([0, 1048576], [-1, 1048577], "a whole number from 0 to 1048576"),
    "memory_start_steps": ([0], [-1], "a whole number from 0 on"),  # more with a memory, below
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
    "micro_batch_size": AT_LEAST_ONE_OR_NULL,
    "classes_per_batch": ([], [1], "a whole number from 2 on, or null"),
    "examples_per_class": ([], [1], "a whole number from 2 on, or null"),
    "near_duplicates": ([0, 16], [-1, 17], "a whole number from 0 to 16, or null"),
}
BOOLEANS = (
    "use_batch_norm",
    "l2_normalize",
    "squared",
    "stop_on_collapse",
    "deterministic",
    "exclude_same_group",
)
NAMES = {
    "dataset": "'cars196', 'cifar10', 'cub200', 'fashion_mnist', 'glyphs', 'hugging_face', "
    "'image_folder', 'mnist', 'npz', 'sop' or 'tfds'",
    "network": "'efficientnet_lite0', 'keras_application', 'mlp' or 'naive_cnn'",
    "triplet_strategy": "'batch_all', 'batch_hard', 'batch_semihard', 'distance_weighted', "
    "'easy_positive', 'multi_similarity', 'offline' or 'supervised_contrastive'",
    "optimizer": "'adam', 'adamw' or 'sgd'",
    "best_metric": ", ".join(f"'{name}'" for name in sorted(BEST_METRICS)[:-1])
    + f" or '{max(BEST_METRICS)}'",
}
# Tested by themselves, below
OTHERS = (
    *("application", "augment", "compute_dtype", "distance", "easy_positive_negative"),
    *(
        "embedding_activation",
        "extra_classes",
        "extra_data",
        "frozen_layers",
        "init_from",
        "last_layer",
    ),
    "pooling",
    *("hidden_sizes", "holdout_classes", "image_cache", "image_csv", "image_dir", "image_mode"),
    *(
        "image_resize",
        "learning_rate_drop_steps",
        "learning_rate_schedule",
        "live_figures",
        "offline_mining",
        "on_bad_image",
        "on_duplicates",
        "resize",
        "validation_by",
    ),
    *("warmup_strategy", "weights"),
    *("tfds_name", "tfds_data_dir", "hf_name", "hf_config", "image_column", "label_column"),
    *("group_column", "npz_file"),
)
_MULTI_SIMILARITY = {"triplet_strategy": "multi_similarity", "distance": "cosine"}
_OF_MULTI_SIMILARITY = ("alpha", "beta", "base", "epsilon")
# What goes with keys that only one dataset, network or strategy reads.
OWNER = {
    "bn_momentum": {"use_batch_norm": True},
    "dropout": {"network": "mlp"},
    "hidden_sizes": {"network": "mlp"},
    "embedding_activation": {"network": "mlp"},
    "test_fraction": {"dataset": "image_folder", "image_size": 28},
    "input_size": {"network": "keras_application"},
    "learning_rate_drop_factor": {
        "learning_rate_schedule": "steps",
        "learning_rate_drop_steps": [9],
    },
    "momentum": {"optimizer": "sgd"},
    "extra_share": {
        "extra_data": [{"dataset": "glyphs"}],
        "classes_per_batch": 4,
        "examples_per_class": 2,
    },
    "weight_decay": {"optimizer": "adamw"},
    "distance_weighted_cutoff": {"triplet_strategy": "distance_weighted"},
    "distance_weighted_farthest": {"triplet_strategy": "distance_weighted"},
    "easy_positive_temperature": {"triplet_strategy": "easy_positive", "margin": "soft"},
    **{f"multi_similarity_{name}": _MULTI_SIMILARITY for name in _OF_MULTI_SIMILARITY},
    "supervised_contrastive_temperature": {
        "triplet_strategy": "supervised_contrastive",
        "distance": "cosine",
    },
}
RANGES = {**FLOATS, **OPTIONAL_FLOATS, **INTEGERS, **OPTIONAL_INTEGERS}


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


@pytest.mark.parametrize("key", [*OPTIONAL_FLOATS, *OPTIONAL_INTEGERS])
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
    "key", ["image_dir", "image_csv", "image_cache", "weights", "init_from", "augment"]
)
@pytest.mark.parametrize("text", [r"x\u0000", r"\ud800", r"a\udfffb"])
def test_text_that_no_file_can_be_named_by(path, key, text):
    line = message(path, f'{{"dataset": "image_folder", "image_size": 8, "{key}": "{text}"}}')
    assert line == f'{key}: found "{text}"; accepted: text without NUL and lone surrogates'
    assert message(path, f'{{"{key}": [["{text}"]]}}').startswith(f'{key}[0].0: found "{text}"')
    assert message(path, f'{{"{key}": {{"{text}": 1}}}}').startswith(f'{key}: found "{text}"')


def test_the_cache_of_pictures_may_be_in_several_folders(path):
    pictures = {"dataset": "image_folder", "image_size": 8}
    assert load(path, {**pictures, "image_cache": ["a", "/mnt/b"]}).image_cache == ("a", "/mnt/b")
    text = "text that is not empty"
    accepted = f"accepted: {text}, or a list of at least 1, each {text}, or null"
    for value in (3, "", [], {"text": 1}):
        line = message(path, {**pictures, "image_cache": value})
        assert line == f"image_cache: found {json.dumps(value)}; {accepted}"
    for wrong in (1, ""):
        line = message(path, {**pictures, "image_cache": ["a", wrong]})
        assert line == f"image_cache.1: found {json.dumps(wrong)}; accepted: {text}"


@pytest.mark.parametrize(("dataset", "key"), [("tfds", "tfds_name"), ("hugging_face", "hf_name")])
def test_datasets_of_other_libraries_need_a_name(path, dataset, key):
    given = {"dataset": dataset, "image_size": 8}
    assert message(path, given).startswith(f"{key}: found null; accepted: a ")
    line = message(path, {**given, key: ""})
    assert line == f'{key}: found ""; accepted: text that is not empty, or null'
    assert getattr(load(path, {**given, key: "x"}), key) == "x"
    assert f"{key}: found " in message(path, {key: "x"})  # mnist does not read it


@pytest.mark.parametrize(
    ("params", "line"),
    [
        (
            {"memory_size": 63},
            "memory_size: found 63; accepted: 0, or at least 64, the images of a batch",
        ),
        (
            {"memory_size": 19, "classes_per_batch": 5, "examples_per_class": 4},
            "memory_size: found 19; accepted: 0, or at least 20, the images of a batch",
        ),
        (
            {"memory_size": 64, "triplet_strategy": "offline"},
            "memory_size: found 64; accepted: 0, because triplet_strategy 'offline' chooses its "
            "triplets before the step",
        ),
        (
            {"memory_start_steps": 1},
            "memory_start_steps: found 1; accepted: 0, or a memory_size",
        ),
        (
            {"micro_batch_size": 8, "use_batch_norm": True},
            "micro_batch_size: found 8; accepted: null, because use_batch_norm normalizes over the "
            "whole batch",
        ),
    ],
)
def test_what_a_memory_and_parts_of_a_batch_need(path, params, line):
    assert message(path, params) == line


def test_a_memory_as_large_as_a_batch(path):
    assert load(path, {"memory_size": 64, "memory_start_steps": 9}).memory_size == 64
    pairs = {"classes_per_batch": 5, "examples_per_class": 4}
    assert load(path, {"memory_size": 20, **pairs}).memory_size == 20


def test_keys_that_are_names_of_alternatives(path):
    assert message(path, {"number": 1}) == "unknown key 'number'; did you mean 'num_labels'?"
    assert message(path, {"augment": {"text": 1}}).startswith("unknown key 'augment.text'; acc")


def test_whole_numbers_that_overflow(path):
    assert load(path, {"num_epochs": 10**12}).num_epochs == 10**12
    assert message(path, {"num_epochs": 10**12 + 1, "augment": {"shift": 10**30}}) == (
        f"augment.shift: found {10**30}; accepted: whole numbers up to 1000000000000\n"
        "num_epochs: found 1000000000001; accepted: whole numbers up to 1000000000000"
    )


@pytest.mark.parametrize(
    "content", [{"margin": 3.5e38}, {"margin": 1e-46}, {"augment": {"elastic": 1e300}}]
)
def test_numbers_that_float32_does_not_have(path, content):
    assert load(path, {"margin": 3.4e38}).margin == 3.4e38
    name = "margin" if "margin" in content else "augment.elastic"
    accepted = "; accepted: 0, or numbers from 1.1755e-38 to 3.4028e+38, as float32 has them"
    line = message(path, content)
    assert line.startswith(f"{name}: found ") and line.endswith(accepted)


def test_all_errors_in_one_pass(path):
    content = {"margn": 1, "batch_size": "64", "margin": -1, "dataset": "minst", "squared": True}
    assert sorted(message(path, content).splitlines()) == [
        'batch_size: found "64"; accepted: a whole number from 2 to 65536',
        f"dataset: found \"minst\"; accepted: {NAMES['dataset']}; did you mean 'mnist'?",
        "margin: found -1; accepted: a number greater than 0, or 'soft'",
        "unknown key 'margn'; did you mean 'margin'?",
    ]


def test_duration_keys_are_keys():
    assert set(Params.model_fields) > MAY_CHANGE_KEYS


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


@pytest.mark.parametrize("found", [[8, 9], ["8", "9"], [0, "sandal", 3], 0.5, 0.01])
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
        *(
            (
                share,
                f"holdout_classes: found {share}; accepted: a list of at least 2, each a whole "
                "number from 0 on, or text, or a number greater than 0 and less than 1, or null",
            )
            for share in (0, 1, 1.5, -0.5)
        ),
        ("a", 'holdout_classes: found "a"; accepted: a list of at least 2, each a whole number '),
    ],
)
def test_holdout_classes_that_cannot_be(path, found, line):
    assert message(path, {"holdout_classes": found}).startswith(line)


def test_compute_dtype(path):
    assert load(path, {"compute_dtype": "bfloat16"}).compute_dtype == "bfloat16"
    assert message(path, {"compute_dtype": "half"}) == (
        "compute_dtype: found \"half\"; accepted: 'float32', 'bfloat16' or 'float16'"
    )


def test_learning_rate_drop_steps(path):
    line = message(path, {"learning_rate_drop_steps": 9})
    assert line == (
        "learning_rate_drop_steps: found 9; accepted: a list, each a whole number from 1 on"
    )
    line = message(path, {"learning_rate_drop_steps": [9, 0.5]})
    assert line == "learning_rate_drop_steps.1: found 0.5; accepted: a whole number from 1 on"


def test_learning_rate_schedule(path):
    assert load(path, {"learning_rate_schedule": "cosine"}).learning_rate_schedule == "cosine"
    assert message(path, {"learning_rate_schedule": "linear"}) == (
        "learning_rate_schedule: found \"linear\"; accepted: 'constant', 'cosine' or 'steps'"
    )


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


def test_which_keys_matter_is_declared_with_the_keys():
    free = {
        *("num_parallel_calls", "image_size", "num_labels", "train_size", "eval_size"),
        *("save_summary_steps", "keep_checkpoint_max", "live_figures", "image_cache"),
        *("near_duplicates", "tfds_data_dir"),
    }
    assert keys_with(Role.WITHOUT_EFFECT) == free
    assert (
        keys_with(Role.MAY_CHANGE)
        == MAY_CHANGE_KEYS
        == free
        | {
            *("num_epochs", "save_checkpoints_steps", "patience_evaluations", "on_duplicates"),
        }
    )
    assert keys_with(Role.FINDS_DATA) == {
        *("dataset", "image_size", "validation_fraction", "validation_by"),
        *("holdout_classes", "on_duplicates", "exclude_same_group", "extra_data"),
    }
    assert keys_with(Role.CHECKS_DATA) == {
        *("num_labels", "train_size", "eval_size"),
        *(
            "classes_per_batch",
            "examples_per_class",
            "extra_classes",
            "extra_share",
            "network",
            "augment",
            "embed_views",
        ),
        "embedding_whitening",
    }


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"dropout": 0.5}, "dropout"),
        ({"use_batch_norm": True}, "use_batch_norm"),
    ],
)
def test_layers_between_no_hidden_layers_are_refused(path, content, key):
    keys = {"network": "mlp", "hidden_sizes": [], **content}
    assert message(path, keys).startswith(f"{key}: found ")
    assert load(path, {**keys, "hidden_sizes": [8]})


@pytest.mark.parametrize(
    ("own", "extra"),
    [
        ({"dataset": "image_folder", "image_dir": "a"}, {"image_dir": "./a"}),
        ({"dataset": "image_folder", "image_dir": "a/b"}, {"image_dir": "a/x/../b/"}),
        ({"dataset": "glyphs"}, {"dataset": "npz", "npz_file": "glyphs/glyphs.npz"}),
    ],
)
def test_another_spelling_of_the_same_dataset_is_no_other(path, own, extra):
    content = {**own, "extra_data": [{"dataset": "image_folder", **extra}]}
    if own["dataset"] == "image_folder":
        content["image_size"] = 8
    found = message(path, content)
    assert "accepted: another dataset, because the experiment's own dataset is the same" in found
