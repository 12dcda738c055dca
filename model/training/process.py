"""What a program asks of its process before it trains: an import asks for nothing of this."""

import ctypes
import gc
import os

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def settle() -> None:
    """Keep freed memory, and leave the objects that stand by now out of garbage collection.

    Call it once TensorFlow is imported. Its million objects stay for good: left among the others
    they would put off Python's full collections, and only these free an evaluation's graph, which
    refers to itself.
    """
    _keep_freed_memory()
    gc.freeze()


def _keep_freed_memory() -> None:
    """Have glibc keep the memory of freed arrays instead of handing it back to the kernel.

    Otherwise every step pays for having the pages of its arrays mapped in anew, at B = 256 as much
    as for its arithmetic. Without glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # from what size on an array gets a mapping of its own
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)  # how much may lie unused
