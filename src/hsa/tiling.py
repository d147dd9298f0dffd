"""Where the tissue is, and which tiles cover it."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hsa.errors import InputError
from hsa.slide import Slide

try:
    from histolab.masks import BinaryMask, TissueMask
    from histolab.slide import Slide as HistolabSlide
except ImportError:  # histolab pins old versions and goes in with --no-deps; only its own mask needs it
    BinaryMask = object

METHODS = ("optical-density", "histolab")
MASK_MPP = 8.0
# Optical density against the glass above which a pixel is tissue: in general, and where the picture is flat.
OD_FLOOR = 0.012
UNEVEN_GLASS = 0.03
# Range of optical density among neighbours below which the picture is flat: two or three grey levels.
FLAT = 0.006
# Range of optical density among the channels below which a colour is neutral enough to be glass.
NEUTRAL = 0.03
# Gaps narrower than twice this are closed; parts and holes smaller than a square of this side go (um).
CLOSING_UM = 16.0
SMALL_UM = 50.0


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
    if method == "optical-density":
        array = optical_density_tissue(slide.thumbnail(mpp), mpp)
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
    return Mask(array, mpp, full if share > 0.95 else "")


def optical_density_tissue(picture: np.ndarray, mpp: float) -> np.ndarray:
    """Tell tissue from glass by optical density relative to the picture's own glass.

    Stain takes away light in at least one channel, whatever its colour, so the largest of the three densities
    -log10(I / I_glass) finds pale IHC as well as H&E, and a darker lamp changes nothing.

    Args:
        picture: (h, w, 3) uint8, RGB, a whole slide at low magnification.
        mpp: its resolution, um/px.

    Returns:
        (h, w) bool, True = tissue.
    """
    density = (-np.log10(np.maximum(np.arange(256), 1) / 255)).astype(np.float32)[picture]
    lightness = density.mean(axis=2)
    texture = ndimage.maximum_filter(lightness, 3) - ndimage.minimum_filter(lightness, 3)
    stain = (density - _glass_density(picture, density, texture)).max(axis=2)
    # Glass that is darker (uneven light, dried mounting medium) is still flat, tissue hardly ever is.
    tissue = ndimage.gaussian_filter(stain, 0.5) > np.where(texture < FLAT, UNEVEN_GLASS, OD_FLOOR)
    # Neither a black frame nor black ink is tissue; even folded tissue lets some red light through.
    tissue &= picture.max(axis=2) >= 40
    reach = math.floor(CLOSING_UM / mpp)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    padded = np.pad(tissue, reach + 1, mode="edge")
    inside = slice(reach + 1, -reach - 1)
    tissue = ndimage.binary_closing(padded, x**2 + y**2 <= (CLOSING_UM / mpp) ** 2)[inside, inside]
    tissue = _without_small(tissue, (SMALL_UM / mpp) ** 2)
    return ~_without_small(~tissue, (SMALL_UM / mpp) ** 2)


def _glass_density(picture: np.ndarray, density: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Optical density (3,) of the glass against white."""
    # Scanners fill what they did not scan with pure white, brighter than their glass.
    scanned = ~(picture == 255).all(axis=2)
    if not scanned.any():
        return np.zeros(3, np.float32)
    lightness = density.mean(axis=2)
    brightest = scanned & (lightness <= np.quantile(lightness[scanned], 0.005))
    white = np.median(density[brightest], axis=0)
    likely = scanned & (np.abs(density - white).max(axis=2) < 0.06) & (np.ptp(density, axis=2) < NEUTRAL)
    # Much flat area: that is glass. Little: gaps in the tissue, of the very colour of the brightest
    # pixels, for pale tissue would show a tint beside them.
    tint = np.ptp(density - white, axis=2)
    glass = likely & (texture < FLAT)
    if glass.mean() < 0.05:
        glass = likely & (texture < 2 * FLAT) & (tint < 0.008)
    if glass.mean() > 0.01:
        counts, edges = np.histogram(lightness[glass], bins=np.arange(0, lightness[glass].max() + 0.004, 0.002))
        mode = edges[ndimage.gaussian_filter1d(counts.astype(float), 1).argmax()] + 0.001
        return np.median(density[glass & (np.abs(lightness - mode) < 0.006)], axis=0)
    # A field full of tissue. Its brightest pixels may be tissue too, but glass has no tint.
    return white if np.ptp(white) < NEUTRAL else np.full(3, white.min(), np.float32)


def _without_small(mask: np.ndarray, area: float) -> np.ndarray:
    """The mask without connected parts of fewer than `area` pixels."""
    parts, _ = ndimage.label(mask)
    large = np.bincount(parts.ravel()) >= area
    large[0] = False
    return large[parts]


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
    integral = np.pad(mask.array.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
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
