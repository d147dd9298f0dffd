"""Is the partner of a tile found among the tiles of its image?

A tile of an H&E image looks for the tile of the registered IHC image at its place, among the tiles of that image only,
and the reverse. So what tells one image from another, such as its stain, is of no use. Images are the units: tiles of
one image are neighbours, and no independent cases.
"""

from typing import Any

import numpy as np
import pandas as pd

from hsa.errors import InputError
from hsa.evaluation.alignment import DIRECTIONS, mean_interval

MEASURES = ("top1", "mrr")


def partners(he: np.ndarray, ihc: np.ndarray) -> dict[str, dict[str, float]]:
    """Tell how well the tiles of one image find their partners, by cosine.

    Equal cosines are ranked at random, in expectation: an encoder that makes all tiles alike scores chance.

    Args:
        he: (n, D), n >= 2: features of the H&E tiles, not zero.
        ihc: (n, D): those of the IHC tiles at the same places.

    Returns:
        direction -> top1 (share of tiles whose partner comes first), mrr (mean of 1 / rank of the partner).

    Raises:
        InputError: fewer than two tiles, or sides of different shape.
    """
    if he.shape != ihc.shape or len(he) < 2:
        raise InputError(
            f"partners: tiles of shape {he.shape} (H&E) and {ihc.shape} (IHC): give the same two or more places of both"
        )
    cosine = _unit(he) @ _unit(ihc).T
    made = {}
    for direction, turned in zip(DIRECTIONS, (cosine, cosine.T), strict=True):
        own = np.diag(turned)[:, None]
        alike = np.isclose(turned, own, rtol=0, atol=1e-9)
        before, tied = ((turned > own) & ~alike).sum(axis=1), alike.sum(axis=1)  # the partner itself is one of `tied`
        sums = np.r_[0, np.cumsum(1 / np.arange(1, len(turned) + 1))]
        made[direction] = {
            "top1": float(np.where(before == 0, 1 / tied, 0).mean()),
            "mrr": float(((sums[before + tied] - sums[before]) / tied).mean()),
        }
    return made


def chance(tiles: int) -> dict[str, float]:
    """Give what ranks drawn at random reach among so many tiles: top1, mrr."""
    return {"top1": 1 / tiles, "mrr": float((1 / np.arange(1, tiles + 1)).mean())}


def by_image(found: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Average both directions and all seeds of every image.

    Args:
        found: image, group, arm and `measure`, a row for each direction and seed.
        measure: top1 or mrr.

    Returns:
        A row an image, a column an arm; the index is (group, image).

    Raises:
        InputError: an arm lacks images that another has.
    """
    wide = found.pivot_table(index=["group", "image"], columns="arm", values=measure, aggfunc="mean")
    if wide.isna().any(axis=None):
        arm = wide.columns[wide.isna().any()][0]
        lost = ", ".join(wide.index[wide[arm].isna()].get_level_values("image"))
        raise InputError(f"partners: arm {arm} has no value for {lost}: run it again on all images")
    return wide


def gain(wide: pd.DataFrame, of: str, minus: str) -> dict[str, Any]:
    """Compare two arms on the same images.

    Args:
        wide: as `by_image` gives it, two images or more.
        of: an arm.
        minus: the other.

    Returns:
        value, low, high, n: mean difference of the images and its t-based 95 % interval; verdict: higher, lower or
        open, by that interval; groups: the same four numbers with the means of groups as units (None for one group).
    """
    differences = wide[of] - wide[minus]
    found: dict[str, Any] = dict(mean_interval(differences))
    means = differences.groupby(level="group").mean()
    groups = mean_interval(means) if len(means) > 1 else None
    return found | {"verdict": verdict(found), "groups": groups}


def verdict(number: dict[str, Any]) -> str:
    """Say on which side of 0 an interval lies: higher, lower, or open where it holds 0."""
    return "higher" if number["low"] > 0 else "lower" if number["high"] < 0 else "open"


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, float)
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
