"""Checkpoints that a run can go on from: whole, and of the network that the params make."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from model.estimator import tf
from src.atomic import atomic_write
from src.errors import UserError
from src.experiment import Experiment

# What TensorFlow leaves when it is killed while it writes.
_LEFTOVERS = ("model.ckpt-*_temp", "model.ckpt-*.tmp*", "checkpoint.tmp*", "graph.pbtxt.tmp*")


def fault_of(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint's files; None where all can be read.

    Every tensor is read: the index and each tensor have a checksum, which is compared then. That
    takes a millisecond a megabyte.

    Args:
        checkpoint: the path less the endings of its files, `model.ckpt-782`.
    """
    if not checkpoint.with_name(f"{checkpoint.name}.index").is_file():
        return f"{checkpoint.name}.index is missing"
    try:
        reader = tf.train.load_checkpoint(str(checkpoint))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:
        # IndexError is how it says that the data file ends too early.
        return str(error).splitlines()[0].removeprefix(f"{checkpoint}").lstrip(".; ")
    return None


def usable_checkpoint(model_dir: Path, checkpoint: Path | None = None) -> Path:
    """Return `checkpoint`, or the latest one, once it is known to be whole.

    Raises:
        UserError: it is damaged, or there is none.
    """
    if checkpoint is None:
        checkpoint = _latest(model_dir)
        if checkpoint is None:
            raise UserError(f"{model_dir}: no checkpoint found; accepted: a trained experiment")
    if fault := fault_of(checkpoint):
        raise UserError(
            f"{checkpoint}: damaged: {fault}; accepted: a whole checkpoint "
            f"(python train.py --model_dir {model_dir} goes on from the one before)"
        )
    return checkpoint


def repair(model_dir: Path) -> list[str]:
    """Set the latest checkpoint aside if it is damaged, and make the one before it the latest.

    The checkpoint that the file `checkpoint` names is the latest, as TensorFlow has it; where that
    file is damaged itself, the one of the highest step is. Only the run that holds the
    experiment's lock may call this.

    Returns:
        What was found and done, a line each; nothing where all is well.
    """
    remove_leftovers(model_dir)
    found = _set_best_aside_if_damaged(Experiment(model_dir))
    state, on_disk = model_dir / "checkpoint", _on_disk(model_dir)
    latest = _latest(model_dir)
    if latest is None and not on_disk or latest is not None and fault_of(latest) is None:
        return found
    if latest is None:
        fault = "damaged" if state.exists() else "missing"
        found.append(f"{state}: {fault}; the checkpoints are taken from the names of their files")
    elif latest not in on_disk:
        found.append(f"{state}: names {latest.name}, whose files are missing")
    # The latest first, then those before it; some after it where its own step is not known here.
    candidates = [latest] if latest in on_disk else []
    candidates += [path for path in reversed(on_disk) if path not in candidates]
    whole = None
    for path in candidates:
        if latest in on_disk and _step(path) > _step(latest):
            continue  # of a run that was rolled back
        fault = fault_of(path)
        if fault is None:
            whole = path
            break
        found.append(f"{path}: damaged: {fault}; set aside in {_set_aside(path)}")
    kept = [path for path in on_disk if whole is not None and _step(path) <= _step(whole)]
    _write_state(state, kept)
    found.append(
        f"{model_dir}: no whole checkpoint is left; starting afresh"
        if whole is None
        else f"{model_dir}: going on from {whole.name}"
    )
    return found


def remove_leftovers(model_dir: Path) -> None:
    """Remove what TensorFlow left of files that it did not come to complete."""
    for pattern in _LEFTOVERS:
        for path in model_dir.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


class AlignedSaver(tf.compat.v1.train.CheckpointSaverHook):
    """Saves at multiples of `save_steps`, wherever the run has begun.

    The Estimator's own saver counts from where it begins; checkpoints, evaluations and with them
    the best checkpoint would depend on when a training was stopped.
    """

    def __init__(self, model_dir: str, save_steps: int) -> None:
        """Save to `model_dir` every `save_steps` steps, and at the first and last one."""
        super().__init__(model_dir, save_steps=save_steps)
        self._save_steps = save_steps

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Save, and count from the multiple before."""
        super().after_create_session(session, coord)
        step = self._timer.last_triggered_step()
        self._timer.update_last_triggered_step(step - step % self._save_steps)


class FitsNetwork(tf.compat.v1.train.SessionRunHook):
    """Raises `UserError` where the checkpoint about to be restored is of another network."""

    def __init__(self, model_dir: Path, checkpoint: Path | None = None) -> None:
        """Look at `checkpoint`; None for the latest, if there is one when the session begins."""
        self._model_dir = model_dir
        self._checkpoint = checkpoint

    def begin(self) -> None:
        """Compare the shapes of all variables."""
        checkpoint = self._checkpoint or _latest(self._model_dir)
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


def _latest(model_dir: Path) -> Path | None:
    """Return the checkpoint that the file `checkpoint` names, if it names one."""
    try:
        state = (model_dir / "checkpoint").read_bytes()
    except FileNotFoundError:
        return None
    match = re.search(rb'^model_checkpoint_path: "(.*?-\d+)"$', state, re.MULTILINE)
    return model_dir / os.fsdecode(match[1]) if match else None


def _on_disk(model_dir: Path) -> list[Path]:
    """Return the checkpoints of which there is an index or a data file, by step."""
    pattern = re.compile(r"(model\.ckpt-\d+)\.(?:index|data-.*)")
    matches = (pattern.fullmatch(path.name) for path in model_dir.glob("model.ckpt-*"))
    return sorted({model_dir / match[1] for match in matches if match}, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _set_aside(checkpoint: Path) -> Path:
    """Move the files of a checkpoint to a folder of their own, and return that."""
    folder = checkpoint.with_name("damaged")
    folder.mkdir(exist_ok=True)
    for path in checkpoint.parent.glob(f"{checkpoint.name}.*"):
        os.replace(path, folder / path.name)
    return folder


def _set_best_aside_if_damaged(experiment: Experiment) -> list[str]:
    """Move the folder of the best checkpoint, if that is damaged; say so."""
    best = experiment.best_checkpoint
    fault = fault_of(best) if best is not None else None
    if fault is None:
        return []
    target = experiment.model_dir / "damaged" / best.parent.name
    target.parent.mkdir(exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(best.parent, target)
    return [f"{best}: damaged: {fault}; set aside in {target}; the best from now on is kept"]


def _write_state(state: Path, checkpoints: list[Path]) -> None:
    """Write the file `checkpoint` as TensorFlow does: the latest, then all that are kept."""
    if not checkpoints:
        state.unlink(missing_ok=True)
        return
    lines = [f'model_checkpoint_path: "{checkpoints[-1].name}"']
    lines += [f'all_model_checkpoint_paths: "{path.name}"' for path in checkpoints]
    with atomic_write(state) as file:
        file.write("\n".join(lines).encode() + b"\n")
