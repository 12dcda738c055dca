"""How an experiment stands, in one word: in `metrics.json`, in tables and in a sweep."""

from enum import Enum


class Status(str, Enum):
    """A word that files and tables show as it is.

    `metrics.json` has one of the first five. A file of another version may have others, so what
    is read from one is text, which is compared with these.
    """

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"  # by a signal; it resumes
    COLLAPSED = "collapsed"
    DIVERGED = "diverged"

    # What `metrics.json` does not say. The files cannot tell whether a training on another machine
    # is running or was killed.
    FAILED = "failed"
    NOT_TRAINED = "not trained"
    PARENT = "parent"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    PERHAPS_RUNNING = "running?"
    BASELINE = "baseline"  # a row of a table, and no experiment
    TO_RUN = "to run"  # by a sweep

    __str__ = str.__str__
