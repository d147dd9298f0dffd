"""The glass of a slide: its colour in this light, and how the light falls off over the slide."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hsa.slides.filters import inner, over_square
from hsa.slides.parts import Block

# Range of optical density among neighbours below which the picture is flat: two or three grey levels.
FLAT = 0.006
# Range of optical density among the channels below which a colour is neutral enough to be glass.
NEUTRAL = 0.03
# The same among differences to the glass: what light alone does.
SAME_TINT = 0.012
# Density by which glass may lie off the surface that the light's fall is thought to be, while that is found in rounds.
STEP, ROUNDS = 0.015, 8
# Grey levels of a dark ground and of bright glass.
DARK_GREY, BRIGHT_GREY = 70, 180
# Glass is found from about so many pixels at most.
SAMPLE = 200_000
# A flat part brighter than the most frequent one, of this share of the picture and of that part, is the glass if that
# part is darker by stain and not by light: by this share of the difference more in one channel than in another.
# Of densities that are counted.
BIN = 0.002
GAPS, BESIDE, STAINED, VALLEY = 0.003, 0.01, 0.05, 0.7

# A side is the outer part of so much of a picture; it has stain if this share of it is so dense.
SIDE, STAINED_SIDE, STAIN_AT_SIDE = 0.03, 0.02, 0.05
# Pale tissue that is taken for glass is denser than this; and light does not fall off by more than that.
PALEST, FALL = 0.015, 0.2
# A picture no longer than this (um) may be a field cut out of a slide, without a margin of glass.
FIELD_UM = 2200.0
# A lamp is hardly more tinted than this.
LAMP = 0.016
# The brightest pixels may be brighter than the glass by so much, by noise and sharpening.
OVERSHOOT = 0.015
# What cannot be told for certain.
DARK = "the ground is dark, as in fluorescence or an inverted picture: mask and encoders are made for bright field"
NO_GLASS = "hardly any glass to compare with, so that pale tissue may be missing"
PALE = "without a margin of glass, what is flat and darker than the gaps in it was taken for pale tissue"
UNSURE = "without a margin of glass, what was taken for glass may be pale tissue"

WHITE_DENSITY = (-np.log10(np.maximum(np.arange(256), 1) / 255)).astype(np.float32)


@dataclass(frozen=True)
class Glass:
    """What glass looks like at every place of a picture.

    Attributes:
        density: (3,) float32, optical density against white, RGB.
        shade: (8,) float32, by how much it grows over the picture: weights of 1, x, y, x2, y2, xy, which run from -1
            to 1 over the picture, and the least and greatest shade that was seen.
        doubt: one of DARK, NO_GLASS, PALE and UNSURE, what cannot be told for certain; empty if all can.
    """

    density: np.ndarray
    shade: np.ndarray
    doubt: str

    def shade_at(self, rows: slice, columns: slice, shape: tuple[int, int]) -> np.ndarray | np.float32:
        """Optical density (h, w) that the fall of the light adds there; 0 where it does not fall.

        Args:
            rows: of the picture at any resolution.
            columns: of it.
            shape: its height and width at this resolution, px.
        """
        if not self.shade.any():
            return np.float32(0)
        y = (2 * np.arange(rows.start, rows.stop) / shape[0] - 1)[:, None].astype(np.float32)
        x = (2 * np.arange(columns.start, columns.stop) / shape[1] - 1).astype(np.float32)
        one, along, down, along2, down2, both, least, most = self.shade
        surface = (one + along * x + along2 * x * x) + (down * y + down2 * y * y) + (both * y) * x
        return surface.clip(least, most, out=surface)


@dataclass(frozen=True)
class Sample:
    """Pixels of a picture: colours (n, 3) uint8, densities (n, 3), texture (n,), and places y and x (n,) in px."""

    colours: np.ndarray
    density: np.ndarray
    texture: np.ndarray
    y: np.ndarray
    x: np.ndarray


def texture_of(lightness: np.ndarray) -> np.ndarray:
    """Range of the values in squares of 3 px, 1 px smaller on each side."""
    texture = over_square(lightness, 1, np.maximum)
    texture -= over_square(lightness, 1, np.minimum)
    return texture


def sampled(part: np.ndarray, inside: Block, top: int, left: int, step: int) -> Sample:
    """Take pixels of a part of a picture.

    Args:
        part: (h, w, 3) uint8.
        inside: rows and columns of the part to take from; those around them show the texture at their edge.
        top: row of the picture at which these begin.
        left: column of it.
        step: every `step`-th pixel is taken along both axes.
    """
    density = WHITE_DENSITY[np.pad(part, ((1, 1), (1, 1), (0, 0)), mode="symmetric")]
    texture = texture_of(mean3(density))[inside][::step, ::step]
    taken = inner(density, 1)[inside][::step, ::step].reshape(-1, 3)
    y, x = np.indices(texture.shape, np.int32)
    colours = part[inside][::step, ::step].reshape(-1, 3)
    return Sample(colours, taken, texture.ravel(), top + step * y.ravel(), left + step * x.ravel())


def find_glass(parts: list[Sample], shape: tuple[int, int], mpp: float) -> Glass:
    """Find the glass from samples of a picture of this height and width, px, and resolution, um/px."""
    sample = Sample(*(np.concatenate([getattr(part, name) for part in parts]) for name in Sample.__annotations__))
    density, doubt = _colour(sample, is_field=max(shape) * mpp <= FIELD_UM)
    if _is_dark(sample.colours):
        doubt = DARK
    none = Glass(density, np.zeros(8, np.float32), doubt)
    if doubt and doubt != UNSURE:
        return none
    beyond = sample.density - density
    flat = (sample.texture < FLAT) & (range3(beyond) < SAME_TINT) & ~_white(sample.colours)
    chosen = np.flatnonzero(flat)
    chosen = chosen[:: 1 + len(chosen) // 50_000]
    shade = mean3(beyond[chosen])
    kept = np.abs(shade) < STEP
    # Little glass says little about the light elsewhere.
    share = flat.mean() / max(1, len(chosen))
    if share * kept.sum() < 0.03:
        return none
    terms = _terms(2 * sample.y[chosen] / shape[0] - 1, 2 * sample.x[chosen] / shape[1] - 1)
    # From the glass that is as bright as the most frequent one to what lies next to it, as the light falls.
    for _ in range(ROUNDS):
        weights = _fitted(terms[kept], shade[kept])
        close = np.abs(terms @ weights - shade) < STEP
        if (close == kept).all():
            break
        kept = close
    if share * kept.sum() < 0.1:
        return none
    # Where there is no glass the surface must not run away.
    surface = terms[kept] @ weights
    return Glass(density, np.array([*weights, *np.quantile(surface, (0.01, 0.99))], np.float32), doubt)


def _fitted(terms: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Weights (6,) of the surface."""
    kept = np.ones(len(shade), bool)
    # Dried mounting medium and faint tissue must not bend it: twice without what lies off it.
    for _ in range(3):
        weights = np.linalg.lstsq(terms[kept], shade[kept], rcond=None)[0]
        error = np.abs(terms @ weights - shade)
        kept = error <= max(0.004, 2 * np.median(error))
    return weights


def _terms(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1).astype(np.float32)


def _colour(sample: Sample, is_field: bool) -> tuple[np.ndarray, str]:
    """Optical density (3,) of the glass against white, and what is doubtful about it (see `Glass`)."""
    density = sample.density
    # Scanners fill what they did not scan with pure white, brighter than their glass.
    scanned = ~_white(sample.colours)
    if not scanned.any():
        return np.zeros(3, np.float32), NO_GLASS
    lightness = mean3(density)
    brightest = scanned & (lightness <= np.quantile(lightness[scanned], 0.005))
    white = np.median(density[brightest], axis=0)
    neutral = range3(density) < NEUTRAL
    if np.ptp(white) < NEUTRAL:
        neutral |= range3(density - white) < SAME_TINT
    neutral &= scanned
    calm = sample.texture < FLAT
    away = max3(np.abs(density - white))
    likely = neutral & (away < 0.06)
    fallen = scanned & (range3(density) < NEUTRAL) & (away < FALL)
    if (likely & calm).mean() < 0.05 and (fallen & calm).mean() > 0.1:
        # The brightest glass is hidden by tissue, and the light falls off towards the rest.
        likely = fallen
    # Much flat area: that is glass. Little: gaps in the tissue, of the very colour of the brightest
    # pixels, for pale tissue would show a tint beside them.
    glass = likely & calm
    if glass.mean() < 0.05:
        glass = likely & (sample.texture < 2 * FLAT) & (range3(density - white) < 0.008)
    if glass.mean() > 0.01:
        return _mode(sample, glass, likely & (sample.texture < 2 * FLAT), white, is_field)
    # A field full of tissue. Its brightest pixels may be tissue too, but glass has no tint.
    return (white if np.ptp(white) < NEUTRAL else np.full(3, white.min(), np.float32)), NO_GLASS


def _mode(
    sample: Sample, flat: np.ndarray, smooth: np.ndarray, white: np.ndarray, is_field: bool
) -> tuple[np.ndarray, str]:
    """The most frequent density (3,) of flat pixels, or that of gaps between them, if they are pale tissue.

    Args:
        sample: of n pixels.
        flat: which of them are flat and of the colour of glass, (n,) bool.
        smooth: these, and others that are nearly flat, as those of narrow gaps are.
        white: density (3,) of the brightest.
        is_field: whether the picture is so small that it may have no margin.
    """
    lightness = mean3(sample.density)
    place = (_smooth_counts(lightness[flat]).argmax() + 0.5) * BIN
    main = np.median(sample.density[flat & (np.abs(lightness - place) < 3 * BIN)], axis=0)
    if not is_field or _has_margin(sample, white):
        return main, ""
    # Stain shows in green light first.
    density = sample.density[smooth]
    green = density[:, 1]
    counts = _smooth_counts(green)
    ahead = counts[: max(0, int(main[1] / BIN) - 3)]
    for top in np.flatnonzero((ahead >= np.r_[0, ahead[:-1]]) & (ahead > counts[1 : len(ahead) + 1])):
        # Light that falls off makes all densities between; tissue and gaps leave a valley.
        if counts[top : int(main[1] / BIN)].min() > VALLEY * counts[top]:
            continue
        near = np.abs(green - (top + 0.5) * BIN) < 2.5 * BIN
        if near.sum() >= max(GAPS * len(flat), BESIDE * flat.sum()):
            gap = np.median(density[near], axis=0)
            if _is_stain(main - gap) and (main - gap).max() > PALEST:
                return gap, PALE
    tinted = _is_stain(main) and np.ptp(main) > LAMP
    return main, UNSURE if tinted or (main - white)[1] > OVERSHOOT else ""


def _has_margin(sample: Sample, white: np.ndarray) -> bool:
    """Whether two sides or more are free of stain, as tissue with a margin leaves them."""
    stained = max3(sample.density - white) > STAIN_AT_SIDE
    free = 0
    for place in (sample.y, sample.x):
        least, most = place.min(), place.max()
        reach = SIDE * (most - least)
        free += sum(stained[side].mean() < STAINED_SIDE for side in (place <= least + reach, place >= most - reach))
    return free > 1


def _is_stain(beside: np.ndarray) -> bool:
    """Whether a difference of densities (3,) is a stain's: none takes away less of green than of red and of blue."""
    return bool(beside[1] > beside.min() + STAINED * beside.max())


def _smooth_counts(values: np.ndarray) -> np.ndarray:
    """How often values occur in each BIN from 0."""
    counts = np.bincount((values / BIN).astype(int))
    return ndimage.gaussian_filter1d(np.r_[counts, 0.0], 1)


def _is_dark(colours: np.ndarray) -> bool:
    """Whether most pixels (n, 3) are dark, and no glass is bright: unscanned black is in bright-field slides."""
    least = np.minimum(np.minimum(colours[:, 0], colours[:, 1]), colours[:, 2])
    return bool((max3(colours) < DARK_GREY).mean() > 0.4 and (least > BRIGHT_GREY).mean() < 0.02)


def mean3(channels: np.ndarray) -> np.ndarray:
    """Mean of the three channels (..., 3): written out, as sums along so short an axis are slow."""
    return (channels[..., 0] + channels[..., 1] + channels[..., 2]) / np.float32(3)


def max3(channels: np.ndarray) -> np.ndarray:
    """Largest of the three channels (..., 3)."""
    return np.maximum(np.maximum(channels[..., 0], channels[..., 1]), channels[..., 2])


def range3(channels: np.ndarray) -> np.ndarray:
    """Largest less smallest of the three channels (..., 3)."""
    least = np.minimum(np.minimum(channels[..., 0], channels[..., 1]), channels[..., 2])
    return max3(channels) - least


def sample_step(pixels: int) -> int:
    """Every how many pixels, along both axes, are taken of so many."""
    return max(1, math.ceil(math.sqrt(pixels / SAMPLE)))


def _white(colours: np.ndarray) -> np.ndarray:
    return (colours[..., 0] == 255) & (colours[..., 1] == 255) & (colours[..., 2] == 255)
