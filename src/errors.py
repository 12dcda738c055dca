"""The errors that end a program with a message: bad input, failed trainings, lost workers."""

START_OVER = "; to start over, use --overwrite"
"""The end of some messages; a search, which has no such option, leaves it out."""


class UserError(ValueError):
    """Bad input. The programs print its message and exit with code 2, without a traceback.

    Messages have the form *file: key or position: what was found; what is accepted*. Any other
    error is a bug and keeps its traceback.
    """


class TrainingDiverged(RuntimeError):
    """A training cannot continue: loss or weights are not finite, or all embeddings are equal.

    The programs print its message and exit with code 3. The latest checkpoint was saved before.
    """


class WorkerLost(RuntimeError):
    """Another process of a training on several workers has ended, so this one cannot continue.

    The programs print its message and exit with code 4. The same command on all resumes.
    """


class SweepFailed(RuntimeError):
    """Some trainings of a sweep failed. The programs print which, and exit with code 3."""
