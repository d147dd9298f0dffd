"""Bags that other tools wrote: CLAM, TRIDENT, STAMP, slide2vec with hs2p, the official HistoStainAlign code.

What the files do not say is asked for, never guessed; what is said twice must agree.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

import hsa
from hsa.bags.bag import Bag, attributes, check_arrays, write_bag
from hsa.bags.features import sha256
from hsa.bags.layouts import SUFFIXES, Told, read_layout
from hsa.bags.scale import check_scale
from hsa.errors import InputError
from hsa.files import read_json, write_json
from hsa.fingerprint import fingerprint
from hsa.slides.readers import split_scene
from hsa.slides.resolution import Given, givens, is_plausible
from hsa.slides.slide import Slide
from hsa.workers import bar

UNITS = ("level0", "tile", "um")
RECORD = "imported.json"  # beside the bags: slide_id -> stamp of its bag
SAME = 0.05  # relative difference up to which two resolutions are one, as for slides
OVERLAP = 0.98  # corners nearer than this share of a tile overlap; what is missing to 1 is rounding


def read_foreign(
    path: str | Path,
    *,
    tool: str | None = None,
    coords: str | Path | None = None,
    slide_id: str | None = None,
    mpp: float | None = None,
    tile_px: int | None = None,
    tile_mpp: float | None = None,
    unit: str | None = None,
    encoder: str | None = None,
    grid: int | None = None,
) -> Bag:
    """Read a bag of another tool.

    Args:
        path: `.h5`, `.npz` or `.pt` with the features.
        tool: clam, trident, stamp, slide2vec or histostainalign, where the files leave it open.
        coords: file with the coordinates: patches `.h5` of CLAM or TRIDENT, `.coordinates.npz` of hs2p.
        slide_id: name in the manifest; by default that of the file.
        mpp: resolution of the slide's level 0, um/px.
        tile_px: side of a tile as the encoder was given it, px.
        tile_mpp: resolution of those pixels, um/px.
        unit: of the coordinates: "level0" (px of the slide), "tile" (px at `tile_mpp`) or "um".
        encoder: name of the tile encoder.
        grid: cells a side that the slide encoder tells apart, see `hsa.bags.scale.check_scale`.

    Returns:
        Corners in level-0 px, features as float16, attributes as of `hsa.bags.features.encode_slide`, with
        `source_tool` and, where tiles overlap, `overlap_warning`. A slide without tissue has no rows.

    Raises:
        InputError: a damaged or unsafe file, an unclear tool, a slide embedding, something missing or contradictory,
            two tiles on one corner.
    """
    path = Path(path)
    found = read_layout(path, Path(coords) if coords else None, tool)
    where, told = f"{path.name} ({found.tool})", found.told
    told = replace(
        told,
        unit=_agreed(where, "unit", told.unit, unit),
        tile_px=_agreed(where, "tile_px", told.tile_px, tile_px),
        encoder=_agreed(where, "encoder", told.encoder, encoder),
        mpp=_agreed(where, "mpp", told.mpp, mpp, SAME),
    )
    if told.unit not in (*UNITS, None):
        raise InputError(f"{where}: unit {told.unit!r} is none of {', '.join(UNITS)}")
    size = _tile_size(where, told, tile_mpp)
    attrs = {
        "slide_id": slide_id or path.stem,
        "source": path.name,
        "source_bytes": path.stat().st_size,
        "source_sha256": sha256(path),
        "source_tool": found.tool,
        "mpp": float(told.mpp),
        "tile_px": int(told.tile_px),
        "tile_mpp": size * told.mpp / told.tile_px,
        # Rounded down, two neighbours never fall into one cell of the grid.
        "tile_px_level0": math.floor(size + 1e-6),
        "encoder": told.encoder,
        "encoder_dim": found.features.shape[1],
        "hsa_version": hsa.__version__,
    }
    attrs["stamp"] = fingerprint(attrs, __name__)
    bag = Bag(found.features.astype(np.float16), _level0(where, found.corners, told, size), attrs)
    check_arrays(path, bag.features, bag.coords)
    _check_tiles(where, bag, grid)
    return bag


def import_bags(
    source: str | Path,
    folder: str | Path,
    slides: pd.DataFrame,
    *,
    coords: str | Path | None = None,
    progress: bool = True,
    **given: Any,
) -> pd.DataFrame:
    """Turn the bags of another tool into ours, `folder/<slide_id>.h5`, and note them in `folder/imported.json`.

    Where the manifest gives no mpp, the slide's own is taken if the slide is there. Tiles must lie on it.

    Args:
        source: holds `<slide_id>.h5`, `.npz` or `.pt`.
        folder: where the bags go.
        slides: a row a slide with `slide_id`, `path` and `mpp`, such as `Cohort.slides`.
        coords: folder of the files with coordinates, if they are neither in the bags nor beside them.
        progress: show a progress bar.
        given: `tool`, `tile_px`, `tile_mpp`, `unit`, `encoder`, `grid` of `read_foreign`, the same for every slide.

    Returns:
        A row a slide: slide_id, tiles, source_tool, encoder, encoder_dim, warning.

    Raises:
        InputError: lists every slide without a usable file, and why; the others are imported by then.
    """
    rows, made, problems, first = [], {}, [], None
    places = None if coords is None else Path(coords)
    named = [f"{slide_id}{suffix}" for slide_id in slides["slide_id"] for suffix in SUFFIXES]
    if not any((Path(source) / name).is_file() for name in named):
        raise InputError(
            f"{source}: no bag of any of {len(slides)} slides, such as {' or '.join(named[: len(SUFFIXES)])}: give the "
            "folder that holds the files themselves, and name them as `slide_id` does in the manifest"
        )
    triples = list(zip(slides["slide_id"], slides["path"], givens(slides), strict=True))
    for slide_id, path, mpp in bar(triples, desc="bags", progress=progress):
        try:
            bag = _import_one(Path(source), places, slide_id, Path(path), mpp, given)
            first = first or bag.attrs
            _check_alike(bag.attrs, first)
        except InputError as error:
            problems.append(f"{slide_id}: {error}")
            continue
        write_bag(Path(folder) / f"{slide_id}.h5", bag)
        made[slide_id] = bag.attrs["stamp"]
        row = {"slide_id": slide_id, "tiles": len(bag.coords), "warning": bag.attrs.get("overlap_warning", "")}
        rows.append(row | {key: bag.attrs[key] for key in ("source_tool", "encoder", "encoder_dim")})
    record = Path(folder) / RECORD
    write_json(record, (read_json(record) if record.is_file() else {}) | made)
    if problems:
        raise InputError(
            f"{len(problems)} of {len(slides)} slides have no bag that can be imported, the others are done:\n  "
            + "\n  ".join(problems)
        )
    return pd.DataFrame(rows, columns=["slide_id", "tiles", "source_tool", "encoder", "encoder_dim", "warning"])


def check_bags(folder: str | Path, slides: pd.DataFrame, tile_px: int, tile_mpp: float) -> None:
    """Check that the bags of a cohort are all there, of one encoder and width, with tiles as the study says.

    Raises:
        InputError: lists every slide whose bag is missing or of another kind.
    """
    problems, first = [], None
    for slide_id in slides["slide_id"]:
        attrs = attributes(Path(folder) / f"{slide_id}.h5")
        try:
            if attrs is None or "source_tool" not in attrs:
                raise InputError(f"no imported bag in {folder}: import it with `hsa bags import`")
            _check_alike(attrs, attrs | {"slide_id": "the study", "tile_px": tile_px, "tile_mpp": tile_mpp})
            first = first or attrs
            _check_alike(attrs, first)
        except InputError as error:
            problems.append(f"{slide_id}: {error}")
    if problems:
        raise InputError(f"{len(problems)} of {len(slides)} slides lack a fitting bag:\n  " + "\n  ".join(problems))


def _import_one(
    source: Path, coords: Path | None, slide_id: str, path: Path, mpp: Given | None, given: dict[str, Any]
) -> Bag:
    files = [source / f"{slide_id}{suffix}" for suffix in SUFFIXES]
    files = [file for file in files if file.is_file()]
    if len(files) != 1:
        names = " and ".join(file.name for file in files) or f"no {slide_id} with {', '.join(SUFFIXES)}"
        raise InputError(f"{names} in {source}: one file a slide is needed")
    beside = source / f"{slide_id}.coordinates.npz"
    place = beside if beside.is_file() else None
    if coords is not None:
        places = [coords / f"{slide_id}{ending}" for ending in (".coordinates.npz", "_patches.h5", ".h5")]
        place = next((file for file in places if file.is_file()), None)
        if place is None:
            raise InputError(f"no {' or '.join(file.name for file in places)} in {coords}")
    known, size = _slide(path, mpp)
    bag = read_foreign(files[0], coords=place, slide_id=slide_id, mpp=known, **given)
    if not len(bag.coords):
        raise InputError(f"{files[0].name} holds no tile: the tool found no tissue; leave the slide out")
    if size is not None and (bag.coords >= size).any():
        raise InputError(
            f"{files[0].name}: tiles up to {bag.coords.max(axis=0).tolist()} lie beyond the slide ({size[0]} x "
            f"{size[1]} px): coordinates in another unit, or the bag of another slide"
        )
    return bag


def _slide(path: Path, told: Given | None) -> tuple[float | None, tuple[int, int] | None]:
    """Resolution and size of a slide, as far as it is there and we read its format."""
    mpp = None if told is None else told.mpp
    tried = (told,) if told is not None and told.override else (None, told)
    for given in tried if split_scene(path)[0].exists() else ():
        try:
            with Slide.open(path, given) as slide:
                found, size = slide.mpp, slide.size
        except InputError:
            continue
        return _agreed(f"slide {path.name}", "mpp", found, mpp, SAME), size
    return mpp, None


def _check_alike(attrs: dict[str, Any], first: dict[str, Any]) -> None:
    for key in ("encoder", "encoder_dim", "tile_px", "tile_mpp"):
        same = math.isclose(attrs[key], first[key], rel_tol=SAME) if key == "tile_mpp" else attrs[key] == first[key]
        if not same:
            raise InputError(
                f"{key} is {attrs[key]}, that of {first['slide_id']} {first[key]}: bags must be of one kind"
            )


def _agreed(where: str, key: str, found: Any, given: Any, tolerance: float = 0) -> Any:
    """What the file says or, if it is silent, what was given."""
    if found is None or given is None:
        return given if found is None else found
    if found != given and not (tolerance and math.isclose(found, given, rel_tol=tolerance)):
        raise InputError(f"{where} says {key} {found}, but {given} was given: leave it out, or correct it")
    return found


def _tile_size(where: str, told: Told, tile_mpp: float | None) -> float:
    """Side of a tile in level-0 px; names all that is missing."""
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
    if not is_plausible(told.mpp):
        raise InputError(f"{where}: mpp {told.mpp:g} is no resolution of a microscope: give um per px, such as 0.25")
    if told.magnification and not 2 / 3 <= told.magnification * told.mpp / 10 <= 3 / 2:
        expected = f"about {10 / told.magnification:g}"
        raise InputError(f"{where} says {told.magnification:g}x, {expected} um/px, but mpp is {told.mpp:g}: correct it")
    size = told.size
    if size is None:
        size = (told.tile_px * tile_mpp if told.tile_um is None else told.tile_um) / told.mpp
    if not 1 <= size < 2**31 or not 1 <= told.tile_px < 2**31 or told.tile_px != int(told.tile_px):
        raise InputError(
            f"{where}: tiles of {told.tile_px} px, {size:g} px of level 0: correct tile_px, tile_mpp or mpp"
        )
    _agreed(where, "tile_mpp", size * told.mpp / told.tile_px, tile_mpp, SAME)
    return float(size)


def _level0(where: str, corners: np.ndarray, told: Told, size: float) -> np.ndarray:
    """Corners in whole level-0 px."""
    scale = {"level0": 1.0, "tile": size / told.tile_px, "um": 1 / told.mpp}[told.unit]
    if not np.isfinite(corners).all() or corners.min(initial=0) < 0 or corners.max(initial=0) >= 2**31:
        raise InputError(f"{where}: coordinates that are negative, not finite or beyond any slide")
    moved = np.rint(corners.astype(np.float64) * scale)
    if told.unit == "level0" and np.abs(moved - corners).max(initial=0) > 1e-3:
        raise InputError(f"{where}: coordinates that are no whole pixels, so not of level 0: microns?")
    return moved.astype(np.int64)


def _check_tiles(where: str, bag: Bag, grid: int | None) -> None:
    """Refuse tiles that stand twice or crowd together; note those that overlap."""
    if len(bag.coords) < 2:
        return
    if len(np.unique(bag.coords, axis=0)) < len(bag.coords):
        raise InputError(f"{where}: two tiles have one corner, so it is not clear which features are meant")
    check_scale(bag.coords, bag.attrs["tile_px_level0"], where, grid)
    nearest = cKDTree(bag.coords).query(bag.coords, k=2, p=np.inf)[0][:, 1]
    share = float((nearest < OVERLAP * bag.attrs["tile_px_level0"]).mean())
    if share:
        bag.attrs["overlap_warning"] = f"{share:.0%} of the tiles overlap another one"
