"""Large libraries that few tests need: imported when they are used, not while tests are collected.

Every process collects all tests, and would keep all that they import.
"""

import importlib
from importlib.util import find_spec
from typing import Any

import pytest


class Lazy:
    """A module that is imported at the first use of one of its names."""

    def __init__(self, name: str) -> None:
        """Remember the name; nothing is imported."""
        self._name = name

    def __getattr__(self, name: str) -> Any:
        """Import the module, and return what has this name in it."""
        if name.startswith("_") or name == "pytestmark":  # pytest looks whether it is a test
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


def needs(*packages: str) -> pytest.MarkDecorator:
    """Return the mark of a file's tests: skip them if a package is not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
