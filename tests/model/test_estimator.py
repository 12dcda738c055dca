"""The door to the Estimator API: what it hands out, on whichever TensorFlow is installed."""

import subprocess
import sys

import pytest

from model.estimator import estimator, keras, tf


def test_estimator_is_handed_out():
    for name in ("Estimator", "EstimatorSpec", "ModeKeys", "RunConfig", "TrainSpec", "EvalSpec"):
        assert hasattr(estimator, name)
    assert estimator.Estimator.__module__.startswith("tensorflow_estimator.")


def test_keras_is_keras_2():
    assert keras.layers.Layer.__module__.split(".")[0] in ("tf_keras", "keras")
    assert hasattr(keras.Model, "get_updates_for")


def test_canned_estimators_are_not_imported():
    code = (
        "import sys, model.estimator\n"
        "if not hasattr(model.estimator.tf, 'estimator'):\n"
        "    assert not [m for m in sys.modules if '.canned.dnn' in m]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
