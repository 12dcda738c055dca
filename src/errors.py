"""The errors that end a program with a message: bad input, and trainings that went wrong."""


class UserError(ValueError):
    """Bad input. The programs print its message and exit with code 2, without a traceback.

    Messages read *file: key or position: what was found; what is accepted*. Anything else that
    goes wrong is a bug and keeps its traceback.
    """


class TrainingDiverged(RuntimeError):
    """A training that cannot go on: loss or weights are not finite, or all embeddings are equal.

    The programs print its message and exit with code 3. The latest checkpoint is from before.
    """


class SweepFailed(RuntimeError):
    """A sweep of which some trainings failed. The programs print which, and exit with code 3."""
