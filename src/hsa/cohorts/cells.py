"""What a cell of a manifest, or of a worklist, may hold: ids, paths, resolutions; one rule for both tables."""

import difflib
import re
from collections.abc import Callable, Sequence

import pandas as pd

from hsa.cohorts.labels import is_empty, number
from hsa.cohorts.paths import Places
from hsa.slides.resolution import PLAUSIBLE_MPP, is_plausible

# Names of files: a leading point would hide them, a leading dash would be an option.
IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
ID_RULE = "use 1 to 128 letters, digits, '.', '_' or '-', and begin with a letter, a digit or '_'."
_ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+\d+", re.ASCII)
_SHOWN = 140  # characters of an id
MARKED, UNMARKED = ("1", "1.0", "true", "yes"), ("", "0", "0.0", "false", "no")
# A row's place in the table, and what is wrong with it.
Problem = tuple[int, str]


def tidy(frame: pd.DataFrame, places: Places) -> pd.DataFrame:
    """Take what programs write for nothing as nothing, and spell paths as the disk does.

    Args:
        frame: text; its `path`, `mpp` and `mpp_override` are looked at, where they are there.
        places: the folder that paths are relative to.
    """
    frame = frame.assign(path=[places.spell(name) for name in frame["path"]])
    for column in {"mpp", "mpp_override"} & set(frame.columns):
        frame[column] = ["" if is_empty(text) else text for text in frame[column]]
    return frame


def is_marked(text: str) -> bool:
    """Tell whether a cell of `mpp_override` says yes."""
    return text.lower() in MARKED


def resolutions(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Take `mpp` (um/px, NaN for nothing) and `mpp_override` (bool) from a table whose cells were checked."""
    empty = pd.Series("", index=frame.index, dtype=object)
    marked = frame.get("mpp_override", empty).map(is_marked).astype(bool)
    return pd.to_numeric(frame.get("mpp", empty), errors="coerce").astype(float), marked


def wrong(column: Sequence[str], rule: Callable[[str], str]) -> list[Problem]:
    """Ask a rule of each different cell of a column once.

    Args:
        column: text.
        rule: gives what is wrong with a cell; empty if nothing is.
    """
    told = {text: rule(text) for text in set(column)}
    if not any(told.values()):
        return []
    return [(at, told[text]) for at, text in enumerate(column) if told[text]]


def repeated(column: Sequence[str], rows: Sequence[int]) -> list[tuple[int, int]]:
    """List what stands in a column a second time.

    Returns:
        Place of each repetition, and the row that had it first.
    """
    first: dict[str, int] = {}
    found = [(at, first.setdefault(text, row)) for at, (text, row) in enumerate(zip(column, rows, strict=True))]
    return [(at, before) for at, before in found if before != rows[at]]


def id_problems(column: str, cells: Sequence[str], empty: bool = False) -> list[Problem]:
    """List ids that cannot name files; `empty`: whether a cell may hold nothing.

    What programs write for nothing is no id: all unknown patients would be one.
    """

    def rule(text: str) -> str:
        if is_empty(text):
            return "" if empty else f"{column} {text!r} names nothing. Give each its own id: {ID_RULE}"
        if IDENTIFIER.fullmatch(text):
            return ""
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        if _ROUNDED.fullmatch(text):
            return (
                f"{column} {text!r} was rounded by a spreadsheet, so that different ids may have become one: take it "
                "again from its source, into a column that is formatted as text."
            )
        return f"{column} {shown!r}: {ID_RULE}"

    return wrong(cells, rule)


def resolution_problems(frame: pd.DataFrame) -> list[Problem]:
    """List what is wrong with `mpp` and `mpp_override`; either may lack."""
    low, high = PLAUSIBLE_MPP
    nothing = [""] * len(frame)
    mpp, marked = (list(frame[name]) if name in frame else nothing for name in ("mpp", "mpp_override"))

    def plausible(text: str) -> str:
        try:
            fine = not text or is_plausible(number(text))
        except ValueError:
            fine = False
        return "" if fine else f"mpp {text!r}: give microns per pixel ({low:g} to {high:g}), or leave it empty."

    def clear(text: str) -> str:
        if text.lower() in (*MARKED, *UNMARKED):
            return ""
        return f"mpp_override {text!r}: give 1 where mpp wins over what the file says, or leave it empty."

    alone = [
        at for at, (text, mark) in enumerate(zip(mpp, marked, strict=True)) if mark and is_marked(mark) and not text
    ]
    lacking = [(at, "mpp_override without mpp. Give the right resolution, um/px.") for at in alone]
    return [*wrong(mpp, plausible), *wrong(marked, clear), *lacking]


def by_row(problems: Sequence[Problem], rows: Sequence[int]) -> list[str]:
    """Put problems in the order of the rows, each with its own."""
    return [f"row {rows[at]}: {text}" for at, text in sorted(problems, key=lambda problem: problem[0])]


def near(text: str, known: Sequence[str]) -> str | None:
    """Give the one of these names that may be meant: equal but for case and signs, else close."""
    plain = {_letters(name): name for name in known}
    close = difflib.get_close_matches(_letters(text), plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.removeprefix("label_")).casefold()
