"""Features that look wrong: rows that are zero or equal, numbers that 16-bit floats do not hold."""

import numpy as np

from hsa.errors import InputError

LARGEST = float(np.finfo(np.float16).max)
# Rounding that is off by this share of a feature's deviation between tiles is no rounding any more.
LOST = 0.1
# Bare glass gives a few tiles one vector; more of them are a fault of what wrote the bag.
EQUAL = 0.05


def half(where: str, features: np.ndarray) -> tuple[np.ndarray, str]:
    """Give features as 16-bit floats, and say what is odd about them.

    Args:
        where: the file, for messages.
        features: (N, D) of any kind of number.

    Returns:
        (N, D) float16, and a sentence, empty if nothing is odd.

    Raises:
        InputError: features that are not finite, too large for 16-bit floats, or so near each other that these do not
            tell them apart; or tiles that do not differ at all.
    """
    if not features.size:
        return features.astype(np.float16), ""
    largest = float(np.abs(features).max())
    if not np.isfinite(largest):
        raise InputError(f"{where}: features that are not finite: make the bag again with the tool that wrote it")
    if largest > LARGEST:
        raise InputError(
            f"{where}: features up to {largest:g}, and 16-bit floats hold up to {LARGEST:g}: divide the features of "
            "all slides by one number"
        )
    rounded = features.astype(np.float16)
    return rounded, "; ".join(filter(None, [_lost(where, features, rounded), _alike(where, rounded)]))


def _lost(where: str, features: np.ndarray, rounded: np.ndarray) -> str:
    """How many features vary so little, for their size, that rounding takes the difference between tiles away."""
    exact = features.astype(np.float64)
    spread, error = exact.std(axis=0), np.sqrt(np.square(rounded - exact).mean(axis=0))
    varying = spread > 1e-12 * np.abs(exact).max(axis=0)
    lost = varying & (error > LOST * spread)
    if not lost.any():
        return ""
    told = f"{lost.sum()} of {len(lost)} features differ too little between tiles for 16-bit floats"
    if lost.sum() == varying.sum():
        raise InputError(
            f"{where}: {told} (deviation {np.median(spread[lost]):.1g} at a size of "
            f"{np.median(np.abs(exact[:, lost])):.1g}): subtract one vector from the features of all slides, or "
            "multiply them by one number"
        )
    return told


def _alike(where: str, features: np.ndarray) -> str:
    """How many tiles have no features, or those of another tile."""
    count, zero = len(features), ~features.any(axis=1)
    distinct = len({row.tobytes() for row in features[~zero]})
    if zero.all() or (count > 1 and distinct + zero.any() == 1):
        what = "all zero" if zero.all() else "the same"
        raise InputError(
            f"{where}: the features of all {count} tiles are {what}: make the bag again with the tool that wrote it"
        )
    told = [f"{zero.mean():.0%} of the tiles have features that are all zero"] if zero.any() else []
    repeated = (count - zero.sum() - distinct) / count
    if repeated > EQUAL:
        told.append(f"{repeated:.0%} of the tiles have the features of another one")
    return "; ".join(told)
