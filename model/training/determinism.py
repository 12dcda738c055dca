"""Settings for trainings that end bit-identical, however often they are interrupted."""

from model.estimator import tf
from src.params.schema import Params


def session_config(params: Params) -> "tf.compat.v1.ConfigProto | None":
    """Return the session configuration: None, or one that always computes in the same order.

    Batches, augmentation and warm-up always depend only on the seed and the step. Runs can still
    differ, because the order of some sums depends on which thread is first. `deterministic` sets
    one thread and deterministic kernels. The kernels are set for the whole process, because
    TensorFlow has no smaller scope.
    """
    if not params.deterministic:
        return None
    tf.config.experimental.enable_op_determinism()
    return tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
