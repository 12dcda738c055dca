"""Checkpoints of a run: when to save them, whether they fit the network and the disk."""

import errno
import shutil
from pathlib import Path
from typing import Any

from model.estimator import tf
from src.errors import UserError
from src.experiment.checkpoint_files import checkpoint_path, files_of
from src.experiment.experiment import Experiment
from src.system.atomic import atomic_write, disk_error, free_bytes


class KeepUntrained(tf.compat.v1.train.CheckpointSaverListener):
    """Copies the checkpoint of step 0 (the untrained network), because rotation removes it."""

    def __init__(self, model_dir: Path, untrained_checkpoint: Path) -> None:
        """Prepare the listener.

        Args:
            model_dir: where the run writes `model.ckpt-0`.
            untrained_checkpoint: the copy's path, without file suffixes.
        """
        self._model_dir = model_dir
        self._copy = untrained_checkpoint

    def after_save(self, session: Any, global_step_value: int) -> None:
        """Copy the checkpoint of step 0."""
        if global_step_value == 0:
            paths = files_of(checkpoint_path(self._model_dir, 0))
            # The index last: a checkpoint without one is none.
            for path in sorted(paths, key=lambda path: path.suffix == ".index"):
                with atomic_write(self._copy.parent / path.name) as copy, open(path, "rb") as file:
                    shutil.copyfileobj(file, copy)


class AlignedSaver(tf.compat.v1.train.CheckpointSaverHook):
    """Saves at multiples of `save_steps`, wherever the run began.

    The Estimator's own saver counts from the step where the run begins. With it, checkpoints,
    evaluations and the best checkpoint would depend on when a training was stopped.
    """

    def __init__(self, model_dir: str, save_steps: int) -> None:
        """Save to `model_dir` every `save_steps` steps, and at the first and the last step."""
        super().__init__(model_dir, save_steps=save_steps)
        self._save_steps = save_steps
        self._has_begun = False

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Save, and count from the previous multiple."""
        super().after_create_session(session, coord)
        step = self._timer.last_triggered_step()
        self._timer.update_last_triggered_step(step - step % self._save_steps)

    def _save(self, session: Any, step: int) -> Any:
        """Save, unless the run has just restored this checkpoint.

        TensorFlow would write it in place: a kill meanwhile would damage a good checkpoint.
        """
        is_first, self._has_begun = not self._has_begun, True
        if is_first and Experiment(Path(self._checkpoint_dir)).latest_step() == step:
            for listener in self._listeners:
                listener.after_save(session, step)
            return False
        return super()._save(session, step)


class FitsNetwork(tf.compat.v1.train.SessionRunHook):
    """Raises `UserError` if the checkpoint to be restored belongs to another network."""

    def __init__(self, model_dir: Path, checkpoint: Path | None = None) -> None:
        """Check `checkpoint`; None for the latest, if there is one when the session begins."""
        self._model_dir = model_dir
        self._checkpoint = checkpoint

    def begin(self) -> None:
        """Compare the shapes of all variables."""
        checkpoint = self._checkpoint or Experiment(self._model_dir).latest_checkpoint
        if checkpoint is None:
            return
        found = tf.train.load_checkpoint(str(checkpoint)).get_variable_to_shape_map()
        wanted = {v.op.name: v.shape.as_list() for v in tf.compat.v1.global_variables()}
        wrong = [name for name, shape in wanted.items() if found.get(name) != shape]
        if not wrong:
            return
        name = wrong[0]
        raise UserError(
            f"{checkpoint}: of another network: variable {name}: found {_shape(found.get(name))}; "
            f"accepted: {_shape(wanted[name])}, as params.json makes it"
            + (f" ({len(wrong)} of {len(wanted)} variables differ)" if len(wrong) > 1 else "")
        )


def _shape(shape: list[int] | None) -> str:
    if shape is None:
        return "nothing"
    return f"shape {' x '.join(map(str, shape))}" if shape else "a scalar"


# Besides the variables, the first checkpoint writes the graph: as text (2.5 times its size), to the
# event file (twice), as `.meta`, and a copy of `.meta`.
_GRAPH_COPIES = 7


class RoomForCheckpoints(tf.compat.v1.train.SessionRunHook):
    """Raises `UserError` before the first step if the disk has no room for a checkpoint."""

    def __init__(self, model_dir: Path) -> None:
        """Check the disk of `model_dir`."""
        self._model_dir = model_dir

    def begin(self) -> None:
        """Compare the size of a first checkpoint with the free space."""
        variables = tf.compat.v1.global_variables()
        needed = sum(v.shape.num_elements() * v.dtype.size for v in variables)
        needed += _GRAPH_COPIES * tf.compat.v1.get_default_graph().as_graph_def().ByteSize()
        if needed > free_bytes(self._model_dir):
            raise disk_error(
                self._model_dir, errno.ENOSPC, needed=needed, what="a first checkpoint"
            )
