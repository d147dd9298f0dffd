"""Where the tissue is, and which tiles cover it."""

import warnings
from dataclasses import dataclass

import numpy as np

from hsa.errors import InputError
from hsa.slides.slide import Slide
from hsa.slides.tissue import optical_density_tissue

try:
    from histolab.masks import BinaryMask, TissueMask
    from histolab.slide import Slide as HistolabSlide
except ImportError:  # histolab pins old versions and goes in with --no-deps; only its own mask needs it
    BinaryMask = object

METHODS = ("optical-density", "histolab")
MASK_MPP = 8.0
# Grey levels of a dark ground and of bright glass.
DARK_GREY, BRIGHT_GREY = 70, 180
DARK = "the ground is dark, as in fluorescence or an inverted picture: mask and encoders are made for bright field"


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
    odd = ""
    if method == "optical-density":
        picture = slide.thumbnail(mpp)
        array = optical_density_tissue(picture, mpp)
        odd = DARK if _is_dark(picture) else ""
    elif method == "histolab":
        _require_histolab()
        with warnings.catch_warnings():
            # It calls scikit-image and SciPy by names that are about to change.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            array = np.asarray(TissueMask()(HistolabSlide(slide.path, "")), dtype=bool)
        mpp = slide.mpp * slide.size[0] / array.shape[1]
    else:
        raise InputError(f"unknown tissue mask {method!r}: use one of {', '.join(METHODS)}")
    share = array.mean()
    if share == 0:
        raise InputError(
            f"slide {slide.path} has no tissue by the {method} mask: look at it, and leave it out of the "
            "manifest if it is empty; else try another `mask` under `tiles` in the study file"
        )
    full = f"{share:.0%} of the slide is tissue: no glass to compare with, look at the mask"
    return Mask(array, mpp, "; ".join(filter(None, [odd, full if share > 0.95 else ""])))


def _is_dark(picture: np.ndarray) -> bool:
    """Whether most of a slide (h, w, 3) is dark, and no glass is bright: unscanned black is in bright-field slides."""
    dark, bright = picture.max(axis=2) < DARK_GREY, picture.min(axis=2) > BRIGHT_GREY
    return bool(dark.mean() > 0.4 and bright.mean() < 0.02)


def tile_grid(
    slide: Slide,
    mask: Mask,
    size_px: int = 256,
    mpp: float = 0.5,
    min_tissue: float = 0.5,
    max_tiles: int | None = None,
) -> TileGrid:
    """Cut a slide into abutting tiles and keep those with enough tissue.

    The integral image of the mask, interpolated linearly between its pixels, is exact for tiles that do
    not fall on mask pixels, and costs the same for any tile size.

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
    # Counts in whole numbers are exact, and half as large as float64.
    integral = np.zeros(np.add(mask.array.shape, 1), np.uint32)
    np.cumsum(mask.array, axis=0, out=integral[1:, 1:])
    np.cumsum(integral[1:, 1:], axis=1, out=integral[1:, 1:])
    per_pixel = np.array(slide.size) / mask.array.shape[::-1]  # level-0 px a mask pixel, along x and y
    down = _interpolated(integral, np.arange(rows + 1) * size / per_pixel[1])
    corners = _interpolated(down.T, np.arange(columns + 1) * size / per_pixel[0]).T
    tissue = np.diff(np.diff(corners, axis=0), axis=1).ravel() * per_pixel.prod() / size**2
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


def _interpolated(integral: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rows of `integral` at fractional positions."""
    below = np.minimum(positions.astype(int), len(integral) - 2)
    weight = (positions - below)[:, None]
    return (1 - weight) * integral[below] + weight * integral[below + 1]


class OpticalDensityMask(BinaryMask):
    """`optical_density_tissue` in the form that histolab's tilers and `slide.locate_mask` take.

    Example:
        >>> tiler = histolab.tiler.GridTiler((256, 256))
        >>> tiler.extract(histolab_slide, extraction_mask=OpticalDensityMask())
    """

    def __init__(self) -> None:
        _require_histolab()

    def _mask(self, slide: "HistolabSlide") -> np.ndarray:
        factor = max(1, round(MASK_MPP / slide.base_mpp))
        return optical_density_tissue(slide.resampled_array(factor), slide.base_mpp * factor)


def _require_histolab() -> None:
    if BinaryMask is object:
        raise InputError(
            "histolab is not installed; type: pip install --no-deps --ignore-requires-python histolab==0.7.0"
        )
