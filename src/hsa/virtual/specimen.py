"""What the tissue is: the latents of a case and the layout that all of its sections share.

A layout is a stack of smooth fields on a coarse grid of `STEP` px (2 um). Compartments are signed distances
in px at 0.5 um (positive inside), so that edges stay crisp and rounded when they are drawn at full size. A
section is the layout seen through a rotation, a shift and a smooth warp.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from hsa.virtual.markers import LATENTS, MARKERS, mix, sigmoid

STEP = 4
FIELDS = ("tissue", "epithelium", "lumen", "necrosis", "vessel", "fat", "cos", "sin", "lymphoid", "loose")
# Variation that no marker touches, drawn N(0, 1) per case, and what it changes.
NUISANCE: dict[str, str] = {
    "differentiation": "share of nests that open a lumen; basal, upright nuclei",
    "tumour_share": "share of the block that is tumour",
    "gland_size": "distance between glands",
    "desmoplasia": "stroma between glands, denser and wider",
    "fibroblasts": "stromal nuclei",
    "grain": "coarseness of tumour chromatin",
    "decay": "necrosis",
}
PATIENT_SHARE = 0.6  # correlation of the latents of two cases of one patient


@dataclass(frozen=True)
class Case:
    """The latent truth of one case: marker scores, expected positive fractions, morphology latents."""

    scores: dict[str, float]
    fractions: dict[str, float]
    latents: dict[str, float]


@dataclass(frozen=True)
class Section:
    """Layout fields (K, h, w) of one section, `STEP` px a sample, by name through `at`."""

    fields: np.ndarray
    px: int

    def at(self, name: str, x: np.ndarray | None = None, y: np.ndarray | None = None) -> np.ndarray:
        """The field `name`: whole, or bilinear at slide positions `x`, `y` in px."""
        field = self.fields[FIELDS.index(name)]
        if x is None or y is None:
            return field
        return ndimage.map_coordinates(field, [y / STEP, x / STEP], order=1, mode="nearest")


def draw_case(patient: np.random.Generator, case: np.random.Generator, strength: float) -> Case:
    """Draw the latents of a case; cases of a patient correlate by `PATIENT_SHARE`.

    Every marker of the table is drawn, whether it will be stained or not, so that the H&E slide of a case
    does not depend on the markers of a study.
    """
    names = [*MARKERS, *LATENTS, *NUISANCE]
    shared, own = patient.standard_normal(len(names)), case.standard_normal(len(names))
    values = np.sqrt(PATIENT_SHARE) * shared + np.sqrt(1 - PATIENT_SHARE) * own
    drawn = dict(zip(names, values.tolist(), strict=True))
    scores = {marker: drawn[marker] for marker in MARKERS}
    fractions = {m: p.expected_fraction(scores[m], case) for m, p in MARKERS.items()}
    latents = mix(strength, scores, {name: drawn[name] for name in LATENTS}, MARKERS)
    latents |= {name: drawn[name] for name in NUISANCE}
    return Case(scores, fractions, {name: float(value) for name, value in latents.items()})


def noise_field(rng: np.random.Generator, n: int, wavelength: float, slope: float = 4.0) -> np.ndarray:
    """Gaussian random field (n, n), mean 0 and SD 1, smooth below `wavelength` samples."""
    m = fft.next_fast_len(n, real=True)
    white = fft.rfft2(rng.standard_normal((m, m), dtype=np.float32))
    field = fft.irfft2(white * _transfer(m, float(wavelength), slope), s=(m, m))[:n, :n]
    field -= field.mean()
    return field / field.std()


@lru_cache(maxsize=64)
def _transfer(m: int, wavelength: float, slope: float) -> np.ndarray:
    f = np.hypot(fft.fftfreq(m)[:, None], fft.rfftfreq(m)[None]) * wavelength
    return ((f > 0) / (1.0 + f**slope)).astype(np.float32)


def signed_distance(mask: np.ndarray, smooth: float = 1.2) -> np.ndarray:
    """Signed distance in px to the edge of `mask`, positive inside, with rounded corners."""
    if not mask.any():
        return np.full(mask.shape, -1e3, np.float32)
    inside = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    return (STEP * ndimage.gaussian_filter(inside.astype(np.float32), smooth)).astype(np.float32)


def draw_layout(rng: np.random.Generator, px: int, latents: dict[str, float]) -> np.ndarray:
    """Lay out a specimen: fields (K, n, n) in the order of `FIELDS`, a little larger than a slide of `px`."""
    n = int(np.ceil((1.2 * px + 120) / STEP))
    frame = px / STEP
    y, x = (np.mgrid[:n, :n].astype(np.float32) - n / 2) / (frame / 2)
    window = (np.abs(x) < 0.9) & (np.abs(y) < 0.9)
    for attempt in range(12):
        tissue = _tissue(rng, n, frame, x, y)
        epithelium, gland, centre_noise = _glands(rng, n, frame, tissue, latents, attempt / 12)
        lumen = _lumina(rng, n, epithelium, gland, latents)
        necrosis = _necrosis(rng, n, tissue, epithelium, lumen, centre_noise, latents["decay"])
        # A block without enough tumour would have been cut again, where there is more of it.
        tumour = (np.minimum(epithelium, tissue) > 0) & (np.maximum(lumen, necrosis) < 0)
        if tumour[window].mean() > 0.2:
            break
    vessel = _vessels(rng, n, px, np.minimum(tissue - 25, np.minimum(-epithelium - 22, -necrosis - 20)))
    fat = _fat(rng, n, tissue, np.maximum(np.maximum(epithelium, vessel), necrosis))
    swirl = np.pi * (noise_field(rng, n, 55) * 0.55 + rng.random())
    gy, gx = np.gradient(ndimage.gaussian_filter(epithelium, 3))
    # Fibres run along the surface of the glands and vessels that they wrap.
    wrap = np.exp(-np.maximum(-epithelium, 0) / 25) * 1.6
    cos = np.cos(2 * swirl) + wrap * (gy**2 - gx**2) / (gx**2 + gy**2 + 0.3)
    sin = np.sin(2 * swirl) - wrap * 2 * gx * gy / (gx**2 + gy**2 + 0.3)
    clump = noise_field(rng, n, 16, 3.0)
    near = np.exp(-np.maximum(-epithelium - 8, 0) / 90)
    infiltration = latents["infiltration"]
    lymphoid = np.exp(1.05 * clump - 0.55) * (0.25 + 0.75 * near) * 0.055 * np.exp(0.75 * infiltration)
    lymphoid += 0.9 * sigmoid(12 * (noise_field(rng, n, 42) * 0.8 + 0.25 * clump - 2.3 + 0.35 * infiltration))
    loose = noise_field(rng, n, 34) - 0.5 * latents["desmoplasia"]
    fields = (tissue, epithelium, lumen, necrosis, vessel, fat, cos, sin, lymphoid, loose)
    return np.stack([f.astype(np.float32) for f in fields])


def cut_section(
    rng: np.random.Generator, layout: np.ndarray, px: int, rotation_sd: float = 4.0, shift_sd: float = 10.0
) -> Section:
    """See the layout through a small rotation (degrees), shift (px) and warp: the next section."""
    n, m = layout.shape[1], int(np.ceil(px / STEP)) + 2
    angle = np.deg2rad(rotation_sd * rng.standard_normal())
    shift = shift_sd * rng.standard_normal(2) / STEP
    y, x = np.mgrid[:m, :m].astype(np.float32) - px / STEP / 2
    wx, wy = (2.2 * noise_field(rng, m, 40) for _ in range(2))
    c, s = np.cos(angle), np.sin(angle)
    rows, cols = s * x + c * y + shift[1] + wy + n / 2, c * x - s * y + shift[0] + wx + n / 2
    fields = _resample(layout, rows.astype(np.float32), cols.astype(np.float32))
    named = dict(zip(FIELDS, fields, strict=True))
    # A few microns deeper, glands are a little wider or narrower.
    depth = 3.0 * noise_field(rng, m, 22)
    named["epithelium"] += depth
    named["lumen"] += 0.8 * depth
    cos, sin = named["cos"].copy(), named["sin"].copy()
    c2, s2 = np.cos(2 * angle), np.sin(2 * angle)
    named["cos"][:], named["sin"][:] = c2 * cos + s2 * sin, c2 * sin - s2 * cos
    return Section(fields, px)


@njit(cache=True)
def _resample(layout, rows, cols):
    """All fields at (rows, cols), bilinear, clamped to the layout."""
    k, h, w = layout.shape
    out = np.empty((k, rows.shape[0], rows.shape[1]), np.float32)
    for y in range(rows.shape[0]):
        for x in range(rows.shape[1]):
            v = min(max(rows[y, x], np.float32(0.0)), np.float32(h - 1.001))
            u = min(max(cols[y, x], np.float32(0.0)), np.float32(w - 1.001))
            r, q = int(v), int(u)
            fv, fu = v - np.float32(r), u - np.float32(q)
            one = np.float32(1.0)
            for i in range(k):
                top = layout[i, r, q] * (one - fu) + layout[i, r, q + 1] * fu
                low = layout[i, r + 1, q] * (one - fu) + layout[i, r + 1, q + 1] * fu
                out[i, y, x] = top * (one - fv) + low * fv
    return out


def _tissue(rng: np.random.Generator, n: int, frame: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    field = 0.55 * noise_field(rng, n, 0.42 * frame) - 0.9 * (np.hypot(x, y) ** 3) - 0.4 * np.hypot(x, y)
    window = (np.abs(x) < 1) & (np.abs(y) < 1)
    mask = field > np.quantile(field[window], 1 - rng.uniform(0.55, 0.82))
    labels, count = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
    keep = np.isin(labels, 1 + np.flatnonzero(sizes > 0.04 * mask.sum()))
    return signed_distance(ndimage.binary_fill_holes(keep), 2.0) + 1.2 * noise_field(rng, n, 6)


def _glands(
    rng: np.random.Generator,
    n: int,
    frame: float,
    tissue: np.ndarray,
    latents: dict[str, float],
    ease: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Glands and nests: cells of a warped Voronoi diagram whose centres lie in the tumour."""
    spacing = min(38, frame / 4) * np.exp(0.16 * latents["gland_size"])
    k = int(n / spacing) + 3
    grid = np.stack(np.meshgrid(np.arange(k), np.arange(k)), -1).reshape(-1, 2) - 1.0
    centres = (grid + rng.uniform(-0.42, 0.42, grid.shape)) * spacing
    centres = centres[rng.random(len(centres)) > 0.12]
    tumour = noise_field(rng, n, 70)
    col, row = np.clip(centres.round().astype(int), 0, n - 1).T
    here = tissue[row, col] > -20
    if not here.any():
        here[:] = True
    share = np.clip(0.62 + 0.13 * latents["tumour_share"], 0.35, 0.92) + ease * 0.6
    keep = here & (tumour[row, col] >= np.quantile(tumour[row, col][here], max(0.0, 1 - share)))
    size = rng.uniform(0.46, 0.80, len(centres)) * spacing * (1 + ease)
    # An irregular tumour front is a rougher warp of the same diagram.
    rough = np.exp(0.55 * latents["interface"])
    warp = [4.0 * noise_field(rng, n, 30) + 1.1 * rough * noise_field(rng, n, 11) for _ in range(2)]
    row, col = np.mgrid[:n, :n]
    at = np.stack([col + warp[0], row + warp[1]], -1).reshape(-1, 2)
    distance, index = cKDTree(centres).query(at, k=2)
    gap = (
        (1 - ease)
        * min(1.0, spacing / 30)
        * np.exp(np.log(2.6) + 0.3 * latents["desmoplasia"] + 0.5 * rng.uniform(-1, 1, len(centres)))
    )
    first = index[:, 0]
    inside = keep[first] & (distance[:, 1] - distance[:, 0] > 2 * gap[first]) & (distance[:, 0] < size[first])
    mask = ndimage.gaussian_filter(inside.reshape(n, n).astype(np.float32), 1.6) > 0.5
    buds = noise_field(rng, n, 5.5)
    cut = 3.1 - 0.35 * latents["interface"]
    near = ndimage.gaussian_filter(mask.astype(np.float32), 10) > 0.12
    mask |= near & (buds > cut)
    return signed_distance(mask), first.reshape(n, n), tumour


def _lumina(
    rng: np.random.Generator, n: int, epithelium: np.ndarray, gland: np.ndarray, latents: dict[str, float]
) -> np.ndarray:
    """Rounded lumina in the share of glands that differentiation opens; the rest stay solid nests."""
    count = int(gland.max()) + 1
    opened = rng.random(count) < sigmoid(1.3 + 1.2 * latents["differentiation"])
    thick = rng.uniform(25, 37, count)
    depth = np.where(opened[gland], epithelium - thick[gland], -50.0)
    mask = ndimage.gaussian_filter((depth > 0).astype(np.float32), 2.2) > 0.5
    # Cribriform holes in the middle of some solid nests.
    holes = (noise_field(rng, n, 9) > 1.9) & (epithelium > 26) & ~opened[gland]
    mask |= ndimage.gaussian_filter(holes.astype(np.float32), 1.2) > 0.5
    return signed_distance(mask, 1.0)


def _necrosis(
    rng: np.random.Generator,
    n: int,
    tissue: np.ndarray,
    epithelium: np.ndarray,
    lumen: np.ndarray,
    tumour: np.ndarray,
    decay: float,
) -> np.ndarray:
    """Dead tumour in the depth of the nests: none in most cases, a tenth of the tissue in a few."""
    share = 0.14 * max(0.0, sigmoid(1.6 * decay - 1.6) - 0.12)
    inner = (tissue > 30) & (lumen < -30)
    if share == 0 or not inner.any():
        return np.full((n, n), -1e3, np.float32)
    field = noise_field(rng, n, 44) + 0.045 * np.clip(epithelium, -30, 50) + 0.3 * tumour
    dead = inner & (field > np.quantile(field[inner], 1 - share))
    return signed_distance(ndimage.gaussian_filter(dead.astype(np.float32), 2) > 0.5)


def _vessels(rng: np.random.Generator, n: int, px: int, room: np.ndarray) -> np.ndarray:
    """Signed distance to vessel lumina, placed where `room` (px) leaves stroma for them."""
    field = np.full((n, n), -1e3, np.float32)
    row, col = np.mgrid[:n, :n].astype(np.float32)
    for _ in range(rng.poisson(9 * (px / 1024) ** 2)):
        spots = np.flatnonzero(room > 8)
        if not len(spots):
            break
        cy, cx = divmod(int(rng.choice(spots)), n)
        radius = min(np.exp(rng.normal(2.7, 0.5)), 0.9 * float(room[cy, cx]), 42.0)
        squash, turn = rng.uniform(0.45, 0.95), rng.uniform(0, np.pi)
        near = tuple(slice(max(0, int(c - radius - 14)), int(c + radius + 15)) for c in (cy, cx))
        dy, dx = row[near] - cy, col[near] - cx
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        inside = radius * squash**0.5 - STEP * np.hypot(u * squash, v)
        field[near] = np.maximum(field[near], inside)
        room[near] = np.minimum(room[near], STEP * np.hypot(dx, dy) - 2.2 * radius - 20)
    return field


def _fat(rng: np.random.Generator, n: int, tissue: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Fat cells (positive inside the vacuole) in the outskirts of about a third of the specimens."""
    share = 0.16 * max(0.0, rng.random() - 0.6)
    if share == 0:
        return np.full((n, n), -1e3, np.float32)
    field = noise_field(rng, n, 50) - 0.004 * np.minimum(tissue, 200)
    spots = rng.random((max(8, int(n * n / 420)), 2)) * n
    grid = np.stack([*np.mgrid[:n, :n][::-1]], -1).reshape(-1, 2) + 0.0
    distance, _ = cKDTree(spots).query(grid, k=2)
    vacuole = STEP * 0.5 * (distance[:, 1] - distance[:, 0]).reshape(n, n) - 2.5
    patch = field > np.quantile(field[tissue > 0], 1 - share)
    patch = signed_distance(patch & (others < -20), 2.0)
    return np.minimum(ndimage.gaussian_filter(vacuole, 0.8), np.minimum(patch, tissue - 8)).astype(np.float32)
