"""Tissue told from glass by optical density."""

import math

import numpy as np

from hsa.slides.canvas import LARGE, Canvas, picture_canvas
from hsa.slides.filters import blurred, closed, dilated, inner, over_square, unevenness
from hsa.slides.glass import (
    FLAT,
    PALE,
    WHITE_DENSITY,
    Glass,
    Sample,
    find_glass,
    max3,
    sample_step,
    sampled,
    texture_of,
)
from hsa.slides.parts import Block, Parts, blocks

# um/px at which the tissue of slides is looked for.
MASK_MPP = 8.0
# Optical density against the glass above which a pixel is tissue: in general, and where the picture is flat.
OD_FLOOR = 0.011
UNEVEN_GLASS = 0.03
# A pixel with less than this share of its neighbourhood's highest density is glass beside tissue: blur and JPEG.
HALO = 0.12
# Gaps narrower than twice this are closed; parts and holes smaller than a square of this side go (um).
CLOSING_UM = 16.0
SMALL_UM = 50.0
# Blue and green ink takes this many times as much red as green light, which haematoxylin, the bluest stain, does not;
# yellow and orange ink so many times as much blue as green, which DAB does not.
INK_RED, INK_BLUE = 1.3, 2.2
# Red ink lets more red light through than AEC, Fast Red and blood, and takes more blue than eosin; shares of green.
RED_INK = (0.12, 0.6)
# Ink of any colour, and the stained edge of a slide, is dense and smooth: over 5 px its density deviates from a
# plane by no more than this share of its mean, and the noise of a scanner; tissue's does.
SMOOTH_OD, SMOOTH, NOISE = 0.12, 0.05, 0.0035
# A smooth part is ink if it is larger than a square of this side (um), and this share of it lies no farther than so
# many pixels from glass or from the edge of the slide: colloid and clots lie inside of tissue.
STROKE_UM, BESIDE_GLASS, BESIDE_PX = 100.0, 0.05, 8
# Density, and its range among the channels relative to it, of the grey rims that air bubbles have and stains have not.
GREY = (0.05, 0.15)
# Of more than this share of what is dense, ink or grey are a stain's own colour; of smooth parts, the half.
MINORITY = 0.2
# The glass of a large picture is found from squares of so many pixels' side, spread over it.
SQUARE = 128
# A block whose overview is nowhere denser than this is glass.
NOTHING = 0.006
# Pixels on each side that the filters of a block reach.
REACH = 4

# What cannot be told for certain.
SMOOTH_STAIN = "most of what is dense is as smooth as ink"
LEFT_OUT = "{share:.0%} of what is dense was left out as ink, being large, as smooth as ink, and beside glass"
TOLD = 0.05  # a share of ink above which it is told
# How far (px) beyond its smooth part go the blurred edge of a stroke, and its halo, made by JPEG, of no more than this
# density.
STROKE_EDGE, STROKE_HALO, FAINT_OD = 8, 18, 0.06
FOUND, INK, GREY_RIM, SMOOTH_PX, FAINT, STROKE, TISSUE = (np.uint8(1 << bit) for bit in range(7))


def optical_density_tissue(picture: np.ndarray, mpp: float) -> np.ndarray:
    """Tell tissue from glass by optical density relative to the picture's own glass.

    Stain takes away light in at least one channel, whatever its colour, so the largest of the three densities
    -log10(I / I_glass) finds pale IHC as well as H&E, and a darker lamp changes nothing. Light that falls off over
    the slide is followed by a quadratic surface through the glass. Pen ink, the stained edge of a slide and the grey
    rims of air bubbles are left out as long as they are the exception.

    Args:
        picture: (h, w, 3) uint8, RGB, a whole slide at low magnification.
        mpp: its resolution, um/px.

    Returns:
        (h, w) bool, True = tissue.
    """
    return canvas_tissue(picture_canvas(picture, mpp))[0]


def canvas_tissue(canvas: Canvas) -> tuple[np.ndarray, list[str]]:
    """`optical_density_tissue` of a picture of any size, a block at a time: one byte a pixel is all that is kept.

    Returns:
        (h, w) bool, True = tissue; and what cannot be told for certain, in words.
    """
    glass = find_glass(_samples(canvas), canvas.shape, canvas.mpp)
    codes = np.zeros(canvas.shape, np.uint8)
    found = ink = 0
    for block in blocks(canvas.shape):
        if _is_bare(canvas, glass, block):
            continue
        window, inside = _window(block, REACH, canvas.shape)
        bits = _classified(canvas.read(window), window, glass, canvas.shape)
        if bits is not None:
            codes[block] = bits[inside]
            found += int(np.count_nonzero(codes[block] & FOUND))
            ink += int(np.count_nonzero(codes[block] & INK))
    doubts = [glass.doubt] if glass.doubt else []
    doubts += _mark_strokes(codes, canvas.mpp, found)
    _close(codes, canvas.mpp, ink < MINORITY * found)
    _drop_small(codes, (SMALL_UM / canvas.mpp) ** 2)
    # In place, for a second array would double the memory; and bare glass takes none.
    for block in blocks(canvas.shape):
        if codes[block].any():
            codes[block] = codes[block] & TISSUE > 0
    return codes.view(bool), doubts


def _samples(canvas: Canvas) -> list[Sample]:
    """Pixels of the whole picture, or, if it is large, of squares on a lattice."""
    stride = max(1, math.isqrt(canvas.shape[0] * canvas.shape[1] // LARGE))
    chosen = [
        (rows, columns)
        for rows, columns in blocks(canvas.shape, SQUARE)
        if rows.start // SQUARE % stride == columns.start // SQUARE % stride == stride // 2
    ]
    step = sample_step(sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in chosen))
    found = []
    for rows, columns in chosen:
        # A margin shows the texture at their edges; of single squares it would cost three more tiles of the file.
        window, inside = _window((rows, columns), int(stride == 1), canvas.shape)
        found.append(sampled(canvas.read(window), inside, rows.start, columns.start, step))
    return found


def _window(block: Block, margin: int, shape: tuple[int, int]) -> tuple[Block, Block]:
    """The block with a margin as far as the picture goes, and where in it the block lies."""
    window = tuple(
        slice(max(0, along.start - margin), min(side, along.stop + margin))
        for along, side in zip(block, shape, strict=True)
    )
    inside = tuple(
        slice(along.start - outer.start, along.stop - outer.start) for along, outer in zip(block, window, strict=True)
    )
    return (window[0], window[1]), (inside[0], inside[1])


def _is_bare(canvas: Canvas, glass: Glass, block: Block) -> bool:
    """Whether the overview shows nothing but glass in a block and next to it."""
    if canvas.overview is None:
        return False
    rows, columns = (
        slice(max(0, along.start * small // side - 1), min(small, along.stop * small // side + 2))
        for along, side, small in zip(block, canvas.shape, canvas.overview.shape[:2], strict=True)
    )
    density = WHITE_DENSITY[canvas.overview[rows, columns]] - glass.density
    return bool((max3(density) - glass.shade_at(rows, columns, canvas.overview.shape[:2])).max() < NOTHING)


def _classified(picture: np.ndarray, place: Block, glass: Glass, shape: tuple[int, int]) -> np.ndarray | None:
    """What each pixel of a part is, as bits (h, w) uint8 of FOUND, INK, GREY_RIM and SMOOTH_PX; None = nothing.

    The outer REACH pixels are right only where the picture ends there.
    """
    padded = np.pad(picture, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="symmetric")
    rows, columns = (slice(along.start - REACH, along.stop + REACH) for along in place)
    raw = [WHITE_DENSITY[padded[..., channel]] for channel in range(3)]
    shade = glass.shade_at(rows, columns, shape)
    channels = [one - (shade + bright) for one, bright in zip(raw, glass.density, strict=True)]
    wide = blurred(np.maximum(np.maximum(channels[0], channels[1]), channels[2]))
    stain = inner(wide, 2)
    if stain.max() <= OD_FLOOR:
        return None
    # Glass that is darker (dried mounting medium) is still flat, tissue hardly ever is.
    flat = inner(texture_of((raw[0] + raw[1] + raw[2]) / np.float32(3)), REACH - 1) < FLAT
    if glass.doubt == PALE:
        flat[:] = False
    found = stain > np.where(flat, np.float32(UNEVEN_GLASS), np.float32(OD_FLOOR))
    found &= stain > np.float32(HALO) * over_square(wide, 2, np.maximum)
    # Neither a black frame nor black ink is tissue; even folded tissue lets some red light through.
    found &= max3(picture) >= 40
    red, green, blue = (inner(channel, REACH) for channel in channels)
    ink = (red > 0.2) & (red > INK_RED * green) | (blue > 0.2) & (blue > INK_BLUE * green)
    ink |= (green > 0.4) & (red < RED_INK[0] * green) & (blue > RED_INK[1] * green)
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    grey = (stain > GREY[0]) & (spread < GREY[1] * stain)
    smooth = found & (stain > SMOOTH_OD)
    for channel in channels:
        # In all colours: a strong stain may saturate one.
        if smooth.any():
            mean, uneven = unevenness(inner(channel, 2))
            smooth &= uneven < SMOOTH * mean + NOISE * 10**mean
    bits = found.view(np.uint8) * FOUND
    for bit, mask in ((INK, ink), (GREY_RIM, grey), (SMOOTH_PX, smooth), (FAINT, stain < FAINT_OD)):
        bits |= (mask & found).view(np.uint8) * bit
    return bits


def _mark_strokes(codes: np.ndarray, mpp: float, found: int) -> list[str]:
    """Mark as STROKE what is smooth, large, and beside glass; say if that is much, or too much to be ink."""
    height, width = codes.shape

    def layer(block: Block) -> tuple[np.ndarray, np.ndarray]:
        window, inside = _window(block, BESIDE_PX, codes.shape)
        here = codes[window]
        smooth = here & SMOOTH_PX > 0
        if not smooth[inside].any():
            return smooth[inside], smooth[inside]
        beside = dilated(here & FOUND == 0, BESIDE_PX)
        rows, columns = (np.arange(along.start, along.stop) for along in window)
        beside |= ((rows < BESIDE_PX) | (rows >= height - BESIDE_PX))[:, None]
        beside |= (columns < BESIDE_PX) | (columns >= width - BESIDE_PX)
        return dilated(~dilated(~smooth, 1), 1)[inside], beside[inside]

    strokes = Parts(codes.shape, layer)
    size, beside = strokes.sums
    chosen = (size >= (STROKE_UM / mpp) ** 2) & (beside > BESIDE_GLASS * size)
    share = size[chosen].sum() / max(1, found)
    if share > 0.5:
        return [SMOOTH_STAIN]
    for block, mask in strokes.change(chosen):
        codes[block] |= mask.view(np.uint8) * STROKE
    return [LEFT_OUT.format(share=share)] if share > TOLD else []


def _close(codes: np.ndarray, mpp: float, without_ink: bool) -> None:
    """Mark as TISSUE what was found, without ink and with its narrow gaps closed."""
    radius = CLOSING_UM / mpp
    for block in blocks(codes.shape):
        window, inside = _window(block, STROKE_HALO + 2 * int(radius) + 2, codes.shape)
        here = codes[window]
        found = here & FOUND > 0
        if not found.any():
            continue
        # Their edges are too thin to tell by their colour or smoothness.
        if without_ink and (ink := here & INK > 0).any():
            found &= ~dilated(ink, 2)
        if (stroke := here & STROKE > 0).any():
            found &= ~dilated(stroke, STROKE_EDGE) & ~(dilated(stroke, STROKE_HALO) & (here & FAINT > 0))
        codes[block] |= closed(found, radius)[inside].view(np.uint8) * TISSUE


def _drop_small(codes: np.ndarray, area: float) -> None:
    """Take small parts, and grey ones where they are few, out of TISSUE; then fill small holes."""
    parts = Parts(codes.shape, lambda block: (codes[block] & TISSUE > 0, codes[block] & GREY_RIM > 0))
    size, grey = parts.sums
    small = size < area
    odd = ~small & (grey > 0.6 * size)
    if size[odd].sum() < MINORITY * size[~small].sum():
        small |= odd
    for block, mask in parts.change(small):
        codes[block] &= ~(mask.view(np.uint8) * TISSUE)
    holes = Parts(codes.shape, lambda block: (codes[block] & TISSUE == 0,))
    for block, mask in holes.change(holes.sums[0] < area):
        codes[block] |= mask.view(np.uint8) * TISSUE
