"""A search with `train.py` itself: three trainings of seconds."""

import json

import pytest
from tiny import TINY

import sweep
from src.comparing.results import read_results
from src.experiment.curves import read_curves
from src.searching.record import read_record


@pytest.mark.system
def test_a_search_by_tpe(tmp_path, data_dir):
    parent = tmp_path / "p"
    parent.mkdir()
    (parent / "params.json").write_text(json.dumps({**TINY, "num_epochs": 2}))
    sweep.main(
        [
            *("--parent_dir", str(parent), "--data_dir", str(data_dir), "--search", "tpe"),
            *("--trials", "3", "--param", "margin=0.1..1:log", "--prune", "median"),
        ]
    )
    record = read_record(parent)
    assert [trial.status for trial in record.trials] == ["finished"] * 3
    assert record.winner is not None
    results = {result.model_dir.name: result for result in read_results([parent])}
    for trial in record.trials:
        result = results[trial.name]
        assert result.params.margin == trial.values["margin"]
        assert trial.value == result.metrics["validation.map_at_r_within"]
        # What is reported while it trains is what it has in the end: the best of its evaluations.
        curve = read_curves(parent / trial.name / "eval_validation")["map_at_r_within"][1]
        assert trial.value == max(curve) or abs(trial.value - max(curve)) < 1e-6
