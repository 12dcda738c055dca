"""Finds intact checkpoints that a run can resume from, and repairs their list."""

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
    """Return what is wrong with a checkpoint's files; None if all can be read.

    Every tensor is read, which verifies the checksums of the index and of each tensor. This takes
    about a millisecond per megabyte.

    Args:
        checkpoint: the path without file suffixes, `model.ckpt-782`.
    """
    files = files_of(checkpoint)
    index = index_of(checkpoint)
    if index not in files:
        return f"{index.name} is missing"
    for path in files:
        if not path.is_file():  # reading a pipe would block
            return f"{printable(path.name)} is not a regular file"
    try:
        reader = tf.train.load_checkpoint(str(checkpoint))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, IndexError, ValueError, RuntimeError) as error:
        # TensorFlow raises IndexError if the data file ends too early.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return printable(reason.removeprefix(f"{checkpoint}").lstrip(".; "))
    return None


def usable_checkpoint(model_dir: Path, checkpoint: Path | None = None) -> Path:
    """Return `checkpoint`, or the latest one, after checking that it is intact.

    Raises:
        UserError: the checkpoint is damaged, or there is none.
    """
    if checkpoint is None:
        checkpoint = Experiment(model_dir).latest_checkpoint
        if checkpoint is None:
            raise UserError(f"{model_dir}: no checkpoint found; accepted: a trained experiment")
    if fault := fault_of(checkpoint):
        raise UserError(
            f"{checkpoint}: damaged: {fault}; accepted: an intact checkpoint "
            f"(python train.py --model_dir {model_dir} resumes from the previous one)"
        )
    return checkpoint


def repair(model_dir: Path) -> list[str]:
    """Set damaged checkpoints aside, and record the latest intact one as the latest.

    As in TensorFlow, the file `checkpoint` names the latest checkpoint. If that file is damaged,
    the checkpoint with the highest step is the latest. If it names checkpoints that are not in the
    directory, it is rewritten, because TensorFlow would restore and remove them. Only the run that
    holds the experiment's lock may call this.

    Returns:
        What was found and done, one line each; empty if nothing was wrong.
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
        found.append(f"{path}: names more than checkpoints beside it; rewritten")
    whole = None
    for step in reversed(steps):
        if latest in steps and step > latest:
            continue  # from a run that was rolled back
        checkpoint = checkpoint_path(model_dir, step)
        fault = fault_of(checkpoint)
        if fault is None:
            whole = step
            break
        folder = set_checkpoint_aside(checkpoint)
        found.append(f"{checkpoint}: damaged: {fault}; set aside in {folder}")
    write_state(model_dir, [step for step in steps if whole is not None and step <= whole])
    found.append(
        f"{model_dir}: no intact checkpoint is left; starting afresh"
        if whole is None
        else f"{model_dir}: resuming from {checkpoint_name(whole)}"
    )
    return found


def _set_extras_aside(experiment: Experiment) -> list[str]:
    """Move the folders of the best and the untrained checkpoint if damaged; return messages."""
    found = []
    for checkpoint, consequence in (
        (experiment.best_checkpoint, "the best later checkpoint is kept"),
        (experiment.untrained_checkpoint, "the baseline `untrained` is left out"),
    ):
        if checkpoint is None:
            continue
        if checkpoint == experiment.untrained_checkpoint and not index_of(checkpoint).exists():
            continue  # none, or a killed run left it unfinished and will rewrite it
        if fault := fault_of(checkpoint):
            folder = set_aside(checkpoint.parent) / checkpoint.parent.name
            found.append(f"{checkpoint}: damaged: {fault}; set aside in {folder}; {consequence}")
    return found
