"""The layouts of other tools' bags: which tool wrote them, and what it means by what it wrote.

Layouts as documented by CLAM, TRIDENT, STAMP, slide2vec, hs2p and the official HistoStainAlign code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hsa.bags.containers import Arrays, load
from hsa.errors import InputError


@dataclass(frozen=True)
class Told:
    """What the files of a slide say; None where they are silent.

    Attributes:
        unit: of the coordinates: "level0", "tile" or "um".
        tile_px: side of a tile as the encoder was given it, px.
        size: the same in level-0 px.
        tile_um: the same in microns.
        mpp: resolution of level 0, um/px.
        magnification: of level 0.
        encoder: name of the tile encoder.
        extent: width and height of level 0, px.
    """

    unit: str | None = None
    tile_px: int | None = None
    size: float | None = None
    tile_um: float | None = None
    mpp: float | None = None
    magnification: float | None = None
    encoder: str | None = None
    extent: tuple[float, float] | None = None


@dataclass(frozen=True)
class Found:
    """The tiles of one slide as they stand in the files.

    Attributes:
        tool: who wrote them, one of `ADAPTERS`.
        features: (N, D).
        corners: (N, 2) upper left corners, in the unit of `told`.
        told: what is said of them.
    """

    tool: str
    features: np.ndarray
    corners: np.ndarray
    told: Told


def read_layout(path: Path, coords: Path | None, tool: str | None) -> Found:
    """Read a bag, with the file that holds its coordinates if that is another, and tell which tool wrote it.

    Raises:
        InputError: a damaged or unsafe file, an unclear tool, a slide embedding, or arrays that do not fit.
    """
    arrays, said = load(path)
    places, more = load(coords) if coords else (arrays, {})
    said = said | more
    name = _tool(path, arrays | places, said, tool)
    features = _features(path, arrays)
    return Found(name, features, _corners(path, arrays, places, features), ADAPTERS[name](path, said))


def _tool(path: Path, arrays: Arrays, said: dict[str, Any], given: str | None) -> str:
    """Tell which tool wrote the files."""
    if given is not None and given not in ADAPTERS:
        raise InputError(f"tool {given!r} is none of {', '.join(ADAPTERS)}")
    if "hsa_version" in said:
        raise InputError(f"{path} is a bag of this package: copy it, there is nothing to import")
    found = None
    if "feats" in arrays:
        found = "stamp"
    elif "x" in arrays:
        found = "slide2vec"
    elif "patch_size" in said:
        found = "clam" if "patch_level" in said else "trident"
    chosen = found or given
    if chosen is None:
        raise InputError(
            f"{path} does not say which tool wrote it: give the file with its coordinates (CLAM's patches .h5, hs2p's "
            "coordinates.npz), or `tool`: clam, or histostainalign with tile_px, tile_mpp, unit, mpp and encoder"
        )
    if found and given and found != given:
        raise InputError(f"{path} was written by {found}, not by {given}: leave `tool` out")
    return chosen


def _features(path: Path, arrays: Arrays) -> np.ndarray:
    features = arrays.get("feats", arrays.get("features"))
    if features is None:
        raise InputError(f"{path} holds no `features` or `feats`")
    if features.ndim == 3 and len(features) == 1:
        features = features[0]
    if features.shape == (0,):
        features = features.reshape(0, 0)
    if features.ndim == 1:
        raise InputError(f"{path} holds one vector of {len(features)} numbers: a slide embedding, not tiles")
    if features.ndim != 2:
        raise InputError(f"{path}: features {features.shape}, expected (N, D)")
    if len(features) and not features.size:
        raise InputError(f"{path}: features {features.shape}, expected (N, D)")
    return features


def _corners(path: Path, arrays: Arrays, places: Arrays, features: np.ndarray) -> np.ndarray:
    """Coordinates (N, 2) in the order of the features, as they stand in the file."""
    if "x" in places and "y" in places:
        columns = [places[name] for name in ("x", "y", "tile_index") if name in places]
        if any(column.shape != (columns[0].size,) for column in columns):
            raise InputError(f"{path}: x, y and tile_index of the coordinates are not of one length")
        corners, order = np.stack([places["x"], places["y"]], axis=1), arrays.get("tile_index")
        index = places.get("tile_index", np.arange(len(corners)))
        if order is not None:
            if order.ndim != 1 or {order.dtype.kind, index.dtype.kind} - set("iu"):
                raise InputError(f"{path}: tile_index holds no whole numbers")
            rows = {int(number): row for row, number in enumerate(index)}
            if len(rows) < len(corners) or not {int(number) for number in order} <= set(rows):
                raise InputError(f"{path}: its tile_index is not that of the coordinates")
            corners = corners[[rows[int(number)] for number in order]]
    elif "coords" in places:
        corners = places["coords"]
        if "coords" in arrays and not np.array_equal(arrays["coords"], corners):
            raise InputError(f"{path}: its coordinates differ from those of the patches file")
    else:
        raise InputError(f"{path} holds no coordinates: give the file that does as `coords`")
    if corners.size == 0:
        corners = corners.reshape(0, 2)
    if corners.shape != (len(features), 2):
        raise InputError(
            f"{path}: {len(features)} feature vectors, but coordinates {corners.shape}; N must be the same"
        )
    return corners


def _clam(path: Path, said: dict[str, Any]) -> Told:
    # Without `downsample` only level 0 is clear.
    scale = said.get("downsample", 1.0 if said.get("patch_level") == 0 else None)
    side = said.get("patch_size")
    size = None if side is None or scale is None else side * scale * said.get("custom_downsample", 1)
    level = said.get("level_dim")
    extent = None if level is None or scale is None else (level[0] * scale + scale, level[1] * scale + scale)
    return Told(unit="level0", tile_px=side, size=size, encoder=said.get("encoder"), extent=extent)


def _trident(path: Path, said: dict[str, Any]) -> Told:
    side, level0, target = (said.get(k) for k in ("patch_size", "level0_magnification", "target_magnification"))
    size = said.get(
        "patch_size_level0", None if side is None or level0 is None or not target else side * level0 / target
    )
    facts = {"magnification": level0, "mpp": said.get("mpp"), "encoder": said.get("encoder")}
    if said.get("level0_width") and said.get("level0_height"):
        facts["extent"] = (said["level0_width"], said["level0_height"])
    return Told(unit="level0", tile_px=side, size=size, **facts)


def _stamp(path: Path, said: dict[str, Any]) -> Told:
    if said.get("feat_type", "tile") != "tile":
        raise InputError(f"{path}: feat_type {said['feat_type']!r}: a slide embedding, not tiles")
    # Version 1 wrote px of the tiles and no unit; 2.0 called the side in microns `tile_size`.
    unit = said.get("unit", "um" if "tile_size_um" in said else None)
    side = said.get("tile_size_um", said.get("tile_size") if unit == "um" else None)
    return Told(unit=unit, tile_um=side, tile_px=said.get("tile_size_px"), encoder=said.get("extractor"))


def _slide2vec(path: Path, said: dict[str, Any]) -> Told:
    space = said.get("coordinate_space", "level0_px")
    if space != "level0_px":
        raise InputError(f"{path}: coordinate_space {space!r}: expected level0_px")
    facts = {"mpp": said.get("base_spacing_um"), "encoder": said.get("encoder_name"), "extent": said.get("dimensions")}
    return Told(unit="level0", tile_px=said.get("requested_tile_size_px"), size=said.get("tile_size_lv0"), **facts)


ADAPTERS: dict[str, Callable[[Path, dict[str, Any]], Told]] = {
    "clam": _clam,
    "trident": _trident,
    "stamp": _stamp,
    "slide2vec": _slide2vec,
    "histostainalign": lambda path, said: Told(),
}
