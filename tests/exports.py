"""Exports of the same second, each at once."""

import itertools
import sys
import time
from types import SimpleNamespace


def name_without_waiting() -> None:
    """Have TensorFlow name no two exports of this process after the same second.

    It names the folder of an export after the second, and waits for the next second if there is
    such a folder. A tiny training exports several times a second. Nothing is done if TensorFlow has
    not been imported.
    """
    module = sys.modules.get("tensorflow.python.saved_model.model_utils.export_utils")
    if module is not None:
        seconds = itertools.count(int(time.time()))
        module.time = SimpleNamespace(time=lambda: next(seconds), sleep=time.sleep)
