"""Filters over small windows, written out as shifted copies: on a block in the cache, many times SciPy's speed."""

from collections.abc import Callable

import numpy as np

# Weights of a normal distribution of half a pixel's deviation at 0, 1 and 2 pixels; they add up to 1 over five.
_BLUR = np.exp(-2.0 * np.arange(3) ** 2)
_BLUR /= _BLUR[0] + 2 * _BLUR[1:].sum()


def inner(array: np.ndarray, margin: int) -> np.ndarray:
    """The array without `margin` pixels on each side of its first two axes."""
    return array[margin : array.shape[0] - margin, margin : array.shape[1] - margin]


def over_square(array: np.ndarray, reach: int, combine: Callable[..., np.ndarray]) -> np.ndarray:
    """Combine (as `np.maximum` or `np.add` do) the values of each square of 2 * reach + 1 px.

    Returns:
        An array that is `reach` px smaller on each side: no value comes from beyond the edge.
    """
    height, width = array.shape[0] - 2 * reach, array.shape[1] - 2 * reach
    tall = array[:height].copy()
    for shift in range(1, 2 * reach + 1):
        combine(tall, array[shift : shift + height], out=tall)
    wide = tall[:, :width].copy()
    for shift in range(1, 2 * reach + 1):
        combine(wide, tall[:, shift : shift + width], out=wide)
    return wide


def blurred(array: np.ndarray) -> np.ndarray:
    """The array under a Gaussian of half a pixel's deviation, 2 px smaller on each side."""
    for _ in range(2):  # down, then across
        middle = array[2:-2] * np.float32(_BLUR[0])
        middle += np.float32(_BLUR[1]) * (array[1:-3] + array[3:-1])
        middle += np.float32(_BLUR[2]) * (array[:-4] + array[4:])
        array = middle.T
    return array


def unevenness(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation from a plane in each square of 5 px, 2 px smaller on each side."""
    count, spread = np.float32(25), np.float32(50)  # of a square; and its sum of the squares of x
    mean = over_square(array, 2, np.add) / count
    # In squares about zero, for the difference of large squares would round.
    level = array - np.float32(array.mean())
    variance = over_square(level * level, 2, np.add) / count
    variance -= (over_square(level, 2, np.add) / count) ** 2
    for one in (level, level.T):
        slope = 2 * (one[:, 4:] - one[:, :-4]) + (one[:, 3:-1] - one[:, 1:-3])
        total = slope[:-4] + slope[1:-3] + slope[2:-2] + slope[3:-1] + slope[4:]
        variance -= (total if one is level else total.T) ** 2 / (spread * count)
    return mean, np.sqrt(np.maximum(variance, 0))


def dilated(mask: np.ndarray, radius: float) -> np.ndarray:
    """The mask (h, w), bool, with all that lies no more than `radius` px from it; beyond the edge is nothing."""
    reach = int(radius)
    height, width = mask.shape
    padded = np.pad(mask, reach)
    wide, half = padded[:, reach : reach + width].copy(), 0
    found = np.zeros_like(mask)
    # From the top of the disc to its middle its rows get longer.
    for down in range(reach, -1, -1):
        while (half + 1) ** 2 + down**2 <= radius**2:
            half += 1
            wide |= padded[:, reach - half : reach - half + width]
            wide |= padded[:, reach + half : reach + half + width]
        found |= wide[reach - down : reach - down + height]
        found |= wide[reach + down : reach + down + height]
    return found


def closed(mask: np.ndarray, radius: float) -> np.ndarray:
    """The mask (h, w), bool, with gaps closed that a disc of this radius does not fit into; the edge goes on beyond."""
    margin = int(radius) + 1
    padded = np.pad(mask, margin, mode="edge")
    grown = dilated(padded, radius)
    # A pixel stays where all of its disc is grown; what the padding lacks beyond its own edge is not asked for.
    return inner(~dilated(~grown, radius), margin)
