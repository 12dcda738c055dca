"""Standard error as a terminal, to see what progress bars show."""

import io
import sys

import pytest


class Terminal(io.StringIO):
    """What a program writes to a terminal."""

    def isatty(self) -> bool:
        """Return True, as a terminal does."""
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch, delay: float = 0.0) -> Terminal:
    """Make standard error a terminal, and return it. (Pytest would replace that of a fixture.)"""
    monkeypatch.setattr("src.system.progress.DELAY", delay)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal
