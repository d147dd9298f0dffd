"""Who lives in one section: cells drawn afresh for each section from the layout that sections share.

Cells are an inhomogeneous hard-core point process: dense candidates with their own size and axis are taken
in turn unless they overlap a cell already there. Epithelial nuclei sit basally, with their long axis across
the epithelium, as far as the case is differentiated.
"""

import numpy as np
from numba import njit
from scipy import ndimage
from scipy.special import ndtri

from hsa.virtual.markers import MARKERS, sigmoid
from hsa.virtual.nuclei import (
    APOPTOTIC,
    CELL,
    DUST,
    GHOST,
    LYMPHOCYTE,
    MITOSES,
    RED,
    SPINDLE,
    TUMOUR,
)
from hsa.virtual.specimen import STEP, Case, Section, noise_field


def draw_cells(rng: np.random.Generator, section: Section, case: Case) -> np.ndarray:
    """Draw the cells of one section, sorted by kind of compartment; DAB is left at 0.

    Returns:
        Structured array (N,) of dtype `CELL`.
    """
    traits = case.latents
    px = section.px
    groups = [
        _endothelium(rng, section),
        _tumour(rng, section, traits),
        _immune(rng, section, traits),
        _spindle(rng, section, traits),
    ]
    cells = np.concatenate(groups)
    cells = cells[_hard_core(cells, np.float32(px), 72.0)]
    cells = _divide(rng, cells, traits)
    return np.concatenate([cells, _necrotic(rng, section), _blood(rng, section)])


def stain(rng: np.random.Generator, section: Section, case: Case, cells: np.ndarray, marker: str) -> float:
    """Give the cells of an IHC section their DAB, in place.

    Nuclear markers fill `dab`; membranous ones fill `ring` (the membrane's optical density).

    Returns:
        The realised positive fraction of the tumour cells, 0-1.
    """
    programme, fraction = MARKERS[marker], case.fractions[marker]
    field = noise_field(rng, section.fields.shape[1], 14)
    front = np.exp(-np.abs(section.at("epithelium") - 8) / 18)
    field = field + (1.2 if programme.pattern == "membranous" else 0.3) * (front - front.mean())
    # Standardised over the tumour, so that the threshold below gives the expected fraction.
    kinds = cells["kind"]
    tumour = is_tumour(cells)
    patch = ndimage.map_coordinates(field, [cells["y"] / STEP, cells["x"] / STEP], order=1, mode="nearest")
    if tumour.sum() > 1:
        patch = (patch - patch[tumour].mean()) / (patch[tumour].std() + 1e-6)
    share = programme.patchiness
    own = rng.standard_normal(len(cells))
    rank = np.sqrt(share) * patch + np.sqrt(1 - share) * own
    positive = tumour & (rank > ndtri(1 - fraction)) if fraction > 0 else np.zeros(len(cells), bool)
    low, high = programme.intensity
    if programme.aberrant and fraction < programme.positive:
        low, high = programme.weak
    level = (low + (high - low) * rng.beta(1.6, 1.4, len(cells))).astype(np.float32)
    dab = np.where(positive, level, 0.0)
    bystander = rng.random(len(cells))
    dab = np.where((kinds == LYMPHOCYTE) & (bystander < programme.immune), 0.55 * level, dab)
    dab = np.where((kinds == SPINDLE) & (bystander < programme.stroma), 0.4 * level, dab)
    cells["dab" if programme.pattern == "nuclear" else "ring"] = dab
    return float(positive.sum() / max(tumour.sum(), 1))


def _new(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, kind: int) -> np.ndarray:
    cells = np.zeros(len(x), CELL)
    cells["x"], cells["y"], cells["kind"] = x, y, kind
    cells["tx"], cells["ty"] = rng.integers(0, 512, (2, len(x)))
    cells["phase"] = rng.uniform(0, 2 * np.pi, len(x))
    return cells


def _scatter(
    rng: np.random.Generator, section: Section, density: np.ndarray, per_sample: float
) -> tuple[np.ndarray, np.ndarray]:
    """Poisson points in px, with `per_sample` times `density` expected in each sample of the layout grid."""
    counts = rng.poisson(np.clip(density, 0, None) * per_sample)
    row, col = np.nonzero(counts)
    times = counts[row, col]
    at = np.stack([np.repeat(col, times), np.repeat(row, times)]) + rng.uniform(-0.5, 0.5, (2, times.sum()))
    at = at[:, rng.permutation(at.shape[1])] * STEP
    inside = (at >= -8).all(0) & (at < section.px + 8).all(0)
    return at[0][inside], at[1][inside]


def _turn(cells: np.ndarray, angle: np.ndarray) -> None:
    cells["cos"], cells["sin"] = np.cos(angle), np.sin(angle)


def _tumour(rng: np.random.Generator, section: Section, traits: dict[str, float]) -> np.ndarray:
    epithelium, necrosis = section.at("epithelium"), section.at("necrosis")
    room = (epithelium > 2) & (section.at("tissue") > 5) & (section.at("lumen") < -3) & (necrosis < -4)
    x, y = _scatter(rng, section, room, 0.9)
    depth = section.at("epithelium", x, y)
    gland = section.at("lumen", x, y) > -31
    cells = _new(rng, x, y, TUMOUR)
    n = len(cells)
    mean = 8.3 * np.exp(0.085 * traits["nuclear_size"])
    spread = 0.07 + 0.22 * sigmoid(1.3 * traits["pleomorphism"] - 0.5)
    radius = mean * np.exp(spread * rng.standard_normal(n) - 0.3 * spread**2)
    # A pleomorphic case holds a few giants.
    giant = rng.random(n) < 0.06 * sigmoid(2.0 * traits["pleomorphism"] - 1.6)
    radius = np.minimum(radius * np.where(giant, 1.5, 1.0), 19)
    polarity = sigmoid(1.2 + 1.0 * traits["differentiation"])
    stretch = np.where(gland, 1.12 + 0.55 * polarity * rng.random(n), 1.05 + 0.35 * rng.random(n))
    cells["a"], cells["b"] = radius * np.sqrt(stretch), radius / np.sqrt(stretch)
    gy, gx = np.gradient(section.at("epithelium"))
    row, col = (np.clip((v / STEP).round().astype(int), 0, gx.shape[0] - 1) for v in (y, x))
    across = np.arctan2(gy[row, col], gx[row, col])
    wobble = np.where(gland, 0.25 + 0.5 * (1 - polarity), 0.9)
    _turn(cells, across + wobble * rng.standard_normal(n))
    # Basal in a gland: one row or two at the bottom, the apex left as cytoplasm.
    layer = cells["a"] + 4 + (2 + 9 * (1 - polarity)) * np.abs(rng.standard_normal(n))
    kept = np.where(gland, np.abs(depth - layer) < 4.0 + 8 * (1 - polarity), depth > 0.8 * cells["b"])
    # A nucleus may bulge into the lumen a little, no more.
    kept &= section.at("lumen", x, y) < -0.75 * cells["b"] - 2
    dense = traits["hyperchromasia"]
    cells["dark"] = (0.60 + 0.085 * dense) * np.exp(0.13 * rng.standard_normal(n))
    cells["pale"] = np.clip(0.42 - 0.13 * dense + 0.12 * rng.standard_normal(n), 0.0, 0.75)
    cells["grain"] = np.clip(0.20 + 0.045 * traits["grain"] + 0.05 * rng.standard_normal(n), 0.06, 0.36)
    cells["rim"] = 0.20 + 0.08 * rng.random(n)
    prominent = rng.random(n) < sigmoid(0.1 + 1.5 * traits["nucleoli"])
    size = 1.5 + 0.8 * rng.random(n) + 0.5 * max(0.0, traits["nucleoli"])
    cells["nucleolus"] = np.where(prominent, size * radius / 9.0, 0.0)
    cells["wave"] = np.abs(rng.normal(0, 0.03 + 0.095 * sigmoid(1.4 * traits["pleomorphism"]), n))
    cells["reach"] = np.exp(np.where(gland, -0.02, 0.04) - 0.085 * traits["crowding"] + 0.1 * rng.standard_normal(n))
    return cells[kept]


def _immune(rng: np.random.Generator, section: Section, traits: dict[str, float]) -> np.ndarray:
    epithelium, tissue = section.at("epithelium"), section.at("tissue")
    clear = (tissue > 6) & (section.at("vessel") < -7) & (section.at("fat") < -3) & (section.at("lumen") < -9)
    inside = 0.012 * np.exp(0.85 * traits["exocytosis"]) * (epithelium > 0)
    density = np.where(epithelium > 0, inside, section.at("lymphoid")) * clear
    density *= np.where(section.at("necrosis") > -3, 0.15, 1.0)
    x, y = _scatter(rng, section, density, 0.5)
    cells = _new(rng, x, y, LYMPHOCYTE)
    n = len(cells)
    plasma = rng.random(n) < 0.25
    radius = np.where(plasma, 5.9, 5.2) * np.exp(0.10 * rng.standard_normal(n))
    stretch = np.exp(np.abs(0.14 * rng.standard_normal(n)))
    cells["a"], cells["b"] = radius * stretch, radius / stretch
    _turn(cells, rng.uniform(0, np.pi, n))
    cells["dark"] = 0.76 * np.exp(0.14 * rng.standard_normal(n))
    cells["grain"], cells["pale"], cells["rim"] = 0.36, 0.16 * rng.random(n), 0.12
    cells["wave"] = np.abs(rng.normal(0, 0.07, n))
    cells["halo"] = np.where(epithelium_at(section, cells) > 2, 0.55, 0.12)
    cells["reach"] = 1.06 + 0.25 * rng.random(n)
    return cells


def is_tumour(cells: np.ndarray) -> np.ndarray:
    """Which cells count as viable tumour cells: interphase and mitoses, bool (N,)."""
    return (cells["kind"] == TUMOUR) | np.isin(cells["kind"], MITOSES)


def epithelium_at(section: Section, cells: np.ndarray) -> np.ndarray:
    """Depth of each cell below the surface of its nest in px, negative in the stroma."""
    return section.at("epithelium", cells["x"], cells["y"])


def _spindle(rng: np.random.Generator, section: Section, traits: dict[str, float]) -> np.ndarray:
    room = (section.at("tissue") > 7) & (section.at("epithelium") < -4) & (section.at("vessel") < -6)
    room &= (section.at("fat") < -1) & (section.at("necrosis") < -2)
    lively = np.exp(0.45 * section.at("loose") + 0.3 * traits["fibroblasts"])
    x, y = _scatter(rng, section, room * lively, 0.016)
    cells = _new(rng, x, y, SPINDLE)
    n = len(cells)
    plump = rng.random(n) ** 2
    cells["a"] = np.clip(rng.lognormal(np.log(11.0), 0.33, n) * (1 - 0.3 * plump), 5, 24)
    cells["b"] = 1.6 + 1.3 * rng.random(n) + 2.4 * plump
    along = 0.5 * np.arctan2(section.at("sin", x, y), section.at("cos", x, y))
    _turn(cells, along + 0.16 * rng.standard_normal(n))
    cells["bend"] = rng.normal(0, 0.011, n)
    cells["dark"] = 0.62 * np.exp(0.22 * rng.standard_normal(n))
    cells["grain"], cells["pale"] = 0.22, 0.32 * plump
    cells["rim"], cells["wave"] = 0.12, np.abs(rng.normal(0, 0.05, n))
    cells["reach"] = 1.15 + 0.5 * rng.random(n)
    return cells[section.at("tissue", x, y) > 0.7 * cells["a"]]


def _endothelium(rng: np.random.Generator, section: Section) -> np.ndarray:
    vessel = section.at("vessel")
    ring = (np.abs(vessel + 2) < 4) & (section.at("tissue") > 6)
    x, y = _scatter(rng, section, ring, 0.5)
    cells = _new(rng, x, y, SPINDLE)
    gy, gx = np.gradient(vessel)
    row, col = (np.clip((v / STEP).round().astype(int), 0, gx.shape[0] - 1) for v in (y, x))
    _turn(cells, np.arctan2(gy[row, col], gx[row, col]) + np.pi / 2)
    n = len(cells)
    cells["a"], cells["b"] = rng.uniform(5, 10, n), rng.uniform(1.8, 3.4, n)
    cells["dark"], cells["grain"], cells["rim"] = 0.7 * np.exp(0.15 * rng.standard_normal(n)), 0.2, 0.1
    cells["bend"], cells["reach"] = 0.012, 1.4
    return cells[np.abs(section.at("vessel", x, y) + 2) < 2.2]


def _divide(rng: np.random.Generator, cells: np.ndarray, traits: dict[str, float]) -> np.ndarray:
    """Turn some tumour nuclei into mitoses and, more rarely, apoptotic bodies."""
    rate = np.clip(0.014 * np.exp(1.0 * traits["mitoses"]), 0.0, 0.09)
    tumour = cells["kind"] == TUMOUR
    u = rng.random(len(cells))
    dividing = tumour & (u < rate)
    stage = rng.choice(MITOSES, len(cells), p=(0.45, 0.2, 0.35))
    cells["kind"] = np.where(dividing, stage, cells["kind"])
    size = np.sqrt(cells["a"] * cells["b"])
    size = np.clip(size, 7.0, 11.0)
    for name in ("a", "b"):
        cells[name] = np.where(dividing, size, cells[name])
    cells["dark"] = np.where(dividing, 1.0, cells["dark"])
    cells["halo"] = np.where(dividing, 0.35, cells["halo"])
    dying = tumour & (u > 1 - 0.006)
    cells["kind"] = np.where(dying, APOPTOTIC, cells["kind"])
    shrunk = 3.0 + 1.5 * rng.random(len(cells))
    for name in ("a", "b"):
        cells[name] = np.where(dying, shrunk, cells[name])
    cells["dark"], cells["halo"] = np.where(dying, 1.05, cells["dark"]), np.where(dying, 0.7, cells["halo"])
    return cells


def _necrotic(rng: np.random.Generator, section: Section) -> np.ndarray:
    room = (section.at("necrosis") > 2) & (section.at("tissue") > 6)
    x, y = _scatter(rng, section, room, 0.05)
    cells = _new(rng, x, y, GHOST)
    n = len(cells)
    cells["a"], cells["b"] = rng.uniform(6, 11, n), rng.uniform(5.5, 9, n)
    _turn(cells, rng.uniform(0, np.pi, n))
    cells["dark"] = rng.uniform(0.08, 0.3, n)
    cells["wave"], cells["reach"] = 0.1 * rng.random(n), 0.85
    dust = rng.random(n) < 0.3
    cells["kind"] = np.where(dust, DUST, GHOST)
    cells["a"] = np.where(dust, rng.uniform(1.0, 3.2, n), cells["a"])
    cells["b"] = np.where(dust, rng.uniform(1.0, 2.4, n), cells["b"])
    cells["dark"] = np.where(dust, rng.uniform(0.5, 1.2, n), cells["dark"])
    return cells[_hard_core(cells, np.float32(section.px), 72.0)]


def _blood(rng: np.random.Generator, section: Section) -> np.ndarray:
    full = noise_field(rng, section.fields.shape[1], 12) > -0.6
    x, y = _scatter(rng, section, (section.at("vessel") > 5) & (section.at("tissue") > 8) & full, 0.35)
    cells = _new(rng, x, y, RED)
    n = len(cells)
    cells["a"] = rng.uniform(5.8, 7.0, n)
    cells["b"] = cells["a"] * rng.uniform(0.6, 1.0, n)
    _turn(cells, rng.uniform(0, np.pi, n))
    cells["dark"], cells["reach"] = rng.uniform(0.3, 0.5, n), 0.85
    return cells[_hard_core(cells, np.float32(section.px), 72.0)]


@njit(cache=True)
def _hard_core(cells, px, bin_size):
    """Indices of cells taken in order, each unless it overlaps an earlier one (elliptic hard cores)."""
    m = int((px + 200) / bin_size) + 2
    head = np.full((m, m), -1, np.int64)
    link = np.full(len(cells), -1, np.int64)
    taken = np.empty(len(cells), np.int64)
    count = 0
    for i in range(len(cells)):
        c = cells[i]
        col, row = int((c.x + 100) / bin_size), int((c.y + 100) / bin_size)
        free = True
        for r in range(max(row - 1, 0), min(row + 2, m)):
            for q in range(max(col - 1, 0), min(col + 2, m)):
                j = head[r, q]
                while j >= 0 and free:
                    d = cells[j]
                    dx, dy = d.x - c.x, d.y - c.y
                    reach = 0.5 * (c.reach + d.reach)
                    if dx * dx + dy * dy < (reach * (c.a + d.a)) ** 2:
                        # Support radius of each ellipse along the line between the two centres.
                        length = np.sqrt(dx * dx + dy * dy) + 1e-6
                        ux, uy = dx / length, dy / length
                        pc, pd = ux * c.cos + uy * c.sin, ux * d.cos + uy * d.sin
                        rc = 1.0 / np.sqrt((pc / c.a) ** 2 + (1 - min(pc * pc, 1.0)) / c.b**2)
                        rd = 1.0 / np.sqrt((pd / d.a) ** 2 + (1 - min(pd * pd, 1.0)) / d.b**2)
                        free = length > reach * (rc + rd)
                    j = link[j]
        if free:
            link[i] = head[row, col]
            head[row, col] = i
            taken[count] = i
            count += 1
    return taken[:count]
