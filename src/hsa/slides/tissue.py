"""Tissue told from glass by optical density."""

import math
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

# Optical density against the glass above which a pixel is tissue: in general, and where the picture is flat.
OD_FLOOR = 0.011
UNEVEN_GLASS = 0.03
# A pixel with less than this share of its neighbourhood's highest density is glass beside tissue: blur and JPEG.
HALO = 0.12
# Range of optical density among neighbours below which the picture is flat: two or three grey levels.
FLAT = 0.006
# Range of optical density among the channels below which a colour is neutral enough to be glass.
NEUTRAL = 0.03
# Gaps narrower than twice this are closed; parts and holes smaller than a square of this side go (um).
CLOSING_UM = 16.0
SMALL_UM = 50.0
# Pen ink takes this many times as much red as green light, which haematoxylin, the bluest stain, does not.
INK_RED = 1.3
# Density, and its range among the channels relative to it, of the grey rims that air bubbles have and stains have not.
GREY = (0.05, 0.15)
# Of more than this share of what is dense, ink or grey are a stain's own colour.
MINORITY = 0.2
# Pictures are worked on in strips of so many rows, and their glass is found from about so many pixels at most, so
# that memory grows by a few bytes a pixel only.
STRIP_ROWS = 512
GLASS_SAMPLE = 4_000_000
# Pixels on each side that the filters of a strip reach.
REACH = 4


def optical_density_tissue(picture: np.ndarray, mpp: float) -> np.ndarray:
    """Tell tissue from glass by optical density relative to the picture's own glass.

    Stain takes away light in at least one channel, whatever its colour, so the largest of the three densities
    -log10(I / I_glass) finds pale IHC as well as H&E, and a darker lamp changes nothing. Light that falls off over
    the slide is followed by a quadratic surface through the glass. Blue and green pen ink and the grey rims of air
    bubbles are left out as long as they are the exception.

    Args:
        picture: (h, w, 3) uint8, RGB, a whole slide at low magnification.
        mpp: its resolution, um/px.

    Returns:
        (h, w) bool, True = tissue.
    """
    glass, shade = _glass(picture)
    tissue, ink, grey = (np.zeros(picture.shape[:2], bool) for _ in range(3))
    for rows, inner, density, texture in _strips(picture):
        density = density - glass - _surface(shade, rows, picture.shape)[..., None]
        stain = ndimage.gaussian_filter(density.max(axis=2), 0.5)
        # Glass that is darker (dried mounting medium) is still flat, tissue hardly ever is.
        found = stain > np.where(texture < FLAT, UNEVEN_GLASS, OD_FLOOR)
        found &= stain > HALO * ndimage.maximum_filter(stain, 5)
        # Neither a black frame nor black ink is tissue; even folded tissue lets some red light through.
        found &= picture[rows].max(axis=2) >= 40
        red, green = density[..., 0], density[..., 1]
        done = rows.start + inner.start, rows.start + inner.stop
        tissue[slice(*done)] = found[inner]
        ink[slice(*done)] = (found & (red > 0.2) & (red > INK_RED * green))[inner]
        grey[slice(*done)] = (found & (stain > GREY[0]) & (np.ptp(density, axis=2) < GREY[1] * stain))[inner]
    if 0 < ink.sum() < MINORITY * tissue.sum():
        # Its edges are too thin to tell by their colour.
        tissue &= ~ndimage.binary_dilation(ink, iterations=2)
    reach = math.floor(CLOSING_UM / mpp)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    padded = np.pad(tissue, reach + 1, mode="edge")
    inside = slice(reach + 1, -reach - 1)
    tissue = ndimage.binary_closing(padded, x**2 + y**2 <= (CLOSING_UM / mpp) ** 2)[inside, inside]
    tissue = _without_small(tissue, (SMALL_UM / mpp) ** 2, grey)
    return ~_without_small(~tissue, (SMALL_UM / mpp) ** 2)


def _strips(picture: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray, np.ndarray]]:
    """Rows of the picture with a margin, the part within without it, optical density against white, and texture."""
    table = (-np.log10(np.maximum(np.arange(256), 1) / 255)).astype(np.float32)
    for start in range(0, len(picture), STRIP_ROWS):
        rows = slice(max(0, start - REACH), min(len(picture), start + STRIP_ROWS + REACH))
        density = table[picture[rows]]
        lightness = density.mean(axis=2)
        texture = ndimage.maximum_filter(lightness, 3) - ndimage.minimum_filter(lightness, 3)
        first = start - rows.start
        yield rows, slice(first, first + min(STRIP_ROWS, len(picture) - start)), density, texture


def _glass(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Optical density (3,) of the glass against white, and how shade adds to it (see `_surface`)."""
    height, width = picture.shape[:2]
    step = max(1, math.ceil(math.sqrt(height * width / GLASS_SAMPLE)))
    parts = []
    for rows, inner, density, texture in _strips(picture):
        first = inner.start + -(rows.start + inner.start) % step
        taken = slice(first, inner.stop, step), slice(None, None, step)
        # Copies, because a view would keep its whole strip.
        parts.append((picture[rows][taken], density[taken].copy(), texture[taken].copy()))
    sample, density, texture = (np.concatenate(part) for part in zip(*parts, strict=True))
    glass = _glass_density(sample, density, texture)
    none = np.zeros(8, np.float32)
    beyond = density - glass
    bare = (texture < FLAT) & (np.abs(beyond).max(axis=2) < 0.05) & (np.ptp(beyond, axis=2) < 0.012)
    bare &= ~(sample == 255).all(axis=2)
    # Little glass says little about the light elsewhere.
    if bare.mean() < 0.1:
        return glass, none
    chosen = np.flatnonzero(bare)
    chosen = chosen[:: 1 + len(chosen) // 50_000]
    y, x = (place * step for place in np.unravel_index(chosen, bare.shape))
    terms = _terms(2 * y / height - 1, 2 * x / width - 1)
    shade = beyond.mean(axis=2).ravel()[chosen]
    # Dried mounting medium and faint tissue must not bend the surface: twice without what lies off it.
    kept = np.ones(len(shade), bool)
    for _ in range(3):
        weights = np.linalg.lstsq(terms[kept], shade[kept], rcond=None)[0]
        error = np.abs(terms @ weights - shade)
        kept = error <= max(0.004, 2 * np.median(error))
    # Where there is no glass the surface must not run away.
    return glass, np.array([*weights, *np.quantile(terms @ weights, (0.01, 0.99))], np.float32)


def _terms(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Terms (..., 6) of a quadratic surface at y and x, which run from -1 to 1 over the picture."""
    y, x = np.broadcast_arrays(y, x)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1).astype(np.float32)


def _surface(shade: np.ndarray, rows: slice, shape: tuple[int, ...]) -> np.ndarray:
    """Optical density (rows, w) by which the glass is darker there than in general: six weights, lowest, highest."""
    y = 2 * np.arange(rows.start, rows.stop)[:, None] / shape[0] - 1
    x = 2 * np.arange(shape[1]) / shape[1] - 1
    return (_terms(y, x) @ shade[:6]).clip(shade[6], shade[7])


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


def _without_small(mask: np.ndarray, area: float, grey: np.ndarray | None = None) -> np.ndarray:
    """The mask without connected parts of fewer than `area` pixels, and without grey ones where they are few."""
    parts, count = ndimage.label(mask)

    # In strips, because counting and indexing make 8 bytes of each number.
    strips = [slice(start, start + STRIP_ROWS) for start in range(0, len(mask), STRIP_ROWS)]

    def sizes(chosen: np.ndarray) -> np.ndarray:
        counts = (np.bincount(parts[rows][chosen[rows]], minlength=count + 1) for rows in strips)
        return sum(counts, np.zeros(count + 1, np.intp))

    size = sizes(mask)
    kept = size >= area
    kept[0] = False
    if grey is not None:
        odd = kept & (sizes(grey & mask) > 0.6 * size)
        if size[odd].sum() < MINORITY * size[kept].sum():
            kept &= ~odd
    return np.concatenate([kept[parts[rows]] for rows in strips])
