"""Everything that can be wrong with the rows of a manifest, and with what the rows of a case say together."""

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from hsa.cohorts.cells import Problem, by_row, id_problems, near, repeated, resolution_problems, wrong
from hsa.cohorts.labels import HE, allowed, value_of
from hsa.cohorts.paths import Places
from hsa.study.settings import Marker

_FOLDS = 1000  # more than any study has


def check_rows(frame: pd.DataFrame, markers: Mapping[str, Marker], places: Places) -> list[str]:
    """Check what one row can tell, a column at a time: cohorts have 100,000 rows, and few different cells.

    Args:
        frame: of a manifest, as text; its index is a row's number in a spreadsheet, where the header is row 1.
        markers: of the study.
        places: the folder that paths are relative to.
    """
    rows, problems = list(frame.index), []
    for column in ("patient_id", "case_id", "slide_id"):
        problems += id_problems(column, list(frame[column]))
    ids = list(frame["slide_id"])
    for at, before in repeated(ids, rows):
        problems.append((at, f"slide_id {ids[at]!r} stands in row {before} too. Make ids unique."))
    stains = [HE, *(column.removeprefix("label_") for column in frame.columns if column.startswith("label_"))]
    problems += wrong(list(frame["stain"]), lambda text: _odd_stain(text, stains))
    problems += _path_problems(list(frame["path"]), rows, places)
    problems += resolution_problems(frame)
    if "fold" in frame:
        problems += wrong(list(frame["fold"]), _odd_fold)
    for marker, kind in markers.items():
        problems += wrong(list(frame[f"label_{marker}"]), partial(_odd_label, marker=marker, kind=kind))
    return by_row(problems, rows)


def _odd_stain(text: str, stains: Sequence[str]) -> str:
    if text in stains:
        return ""
    close = near(text, stains)
    hint = f" (did you mean {close!r}?)" if close else ""
    return f"unknown stain {text!r}{hint}. Known: {', '.join(stains)}."


def _odd_fold(text: str) -> str:
    fine = text.isascii() and text.isdigit() and len(text) <= len(str(_FOLDS - 1))
    return "" if fine else f"fold {text!r}: give 0, 1, 2, ..., or leave the column out."


def _odd_label(text: str, marker: str, kind: Marker) -> str:
    try:
        value_of(text, kind)
    except ValueError:
        return f"label_{marker} {text!r}: give {allowed(kind)}, or nothing."
    return ""


def _path_problems(names: Sequence[str], rows: Sequence[int], places: Places) -> list[Problem]:
    found = [places.look(name) for name in names]
    problems = []
    for at, (name, place) in enumerate(zip(names, found, strict=True)):
        if not place.inside and (place.there or not place.link):
            problems.append((at, f"path {name!r} lies outside {places.root}. Move it, or set `cohort.root`."))
        elif not place.there:
            problems.append((at, f"no file {name!r} below {places.root}{places.why_absent(name)}"))
    told = {at for at, _ in problems}
    for at, before in repeated([place.real for place in found], rows):
        if at not in told:
            problems.append((at, f"path {names[at]!r} is the file of row {before} too. Give each slide its own."))
    return problems


def check_cases(frame: pd.DataFrame, markers: Mapping[str, Marker]) -> list[str]:
    """Check what the rows of a case, or of a patient, say together."""
    numbers = frame["case_id"].to_numpy()
    of_case = frame.groupby(numbers, sort=False)
    wrong_patient = of_case["patient_id"].nunique()
    stained = set(numbers[(frame["stain"] == HE).to_numpy()])
    said = {
        marker: _said(frame[f"label_{marker}"], kind).groupby(numbers).nunique() for marker, kind in markers.items()
    }
    odd = set(wrong_patient.index[wrong_patient > 1]) | (set(numbers) - stained)
    odd = odd.union(*(counts.index[counts > 1] for counts in said.values()))
    problems = []
    for case, rows in frame[frame["case_id"].isin(odd)].groupby("case_id"):
        where = f"case {case!r} (rows {', '.join(map(str, rows.index))})"
        if wrong_patient[case] > 1:
            problems.append(f"{where}: belongs to {wrong_patient[case]} patients. Give it one patient_id.")
        if case not in stained:
            problems.append(f"{where}: no {HE} slide. Add its row, or remove the case.")
        for marker, counts in said.items():
            if counts.get(case, 0) > 1:
                problems.append(f"{where}: label_{marker} differs between its rows. Keep one value.")
    return problems + (_patients_of_several_folds(frame) if "fold" in frame else [])


def _said(labels: pd.Series, kind: Marker) -> pd.Series:
    """What each label means, as a text that is equal where the meaning is; NaN where it says nothing."""
    meant: dict[str, str | None] = {}
    for text in set(labels):
        try:
            value = value_of(text, kind)
            meant[text] = None if value is None else f"= {float(value)!r}"
        except ValueError:
            meant[text] = text  # told with its row
    return labels.map(meant)


def _patients_of_several_folds(frame: pd.DataFrame) -> list[str]:
    folds = frame.groupby("patient_id")["fold"].nunique()
    problems = []
    for patient, rows in frame[frame["patient_id"].isin(folds.index[folds > 1])].groupby("patient_id"):
        listed = ", ".join(sorted(rows["fold"].unique()))
        problems.append(f"patient {patient!r}: stands in folds {listed}. Put all slides of a patient in one fold.")
    return problems
