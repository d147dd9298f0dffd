"""Where the tissue is, and which tiles cover it."""

from dataclasses import dataclass

import numpy as np

from hsa.errors import InputError
from hsa.slides.canvas import slide_canvas
from hsa.slides.slide import Slide
from hsa.slides.tissue import MASK_MPP, canvas_tissue

METHODS = ("optical-density", "histolab")
# Share of a slide above which tissue has no glass beside it.
FULL = 0.95


@dataclass(frozen=True)
class Mask:
    """Where a slide has tissue.

    Attributes:
        array: (h, w) bool, True = tissue, over the whole slide.
        mpp: um per pixel of the array.
        warning: what is odd about it, empty if nothing is.
    """

    array: np.ndarray
    mpp: float
    warning: str = ""

    @property
    def fraction(self) -> float:
        """Share of the slide that is tissue, 0 to 1."""
        return float(self.array.mean())


@dataclass(frozen=True)
class TileGrid:
    """Tiles of one slide that hold enough tissue, in reading order.

    Attributes:
        coords: (N, 2) int64, x and y of the upper left corner, level-0 px.
        tissue: (N,) float32, share of the tile that is tissue.
        size_px: side of a tile, px at `mpp`.
        mpp: resolution at which tiles are read, um/px.
        size_level0: side of a tile, level-0 px.
    """

    coords: np.ndarray
    tissue: np.ndarray
    size_px: int
    mpp: float
    size_level0: int


def tissue_mask(slide: Slide, method: str = "optical-density", mpp: float = MASK_MPP) -> Mask:
    """Find the tissue of a slide.

    Args:
        slide: an open slide.
        method: `"optical-density"` (see `optical_density_tissue`) or `"histolab"` (histolab's
            `TissueMask`, which suits H&E and loses pale IHC).
        mpp: resolution of the mask, um/px; histolab chooses its own.

    Raises:
        InputError: no tissue, unknown method, or histolab is not there.
    """
    doubts: list[str] = []
    if method == "optical-density":
        array, doubts = canvas_tissue(slide_canvas(slide, mpp))
    elif method == "histolab":
        # Only this mask needs histolab, which takes a while to load.
        from hsa.slides.histolab_masks import histolab_tissue

        array = histolab_tissue(slide.path)
        mpp = slide.mpp * slide.size[0] / array.shape[1]
    else:
        raise InputError(f"unknown tissue mask {method!r}: use one of {', '.join(METHODS)}")
    share = array.mean()
    if share == 0:
        raise InputError(
            f"slide {slide.path} has no tissue by the {method} mask: look at it, and leave it out of the "
            "manifest if it is empty; else try another `mask` under `tiles` in the study file"
        )
    if share > FULL:
        doubts.append(f"{share:.0%} of the slide is tissue: no glass to compare with")
    if not doubts:
        return Mask(array, mpp)
    name = slide.path.name
    remedy = (
        "Look at it with `hsa tiles`; if its mask is wrong, try another `mask` under `tiles` in the "
        "study file, or leave the slide out of the manifest"
    )
    return Mask(array, mpp, f"slide {name}: {'; '.join(doubts)}. {remedy}")


def tile_grid(
    slide: Slide,
    mask: Mask,
    size_px: int = 256,
    mpp: float = 0.5,
    min_tissue: float = 0.5,
    max_tiles: int | None = None,
) -> TileGrid:
    """Cut a slide into abutting tiles and keep those with enough tissue.

    Sums of the mask, interpolated linearly between its pixels, are exact for tiles that do not fall on mask pixels,
    and cost the same for any tile size.

    Args:
        slide: an open slide.
        mask: where its tissue is.
        size_px: side of a tile, px at `mpp`.
        mpp: resolution at which tiles are read, um/px.
        min_tissue: smallest share of the tile that must be tissue, 0 to 1.
        max_tiles: keep at most so many, those with the most tissue, earlier ones first among equals;
            None = all.

    Raises:
        InputError: no tile holds enough tissue.
    """
    size = slide.extent(size_px, mpp)
    columns, rows = (side // size for side in slide.size)
    along, down = np.array(slide.size) / mask.array.shape[::-1]  # level-0 px a mask pixel
    across = np.arange(columns + 1) * size / along
    tissue = np.zeros((rows, columns))
    for row in range(rows):
        # A row of tiles at a time: sums over the whole mask would take eight times its memory.
        heights = _row_sums(mask.array, row * size / down, (row + 1) * size / down)
        tissue[row] = np.diff(_interpolated(np.r_[0.0, np.cumsum(heights)], across))
    tissue = tissue.ravel() * along * down / size**2
    # The sum of many mask pixels rounds: a tile that is half tissue is half tissue.
    kept = np.flatnonzero(tissue >= min_tissue - 1e-9)
    if len(kept) == 0:
        raise InputError(
            f"slide {slide.path} ({slide.size[0]} x {slide.size[1]} px, {mask.fraction:.1%} tissue) has "
            f"no tile of {size} level-0 px with {min_tissue:.0%} tissue: lower `min_tissue` or `mpp` "
            "under `tiles` in the study file, or leave the slide out of the manifest"
        )
    if max_tiles is not None:
        kept = np.sort(kept[np.argsort(-tissue[kept].round(9), kind="stable")[:max_tiles]])
    coords = np.stack([kept % columns, kept // columns], axis=1).astype(np.int64) * size
    return TileGrid(coords, tissue[kept].clip(0, 1).astype(np.float32), size_px, mpp, size)


def _row_sums(mask: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Sum (w,) of the rows of a mask (h, w) between two places; the first and the last count in part."""
    first, last = int(start), min(int(stop), len(mask) - 1)
    sums = mask[first : last + 1].sum(axis=0, dtype=np.uint32).astype(float)
    sums -= (start - first) * mask[first]
    return sums - (last + 1 - stop) * mask[last]


def _interpolated(sums: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Values of `sums` at fractional positions."""
    below = np.minimum(positions.astype(int), len(sums) - 2)
    weight = positions - below
    return (1 - weight) * sums[below] + weight * sums[below + 1]
