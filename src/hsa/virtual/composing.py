"""Cases composed from the tiles of a bank: which tile stands where, and which of them show a focus.

A case has tiles of a few specimens of one laboratory and one part of the folds, each a region of its own. A contiguous
patch of its tumour tiles is the focus: there the same tiles are taken as they are when the specimen is painted changed,
the marker's way in positive cases, another way in negative ones. So the two differ in what a focus shows, and in
nothing else: not in where it lies, nor in how much tumour there is.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hsa.errors import InputError

TUMOUR = 0.25  # share of a tile that makes it a tumour tile


@dataclass(frozen=True)
class Composed:
    """A case of a focal cohort.

    Attributes:
        case_id: its name.
        part: of the folds, in which it is tested.
        lab: laboratory.
        label: 1 where its focus is the marker's.
        rows: numbers of the bank's tiles (N,).
        coords: upper left corners (N, 2), px.
        focus: which tiles lie in the focus (N,), bool.
    """

    case_id: str
    part: int
    lab: int
    label: int
    rows: np.ndarray
    coords: np.ndarray
    focus: np.ndarray


def compose(
    bank: pd.DataFrame, cases: int, tiles: int, share: float, seed: int, regions: int = 4, size_px: int = 256
) -> list[Composed]:
    """Compose the cases of a cohort.

    Args:
        bank: a row a tile: specimen, part, lab, column, row (place in its specimen), tumour (share).
        cases: number; parts, laboratories and labels are dealt evenly.
        tiles: of a case.
        share: of the tiles of a case that lie in its focus; less where it has not as many tumour tiles.
        seed: of the draws; those of a case depend on its number alone.
        regions: specimens of a case, side by side in a square.
        size_px: side of a tile.

    Raises:
        InputError: the bank has too few specimens or tiles in a part and laboratory.
    """
    parts, labs = int(bank["part"].max()) + 1, int(bank["lab"].max()) + 1
    groups = dict(list(bank.groupby(["part", "lab"])))
    made = []
    for number in range(cases):
        rng = np.random.default_rng([seed, number])
        part, rest = number % parts, number // parts
        lab, label = rest % labs, rest // labs % 2
        placed = _regions(rng, groups[part, lab], tiles, regions)
        focus = _focus(rng, placed, round(share * tiles))
        coords = placed[["x", "y"]].to_numpy() * size_px
        made.append(Composed(f"F{number:04}", part, lab, label, placed["tile"].to_numpy(), coords, focus))
    return made


def _regions(rng: np.random.Generator, pool: pd.DataFrame, tiles: int, regions: int) -> pd.DataFrame:
    """Tiles of several specimens, laid side by side in a square: tile (number in the bank), x, y (tiles), tumour."""
    counts = pool["specimen"].value_counts()
    each = -(-tiles // regions)
    fit = np.sort(counts.index[counts >= each].to_numpy())
    if len(fit) < regions:
        raise InputError(
            f"the bank has {len(fit)} specimens of {each} tiles in a part and laboratory; a case needs "
            f"{regions}. Give larger specimens, more of them, or fewer tiles."
        )
    side, across = int(pool[["column", "row"]].to_numpy().max()) + 1, int(np.ceil(np.sqrt(regions)))
    frames: list[pd.DataFrame] = []
    left = tiles
    for place, specimen in enumerate(rng.choice(fit, regions, replace=False)):
        own = pool[pool["specimen"] == specimen]
        start = own.iloc[int(rng.integers(len(own)))]
        chosen = _nearest(own, start, min(each, left))
        left -= len(chosen)
        shift = np.array([place % across, place // across]) * (side + 1)
        frames.append(
            pd.DataFrame(
                {
                    "tile": chosen.index.to_numpy(),
                    "x": chosen["column"].to_numpy() + shift[0],
                    "y": chosen["row"].to_numpy() + shift[1],
                    "tumour": chosen["tumour"].to_numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _focus(rng: np.random.Generator, case: pd.DataFrame, count: int) -> np.ndarray:
    """Choose the tumour tiles nearest to one drawn at random: a patch, (N,) bool; all of them where there are fewer."""
    tumour = case[case["tumour"] > TUMOUR]
    if tumour.empty:
        raise InputError("the bank has specimens without tumour, where no focus can lie; give larger ones.")
    start = tumour.iloc[int(rng.integers(len(tumour)))]
    found = np.zeros(len(case), bool)
    distance = (tumour["x"] - start["x"]) ** 2 + (tumour["y"] - start["y"]) ** 2
    found[distance.sort_values(kind="stable").index[:count]] = True
    return found


def _nearest(tiles: pd.DataFrame, start: pd.Series, count: int) -> pd.DataFrame:
    distance = (tiles["column"] - start["column"]) ** 2 + (tiles["row"] - start["row"]) ** 2
    return tiles.loc[distance.sort_values(kind="stable").index[:count]]
