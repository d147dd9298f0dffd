"""What goes wrong between the knife and the scanner: folds, tears, missing parts, bubbles and pen marks.

All are drawn without a look at the case, on H&E and IHC alike, so they tell nothing of the label.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from hsa.virtual.specimen import STEP, Section, noise_field

CHANCE = {"tear": 0.15, "hole": 0.08, "fold": 0.12, "bubble": 0.06, "pen": 0.05}  # per slide
INK = {"blue": (40, 70, 160), "green": (30, 120, 80), "black": (35, 35, 45)}


def spoil(
    rng: np.random.Generator, planes: np.ndarray, section: Section
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Damage a section.

    Args:
        rng: decides.
        planes: optical densities (3, px, px); changed in place where the section tears or folds.
        section: gives the tissue.

    Returns:
        The tissue footprint that is left, bool (px/STEP, px/STEP), and a function that puts bubbles and pen
        marks on the RGB image.
    """
    px, n = section.px, section.px // STEP
    footprint = section.at("tissue")[:n, :n] > 0
    happens = {name: rng.random() < chance for name, chance in CHANCE.items()}
    lost = np.full((n, n), -1e3, np.float32)
    if happens["tear"]:
        lost = np.maximum(lost, _band(rng, n, rng.uniform(4, 14), 0.9))
    if happens["hole"]:
        field = noise_field(rng, n, n / 3)
        lost = np.maximum(lost, 60 * (field - np.quantile(field, 0.95)))
    if lost.max() > 0:
        footprint &= lost < 0
        planes *= np.clip(0.5 - _enlarge(lost, px) / 1.5, 0, 1)
    if happens["fold"]:
        # A fold lays the tissue beside it on top: twice the density, from a few microns away.
        fold = np.clip(0.5 + _enlarge(_band(rng, n, rng.uniform(8, 20), 0.5), px) / 3, 0, 1)
        dy, dx = rng.integers(12, 40, 2) * rng.choice([-1, 1], 2)
        planes += fold * np.roll(planes, (dy, dx), (1, 2)) * (planes[1] > 0.02)
    marks = [name for name in ("bubble", "pen") if happens[name]]
    seed = rng.spawn(1)[0]
    return footprint, lambda image: _overlay(seed, image, marks)


def _band(rng: np.random.Generator, n: int, width: float, reach: float, ragged: float = 0.004) -> np.ndarray:
    """Signed distance (px) to a wavering band of `width` px across a part of the slide."""
    y, x = np.mgrid[:n, :n].astype(np.float32) / n - 0.5
    turn = rng.uniform(0, np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    across = y * np.cos(turn) - x * np.sin(turn) - rng.uniform(-0.3, 0.3)
    across = across + 0.035 * noise_field(rng, n, n / 4) + ragged * noise_field(rng, n, 8)
    taper = 1 - (np.abs(along - rng.uniform(-0.3, 0.3)) / (0.5 * reach)) ** 2
    return (0.5 * width * taper - STEP * n * np.abs(across)).astype(np.float32)


def _overlay(rng: np.random.Generator, image: np.ndarray, marks: list[str]) -> np.ndarray:
    px = image.shape[0]
    n = px // STEP
    for mark in marks:
        if mark == "pen":
            ink = np.array(INK[str(rng.choice(list(INK)))], np.float32)
            cover = np.clip(0.5 + _enlarge(_band(rng, n, rng.uniform(25, 55), 1.6, 0.0), px) / 3, 0, 1)
            streak = 0.8 + 0.08 * _enlarge(noise_field(rng, n, 5), px)
            shade = (cover * np.clip(streak, 0, 1))[..., None]
            image = image * (1 - shade) + shade * ink * (0.35 + 0.65 * image / 255.0)
        else:
            y, x = np.mgrid[:px, :px].astype(np.float32)
            cy, cx = rng.uniform(0.1, 0.9, 2) * px
            radius = rng.uniform(0.05, 0.14) * px
            inside = radius - np.hypot((x - cx) * rng.uniform(0.85, 1.15), y - cy)
            rim = np.exp(-((inside / 4.0) ** 2)) + 0.5 * np.exp(-(((inside - 11) / 5.0) ** 2))
            veil = 0.15 * np.clip(0.5 + inside / 3, 0, 1)[..., None]
            image = (image * (1 - veil) + 240 * veil) * (1 - 0.55 * rim[..., None])
    return np.clip(image, 0, 255).astype(np.uint8)


def _enlarge(field: np.ndarray, px: int) -> np.ndarray:
    """Bring a coarse field to full size, bilinear."""
    at = np.arange(px, dtype=np.float32) / STEP
    rows = ndimage.map_coordinates(
        field, np.meshgrid(at, np.arange(field.shape[1]), indexing="ij"), order=1, mode="nearest"
    )
    low = np.minimum(at.astype(int), field.shape[1] - 1)
    high, part = np.minimum(low + 1, field.shape[1] - 1), (at - low).astype(np.float32)
    return rows[:, low] * (1 - part) + rows[:, high] * part
