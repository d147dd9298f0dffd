"""Records that a study leaves on disk as JSON, checked when they are read back: keys, types, finite numbers.

A file that was edited, cut or written by another version is refused here, by name, before a number of it is used.
"""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from hsa.errors import InputError

SHOWN = 3  # of a file's problems; a list of null has as many as it is long


class Record(BaseModel):
    """The part of a JSON file that is used: frozen, strictly typed, every number finite; other keys are left alone."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=Record)


def read_record(path: Path, kind: type[Kind], remedy: str, absent: str | None = None) -> Kind:
    """Read a JSON file of which `kind` says what it must hold.

    Args:
        path: the file.
        kind: its schema.
        remedy: what to do about a file that does not hold it: a sentence.
        absent: what to do where there is no such file; by default the remedy.

    Raises:
        InputError: no such file, not JSON, or another content; names the key, what was expected and the remedy.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file. {absent or remedy}")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problems = error.errors(include_url=False)
        told = "; ".join(map(_told, problems[:SHOWN]))
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InputError(f"{path}: {told}{more}. {remedy}") from None


def _told(problem: ErrorDetails) -> str:
    key = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    if problem["type"] == "json_invalid":
        return f"not readable as JSON ({message.removeprefix('Invalid JSON: ')})"
    if problem["type"] == "missing":
        return f"{key}: missing"
    found = problem["input"]
    given = "" if isinstance(found, dict | list) else f", found {str(found)[:40] if found is not None else 'null'}"
    return f"{key}: {message}{given}" if key else message + given
