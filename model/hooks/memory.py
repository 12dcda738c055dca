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
        """Identify the data by the training split's labels, class names and pixels."""
        columns = [train.labels] if train.digests is None else [train.labels, train.digests]
        names = "\0".join(train.class_names).encode("utf-8", "surrogatepass")
        number = digest(b"".join([*(column.tobytes() for column in columns), names]))
        self._data = number >> 1  # as int64

    def begin(self) -> None:
        """Find the memory."""
        self._memories = tf.compat.v1.get_collection(MEMORY)

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Empty the memory if necessary."""
        for memory in self._memories:
            if memory.belong_to(session, self._data):
                logger.warning(
                    "warning: the data have changed: the memory of embeddings starts empty"
                )
