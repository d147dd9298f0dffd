"""Fewer pixels by a whole factor: exact means, and the names of the ways."""

import numpy as np

# The mean of each square of pixels; or a smaller picture from the coarse terms of a JPEG's cosine transform alone.
MEAN, DCT = "mean", "dct"
WAYS = (MEAN, DCT)
# Factors by which a decoder of JPEG can reduce.
DCT_FACTORS = (8, 4, 2)


def means(pixels: np.ndarray, factor: int, found: np.ndarray | None = None) -> np.ndarray:
    """Average squares of pixels; halves are rounded up.

    Args:
        pixels: (h, w, 3) uint8; the factor divides h and w.
        factor: side of a square, px.
        found: where the means go, if not into new memory.

    Returns:
        (h / factor, w / factor, 3) uint8.
    """
    height, width = (side // factor for side in pixels.shape[:2])
    kind = np.dtype("uint16" if factor <= 16 else "uint32")  # 16 x 16 times 255 and a half still fit
    # Whole rows first, then one colour at a time: numpy is slow along an axis of three.
    sums = pixels[::factor].astype(kind)
    for row in range(1, factor):
        sums += pixels[row::factor].astype(kind)
    sums = sums.reshape(height, -1)
    if found is None:
        found = np.empty((height, width, 3), np.uint8)
    for colour in range(3):
        total = sums[:, colour :: 3 * factor].copy()
        for column in range(1, factor):
            total += sums[:, colour + 3 * column :: 3 * factor]
        total += factor**2 // 2
        np.floor_divide(total, factor**2, out=found[..., colour], casting="unsafe")
    return found
