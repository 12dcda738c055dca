"""Turns disk errors of TensorFlow into clear `UserError`s."""

import errno
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from model.estimator import tf
from src.experiment.checkpoint_files import largest_size, remove_leftovers
from src.experiment.experiment import Experiment
from src.system.atomic import disk_error

# TensorFlow's errors give the path, a semicolon, and the system's error text, not its number.
_ERRORS = {
    os.strerror(number): number
    for number in (
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
        *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR),
    )
}

_PATH_AND_ERROR = re.compile(rf"(?:^|\s)(/.*?|\S+); ({'|'.join(map(re.escape, _ERRORS))})")


def names_disk_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function, whose first argument is an experiment, to run in `disk_errors`."""

    @wraps(function)
    def wrapped(experiment: Experiment, *args: Any, **kwargs: Any) -> Any:
        with disk_errors(experiment.model_dir):
            return function(experiment, *args, **kwargs)

    return wrapped


@contextmanager
def disk_errors(model_dir: Path) -> Iterator[None]:
    """Raise `UserError` if the block cannot write its files to `model_dir`.

    Checkpoints have temporary names until they are complete, so the latest one is kept.
    """
    try:
        with _silent_event_writers():
            yield
    except (tf.errors.OpError, RuntimeError) as error:  # the latter from event files
        match = _PATH_AND_ERROR.search(str(error))
        if match is None:
            raise
        path, number = Path(match[1]), _ERRORS[match[2]]
    except OSError as error:
        if error.errno not in _ERRORS.values():
            raise
        path, number = Path(error.filename2 or error.filename or model_dir), error.errno
    else:
        return
    remove_leftovers(model_dir)
    raise disk_error(path, number, needed=largest_size(model_dir), what="a checkpoint")


@contextmanager
def _silent_event_writers() -> Iterator[None]:
    """Silence the threads that write event files; their errors recur at the next write."""

    def is_other(record: logging.LogRecord) -> bool:
        return not _PATH_AND_ERROR.search(record.getMessage())

    def excepthook(failure: threading.ExceptHookArgs) -> None:
        if not _PATH_AND_ERROR.search(str(failure.exc_value)):
            excepthook_before(failure)

    logger, excepthook_before = logging.getLogger("tensorflow"), threading.excepthook
    logger.addFilter(is_other)
    threading.excepthook = excepthook
    try:
        yield
    finally:
        threading.excepthook = excepthook_before
        logger.removeFilter(is_other)
