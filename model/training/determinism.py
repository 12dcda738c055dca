"""Trainings that end bit-identical, however often they are interrupted."""

from model.estimator import tf
from src.params.schema import Params


def session_config(params: Params) -> "tf.compat.v1.ConfigProto | None":
    """Return how a run's session computes: as it likes, or always in the same order.

    Batches, augmentation and warm-up are functions of seed and step in any case. What else makes
    two runs differ are sums whose order depends on which thread is first. With `deterministic`
    there is one thread, and only kernels that always give the same result: for the whole process,
    for TensorFlow knows no smaller scope of that.
    """
    if not params.deterministic:
        return None
    tf.config.experimental.enable_op_determinism()
    return tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
