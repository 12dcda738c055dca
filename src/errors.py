"""The error of bad input: params, data or arguments that a user can put right."""


class UserError(ValueError):
    """Bad input. The programs print its message and exit with code 2, without a traceback.

    Messages read *file: key or position: what was found; what is accepted*. Anything else that
    goes wrong is a bug and keeps its traceback.
    """
