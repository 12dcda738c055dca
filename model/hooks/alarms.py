"""Detects failing runs: collapsed embeddings, and losses or weights that are NaN or infinite."""

import math
import sys
from typing import Any

from tqdm import tqdm

from model.estimator import tf
from model.hooks.summaries import flush_summaries, write_scalar
from src.distance import DISTANCES
from src.errors import TrainingDiverged

# A check finds collapse if the distances between embeddings are below both shares, and the loss is
# near the margin. Measured on MNIST: batch-hard runs that recover dip to 0.18 of the start, or stay
# at 0.016 of the margin for a hundred steps. Runs that do not recover end at 0.016 to 0.
_SHARE_OF_MARGIN = 0.02
_SHARE_OF_START = 0.05
_LOSS_TOLERANCE = 0.02
CHECKS_IN_A_ROW = 3
"""How many checks one after the other must find collapse."""


class CollapseAlarm(tf.compat.v1.train.SessionRunHook):
    """Warns if all embeddings have collapsed to one point; writes the summary `collapsed`.

    In a collapse all distances are 0: the loss equals the margin (log 2 for a soft margin), and
    learning has stopped. The alarm checks a batch at the first step and every `every_steps` steps.
    A check finds collapse (the summary is 1) if

    - the median pairwise distance is at most 0.02 of the margin. Unless the run was resumed, it is
      also at most 0.05 of its value at the first step. Squared distances and cosine grow with the
      square of the length, so their shares are squared: 0.0004 and 0.0025;
    - the loss is within 2 % of the margin. A loss without a margin is not checked; its median is
      compared with 1, as if that were the margin.

    Three such checks in a row are a collapse. They give one warning, and no other until a check
    finds no collapse. A batch without a triplet has loss 0, also in a collapse; it is skipped if
    its median is as small, unless that is 0 and the strategy finds no triplets then. A batch of a
    single image is skipped, because it has no median.
    """

    def __init__(
        self,
        *,
        margin: float | str | None,
        distance: str,
        every_steps: int,
        model_dir: str | None = None,
        stop: bool = False,
        warns: bool = True,
        had_collapsed: bool = False,
        has_loss_in_collapse: bool = True,
    ) -> None:
        """Prepare the alarm.

        Args:
            margin: > 0, in units of the distance, or "soft"; None if the loss has none.
            distance: a key of `src.distance.DISTANCES`.
            every_steps: the number of steps between checks.
            model_dir: where the summary is written; None for no summary.
            stop: whether a collapse also ends the run.
            warns: whether to print the warning; of several workers, one does.
            had_collapsed: whether the latest checks before a resumed run had found collapse.
            has_loss_in_collapse: whether triplets are chosen if all distances are 0.
        """
        self._margin = margin
        self._loss_at_collapse = math.log(2) if margin == "soft" else float(margin or 1)
        self._power = DISTANCES[distance].power
        self._every_steps = every_steps
        self._model_dir = model_dir
        self._stop = stop
        self._warns = warns
        self._num_in_a_row = CHECKS_IN_A_ROW if had_collapsed else 0
        self._has_warned = False
        self._has_loss_in_collapse = has_loss_in_collapse
        self._median_at_start: float | None = None

    @property
    def collapsed(self) -> bool:
        """Whether the latest checks found collapse; after a run, whether it ended collapsed."""
        return self._num_in_a_row >= CHECKS_IN_A_ROW

    def begin(self) -> None:
        """Find what to fetch."""
        graph = tf.compat.v1.get_default_graph()
        names = ("loss", "median_distance")
        self._fetches = {name: graph.get_tensor_by_name(f"progress/{name}:0") for name in names}

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Count steps from the checkpoint; a later part of the same run keeps its state."""
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))
        if self._step > 0 and self._median_at_start is None:
            # A resumed run may have begun in collapse, so its start is no reference.
            self._median_at_start = math.inf

    def before_run(self, run_context: Any) -> Any:
        """Fetch the scalars if this step is checked."""
        is_first = self._median_at_start is None
        if is_first or (self._step + 1) % self._every_steps == 0:
            return tf.compat.v1.train.SessionRunArgs(self._fetches)
        return None

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Check the step."""
        self._step += 1
        if run_values.results is None:
            return
        loss = float(run_values.results["loss"])
        median = float(run_values.results["median_distance"])
        if math.isnan(median):  # a batch of one image has no distances
            return
        if self._median_at_start is None:
            self._median_at_start = median
        is_small = median <= min(
            _SHARE_OF_MARGIN**self._power * self._loss_at_collapse,
            _SHARE_OF_START**self._power * self._median_at_start,
        )
        has_no_triplet = is_small and loss == 0
        is_exact = has_no_triplet and median == 0 and not self._has_loss_in_collapse
        if has_no_triplet and not is_exact:
            return
        is_at_margin = self._margin is None or (
            abs(loss - self._loss_at_collapse) <= _LOSS_TOLERANCE * self._loss_at_collapse
        )
        found = is_exact or (is_small and is_at_margin)
        self._num_in_a_row = self._num_in_a_row + 1 if found else 0
        if self._model_dir:
            write_scalar(self._model_dir, "collapsed", float(found), self._step)
        if self.collapsed and self._warns and not self._has_warned:
            self._warn(loss, median)
        self._has_warned = self.collapsed
        if self._stop and self.collapsed:
            run_context.request_stop()

    def _warn(self, loss: float, median: float) -> None:
        if self._margin is None:
            at_margin, other_margin = "", ""
        elif self._margin == "soft":
            at_margin = " (log 2, a soft margin's loss at distance 0)"
            other_margin = "; margin (a number)"
        else:
            at_margin = f" (the margin, {self._margin:g})"
            other_margin = '; margin (smaller, or "soft")'
        tqdm.write(
            f"warning: step {self._step}: the embeddings have collapsed to a point: median "
            f"distance {median:.3g}, loss {loss:.4g}{at_margin}"
            f"{'; stopping, because stop_on_collapse is true' if self._stop else ''}\n"
            f"  change one of: learning_rate (lower); triplet_strategy, or warmup_strategy for the "
            f'first warmup_steps ("batch_all"){other_margin}',
            file=sys.stderr,
        )


class DivergenceGuard(tf.compat.v1.train.SessionRunHook):
    """Ends a run with `TrainingDiverged` at the first step whose loss is NaN or infinite."""

    def __init__(self, model_dir: str | None = None) -> None:
        """Prepare the guard.

        Args:
            model_dir: where the run's summaries are written. They are flushed before the error is
                raised, because the latest would otherwise be lost.
        """
        self._model_dir = model_dir
        self._step = 0
        self._last_loss: float | None = None

    def begin(self) -> None:
        """Find what to fetch."""
        self._loss = tf.compat.v1.get_default_graph().get_tensor_by_name("progress/loss:0")

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Count steps from the checkpoint."""
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))

    def before_run(self, run_context: Any) -> Any:
        """Fetch the loss; this costs nothing, because the step computes it anyway."""
        return tf.compat.v1.train.SessionRunArgs(self._loss)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Raise the error if the loss is not finite."""
        loss = float(run_values.results)
        self._step += 1
        if not math.isfinite(loss):
            raise self.error(self._step, f"the loss is {loss}")
        self._last_loss = loss

    def error(self, step: int, found: str) -> TrainingDiverged:
        """Return the error of a run with values that are not finite, and flush its summaries.

        Args:
            step: the global step where this was found.
            found: what is not finite.
        """
        if self._model_dir:
            flush_summaries(self._model_dir)
        before = "" if self._last_loss is None else f" after a loss of {self._last_loss:.4g}"
        return TrainingDiverged(
            f"step {step}: {found}{before}; likely causes: a learning_rate that is too high, "
            "or squared distances of embeddings without a length limit (set l2_normalize)"
        )


class FiniteCheckpoints(tf.compat.v1.train.CheckpointSaverListener):
    """Raises `TrainingDiverged` if a checkpoint would hold a NaN or infinite number.

    A step with finite loss can produce such weights if its gradient is infinite. The Estimator also
    saves before the hooks of `TrainSpec`, and its own hook, check the step's loss. With this
    listener, the latest checkpoint is always finite, including the one that ends a run.
    """

    def __init__(self, guard: DivergenceGuard) -> None:
        """Prepare the listener; `guard`, a hook of the same run, creates the error."""
        self._guard = guard

    def begin(self) -> None:
        """Build the check: weights, moving statistics and the optimizer's slots."""
        variables = [v for v in tf.compat.v1.global_variables() if v.dtype.is_floating]
        self._names = [variable.op.name for variable in variables]
        with tf.name_scope("finite_checkpoints"):
            self._are_finite = [tf.reduce_all(tf.math.is_finite(v)) for v in variables]

    def before_save(self, session: Any, global_step_value: int) -> None:
        """Check all variables."""
        are_finite = session.run(self._are_finite)
        for name, is_finite in zip(self._names, are_finite, strict=True):
            if not is_finite:
                raise self._guard.error(int(global_step_value), f"{name} is not finite")
