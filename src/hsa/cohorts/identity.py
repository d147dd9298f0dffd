"""One patient is one patient: ids that differ in spelling only, and one picture under several names."""

import re
import unicodedata
from collections.abc import Hashable, Mapping
from decimal import Decimal

import pandas as pd

from hsa.cohorts.labels import rows_of
from hsa.errors import InputError

_NUMBER = re.compile(r"\d+(\.\d*)?([eE][-+]?\d{1,3})?", re.ASCII)
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(rf"(\d{{1,2}}|\d{{4}})-({_MONTHS})(-\d{{2,4}})?|({_MONTHS})-\d{{2,4}}", re.ASCII | re.IGNORECASE)
_SHOWN = 5
_HARM = {
    "patient_id": "one patient could stand in training and in test",
    "case_id": "slides of one case would not meet",
    "slide_id": "not every disk would tell their bags apart",
}


def alike(frame: pd.DataFrame) -> list[str]:
    """Tell ids that are equal as numbers (7, 7.0, 007), or up to case and spaces, each group with its rows.

    Slides may be numbered 1 and 01: their ids name files only, and are told where case or spaces part them.

    Args:
        frame: of a manifest; its index counts the rows.
    """
    problems = []
    for column, harm in _HARM.items():
        rule = _folded if column == "slide_id" else _plain
        spelt = pd.Series(frame[column].unique())
        plain = spelt.map(rule)
        plain = plain[plain.duplicated(keep=False)]
        for _, same in spelt[plain.index].groupby(plain):
            named = [f"{text!r} ({rows_of(frame[frame[column] == text])})" for text in same]
            problems.append(
                f"{column} {', '.join(named)}: equal {_how(same)}, so that {harm}. Write them alike, or, if they "
                f"are not the same, tell them apart by a letter, such as {same.iloc[0]}a."
            )
    return problems


def dated(frame: pd.DataFrame) -> list[str]:
    """Note ids that look like dates: spreadsheets make 1-Jan of 1-1 and of 01-01, each group with its rows.

    Args:
        frame: of a manifest; its index counts the rows.
    """
    notes = []
    for column in _HARM:
        odd = frame[frame[column].map(_DATE.fullmatch).notna()]
        if len(odd):
            notes.append(
                f"{column} such as {odd[column].iloc[0]!r} ({rows_of(odd)}) look like dates: if a spreadsheet made "
                "them of other ids, take these again from their source, into a column that is formatted as text"
            )
    return notes


def copies(slides: pd.DataFrame, checksums: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Tell which slides show one picture.

    Args:
        slides: patient_id, case_id, slide_id and stain.
        checksums: slide_id -> SHA-256 of its file; slides that are not in it are not looked at.

    Returns:
        Problems: one picture under two patients, or as two stains; and notes: one picture twice in a patient.
    """
    problems, notes = [], []
    sums = slides["slide_id"].map(checksums).dropna()
    sums = sums[sums.duplicated(keep=False)]
    for _, same in slides.loc[sums.index].groupby(sums):
        whose = [f"{s.slide_id} (patient {s.patient_id}, case {s.case_id}, {s.stain})" for s in same.itertuples()]
        more = f" and {len(whose) - _SHOWN} more" if len(whose) > _SHOWN else ""
        what = f"slides {', '.join(whose[:_SHOWN])}{more}: one picture, byte for byte"
        if same["patient_id"].nunique() > 1:
            problems.append(f"{what}, under several patients. Give it to one of them, or correct the paths.")
        elif same["stain"].nunique() > 1:
            problems.append(f"{what}, as several stains. Correct the path of the one that is a copy.")
        elif same["case_id"].nunique() > 1:
            notes.append(f"{what}, in several cases of a patient")
        else:
            notes.append(f"{what}, twice in one case: remove a row")
    return problems, notes


def refuse_copies(slides: pd.DataFrame, checksums: Mapping[str, str]) -> None:
    """Stop before a model learns from a picture that stands under two patients, or as two stains; see `copies`.

    Raises:
        InputError: lists them.
    """
    problems, _ = copies(slides, checksums)
    if problems:
        raise InputError("the manifest names one picture several times:\n  " + "\n  ".join(problems))


def _folded(text: str) -> str:
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text)).casefold()


def _plain(text: str) -> Hashable:
    """What two spellings of one id share."""
    folded = _folded(text)
    return Decimal(folded) if _NUMBER.fullmatch(folded) else folded


def _how(same: pd.Series) -> str:
    return "up to case and spaces" if same.map(_folded).nunique() == 1 else "as numbers"
