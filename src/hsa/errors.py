"""The one error that a user can put right, and what its message may repeat."""

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


_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxtuple = 3, 8, 8, 8
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = ECHO
