"""The predictions of one method, as its folder keeps them: read back and checked before a number of them is used."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from hsa.errors import InputError
from hsa.files import read_rows

FILE = "predictions.csv"
SHOWN = 5  # of a file's problems
REMEDY = "Delete probe.json beside it and run `hsa train` for its study, which makes both again."


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read the predictions.csv of a method's folder.

    Returns:
        A row a case and split: case_id, patient_id (text), fold (int), split (val or test), label (0 or 1), score (in
        [0, 1]).

    Raises:
        InputError: no such file, a column missing, a cell that is not as above, or cases that are not all in both
            splits once: names row (the header is row 1), column and remedy.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file. Train the method first, with `hsa train`.")
    try:
        rows = read_rows(path)
    except InputError as error:
        raise InputError(f"{error}\n{REMEDY}") from None
    missing = [column for column in _READ if column not in rows]
    if missing or rows.empty:
        what = f"column {missing[0]!r} is missing" if missing else "no row"
        raise InputError(f"{path}: {what}. {REMEDY}")
    problems: list[str] = []
    columns: dict[str, list[str | float | None]] = {}
    for column, (read, expected) in _READ.items():
        values = [read(text) for text in rows[column]]
        problems += [
            f"row {number}: {column} {text!r}, expected {expected}"
            for number, text, value in zip(rows.index, rows[column], values, strict=True)
            if value is None
        ]
        columns[column] = values
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InputError(f"{path}: {'; '.join(problems[:SHOWN])}{more}. {REMEDY}")
    frame = pd.DataFrame(columns)
    splits = [frame.loc[frame["split"] == split, "case_id"] for split in ("val", "test")]
    if any(cases.duplicated().any() for cases in splits) or set(splits[0]) != set(splits[1]):
        raise InputError(
            f"{path}: {len(splits[0])} rows of val and {len(splits[1])} of test; expected every case once in each. "
            f"{REMEDY}"
        )
    return frame


def _text(text: str) -> str | None:
    return text or None


def _split(text: str) -> str | None:
    return text if text in ("val", "test") else None


def _fold(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


def _label(text: str) -> int | None:
    return int(text) if text in ("0", "1") else None


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= 1 else None


_READ: dict[str, tuple[Callable[[str], str | float | None], str]] = {
    "case_id": (_text, "a name"),
    "patient_id": (_text, "a name"),
    "fold": (_fold, "a number from 0"),
    "split": (_split, "val or test"),
    "label": (_label, "0 or 1"),
    "score": (_score, "a number from 0 to 1"),
}
