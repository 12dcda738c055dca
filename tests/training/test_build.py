"""The Estimator's configuration follows the params; no graph is built."""

import pytest

from model.training.build import build_estimator
from src.experiment.experiment import Experiment
from src.params.schema import Params


@pytest.mark.parametrize(("given", "expected"), [(None, 7), (5, 5)])
def test_checkpoints_are_saved_every_so_many_steps(given, expected, tmp_path):
    params = Params(save_checkpoints_steps=given, save_summary_steps=3, keep_checkpoint_max=2)
    config = build_estimator(Experiment(tmp_path), params, steps_per_epoch=7).config
    assert config.save_checkpoints_steps == expected  # by default, once an epoch
    assert config.save_checkpoints_secs is None
    assert (config.save_summary_steps, config.keep_checkpoint_max) == (3, 2)
