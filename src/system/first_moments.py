"""Ends a program silently on Ctrl-C while it imports modules; import this module first."""

import _signal  # type: ignore[import-not-found]  # `signal` wraps it, but takes 3 ms to import


def end_silently() -> None:
    """Let Ctrl-C end the process as the system does, without a Python traceback.

    This covers the time before and after `src.system.signals` handles signals: while modules are
    imported, and while Python shuts down. SIGTERM already ends the process this way. Ignored
    signals (`nohup`) stay ignored.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
