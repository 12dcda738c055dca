"""Empties the memory of embeddings if it was filled from other data."""

import logging
from typing import Any

from model.estimator import tf
from model.mining.memory import MEMORY
from src.data.digests import digest
from src.data.split import Split

logger = logging.getLogger(__name__)


class MemoryOfData(tf.compat.v1.train.SessionRunHook):
    """Empties the memory when a run begins with other data than those that filled it.

    Its labels are numbers, and would name other classes. Without a memory, it does nothing.
    """

    def __init__(self, train: Split) -> None:
        """Prepare the hook; `train` is the split to train on."""
        self._train = train

    def begin(self) -> None:
        """Find the memory."""
        self._memories = tf.compat.v1.get_collection(MEMORY)

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Empty the memory if necessary."""
        for memory in self._memories:
            if memory.belong_to(session, _identify(self._train)):
                logger.warning(
                    "warning: the data have changed: the memory of embeddings starts empty"
                )


def _identify(train: Split) -> int:
    """Return a number >= 0, int64, of a split's labels, class names and pixels."""
    columns = [train.labels] if train.digests is None else [train.labels, train.digests]
    names = "\0".join(train.class_names).encode("utf-8", "surrogatepass")
    return digest(b"".join([*(column.tobytes() for column in columns), names])) >> 1
