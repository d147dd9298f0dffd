"""Fields of named tuples are described in docstrings: autodoc lists them again, which a strict build refuses."""

from collections import namedtuple
from typing import Any

from sphinx.application import Sphinx

_FIELD = type(namedtuple("_One", "x").x)


def is_field(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out a field of a named tuple; None: as autodoc would."""
    return True if isinstance(member, _FIELD) else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-skip-member", is_field)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
