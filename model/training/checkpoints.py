"""Checkpoints that a run can go on from: whole, and of the network that the params make."""

from pathlib import Path

from model.estimator import tf
from src.errors import UserError
from src.experiment.checkpoint_files import (
    checkpoint_name,
    checkpoint_path,
    checkpoint_steps,
    files_of,
    index_of,
    remove_leftovers,
    set_checkpoint_aside,
    state_or_aside,
    state_path,
    write_state,
)
from src.experiment.damaged import set_aside
from src.experiment.experiment import Experiment
from src.printable import printable


def fault_of(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint's files; None where all can be read.

    Every tensor is read: the index and each tensor have a checksum, which is compared then. That
    takes a millisecond a megabyte.

    Args:
        checkpoint: the path less the endings of its files, `model.ckpt-782`.
    """
    files = files_of(checkpoint)
    index = index_of(checkpoint)
    if index not in files:
        return f"{index.name} is missing"
    for path in files:
        if not path.is_file():  # a pipe would be waited for
            return f"{printable(path.name)} is no regular file"
    try:
        reader = tf.train.load_checkpoint(str(checkpoint))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:
        # IndexError is how it says that the data file ends too early.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return printable(reason.removeprefix(f"{checkpoint}").lstrip(".; "))
    return None


def usable_checkpoint(model_dir: Path, checkpoint: Path | None = None) -> Path:
    """Return `checkpoint`, or the latest one, once it is known to be whole.

    Raises:
        UserError: it is damaged, or there is none.
    """
    if checkpoint is None:
        checkpoint = Experiment(model_dir).latest_checkpoint
        if checkpoint is None:
            raise UserError(f"{model_dir}: no checkpoint found; accepted: a trained experiment")
    if fault := fault_of(checkpoint):
        raise UserError(
            f"{checkpoint}: damaged: {fault}; accepted: a whole checkpoint "
            f"(python train.py --model_dir {model_dir} goes on from the one before)"
        )
    return checkpoint


def repair(model_dir: Path) -> list[str]:
    """Set damaged checkpoints aside, and make the latest whole one the latest.

    The checkpoint that the file `checkpoint` names is the latest, as TensorFlow has it; where that
    file is damaged itself, the one of the highest step is. Where it names what is not in the
    directory, it is written anew, for TensorFlow would restore and remove that. Only the run that
    holds the experiment's lock may call this.

    Returns:
        What was found and done, a line each; nothing where all is well.
    """
    remove_leftovers(model_dir)
    found = _set_extras_aside(Experiment(model_dir))
    path, state = state_path(model_dir), state_or_aside(model_dir)
    steps = sorted(checkpoint_steps(model_dir, "(?:index|data-.*)"))
    latest = state.latest_step if state else None
    if state is None and not steps:
        return found
    if state and state.is_plain and fault_of(checkpoint_path(model_dir, latest)) is None:
        return found
    if latest is None:
        fault = "damaged" if state else "missing"
        found.append(f"{path}: {fault}; the checkpoints are taken from the names of their files")
    elif latest not in steps:
        found.append(f"{path}: names {checkpoint_name(latest)}, whose files are missing")
    elif not state.is_plain:
        found.append(f"{path}: names more than checkpoints beside it; written anew")
    whole = None
    for step in reversed(steps):
        if latest in steps and step > latest:
            continue  # of a run that was rolled back
        checkpoint = checkpoint_path(model_dir, step)
        fault = fault_of(checkpoint)
        if fault is None:
            whole = step
            break
        folder = set_checkpoint_aside(checkpoint)
        found.append(f"{checkpoint}: damaged: {fault}; set aside in {folder}")
    write_state(model_dir, [step for step in steps if whole is not None and step <= whole])
    found.append(
        f"{model_dir}: no whole checkpoint is left; starting afresh"
        if whole is None
        else f"{model_dir}: going on from {checkpoint_name(whole)}"
    )
    return found


def _set_extras_aside(experiment: Experiment) -> list[str]:
    """Move the folders of the best and the untrained checkpoint, if they are damaged; say so."""
    found = []
    for checkpoint, consequence in (
        (experiment.best_checkpoint, "the best from now on is kept"),
        (experiment.untrained_checkpoint, "the baseline `untrained` is left out"),
    ):
        if checkpoint is None:
            continue
        if checkpoint == experiment.untrained_checkpoint and not index_of(checkpoint).exists():
            continue  # there is none, or a run was killed while it wrote it and writes it again
        if fault := fault_of(checkpoint):
            folder = set_aside(checkpoint.parent) / checkpoint.parent.name
            found.append(f"{checkpoint}: damaged: {fault}; set aside in {folder}; {consequence}")
    return found
