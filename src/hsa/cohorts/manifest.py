"""The manifest of a real cohort: a CSV with a row a slide, and everything that can be wrong with it."""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from hsa.cohorts.cells import near, tidy
from hsa.cohorts.identity import alike
from hsa.cohorts.labels import HE, sentinels, whole_number
from hsa.cohorts.paths import Places
from hsa.cohorts.rows import check_cases, check_rows
from hsa.errors import InputError
from hsa.files import read_rows
from hsa.study.settings import Marker

REQUIRED = ["patient_id", "case_id", "slide_id", "stain", "path"]
OPTIONAL = ["mpp", "mpp_override", "fold"]
__all__ = ["HE", "examine", "ignored", "read_text", "told"]
_INDEX = re.compile(r"Unnamed: ?\d+|index", re.IGNORECASE)


def examine(path: Path, markers: Mapping[str, Marker], places: Places) -> tuple[pd.DataFrame, list[str]]:
    """Read a manifest as text, and list its problems, each with its row and remedy.

    Args:
        path: the CSV.
        markers: of the study.
        places: the folder that paths are relative to.

    Raises:
        InputError: no such file, no CSV, or a column that is missing or unknown.
    """
    frame = read_text(path)
    _check_columns(path, frame, list(markers))
    frame = _tidy(frame, places)
    problems = check_rows(frame, markers, places) + alike(frame) + check_cases(frame, markers)
    return frame, problems + sentinels(frame, markers)


def told(path: Path, problems: list[str], shown: int | None = None) -> str:
    """List problems of a manifest, the first `shown` of them."""
    count = len(problems)
    lines = [f"{path}: {count} problem{'s' * (count > 1)}:", *(f"  {problem}" for problem in problems[:shown])]
    if shown is not None and count > shown:
        lines.append(f"  and {count - shown} more; `hsa cohort check` lists all")
    return "\n".join(lines)


def read_text(path: Path) -> pd.DataFrame:
    """Read a manifest as text, nothing checked but that it is a CSV; see `hsa.files.read_rows`.

    Raises:
        InputError: no such file, or not a CSV.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such manifest. Make the cohort first (`hsa cohort`), draft one (`hsa cohort init`), or mend "
            "`cohort.manifest`."
        )
    return read_rows(path)


def ignored(frame: pd.DataFrame, markers: Mapping[str, Marker]) -> str:
    """Say which columns of a manifest nothing reads; empty if there is none."""
    odd = [c for c in frame.columns if c not in [*REQUIRED, *OPTIONAL] and not c.startswith("label_")]
    odd += [c for c in frame.columns if c.startswith("label_") and c.removeprefix("label_") not in markers]
    index = "; pandas wrote its row numbers: use `to_csv(index=False)`" if any(map(_INDEX.fullmatch, odd)) else ""
    return f"columns that are not read: {', '.join(map(repr, odd))}{index}" if odd else ""


def _check_columns(path: Path, frame: pd.DataFrame, markers: list[str]) -> None:
    """A column that is not known may stay, unless it seems to be one of ours, spelt otherwise."""
    wanted = [*REQUIRED, *(f"label_{m}" for m in markers)]
    odd = {column for column in frame.columns if column not in [*wanted, *OPTIONAL]}
    lines = []
    for column in [*wanted, *OPTIONAL]:
        if column in frame:
            continue
        close = near(column, sorted(c for c in odd if c.startswith("label_") <= column.startswith("label_")))
        if column in wanted:
            remedy = f"Rename {close!r}, if that is it (did you mean {column!r}?)." if close else "Add it."
            lines.append(f"column {column!r} is missing. {remedy}")
        elif close:
            lines.append(f"column {close!r} is unknown (did you mean {column!r}?). Rename or remove it.")
    if lines:
        raise InputError("\n".join(f"{path}: {line}" for line in lines))
    if frame.empty:
        raise InputError(f"{path}: no rows. Give one row a slide.")


def _tidy(frame: pd.DataFrame, places: Places) -> pd.DataFrame:
    """As `hsa.cohorts.cells.tidy`; folds are whole numbers, whatever program wrote them."""
    frame = tidy(frame, places)
    if "fold" in frame:
        frame["fold"] = [re.sub("^0+(?=[0-9])", "", whole_number(text)) for text in frame["fold"]]
    return frame
