"""Slides whose resolution is far from that of the others: a wrong tag passes every look at its one slide."""

from typing import Any

import numpy as np
import pandas as pd

from hsa.cohorts.labels import rows_of
from hsa.slides.resolution import MANIFEST

# Objectives of one cohort differ by 2 (20x and 40x); tags that are wrong, by 4 (a level's for the slide's) and more.
FAR = 3.0
# Fewer slides of a stain than this have no middle of their own.
FEWEST = 3
# A larger share of a stain is no slip, but a second way of scanning.
FEW = 1 / 3


def odd_resolutions(slides: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Tell slides that are three times finer or coarser than the median of their stain, or of all where it has few.

    A slide counts as looked at where the manifest repeats what the file says, or marks its own number to win.

    Args:
        slides: slide_id, stain, mpp (um/px), mpp_from (see `hsa.slides.resolution.agreed`) and confirmed (bool); its
            index counts the rows.

    Returns:
        Problems, each with its row and remedy; and notes: a stain scanned in two ways, or another way than all others.
    """
    problems: list[str] = []
    notes: list[str] = []
    if len(slides) < FEWEST:
        return problems, notes
    whole = float(slides["mpp"].median())
    medians = {}
    for stain, same in slides.groupby("stain"):
        own = len(same) >= FEWEST
        middle = float(same["mpp"].median()) if own else whole
        if own:
            medians[stain] = middle
        odd = same[_far(same["mpp"], middle) & ~same["confirmed"]]
        what = f"the median of {f'{len(same)} {stain} slides' if own else f'all {len(slides)} slides'}"
        if own and len(odd) > FEW * len(same):
            notes.append(
                f"{len(odd)} of {len(same)} {stain} slides ({rows_of(odd)}) are {FAR:g} times finer or coarser than "
                f"{what}, {middle:.3g} um/px, or more: "
                "scanned in two ways, or a wrong resolution (column `mpp_override`)"
            )
            continue
        problems += [_told(row, middle, what) for row in odd.itertuples()]
    far = {stain: one for stain, one in medians.items() if _far(pd.Series([one]), min(medians.values())).any()}
    if far:
        listed = ", ".join(f"{stain} {one:.3g}" for stain, one in medians.items())
        notes.append(f"medians of the stains, um/px: {listed}. If they were scanned alike, some say a wrong resolution")
    return problems, notes


def _far(mpp: pd.Series, middle: float) -> pd.Series:
    return np.abs(np.log(mpp / middle)) >= np.log(FAR)


def _told(row: Any, middle: float, what: str) -> str:
    times = max(row.mpp / middle, middle / row.mpp)
    how = "coarser" if row.mpp > middle else "finer"
    if row.mpp_from == MANIFEST:
        remedy = "Correct `mpp`, or, if it is right, put 1 into the column `mpp_override`."
    else:
        remedy = (
            "If the file is wrong, write the right `mpp` and put 1 into the column `mpp_override`; if it is right, "
            "write it into the column `mpp`."
        )
    return (
        f"row {row.Index}: slide {row.slide_id!r} has {row.mpp:.3g} um/px ({row.mpp_from}), {times:.3g} times {how} "
        f"than {what}, {middle:.3g}. {remedy}"
    )
