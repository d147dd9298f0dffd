"""What a label of a manifest says: a class, a number, nothing, or nonsense."""

import bisect
import math
import re
from collections.abc import Mapping

import pandas as pd

from hsa.study.settings import Marker

HE = "HE"  # the routine stain, haematoxylin and eosin: its name in manifests
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
# Numbers that tables of many programs hold for "not known"; one that was measured can be written 999e0.
_CODE = re.compile(r"(-[1-9]|-?([789])\2+|[789])(\.0*)?", re.ASCII)
# How pandas, R, spreadsheets and databases write a cell that holds nothing.
_EMPTY = ("", "na", "n/a", "#n/a", "nan", "<na>", "none", "null")
_TWO = {"0": 0, "1": 1, "false": 0, "true": 1}
_FAR = 3  # times the largest other number
_ROWS_SHOWN = 5


def number(text: str) -> float:
    """Read a number as it is written in a table; ValueError for what only Python takes for one, such as 1_0."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(text)


def is_empty(text: str) -> bool:
    """Tell whether a cell of a table, where it is no id, holds nothing: an empty text, NA, NaN, None, ..."""
    return text.casefold() in _EMPTY


def whole_number(text: str) -> str:
    """Take .0 off a whole number, which pandas writes where a column has gaps."""
    return re.sub(r"(?<=\d)\.0*$", "", text) if _NUMBER.fullmatch(text) else text


def value_of(text: str, marker: Marker) -> float | None:
    """Number that a label holds: the measured one where the marker has a cut-off, else that of its class.

    Returns:
        None for an empty label.

    Raises:
        ValueError: neither. Case, and .0 after a whole number, do not matter where one class only can be meant.
    """
    folded, names = text.casefold(), [name.casefold() for name in marker.names]
    if is_empty(text) and folded not in names:
        return None
    if marker.cutoffs:
        value = number(text)
        if not math.isfinite(value):
            raise ValueError(text)
        return value
    if text in marker.names:
        return marker.names.index(text)
    if is_empty(text):
        raise ValueError(text)  # a class is called "none": is None that class, or nothing?
    whole = whole_number(text)
    for spelt in (folded, whole):
        if names.count(spelt) == 1:
            return names.index(spelt)
    if marker.classes or whole.casefold() not in _TWO:
        raise ValueError(text)
    return _TWO[whole.casefold()]


def class_of(text: str, marker: Marker) -> int | None:
    """Number of the class that a label names, None if it is empty; ValueError if it names none."""
    value = value_of(text, marker)
    if value is None:
        return None
    return bisect.bisect_right(marker.cutoffs, value) if marker.cutoffs else int(value)


def allowed(marker: Marker) -> str:
    """Say what a label of this marker may be."""
    if marker.cutoffs:
        return "a number such as 12.5"
    return ", ".join(marker.names if marker.classes else ["0", "1", *marker.names])


def sentinels(frame: pd.DataFrame, markers: Mapping[str, Marker]) -> list[str]:
    """Tell numbers that stand for "not known" in a column of measured ones.

    They are such as -1, -9, 99 or 999, and far from all others: negative where no other is, or three times the largest.

    Args:
        frame: of a manifest; its index counts the rows.
        markers: of the study; those with a cut-off are looked at.
    """
    problems = []
    for marker in (name for name, kind in markers.items() if kind.cutoffs):
        column = frame[f"label_{marker}"]
        numbers = pd.to_numeric(column.where(column.map(lambda text: bool(_NUMBER.fullmatch(text)))), errors="coerce")
        coded = column.map(lambda text: bool(_CODE.fullmatch(text)))
        high = numbers[~coded].max()
        # 7, 8 and 9 mean "not known" beside 0 and 1 only.
        far = (numbers >= _FAR * high) & ((numbers > 9) | (high <= 1))
        far |= (numbers < 0) & bool(numbers[~coded].min() >= 0)
        for text, rows in column[coded & far & (numbers != 0)].groupby(column):
            problems.append(
                f"label_{marker} {text!r} ({rows_of(rows)}): the other numbers lie from {numbers[~coded].min():g} to "
                f"{high:g}, so that it seems to stand for 'not known'. Leave it empty, or, if it was measured, write "
                f"{text.partition('.')[0]}e0."
            )
    return problems


def rows_of(rows: pd.Series | pd.DataFrame) -> str:
    """Name rows of a manifest, the first few of many."""
    shown = ", ".join(map(str, rows.index[:_ROWS_SHOWN]))
    more = f" and {len(rows) - _ROWS_SHOWN} more" if len(rows) > _ROWS_SHOWN else ""
    return f"row{'s' * (len(rows) > 1)} {shown}{more}"
