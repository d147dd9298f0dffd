"""How single cells look: nuclei, mitoses, red cells and debris, stamped into optical density planes.

A nucleus is an ellipse with low harmonics only (higher ones make stars), a membrane, chromatin grain from a
noise sheet, and nucleoli. Overlapping nuclei add a part of their density, as in a section of finite depth.
"""

import numpy as np
from numba import njit

# Here and not in `cells`: numba's cache looks at the file of a function only, not at what it imports.
TUMOUR, LYMPHOCYTE, SPINDLE, APOPTOTIC, METAPHASE, ANAPHASE, PROMETAPHASE, GHOST, RED, DUST = range(10)
MITOSES = (METAPHASE, ANAPHASE, PROMETAPHASE)

# Positions and semi-axes in px, axis as cosine and sine of the long axis, optical densities, shape terms.
CELL = np.dtype(
    [(name, np.float32) for name in ("x", "y", "a", "b", "cos", "sin", "dark", "grain", "pale", "rim")]
    + [(name, np.float32) for name in ("nucleolus", "bend", "wave", "phase", "halo", "dab", "ring", "reach")]
    + [("kind", np.int32), ("tx", np.int32), ("ty", np.int32)],
    align=True,
)


@njit(cache=True)
def stamp(cells, planes, sheet, ihc):
    """Draw `cells` into `planes`, in place.

    Args:
        cells: structured array of dtype `CELL`.
        planes: (3, h, w) float32 optical densities: hematoxylin, eosin, and DAB or haemoglobin.
        sheet: (3, 512, 512) float32 periodic noise, fine, coarse and broad, mean 0 and SD 1.
        ihc: True draws DAB, False haemoglobin of red cells.
    """
    h, w = planes.shape[1:]
    hem, eos, third = planes[0], planes[1], planes[2]
    for i in range(len(cells)):
        c = cells[i]
        kind = c.kind
        reach = 1.7 if c.halo > 0 or c.ring > 0 or kind == ANAPHASE else 1.25
        size = reach * max(c.a, c.b) + 2.0
        cos2p, sin2p = np.cos(2 * c.phase), np.sin(2 * c.phase)
        nx, ny = 0.35 * c.a * np.cos(c.phase), 0.35 * c.b * np.sin(c.phase)
        thin = min(c.a, c.b)
        for y in range(max(0, int(c.y - size)), min(h, int(c.y + size) + 2)):
            for x in range(max(0, int(c.x - size)), min(w, int(c.x + size) + 2)):
                dx, dy = x - c.x, y - c.y
                u = dx * c.cos + dy * c.sin
                v = dy * c.cos - dx * c.sin
                v += c.bend * u * u
                rr = u * u + v * v + 1e-3
                fine = sheet[0, (y + c.ty) & 511, (x + c.tx) & 511]
                coarse = sheet[1, (y + c.ty) & 511, (x + c.tx) & 511]
                # Second and third harmonics without trigonometry.
                second = ((u * u - v * v) * cos2p + 2 * u * v * sin2p) / rr
                third_h = (u * u * u - 3 * u * v * v) / (rr * np.sqrt(rr))
                rho = np.sqrt((u / c.a) ** 2 + (v / c.b) ** 2)
                rho /= 1.0 + c.wave * (second + 0.8 * third_h)
                if kind == METAPHASE:
                    q = 1.0 - np.sqrt((u / (0.36 * c.a)) ** 2 + (v / (0.95 * c.b)) ** 4) + 0.55 * coarse * 0.5
                    alpha = min(1.0, max(0.0, 1.6 * q + 0.4))
                elif kind == ANAPHASE:
                    away = abs(u) - 0.62 * c.a + 0.018 * v * v
                    q = 1.0 - np.sqrt((away / (0.27 * c.a)) ** 2 + (v / (0.85 * c.b)) ** 4) + 0.25 * coarse
                    alpha = min(1.0, max(0.0, 1.6 * q + 0.4))
                elif kind == PROMETAPHASE:
                    # A ring of condensed chromosomes, or a clump.
                    q = 0.36 - abs(rho - 0.5) if c.phase > 3.0 else 0.62 - rho
                    alpha = min(1.0, max(0.0, 3.0 * (q + 0.13 * coarse + 0.06 * fine) + 0.4))
                else:
                    alpha = min(1.0, max(0.0, (1.0 - rho) * thin / 1.1 + 0.5))
                if kind == RED:
                    if alpha > 0:
                        disc = c.dark * (0.72 + 0.35 * min(rho * rho, 1.0)) * alpha
                        eos[y, x] = max(eos[y, x], disc * (0.55 if not ihc else 0.5))
                        if not ihc:
                            third[y, x] = max(third[y, x], 0.9 * disc)
                    continue
                if kind == GHOST:
                    edge = (rho - 0.92) / 0.14
                    if rho < 1.3:
                        eos[y, x] *= 1.0 + 0.55 * np.exp(-edge * edge) - 0.18 * alpha
                        hem[y, x] += 0.5 * c.dark * alpha * max(0.0, 1.0 - 1.9 * rho)
                    continue
                if kind == DUST:
                    hem[y, x] = max(hem[y, x], c.dark * alpha)
                    continue
                if c.halo > 0 and alpha < 1:
                    fade = c.halo * max(0.0, 1.0 - max(0.0, rho - 1.0) * thin / 4.0) * (1 - alpha)
                    if kind == APOPTOTIC:
                        eos[y, x] += 0.45 * fade
                        hem[y, x] *= 1 - fade
                    else:
                        eos[y, x] *= 1 - fade
                        hem[y, x] *= 1 - fade
                if c.ring > 0 and kind != TUMOUR:
                    edge = (rho - 1.12) * thin / 1.6
                    third[y, x] = max(third[y, x], c.ring * np.exp(-edge * edge) * (1 + 0.3 * coarse))
                if alpha <= 0:
                    continue
                if METAPHASE <= kind <= PROMETAPHASE or kind == APOPTOTIC:
                    od = c.dark * (1 + 0.08 * fine)
                else:
                    inner = min(1.0, rho)
                    edge = (1.0 - rho) * thin / 1.3
                    body = 1.0 - c.pale * (1.0 - 0.4 * inner * inner)
                    chromatin = c.grain * (0.75 * coarse + 0.55 * fine)
                    od = c.dark * (max(0.15, body + chromatin) + c.rim * np.exp(-edge * edge))
                    if c.nucleolus > 0:
                        s = np.sqrt((u - nx) ** 2 + (v - ny) ** 2) / c.nucleolus
                        spot = min(1.0, max(0.0, (1.15 - s) * 1.6))
                        od += 0.62 * spot * (1 - 0.15 * fine)
                        eos[y, x] += 0.15 * spot
                if c.dab > 0:
                    brown = c.dab * alpha * max(0.3, 1 + 0.22 * coarse + 0.12 * fine)
                    third[y, x] = max(third[y, x], brown) + 0.25 * min(third[y, x], brown)
                    od *= 1.0 - 0.45 * min(1.0, c.dab)
                new, old = od * alpha, hem[y, x]
                hem[y, x] = max(old, new) + 0.3 * min(old, new)
                eos[y, x] *= 1 - 0.45 * alpha


@njit(cache=True)
def tessellate(cells, h, w, bin_size):
    """For each bin of `bin_size` px, the tumour cells in it, as a linked list (head, link)."""
    rows, cols = int(h / bin_size) + 3, int(w / bin_size) + 3
    head = np.full((rows, cols), -1, np.int32)
    link = np.full(len(cells), -1, np.int32)
    for i in range(len(cells)):
        kind = cells[i].kind
        if kind == TUMOUR or APOPTOTIC <= kind <= PROMETAPHASE:
            r = min(max(int(cells[i].y / bin_size) + 1, 0), rows - 1)
            q = min(max(int(cells[i].x / bin_size) + 1, 0), cols - 1)
            link[i] = head[r, q]
            head[r, q] = i
    return head, link
