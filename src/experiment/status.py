"""The status of an experiment in one word: in `metrics.json`, in tables and in a sweep."""

from enum import Enum


class Status(str, Enum):
    """A word that files and tables show unchanged.

    `metrics.json` has one of the first five. A file of another version may have other words, so a
    status that is read is text, and is compared with these.
    """

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"  # by a signal; the training can be resumed
    COLLAPSED = "collapsed"
    DIVERGED = "diverged"

    # Not in `metrics.json`. The files cannot tell whether a training on another machine is running
    # or was killed.
    FAILED = "failed"
    NOT_TRAINED = "not trained"
    PRUNED = "pruned"  # stopped by a search; the training can be resumed
    PARENT = "parent"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    PERHAPS_RUNNING = "running?"
    BASELINE = "baseline"  # a row of a table, not an experiment
    TO_RUN = "to run"  # in a sweep

    __str__ = str.__str__
