"""The one error that a user can put right."""


class InputError(ValueError):
    """Something the user gave is wrong: a file, a row, a key.

    The message names it, says what was expected and what to do. The command line prints it without a
    traceback and exits with 2.
    """
