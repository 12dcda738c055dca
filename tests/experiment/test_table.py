"""Metrics as text."""

import pytest

from src.experiment.table import (
    format_metrics,
    format_number,
    format_splits,
    format_table,
    queries_notes,
    threshold_notes,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (1234567, "1234567"),
        (0.0, "0"),
        (1.0, "1"),
        (0.5, "0.5"),
        (0.123456, "0.1235"),
        (-0.123456, "-0.1235"),
        (99.996, "100"),
        (1234.5, "1234"),  # the even neighbour of a half
        (0.00001234567, "1.235e-05"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (None, "-"),
    ],
)
def test_number(value, expected):
    assert format_number(value) == expected


def test_metrics_on_one_line():
    assert format_metrics({"loss": 0.25, "global_step": 782}) == "loss 0.25  global_step 782"
    assert format_metrics({"map_at_r_within": None, "loss": 0.0}) == "map_at_r_within -  loss 0"
    assert format_metrics({}) == ""


def test_table():
    rows = [["train", "0.5", "1"], ["validation", "0.25", "1234"]]
    assert format_table(["split", "loss", "n"], rows).split("\n") == [
        "split       loss     n",
        "train        0.5     1",
        "validation  0.25  1234",
    ]


def test_table_with_a_wide_header_and_without_rows():
    assert format_table(["a", "wide"], [["1", "2"]]) == "a  wide\n1     2"
    assert format_table(["a", "wide"], []) == "a  wide"


def test_table_of_one_column_has_no_blanks_at_the_ends():
    assert format_table(["name"], [["x"], [""]]) == "name\nx\n"


def test_table_with_a_row_that_misses_a_cell():
    with pytest.raises((ValueError, IndexError)):
        format_table(["a", "b"], [["1"]])
    with pytest.raises(ValueError):
        format_table(["a"], [["1", "2"]])


def test_splits_with_their_baselines():
    metrics = {
        "map_at_r_within": 0.912345,
        "recall_at_1_within": 0.98,
        "recall_at_1": 0.98764,
        "loss": 0.25,
        "fraction_positive": 0.0,
        "num_examples": 50000,  # in metrics.json, not in the table
    }
    unseen = {**metrics, "recall_at_1": None}
    baseline = {"map_at_r_within": 0.5, "recall_at_1_within": 0.75}
    table = format_splits(
        {"train": metrics, "unseen": unseen},
        {"untrained": {"unseen": baseline}, "raw_pixels": {"unseen": baseline}},
    )
    assert table.split("\n") == [
        "split         map_at_r_within  recall_at_1_within  recall_at_1  loss  fraction_positive",
        "train                  0.9123                0.98       0.9876  0.25                  0",
        "unseen                 0.9123                0.98            -  0.25                  0",
        "  untrained               0.5                0.75            -     -                  -",
        "  raw_pixels              0.5                0.75            -     -                  -",
    ]
    assert max(map(len, table.split("\n"))) <= 100


def counts(num_examples, within, gallery, clustered_classes=10, nmi=0.5):
    return {
        "num_examples": num_examples,
        "num_queries_within": within,
        "num_queries": gallery,
        "num_clustered_classes": clustered_classes,
        "nmi": nmi,
    }


def test_what_the_metrics_are_over_is_said_where_it_is_not_all():
    [protocols] = queries_notes({"train": counts(9000, 9000, 9000)})
    assert "_within" in protocols
    [_, *notes] = queries_notes(
        {
            "train": counts(50_000, 10_000, 10_000),
            "validation": counts(4000, 0, 4000, clustered_classes=500, nmi=None),
            "test": counts(9000, 8990, 8000, clustered_classes=500),
            "unseen": counts(20_000, 9999, 0),
        }
    )
    assert notes == [
        "(train: the queries are a stratified sample of 10000 images)",
        "(validation: 0 of 4000 queries have another image of their class there)",
        "(test: 8990 of 9000 queries have another image of their class there)",
        "(test: 8000 of 9000 queries have a training image of their class)",
        "(test: nmi and ami are computed on 500 of its classes)",
        "(unseen: the queries are a stratified sample of 10000 images)",
        "(unseen: 9999 of 10000 queries have another image of their class there)",
        "(unseen: 0 of 10000 queries have a training image of their class)",
    ]


def notes(threshold=0.5, auroc=0.9, at=0.25, calibrated_on="unseen classes"):
    return threshold_notes(
        {
            "measured_on": "validation",
            "at": {"far_1e-2": {"threshold": threshold, "test": {"far": 0.02, "tar": None}}},
        },
        {
            "auroc": auroc,
            "why": "the report has no stranger",
            "calibrated_on": calibrated_on,
            "at": {
                "fpir_1e-2": {
                    "threshold": at,
                    "why": "a rate of 1e-2 needs 100 strangers; there are 9",
                    "reported": {"fpir": 0.03, "dir": 0.75},
                }
            },
        },
    )


def test_thresholds_in_two_lines():
    assert notes() == [
        "verification: at distance 0.5 (FAR 0.01 on validation), test has FAR 0.02 and TAR -",
        "open set, strangers are unseen classes: AUROC 0.9; at the threshold for FPIR 0.01: "
        "FPIR 0.03, DIR 0.75",
    ]


def test_what_has_no_threshold_says_why():
    (line,) = notes(threshold=None, at=None)
    assert line.endswith(
        "AUROC 0.9; no threshold for FPIR 0.01: a rate of 1e-2 needs 100 strangers; there are 9"
    )
    assert notes(auroc=None)[1] == "open set: not measured: the report has no stranger"


def test_known_classes_as_strangers_are_said_to_flatter():
    assert notes(calibrated_on="known classes")[1].endswith(
        "(this flatters: set holdout_classes to measure strangers)"
    )


def test_names_of_a_file_from_elsewhere_are_printable():
    text = format_splits({"test\x1b]0;a\x07": {}}, {"b\x1b[31m": {"test\x1b]0;a\x07": {}}})
    assert "\x1b" not in text and "\x07" not in text
