"""What the scanner sees: stain variation, titration, Beer-Lambert light, optics and noise.

Titration keeps colour from telling the label. Crowded or hyperchromatic nuclei put more hematoxylin on a
slide; a laboratory's and a scanner's batch effects are as large. Each H&E slide's stain amounts are set so
that its mean transmitted light equals a draw that knows nothing of the case.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from hsa.virtual.specimen import STEP

# Ruifrok and Johnston 2001, eosin turned towards the pink of scanned slides.
HEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.09, 0.92, 0.38])
HAEMOGLOBIN = np.array([0.10, 0.78, 0.62])
DAB = np.array([0.27, 0.57, 0.78])
VECTOR_SD = 0.025  # laboratory to laboratory, per component
MEAN_TRANSMISSION = (0.805, 0.585)  # red, green over the tissue footprint of H&E, label-independent centre
TRANSMISSION_SD = (0.025, 0.035)
COUNTERSTAIN = (0.62, 0.15)  # of the H&E hematoxylin and eosin, in IHC


@dataclass(frozen=True)
class Batch:
    """One slide's laboratory and scanner: stain vectors (3, 3), white point (3,), blur, noise, target."""

    vectors: np.ndarray
    white: np.ndarray
    blur: float
    noise: float
    target: np.ndarray
    amounts: np.ndarray


def draw_batch(rng: np.random.Generator, ihc: bool) -> Batch:
    """Draw the laboratory and scanner of one slide, without a look at the case."""
    vectors = np.stack([HEMATOXYLIN, EOSIN, DAB if ihc else HAEMOGLOBIN])
    vectors = np.clip(vectors + VECTOR_SD * rng.standard_normal((3, 3)), 0.02, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    light = 242 + 3.5 * np.clip(rng.standard_normal(), -2, 2)
    white = np.clip(light + 2.0 * rng.standard_normal(3), 228, 252)
    target = np.array(MEAN_TRANSMISSION) + np.array(TRANSMISSION_SD) * np.clip(rng.standard_normal(2), -2, 2)
    amounts = np.exp(np.array([0.14, 0.2, 0.1]) * np.clip(rng.standard_normal(3), -2, 2))
    if ihc:
        amounts *= np.array([*COUNTERSTAIN, 1.0])
    return Batch(vectors, white, rng.uniform(0.25, 0.75), rng.uniform(1.2, 2.8), target, amounts)


def titrate(planes: np.ndarray, footprint: np.ndarray, batch: Batch) -> np.ndarray:
    """Stain amounts (3,) at which the mean transmission of red and green equals the target of the batch.

    Newton's method on a subsample of the footprint; the third amount stays that of the batch.

    Args:
        planes: optical densities (3, h, w).
        footprint: bool (h / STEP, w / STEP), the tissue with its holes.
        batch: gives vectors, start and target.
    """
    sample = planes[:, ::STEP, ::STEP][:, footprint]
    sample = sample[:, :: 1 + sample.shape[1] // 20_000].astype(np.float64)
    amounts = np.array([1.7, 1.3, batch.amounts[2]])
    rg = batch.vectors[:, :2]
    for _ in range(12):
        light = np.exp(-sample.T @ (amounts[:, None] * rg))
        error = light.mean(0) - batch.target
        slope = -(light.T @ sample[:2].T) * rg[:2].T / len(light)
        step = np.linalg.solve(slope, error)
        amounts[:2] = np.clip(amounts[:2] - np.clip(step, -0.4, 0.4), 0.25, 4.0)
    return amounts


def expose(rng: np.random.Generator, planes: np.ndarray, amounts: np.ndarray, batch: Batch) -> np.ndarray:
    """Photograph optical densities (3, h, w): uint8 RGB (h, w, 3) by Beer and Lambert, blurred and noisy."""
    matrix = (amounts[:, None] * batch.vectors).astype(np.float32)
    grain = rng.standard_normal((512, 512), dtype=np.float32) * np.float32(batch.noise)
    side = np.float32(batch.blur / (1 + 2 * batch.blur) * 0.5)
    return _expose(np.ascontiguousarray(planes, np.float32), matrix, batch.white.astype(np.float32), side, grain)


@njit(cache=True)
def _expose(planes, matrix, white, side, grain):
    """Separable three-tap blur of the light [side, 1 - 2 side, side], then noise and rounding."""
    h, w = planes.shape[1:]
    light = np.empty((h, w, 3), np.float32)
    middle = np.float32(1.0) - 2 * side
    row = np.empty((w, 3), np.float32)
    for y in range(h):
        for x in range(w):
            p, q, r = planes[0, y, x], planes[1, y, x], planes[2, y, x]
            for c in range(3):
                od = p * matrix[0, c] + q * matrix[1, c] + r * matrix[2, c]
                row[x, c] = white[c] * np.exp(-od) if od > 1e-4 else white[c]
        for x in range(w):
            left, right = max(x - 1, 0), min(x + 1, w - 1)
            for c in range(3):
                light[y, x, c] = side * (row[left, c] + row[right, c]) + middle * row[x, c]
    out = np.empty((h, w, 3), np.uint8)
    for y in range(h):
        up, down = max(y - 1, 0), min(y + 1, h - 1)
        for x in range(w):
            noise = grain[y & 511, x & 511]
            for c in range(3):
                value = side * (light[up, x, c] + light[down, x, c]) + middle * light[y, x, c] + noise + 0.5
                out[y, x, c] = np.uint8(min(np.float32(255.0), max(np.float32(0.0), value)))
    return out
