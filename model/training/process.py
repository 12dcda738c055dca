"""Settings of the process that a program makes before training; imports do not make them."""

import ctypes
import gc
import os
from functools import cache

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@cache  # a second freeze in the process would keep the first run's graphs for ever
def settle() -> None:
    """Keep freed memory, and exclude all existing objects from garbage collection.

    Call this after TensorFlow is imported. TensorFlow's million objects are permanent. If garbage
    collection included them, Python's full collections would be delayed. Only full collections free
    an evaluation's graph, because the graph refers to itself.
    """
    _keep_freed_memory()
    gc.freeze()


def _keep_freed_memory() -> None:
    """Make glibc keep the memory of freed arrays instead of returning it to the kernel.

    Otherwise, the pages of its arrays are mapped again in every step. At B = 256 this costs as much
    time as the arithmetic. Without glibc, nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # arrays from this size on get their own mapping
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)  # the most memory kept unused
