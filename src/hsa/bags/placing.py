"""Where the tiles of another tool lie: their side and their corners in level-0 px, checked against all that is said."""

import math
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from hsa.bags.layouts import Told
from hsa.bags.scale import check_scale
from hsa.errors import InputError
from hsa.slides.resolution import is_plausible

UNITS = ("level0", "tile", "um")
SAME = 0.05  # relative difference up to which two resolutions are one, as for slides
OVERLAP = 0.98  # corners nearer than this share of a tile overlap; what is missing to 1 is rounding


def agreed(where: str, key: str, found: Any, given: Any, tolerance: float = 0) -> Any:
    """Give what the file says or, if it is silent, what was given.

    Raises:
        InputError: both say something, and not the same within a relative `tolerance`.
    """
    if found is None or given is None:
        return given if found is None else found
    if found != given and not (tolerance and math.isclose(found, given, rel_tol=tolerance)):
        raise InputError(f"{where} says {key} {found}, but {given} was given: leave it out, or correct it")
    return found


def tile_size(where: str, told: Told, tile_mpp: float | None) -> float:
    """Give the side of a tile in level-0 px.

    Args:
        where: the file, for messages.
        told: what it says, and what was given.
        tile_mpp: resolution of a tile's pixels, um/px, if that was given.

    Raises:
        InputError: names all that is missing, or what cannot be.
    """
    needed = {
        "mpp": "um per pixel of the slide's level 0; in the manifest",
        "tile_px": "side of a tile, px",
        "unit": f"of the coordinates: {', '.join(UNITS)}",
        "encoder": "name of the tile encoder",
    }
    missing = [f"{key} ({what})" for key, what in needed.items() if getattr(told, key) in (None, "")]
    if told.size is None and told.tile_um is None and tile_mpp is None:
        missing.append("tile_mpp (resolution of a tile, um/px)")
    if missing:
        raise InputError(f"{where} does not say {', '.join(missing)}: give it")
    mpp, tile_px = told.mpp, told.tile_px
    assert mpp is not None and tile_px is not None  # else missing
    if not is_plausible(mpp):
        raise InputError(f"{where}: mpp {mpp:g} is no resolution of a microscope: give um per px, such as 0.25")
    if told.magnification and not 2 / 3 <= told.magnification * mpp / 10 <= 3 / 2:
        expected = f"about {10 / told.magnification:g}"
        raise InputError(f"{where} says {told.magnification:g}x, {expected} um/px, but mpp is {mpp:g}: correct it")
    size = told.size
    if size is None:
        side = told.tile_um if tile_mpp is None or told.tile_um is not None else tile_px * tile_mpp
        size = (side or 0) / mpp
    if not 1 <= size < 2**31 or not 1 <= tile_px < 2**31 or tile_px != int(tile_px):
        raise InputError(f"{where}: tiles of {tile_px} px, {size:g} px of level 0: correct tile_px, tile_mpp or mpp")
    agreed(where, "tile_mpp", size * mpp / tile_px, tile_mpp, SAME)
    return float(size)


def level0(where: str, corners: np.ndarray, told: Told, size: float) -> np.ndarray:
    """Give corners in whole level-0 px.

    Args:
        where: the file, for messages.
        corners: (N, 2), in the unit of `told`.
        told: what the file says, and what was given.
        size: side of a tile, level-0 px.

    Raises:
        InputError: they are negative, not finite, or no pixels of level 0.
    """
    assert told.unit is not None and told.tile_px is not None and told.mpp is not None  # `tile_size` asks for them
    scale = {"level0": 1.0, "tile": size / told.tile_px, "um": 1 / told.mpp}[told.unit]
    if not np.isfinite(corners).all() or corners.min(initial=0) < 0 or corners.max(initial=0) >= 2**31:
        raise InputError(f"{where}: coordinates that are negative, not finite or beyond any slide")
    moved = np.rint(corners.astype(np.float64) * scale)
    if told.unit == "level0" and np.abs(moved - corners).max(initial=0) > 1e-3:
        raise InputError(f"{where}: coordinates that are no whole pixels, so not of level 0: microns?")
    return moved.astype(np.int64)


def beyond(where: str, coords: np.ndarray, extent: tuple[float, float] | None) -> str:
    """Say whether corners lie beyond their slide, and refuse x and y that are exchanged.

    Args:
        where: the file, for messages.
        coords: (N, 2), level-0 px.
        extent: width and height of level 0, px; None if nothing tells them.

    Returns:
        A sentence; empty if all lie on it.

    Raises:
        InputError: some lie beyond it, and all would lie on it with x and y exchanged.
    """
    if extent is None or not (coords >= extent).any():
        return ""
    found = f"tiles up to {coords.max(axis=0).tolist()} lie beyond the slide ({extent[0]:g} x {extent[1]:g} px)"
    if (coords[:, ::-1] < extent).all():
        raise InputError(
            f"{where}: {found}, and on it if x and y are exchanged: `coords` holds y before x (rows before columns). "
            "Write it again with x first"
        )
    return found


def overlap(where: str, coords: np.ndarray, size: int, grid: int | None) -> str:
    """Refuse tiles that stand twice or crowd together; say how many overlap.

    Args:
        where: the file, for messages.
        coords: (N, 2), level-0 px.
        size: side of a tile, level-0 px.
        grid: cells a side that the slide encoder tells apart, see `hsa.bags.scale.check_scale`.

    Returns:
        A sentence; empty if none do.

    Raises:
        InputError: see above.
    """
    if len(coords) < 2:
        return ""
    if len(np.unique(coords, axis=0)) < len(coords):
        raise InputError(f"{where}: two tiles have one corner, so it is not clear which features are meant")
    check_scale(coords, size, where, grid)
    nearest = cKDTree(coords).query(coords, k=2, p=np.inf)[0][:, 1]
    share = float((nearest < OVERLAP * size).mean())
    return f"{share:.0%} of the tiles overlap another one" if share else ""
