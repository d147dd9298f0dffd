"""The one error that a user can put right, and what its message may repeat."""

import traceback
from pathlib import Path
from reprlib import Repr


class InputError(ValueError):
    """Something the user gave is wrong: a file, a row, a key.

    The message names it, says what was expected and what to do. The command line prints it without a
    traceback and exits with 2.
    """


ECHO = 200  # characters of what the user gave that a message repeats at most


def shown(value: object) -> str:
    """Write a value for a message, cut to `ECHO` characters; what lies deep in lists within lists is not looked at.

    A file of a few lines can name one list ten times over, and that again: its whole text would fill the memory.
    """
    try:
        return cut(_SHORT.repr(value))
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"a value of type {type(value).__name__} that is too long to be written"


def cut(text: str, most: int = ECHO) -> str:
    """Cut text that is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def reason(error: BaseException) -> str:
    """Say why one of many failed: what a user can mend in its own words, else its kind and where it was raised too."""
    if isinstance(error, InputError | OSError) and str(error):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f", raised in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {cut(str(error)) or 'no more is said'}{where}"


_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxtuple = 3, 8, 8, 8
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = ECHO
