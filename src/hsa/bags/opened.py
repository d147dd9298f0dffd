"""The tiles of one slide, which several threads read at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from hsa.slides.resolution import Given
from hsa.slides.slide import Slide
from hsa.slides.tiling import Mask, TileGrid, tile_grid, tissue_mask
from hsa.study.settings import Tiles


class OpenTiles:
    """A slide, its mask and its grid of tiles; to be closed.

    Handles of a slide do not share what they have decoded, and not every library lets two threads read through one. So
    a thread takes a handle that is idle, and opens another where there is none.

    Attributes:
        slide: the first handle.
        mask: where the tissue is.
        grid: which tiles are taken.
    """

    def __init__(self, slide: Slide, tiles: Tiles) -> None:
        self.slide = slide
        self.mask: Mask = tissue_mask(slide, tiles.mask)
        self.grid: TileGrid = tile_grid(slide, self.mask, tiles.size_px, tiles.mpp, tiles.min_tissue, tiles.max_tiles)
        self._handles, self._idle = [slide], [slide]

    @classmethod
    def open(cls, path: Path, mpp: float | Given | None, tiles: Tiles) -> Self:
        """Open a slide, find its tissue and lay the grid.

        Raises:
            InputError: as `Slide.open`, `tissue_mask` and `tile_grid`.
        """
        slide = Slide.open(path, mpp, tiles.reduction)
        try:
            return cls(slide, tiles)
        except BaseException:
            slide.close()
            raise

    def batches(self, size: int) -> list[np.ndarray]:
        """Cut the corners of the tiles into lists (B, 2) of at most `size`, in order."""
        return [self.grid.coords[start : start + size] for start in range(0, len(self.grid.coords), size)]

    def read(self, corners: np.ndarray) -> np.ndarray:
        """Read tiles.

        Args:
            corners: (B, 2) int64, level-0 px.

        Returns:
            (B, S, S, 3) uint8.

        Raises:
            InputError: the file is damaged there.
        """
        side, mpp = self.grid.size_px, self.grid.mpp
        pixels = np.empty((len(corners), side, side, 3), np.uint8)
        with self._handle() as slide:
            for tile, (x, y) in zip(pixels, corners.tolist(), strict=True):
                tile[:] = slide.read(x, y, side, side, mpp)
        return pixels

    def close(self) -> None:
        """Close every handle."""
        for slide in self._handles:
            slide.close()

    @contextmanager
    def _handle(self) -> Iterator[Slide]:
        try:
            slide = self._idle.pop()  # one step for the interpreter, so no two threads get the same
        except IndexError:
            slide = self.slide.again()
            self._handles.append(slide)
        try:
            yield slide
        finally:
            self._idle.append(slide)


def colours(pixels: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of the colours of tiles.

    Sums of whole numbers are exact, so that the result is the one that float64 gives, at a fraction of the time.

    Args:
        pixels: (B, S, S, 3) uint8, S up to 2048.

    Returns:
        (B, 6) float32, of red, green and blue: means, then deviations, 0-255.
    """
    count = pixels.shape[1] * pixels.shape[2]
    sums = np.empty((2, len(pixels), 3), np.int64)
    for k, tile in enumerate(pixels):
        values = tile.reshape(len(tile), -1)
        squares = np.square(values, dtype=np.uint16)  # 255 squared fits
        for power, numbers in enumerate((values, squares)):
            sums[power, k] = numbers.sum(axis=0, dtype=np.uint32).reshape(-1, 3).sum(axis=0, dtype=np.int64)
    mean = sums[0] / count
    variance = (count * sums[1] - sums[0] ** 2) / count**2
    return np.concatenate([mean, np.sqrt(variance)], axis=1).astype(np.float32)
