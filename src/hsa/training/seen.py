"""Which slides a trained method has seen, kept beside it: whoever predicts with it can tell a new slide from these.

Slides are told by the SHA-256 of their file, which their bags carry, not by name: a renamed or moved slide is the same.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from hsa.bags.bag import attributes
from hsa.files import write_json
from hsa.study.records import Record, read_record

FILE = "seen.json"
REMEDY = (
    "Delete it and made.json beside it and run `hsa train` for its study, which writes it; or copy the folder again."
)

Folds = list[Annotated[int, Field(ge=0)]]


class Use(Record):
    """What the folds used one slide for.

    Attributes:
        learned: folds that had it among their training cases, labelled or as a pair.
        chosen: folds that had it among the validation cases, which choose the epoch, settings and thresholds.
    """

    learned: Folds
    chosen: Folds

    @property
    def folds(self) -> int:
        """Number of folds that learned from the slide or were chosen by it."""
        return len({*self.learned, *self.chosen})


class Seen(Record):
    """The H&E slides of a method's training.

    Attributes:
        folds: number of folds.
        slides: SHA-256 of the slide's file -> its use.
        unknown: number of slides whose bags do not tell the file: another tool made them, or an older version.
    """

    folds: Annotated[int, Field(ge=1)]
    slides: dict[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], Use]
    unknown: Annotated[int, Field(ge=0)]


def write_seen(folder: Path, folds: pd.DataFrame, bags: Path) -> None:
    """Write seen.json: which H&E slides the folds of a method learned from and were chosen by.

    Args:
        folder: of the method.
        folds: from `hsa.cohorts.cohort.fold_table`.
        bags: folder of the bags.
    """
    slides: dict[str, dict[str, set[int]]] = {}
    unknown = 0
    for name, rows in folds.groupby("he"):
        use = {
            "learned": set(rows.loc[rows["split"].isin(["train", "pairs"]), "fold"]),
            "chosen": set(rows.loc[rows["split"] == "val", "fold"]),
        }
        for digest in _digests(str(name).split("+"), bags):
            if digest is None:
                unknown += 1
                continue
            known = slides.setdefault(digest, {"learned": set(), "chosen": set()})
            for key, numbers in use.items():
                known[key] |= numbers
    listed = {name: {key: sorted(map(int, numbers)) for key, numbers in use.items()} for name, use in slides.items()}
    write_json(folder / FILE, {"folds": int(folds["fold"].nunique()), "slides": listed, "unknown": unknown})


def read_seen(folder: Path) -> Seen | None:
    """Read what `write_seen` wrote; None where a version that did not write it trained the method.

    Raises:
        InputError: it is damaged.
    """
    path = folder / FILE
    return read_record(path, Seen, REMEDY) if path.exists() else None


def _digests(names: Iterable[str], bags: Path) -> Iterable[str | None]:
    for name in filter(None, names):
        attrs: dict[str, Any] = attributes(bags / f"{name}.h5") or {}
        # The bag of another tool tells the file that it was made from, which is no slide.
        yield None if "source_tool" in attrs else attrs.get("source_sha256")
