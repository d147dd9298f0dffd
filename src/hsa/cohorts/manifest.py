"""The manifest of a real cohort: a CSV with a row a slide, and everything that can be wrong with it."""

import bisect
import difflib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from hsa.errors import InputError
from hsa.files import read_rows
from hsa.study.settings import Marker

HE = "HE"
REQUIRED = ["patient_id", "case_id", "slide_id", "stain", "path"]
OPTIONAL = ["mpp", "fold"]
# Names of files: a leading point would hide them, a leading dash would be an option.
IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
ID_RULE = "use 1 to 128 letters, digits, '.', '_' or '-', and begin with a letter, a digit or '_'."
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)


def examine(path: Path, markers: Mapping[str, Marker], root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read a manifest as text, and list its problems, each with its row and remedy.

    Raises:
        InputError: no such file, no CSV, or a column that is missing or unknown.
    """
    frame = read_text(path)
    _check_columns(path, frame, list(markers))
    return frame, _check_rows(frame, markers, root) + _check_cases(frame, markers)


def told(path: Path, problems: list[str], shown: int | None = None) -> str:
    """List problems of a manifest, the first `shown` of them."""
    count = len(problems)
    lines = [f"{path}: {count} problem{'s' * (count > 1)}:", *(f"  {problem}" for problem in problems[:shown])]
    if shown is not None and count > shown:
        lines.append(f"  and {count - shown} more; `hsa cohort check` lists all")
    return "\n".join(lines)


def class_of(text: str, marker: Marker) -> int | None:
    """Number of the class that a label names, None if it is empty; ValueError if it names none."""
    if not text:
        return None
    if marker.cutoffs:
        value = number(text)
        if not math.isfinite(value):
            raise ValueError
        return bisect.bisect_right(marker.cutoffs, value)
    if text in marker.names:
        return marker.names.index(text)
    return ["0", "1"].index(text) if marker.classes is None else marker.names.index(text)


def _allowed(marker: Marker) -> str:
    if marker.cutoffs:
        return "a number such as 12.5"
    return ", ".join(marker.names if marker.classes else ["0", "1", *marker.names])


def number(text: str) -> float:
    """Read a number as it is written in a table; ValueError for what only Python takes for one, such as 1_0."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(text)


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


def _check_columns(path: Path, frame: pd.DataFrame, markers: list[str]) -> None:
    wanted = [*REQUIRED, *(f"label_{m}" for m in markers)]
    known = [*wanted, *OPTIONAL]
    missing = [column for column in wanted if column not in frame]
    odd = [c for c in frame.columns if c not in known and not c.startswith("label_")]
    lines = [f"column {c!r} is missing. Add it." for c in missing]
    for column in odd:
        close = difflib.get_close_matches(column, known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        lines.append(f"column {column!r} is unknown{hint}. Rename or remove it.")
    if lines:
        raise InputError("\n".join(f"{path}: {line}" for line in lines))
    if frame.empty:
        raise InputError(f"{path}: no rows. Give one row a slide.")


def _check_rows(frame: pd.DataFrame, markers: Mapping[str, Marker], root: Path) -> list[str]:
    """Check what one row can tell. Row numbers are those of a spreadsheet: the header is row 1."""
    problems = []
    stains = [HE, *(column.removeprefix("label_") for column in frame.columns if column.startswith("label_"))]
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for at, row in zip(frame.index, frame.to_dict("records"), strict=True):
        where = f"row {at}"
        for column in ("patient_id", "case_id", "slide_id"):
            text = row[column]
            if not IDENTIFIER.fullmatch(text):
                problems.append(f"{where}: {column} {text!r}: {ID_RULE}")
            before, spelt = first.setdefault((column, text.lower()), (at, text))
            if spelt != text:
                problems.append(
                    f"{where}: {column} {text!r} is {spelt!r} in row {before}. Case alone tells no ids apart."
                )
            elif column == "slide_id" and before != at:
                problems.append(f"{where}: slide_id {text!r} stands in row {before} too. Make ids unique.")
        if row["stain"] not in stains:
            close = difflib.get_close_matches(row["stain"], stains, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            problems.append(f"{where}: unknown stain {row['stain']!r}{hint}. Known: {', '.join(stains)}.")
        slide = (root / row["path"]).resolve()
        before, _ = first.setdefault(("path", str(slide)), (at, ""))
        if not slide.is_relative_to(root):
            problems.append(f"{where}: path {row['path']!r} lies outside {root}. Move it, or set `cohort.root`.")
        elif not row["path"] or not os.path.exists(slide):  # unlike Path.exists, also for a name that is too long
            problems.append(f"{where}: no file {row['path']!r} below {root}. Mend the path, or set `cohort.root`.")
        elif before != at:
            problems.append(f"{where}: path {row['path']!r} is the file of row {before} too. Give each slide its own.")
        if row.get("mpp") and not is_resolution(row["mpp"]):
            problems.append(f"{where}: mpp {row['mpp']!r}: give microns per pixel (0.05 to 20), or leave it empty.")
        if "fold" in row and not re.fullmatch("[0-9]{1,3}", row["fold"]):
            problems.append(f"{where}: fold {row['fold']!r}: give 0, 1, 2, ..., or leave the column out.")
        for marker, kind in markers.items():
            try:
                class_of(row[f"label_{marker}"], kind)
            except ValueError:
                problems.append(
                    f"{where}: label_{marker} {row[f'label_{marker}']!r}: give {_allowed(kind)}, or nothing."
                )
    return problems


def is_resolution(text: str) -> bool:
    """Tell whether a text is a resolution that a manifest may give, um/px."""
    try:
        return 0.05 <= number(text) <= 20
    except ValueError:
        return False


def _check_cases(frame: pd.DataFrame, markers: Mapping[str, Marker]) -> list[str]:
    """Check what the rows of a case, or of a patient, say together."""
    problems = []
    for case, rows in frame.groupby("case_id"):
        where = f"case {case!r} (rows {', '.join(map(str, rows.index))})"
        if rows["patient_id"].nunique() > 1:
            problems.append(f"{where}: belongs to {rows['patient_id'].nunique()} patients. Give it one patient_id.")
        if HE not in set(rows["stain"]):
            problems.append(f"{where}: no {HE} slide. Add its row, or remove the case.")
        for marker in markers:
            given = {value for value in rows[f"label_{marker}"] if value}
            if len(given) > 1:
                problems.append(f"{where}: label_{marker} differs between its rows. Keep one value.")
    if "fold" in frame:
        for patient, rows in frame.groupby("patient_id"):
            if rows["fold"].nunique() > 1:
                folds = ", ".join(sorted(rows["fold"].unique()))
                problems.append(
                    f"patient {patient!r}: stands in folds {folds}. Put all slides of a patient in one fold."
                )
    return problems
