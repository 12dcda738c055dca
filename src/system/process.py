"""Settings that a program makes for its own process; importing a module makes none."""

import ctypes
import gc
import importlib.util
import os

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_keeps_freed_memory = False


def prepare_for_tensorflow() -> None:
    """Set the environment variables that TensorFlow reads when it is imported.

    Call this before TensorFlow is imported. It is optional, but with it TensorFlow does not import
    Keras 3, which takes 2 s and 90 MB and is not used.
    """
    # Without tf_keras, which TensorFlow 2.15 does not need, the variable causes endless recursion.
    if importlib.util.find_spec("tf_keras") is not None:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    # Take a GPU's memory as needed. Otherwise the first process takes all of it.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # TensorFlow's C++ log: errors only, unless the user asked for more.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def settle() -> None:
    """Keep freed memory, and exclude all existing objects from garbage collection.

    Call this after TensorFlow is imported. TensorFlow's million objects are permanent. If garbage
    collection included them, Python's full collections would be delayed. Only full collections free
    an evaluation's graph, because the graph refers to itself. Calling this again does nothing:
    graphs that wait for their collection would become permanent too.
    """
    global _keeps_freed_memory
    if gc.get_freeze_count() == 0:
        _keeps_freed_memory = True
        _keep_freed_memory()
        gc.freeze()


def stay_settled() -> None:
    """Make glibc keep freed memory again, if `settle` was called.

    On Python 3.11, the first `tf.data.Dataset.from_generator` of a process makes glibc map every
    array of 128 KiB or more anew. Call this from within the generator, which runs after that.
    """
    if _keeps_freed_memory:
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Make glibc keep the memory of freed arrays instead of returning it to the kernel.

    Otherwise, the pages of arrays are mapped again for each. At B = 256 this costs a training step
    as much time as the arithmetic, and it doubles the time that ranking a gallery takes. Without
    glibc, nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # arrays from this size on get their own mapping
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)  # the most memory kept unused
