"""What a stain shows: optical density planes of one section, from its layout and its cells.

Planes are hematoxylin, eosin and a third pigment (haemoglobin of red cells in H&E, DAB in IHC), each in
optical density units of its stain vector; they add up, and `optics` turns them into light.
"""

from functools import lru_cache

import numpy as np
from numba import njit

from hsa.virtual.nuclei import stamp, tessellate
from hsa.virtual.specimen import FIELDS, STEP, Section, noise_field

PAINTED = ("tissue", "epithelium", "lumen", "necrosis", "vessel", "fat", "loose")
BIN = 24  # px; no tumour cell reaches further than one bin and a half


def render(rng: np.random.Generator, section: Section, cells: np.ndarray, ihc: bool) -> np.ndarray:
    """Paint matrix and cells of one section.

    Args:
        rng: places the noise sheets.
        section: the layout of the section.
        cells: its cells, dtype `hsa.virtual.nuclei.CELL`; their `dab` and `ring` are used where `ihc`.
        ihc: whether the third plane is DAB.

    Returns:
        Optical densities (3, px, px), float32.
    """
    px = section.px
    offset = rng.integers(0, 512, 2)
    sheet = np.roll(_sheets(), tuple(offset), axis=(1, 2))
    # Fibres are needed in the stroma alone.
    stroma = (section.at("epithelium") < 8) & (section.at("tissue") > -8) & (section.at("lumen") < 8)
    fibres = _fibres(section.at("cos"), section.at("sin"), stroma, sheet[0], px // 2 + 2, STEP // 2)[..., None]
    planes = np.zeros((3, px, px), np.float32)
    head, link = tessellate(cells, px, px, BIN)
    amphophilia = rng.uniform(0.075, 0.13)
    layers = np.ascontiguousarray(section.fields[[FIELDS.index(name) for name in PAINTED]].transpose(1, 2, 0))
    _paint(planes, layers, fibres, sheet, cells, head, link, BIN, STEP, np.float32(amphophilia))
    stamp(cells, planes, sheet, ihc)
    return planes


@lru_cache(maxsize=1)
def _sheets() -> np.ndarray:
    """Periodic noise (3, 512, 512): chromatin grain of about 1 um, clumps of 3 um, waves of 12 um."""
    rng = np.random.default_rng(20)
    fine, coarse = noise_field(rng, 512, 3.5, 5.0), noise_field(rng, 512, 9.0, 5.0)
    return np.clip(np.stack([fine, coarse, noise_field(rng, 512, 26.0, 5.0)]), -2.5, 2.5)


@njit(cache=True)
def _fibres(cos, sin, stroma, noise, n, step):
    """Line integral convolution of noise along the fibre axis, at half size: (n, n), mean 0, SD near 1.

    Cabral and Leedom, SIGGRAPH 1993, with a crimp added to the axis; 0 outside `stroma`.
    """
    angle = np.empty(cos.shape, np.float32)
    for r in range(cos.shape[0]):
        for q in range(cos.shape[1]):
            angle[r, q] = 0.5 * np.arctan2(sin[r, q], cos[r, q])
    axis = np.empty((n, n, 2), np.float32)
    for y in range(n):
        r = min(y // step, cos.shape[0] - 1)
        for x in range(n):
            bent = angle[r, min(x // step, cos.shape[1] - 1)] + 0.28 * noise[(y // 6) & 511, (x // 6 + 77) & 511]
            axis[y, x, 0], axis[y, x, 1] = np.float32(1.4) * np.cos(bent), np.float32(1.4) * np.sin(bent)
    out = np.zeros((n, n), np.float32)
    half = np.float32(0.5)
    for y in range(n):
        for x in range(n):
            if not stroma[min(y // step, cos.shape[0] - 1), min(x // step, cos.shape[1] - 1)]:
                continue
            total = noise[y & 511, x & 511]
            for way in range(2):
                px, py = np.float32(x) + half, np.float32(y) + half
                vx, vy = axis[y, x, 0], axis[y, x, 1]
                if way:
                    vx, vy = -vx, -vy
                for _ in range(8):
                    px += vx
                    py += vy
                    q, r = int(px), int(py)
                    if px < 0 or py < 0 or q >= n or r >= n:
                        break
                    total += noise[r & 511, q & 511]
                    wx, wy = axis[r, q, 0], axis[r, q, 1]
                    if wx * vx + wy * vy < 0:
                        wx, wy = -wx, -wy
                    vx, vy = wx, wy
            out[y, x] = total / np.float32(7.5)
    return out


@njit(cache=True)
def _edge(distance, width):
    return min(1.0, max(0.0, distance / width + 0.5))


@njit(cache=True)
def _bump(x, width):
    """Gaussian bump of unit height; 0 where it would be below 1e-4."""
    z = x / width
    return np.exp(-z * z) if -3.0 < z < 3.0 else 0.0


@njit(cache=True)
def _rows(low, y, out):
    """Blend two rows of a coarse field into `out`, for position `y` in its samples."""
    r = min(int(y), low.shape[0] - 2)
    part = np.float32(y - r)
    for x in range(low.shape[1]):
        for k in range(low.shape[2]):
            out[x, k] = low[r, x, k] + (low[r + 1, x, k] - low[r, x, k]) * part


@njit(cache=True)
def _paint(planes, layers, fibres, sheet, cells, head, link, bin_size, step, amphophilia):
    """Fill `planes` with everything but nuclei: stroma, epithelium with cell borders, lumina, vessels."""
    h, w = planes.shape[1:]
    row = np.empty((layers.shape[1], layers.shape[2]), np.float32)
    fibre_row = np.empty((fibres.shape[1], 1), np.float32)
    for y in range(h):
        _rows(layers, y / step, row)
        _rows(fibres, y / 2, fibre_row)
        for x in range(w):
            q = x // step
            part = np.float32(x % step) / np.float32(step)
            t = row[q, 0] + (row[q + 1, 0] - row[q, 0]) * part
            if t < -8:
                continue
            fine, coarse = sheet[0, y & 511, x & 511], sheet[1, y & 511, x & 511]
            broad = sheet[2, y & 511, x & 511]
            t += 1.6 * broad + 0.7 * coarse
            if t < -1:
                continue
            present = _edge(t, 1.5)
            e = row[q, 1] + (row[q + 1, 1] - row[q, 1]) * part + 0.8 * broad
            lum = row[q, 2] + (row[q + 1, 2] - row[q, 2]) * part + 1.3 * broad + 0.4 * coarse
            n = row[q, 3] + (row[q + 1, 3] - row[q, 3]) * part + 3.0 * broad + 1.5 * coarse
            v = row[q, 4] + (row[q + 1, 4] - row[q, 4]) * part
            f = row[q, 5] + (row[q + 1, 5] - row[q, 5]) * part + 0.4 * broad
            g = row[q, 6] + (row[q + 1, 6] - row[q, 6]) * part
            fibre = 0.5 * (fibre_row[x // 2, 0] + fibre_row[(x + 1) // 2, 0])
            # Stroma: bundles, clefts where it is loose, a bluish ground substance between.
            cleft = _edge(-1.25 - fibre + 0.45 * max(-1.0, min(g, 1.5)), 0.9)
            softness = _edge(g - 0.6, 1.6)
            eos = (0.46 + 0.10 * fibre + 0.03 * coarse) * (1 - 0.38 * softness) * (1 - 0.85 * cleft)
            hem = 0.035 + 0.05 * softness
            dab = 0.0
            inside = _edge(e, 1.6)
            if inside > 0 and lum < 3:
                bent_x, bent_y = x + 2.5 * broad, y - 2.0 * sheet[2, x & 511, y & 511]
                near, border, ring, own = _cell_at(cells, head, link, bin_size, bent_x, bent_y)
                tint = sheet[0, (own * 37) & 511, (own * 91) & 511] if own >= 0 else 0.0
                wall = _bump(border, 1.3)
                if near > 2.6:
                    wall, ring = 0.0, 0.0
                eos_c = 0.42 - amphophilia + 0.035 * tint + 0.03 * coarse + 0.02 * fine + 0.06 * wall
                hem_c = amphophilia + 0.02 * tint + 0.012 * coarse
                # The apex is paler, the last micron under the lumen denser.
                apex = _edge(lum + 9, 14) if lum > -30 else 0.0
                eos_c = eos_c * (1 - 0.22 * apex) + 0.10 * _bump(lum + 1.5, 1.7)
                eos += inside * (eos_c - eos)
                hem += inside * (hem_c - hem)
                if ring > 0:
                    rim = max(wall, _bump(e - 1.5, 1.6), _bump(lum + 2.0, 1.6))
                    dab = inside * ring * max(0.0, rim * (0.95 + 0.35 * broad) + 0.10 + 0.02 * coarse)
            # A cleft where shrunken epithelium has left its bed, in places.
            gap = 1 - 0.8 * _bump(e + 2.2, 1.5) * _edge(broad - 1.1, 0.8)
            eos *= gap
            hem *= gap
            if v > -9:
                ring_v = _edge(v + 4.5 + 1.2 * coarse, 2.0)
                eos += ring_v * (0.50 + 0.05 * coarse - eos)
                hem += ring_v * (0.06 - hem)
                hollow = _edge(v, 1.6)
                eos *= 1 - 0.93 * hollow
                hem *= 1 - 0.97 * hollow
            if n > -4:
                dead = _edge(n, 7.0)
                eos += dead * (0.44 + 0.10 * coarse + 0.09 * fine - eos)
                hem += dead * (0.07 + 0.035 * max(0.0, coarse + fine) - hem)
                dab *= 1 - dead
            if lum > -1:
                open_l = _edge(lum, 1.6)
                mucus = 0.03 * max(0.0, broad - 0.3) * _edge(-0.3 - g, 0.8)
                # Where the loose field is high, an eosinophilic secretion fills the lumen.
                juice = 0.20 * _edge(g - 1.3, 0.3) * _edge(lum - 4 - 2 * broad, 2.0)
                eos += open_l * (0.012 + mucus + juice - eos)
                hem += open_l * (0.006 + 1.2 * mucus - hem)
                dab *= 1 - open_l
            if f > -3:
                hollow = _edge(f, 1.6)
                eos *= 1 - 0.97 * hollow
                hem *= 1 - 0.97 * hollow
            planes[0, y, x] = max(0.0, hem * present)
            planes[1, y, x] = max(0.0, eos * present)
            planes[2, y, x] = dab * present


@njit(cache=True)
def _cell_at(cells, head, link, bin_size, x, y):
    """Nearest tumour cell in units of its radius: distance, px to its border, membrane DAB, index.

    Distances are divided by the radius of the cell (a multiplicatively weighted Voronoi diagram), so the
    borders are arcs and not straight lines.
    """
    r, q = int(y / bin_size) + 1, int(x / bin_size) + 1
    first, second, own, other = 1e6, 1e6, -1, -1
    for row in range(max(r - 1, 0), min(r + 2, head.shape[0])):
        for col in range(max(q - 1, 0), min(q + 2, head.shape[1])):
            i = head[row, col]
            while i >= 0:
                c = cells[i]
                d = ((x - c.x) ** 2 + (y - c.y) ** 2) / (c.a * c.b)
                if d < first:
                    second, other = first, own
                    first, own = d, i
                elif d < second:
                    second, other = d, i
                i = link[i]
    if own < 0:
        return 9.0, 9.0, 0.0, -1
    c = cells[own]
    ring = c.ring
    first = np.sqrt(first)
    border = 9.0
    if other >= 0:
        border = 0.5 * (np.sqrt(second) - first) * np.sqrt(c.a * c.b)
        # Both neighbours own the membrane between them.
        ring = max(ring, cells[other].ring * np.exp(-((border / 1.5) ** 2)))
    return first, border, ring, own
