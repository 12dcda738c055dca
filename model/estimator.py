"""Provides the Estimator API, with TensorFlow that has `tf.estimator` (2.15) or not (2.16 on).

The modules of `model/` that train import `tf`, `keras` (always Keras 2) and `estimator` from here.
The losses (`model/triplet_loss.py` and what it imports) need TensorFlow alone, and import that.
Reasons and details: docs/decisions/0001-estimator.md, 0029-doors-out.md.
"""

import importlib
import importlib.util
import sys
import types

import tensorflow as tf
from tensorflow.python.util import tf_export

from src.experiment.tags import tag_of


def _local_estimator_training() -> types.ModuleType:
    """Replace `tensorflow.python.distribute.estimator_training`, which TensorFlow dropped.

    That module decides whether the distribute coordinator drives a run. On one machine it never
    does, so the answer "no" is enough.
    """

    def init_run_config(config, tf_config):  # noqa: ANN001, ANN202
        if tf_config.get("cluster"):
            raise NotImplementedError(
                "a distribution strategy over several machines (TF_CONFIG) is not supported "
                f"with TensorFlow {tf.__version__}: unset TF_CONFIG, or use one machine"
            )
        config._distribute_coordinator_mode = None
        config._init_distributed_setting_from_environment_var(tf_config)
        config._maybe_overwrite_session_config_for_distributed_training()

    module = types.ModuleType("tensorflow.python.distribute.estimator_training")
    module.init_run_config = init_run_config
    module.should_run_distribute_coordinator = lambda config: False
    return module


def _restored_estimator() -> types.SimpleNamespace:
    """Restore what tensorflow-estimator 2.15 needs but later TensorFlow lacks, then import it."""
    tf_export.ESTIMATOR_API_NAME = "estimator"
    for attributes, suffix in ((tf_export.API_ATTRS, ""), (tf_export.API_ATTRS_V1, "_v1")):
        attributes["estimator"] = tf_export._Attributes(
            f"_estimator_api_names{suffix}", f"_estimator_api_constants{suffix}"
        )
    training = _local_estimator_training()
    sys.modules[training.__name__] = training

    # The package's own __init__ imports every canned estimator, and some of these imports fail. An
    # empty package in its place lets Python find the modules, and only the needed ones run.
    package = types.ModuleType("tensorflow_estimator")
    package.__path__ = list(importlib.util.find_spec(package.__name__).submodule_search_locations)
    sys.modules[package.__name__] = package

    names = {
        "estimator": ["Estimator"],
        "export.export": ["TensorServingInputReceiver"],
        "exporter": ["BestExporter", "Exporter"],
        "mode_keys": ["ModeKeys"],
        "model_fn": ["EstimatorSpec"],
        "run_config": ["RunConfig"],
        "training": ["EvalSpec", "TrainSpec", "train_and_evaluate"],
    }
    api = types.SimpleNamespace()
    for module_name, exported in names.items():
        module = importlib.import_module(f"{package.__name__}.python.estimator.{module_name}")
        for name in exported:
            setattr(api, name, getattr(module, name))
    # The same place as in TensorFlow's own API
    api.export = types.SimpleNamespace(TensorServingInputReceiver=api.TensorServingInputReceiver)
    return api


def global_step() -> tf.Tensor:
    """Return the global step of the Estimator's graph, an integer scalar."""
    return tf.compat.v1.train.get_or_create_global_step()


def _write_defined_curves(api: types.SimpleNamespace) -> None:
    """Make evaluations write curves by their tags, without counts and undefined values.

    An undefined value is NaN as a tensor; an undefined loss is 0, because there was no triplet.
    """
    module = sys.modules[api.Estimator.__module__]
    write = module._write_dict_to_summary

    def write_defined(output_dir, dictionary, current_global_step):  # noqa: ANN001, ANN202
        kept = {
            tag_of(key): value
            for key, value in dictionary.items()
            if value == value  # NaN is unequal to itself
            and key != "global_step"
            and not key.startswith("num_")
        }
        if dictionary.get("num_valid_triplets") == 0:
            kept.pop(tag_of("loss"), None)
        write(output_dir, kept, current_global_step)

    module._write_dict_to_summary = write_defined


# Layers of Keras 3 do not work in the Estimator's graph. tf_keras is Keras 2. It is optional with
# TensorFlow 2.15, whose own Keras is also Keras 2.
keras = importlib.import_module("tf_keras") if importlib.util.find_spec("tf_keras") else tf.keras
estimator = tf.estimator if hasattr(tf, "estimator") else _restored_estimator()
_write_defined_curves(estimator)
