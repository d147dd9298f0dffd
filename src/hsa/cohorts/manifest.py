"""The manifest of a real cohort: a CSV with a row a slide, and everything that can be wrong with it."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hsa.cohorts.identity import alike
from hsa.cohorts.labels import allowed, is_empty, number, sentinels, value_of, whole_number
from hsa.cohorts.paths import Places
from hsa.errors import InputError
from hsa.files import read_rows
from hsa.slides.readers import split_scene
from hsa.slides.resolution import PLAUSIBLE_MPP, is_plausible
from hsa.study.settings import Marker

HE = "HE"
REQUIRED = ["patient_id", "case_id", "slide_id", "stain", "path"]
OPTIONAL = ["mpp", "mpp_override", "fold"]
# Names of files: a leading point would hide them, a leading dash would be an option.
IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
MARKED, UNMARKED = ("1", "1.0", "true", "yes"), ("", "0", "0.0", "false", "no")
_INDEX = re.compile(r"Unnamed: ?\d+|index", re.IGNORECASE)
ID_RULE = "use 1 to 128 letters, digits, '.', '_' or '-', and begin with a letter, a digit or '_'."


def examine(path: Path, markers: Mapping[str, Marker], root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read a manifest as text, and list its problems, each with its row and remedy.

    Raises:
        InputError: no such file, no CSV, or a column that is missing or unknown.
    """
    frame = read_text(path)
    _check_columns(path, frame, list(markers))
    frame = _tidy(frame, root)
    problems = _check_rows(frame, markers, root) + alike(frame) + _check_cases(frame, markers)
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


def near(text: str, known: Sequence[str]) -> str | None:
    """Give the one of these names that may be meant: equal but for case and signs, else close."""
    plain = {_letters(name): name for name in known}
    close = difflib.get_close_matches(_letters(text), plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.removeprefix("label_")).casefold()


def _tidy(frame: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Take what programs write for nothing and for whole numbers as meant, and spell paths as the disk does."""
    frame = frame.assign(path=frame["path"].map(Places(root).spell))
    for column in {"mpp", "mpp_override"} & set(frame.columns):
        frame[column] = frame[column].where(~frame[column].map(is_empty), "")
    if "fold" in frame:
        frame["fold"] = frame["fold"].map(lambda text: re.sub("^0+(?=[0-9])", "", whole_number(text)))
    return frame


def _check_rows(frame: pd.DataFrame, markers: Mapping[str, Marker], root: Path) -> list[str]:
    """Check what one row can tell. Row numbers are those of a spreadsheet: the header is row 1."""
    problems, places = [], Places(root)
    stains = [HE, *(column.removeprefix("label_") for column in frame.columns if column.startswith("label_"))]
    first: dict[tuple[str, str], int] = {}
    for at, row in zip(frame.index, frame.to_dict("records"), strict=True):
        where = f"row {at}"
        for column in ("patient_id", "case_id", "slide_id"):
            text = row[column]
            if not IDENTIFIER.fullmatch(text):
                problems.append(f"{where}: {column} {text!r}: {ID_RULE}")
        before = first.setdefault(("slide_id", row["slide_id"]), at)
        if before != at:
            problems.append(f"{where}: slide_id {row['slide_id']!r} stands in row {before} too. Make ids unique.")
        if row["stain"] not in stains:
            close = near(row["stain"], stains)
            hint = f" (did you mean {close!r}?)" if close else ""
            problems.append(f"{where}: unknown stain {row['stain']!r}{hint}. Known: {', '.join(stains)}.")
        slide = (root / row["path"]).resolve()
        before = first.setdefault(("path", str(slide)), at)
        there = row["path"] and os.path.exists(split_scene(slide)[0])  # Path.exists fails for a name that is too long
        if not slide.is_relative_to(root) and (there or not os.path.islink(root / row["path"])):
            problems.append(f"{where}: path {row['path']!r} lies outside {root}. Move it, or set `cohort.root`.")
        elif not there:
            problems.append(f"{where}: no file {row['path']!r} below {root}{places.why_absent(row['path'])}")
        elif before != at:
            problems.append(f"{where}: path {row['path']!r} is the file of row {before} too. Give each slide its own.")
        problems += [f"{where}: {problem}" for problem in resolution_problems(row)]
        if "fold" in row and not re.fullmatch("[0-9]{1,3}", row["fold"]):
            problems.append(f"{where}: fold {row['fold']!r}: give 0, 1, 2, ..., or leave the column out.")
        for marker, kind in markers.items():
            try:
                value_of(row[f"label_{marker}"], kind)
            except ValueError:
                problems.append(
                    f"{where}: label_{marker} {row[f'label_{marker}']!r}: give {allowed(kind)}, or nothing."
                )
    return problems


def resolution_problems(row: Mapping[Any, str]) -> list[str]:
    """List what is wrong with `mpp` and `mpp_override` of a row; both may be empty or not there."""
    mpp, marked, problems = row.get("mpp", ""), row.get("mpp_override", ""), []
    low, high = PLAUSIBLE_MPP
    try:
        plausible = not mpp or is_plausible(number(mpp))
    except ValueError:
        plausible = False
    if not plausible:
        problems.append(f"mpp {mpp!r}: give microns per pixel ({low:g} to {high:g}), or leave it empty.")
    if marked.lower() not in (*MARKED, *UNMARKED):
        problems.append(f"mpp_override {marked!r}: give 1 where mpp wins over what the file says, or leave it empty.")
    elif is_marked(marked) and not mpp:
        problems.append("mpp_override without mpp. Give the right resolution, um/px.")
    return problems


def is_marked(text: str) -> bool:
    """Tell whether a cell of `mpp_override` says yes."""
    return text.lower() in MARKED


def _meant(text: str, marker: Marker) -> float | str | None:
    try:
        return value_of(text, marker)
    except ValueError:
        return text  # told with its row


def _check_cases(frame: pd.DataFrame, markers: Mapping[str, Marker]) -> list[str]:
    """Check what the rows of a case, or of a patient, say together."""
    problems = []
    for case, rows in frame.groupby("case_id"):
        where = f"case {case!r} (rows {', '.join(map(str, rows.index))})"
        if rows["patient_id"].nunique() > 1:
            problems.append(f"{where}: belongs to {rows['patient_id'].nunique()} patients. Give it one patient_id.")
        if HE not in set(rows["stain"]):
            problems.append(f"{where}: no {HE} slide. Add its row, or remove the case.")
        for marker, kind in markers.items():
            given = {_meant(text, kind) for text in rows[f"label_{marker}"]} - {None}
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
