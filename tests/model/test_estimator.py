"""The door to the Estimator API: what it hands out, on whichever TensorFlow is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.estimator import estimator, keras, tf

ROOT = Path(__file__).parent.parent.parent


def test_estimator_is_handed_out():
    for name in ("Estimator", "EstimatorSpec", "ModeKeys", "RunConfig", "TrainSpec", "EvalSpec"):
        assert hasattr(estimator, name)
    assert estimator.Estimator.__module__.startswith("tensorflow_estimator.")


def test_keras_is_keras_2():
    assert keras.__version__.startswith("2.")


AS_A_LIBRARY = """
import gc, os, sys
import h5py, sklearn, tensorflow  # these set variables themselves

def settings():
    return dict(os.environ), gc.get_threshold(), gc.get_freeze_count()

before = settings()
import model.input_fn, model.model_fn, model.triplet_loss
assert settings() == before

from model.estimator import tf
from src.params.schema import Params
if not hasattr(tf, "estimator"):
    assert not [name for name in sys.modules if ".canned.dnn" in name]
with tf.Graph().as_default():
    images = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 1])
    labels = tf.compat.v1.placeholder(tf.int32, [None])
    spec = model.model_fn.model_fn(images, labels, "eval", Params())
    assert spec.loss.shape == [] and "recall_at_1_within" in spec.eval_metric_ops
"""


@pytest.mark.system
def test_an_import_leaves_the_process_alone_and_needs_no_settings():
    """What programs set for themselves is for nobody else: neither variables nor the collector."""
    of_programs = {"TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL"}
    environment = {key: value for key, value in os.environ.items() if key not in of_programs}
    subprocess.run([sys.executable, "-c", AS_A_LIBRARY], cwd=ROOT, env=environment, check=True)


def test_several_machines_are_refused_by_name(monkeypatch):
    if hasattr(tf, "estimator"):
        pytest.skip("this TensorFlow has the distribute coordinator's part for the Estimator")
    monkeypatch.setenv(
        "TF_CONFIG",
        '{"cluster": {"chief": ["127.0.0.1:1"], "worker": ["127.0.0.1:2"]},'
        ' "task": {"type": "chief", "index": 0}}',
    )
    with pytest.raises(NotImplementedError, match="TF_CONFIG"):
        estimator.RunConfig(train_distribute=tf.distribute.MirroredStrategy(["CPU:0"]))


def test_mirrored_strategy_on_one_machine_is_configured():
    config = estimator.RunConfig(train_distribute=tf.distribute.MirroredStrategy(["CPU:0"]))
    assert config.is_chief
    assert config.num_worker_replicas == 1
