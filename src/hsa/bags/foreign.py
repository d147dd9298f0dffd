"""Bags that other tools wrote: CLAM, TRIDENT, STAMP, slide2vec with hs2p, the official HistoStainAlign code.

What the files do not say is asked for, never guessed; what is said twice must agree.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

import hsa
from hsa.bags.bag import Bag, attributes, check_arrays, write_bag
from hsa.bags.containers import ENDINGS, KINDS, named
from hsa.bags.doubts import half
from hsa.bags.features import sha256
from hsa.bags.layouts import read_layout
from hsa.bags.placing import SAME, UNITS, agreed, beyond, level0, overlap, tile_size
from hsa.errors import InputError
from hsa.files import read_json, write_json
from hsa.fingerprint import fingerprint
from hsa.slides.readers import split_scene
from hsa.slides.resolution import Given, givens
from hsa.slides.slide import Slide
from hsa.workers import bar

WARNINGS = ("extent_warning", "overlap_warning", "features_warning")
RECORD = "imported.json"  # beside the bags: slide_id -> stamp of its bag


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
        path: `.h5` (`.hdf5`), `.npz` or `.pt` with the features.
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
        `source_tool` and, where there is reason for them, `extent_warning` (tiles beyond the slide's size as the files
        say it), `overlap_warning` and `features_warning`. A slide without tissue has no rows.

    Raises:
        InputError: a damaged or unsafe file, an unclear tool, a slide embedding, something missing or contradictory,
            two tiles on one corner, x and y exchanged, or features without a difference between tiles.
    """
    path = Path(path)
    found = read_layout(path, Path(coords) if coords else None, tool)
    where, told = f"{path.name} ({found.tool})", found.told
    told = replace(
        told,
        unit=agreed(where, "unit", told.unit, unit),
        tile_px=agreed(where, "tile_px", told.tile_px, tile_px),
        encoder=agreed(where, "encoder", told.encoder, encoder),
        mpp=agreed(where, "mpp", told.mpp, mpp, SAME),
    )
    if told.unit not in (*UNITS, None):
        raise InputError(f"{where}: unit {told.unit!r} is none of {', '.join(UNITS)}")
    size = tile_size(where, told, tile_mpp)
    assert told.mpp is not None and told.tile_px is not None  # `tile_size` asks for them
    attrs: dict[str, Any] = {
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
    features, doubts = half(where, found.features)
    bag = Bag(features, level0(where, found.corners, told, size), attrs)
    check_arrays(path, bag.features, bag.coords)
    warnings = {
        "extent_warning": beyond(where, bag.coords, told.extent),
        "overlap_warning": overlap(where, bag.coords, attrs["tile_px_level0"], grid),
        "features_warning": doubts,
    }
    attrs |= {key: warning for key, warning in warnings.items() if warning}
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
    bags, places = named(Path(source)), None if coords is None else named(Path(coords))
    if not any(f"{slide_id}{ending}" in bags for slide_id in slides["slide_id"] for ending in KINDS):
        such = " or ".join(f"{slides['slide_id'].iloc[0]}{ending}" for ending in KINDS)
        raise InputError(
            f"{source}: no bag of any of {len(slides)} slides, such as {such}: give the folder that holds the files "
            "themselves, and name them as `slide_id` does in the manifest"
        )
    triples = list(zip(slides["slide_id"], slides["path"], givens(slides), strict=True))
    for slide_id, path, mpp in bar(triples, desc="bags", progress=progress):
        try:
            file, place = _files(bags, places, slide_id, f"in {source}", f"in {coords}")
            bag = _import_one(file, place, slide_id, Path(path), mpp, given)
            first = first or bag.attrs
            _check_alike(bag.attrs, first)
        except InputError as error:
            problems.append(f"{slide_id}: {error}")
            continue
        write_bag(Path(folder) / f"{slide_id}.h5", bag)
        made[slide_id] = bag.attrs["stamp"]
        row = {"slide_id": slide_id, "tiles": len(bag.coords), "warning": _warnings(bag)}
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


def _files(
    bags: dict[str, list[Path]], places: dict[str, list[Path]] | None, slide_id: str, source: str, coords: str
) -> tuple[Path, Path | None]:
    """The bag of a slide, and the file of its coordinates if that is another."""
    files = [file for ending in KINDS for file in bags.get(f"{slide_id}{ending}", ())]
    if len(files) != 1:
        found = " and ".join(file.name for file in files) or f"no {slide_id} with {', '.join(ENDINGS)}"
        raise InputError(f"{found} {source}: one file a slide is needed")
    wanted = [f"{slide_id}{ending}" for ending in (".coordinates.npz", "_patches.h5", ".h5")]
    beside = bags.get(wanted[0], []) if places is None else [file for name in wanted for file in places.get(name, ())]
    if places is not None and not beside:
        raise InputError(f"no {' or '.join(wanted)} {coords}")
    return files[0], beside[0] if beside else None


def _import_one(
    file: Path, coords: Path | None, slide_id: str, path: Path, mpp: Given | None, given: dict[str, Any]
) -> Bag:
    known, extent = _slide(path, mpp)
    bag = read_foreign(file, coords=coords, slide_id=slide_id, mpp=known, **given)
    if not len(bag.coords):
        raise InputError(f"{file.name} holds no tile: the tool found no tissue; leave the slide out")
    if found := beyond(file.name, bag.coords, extent):
        raise InputError(f"{file.name}: {found}: coordinates in another unit, or the bag of another slide")
    return bag


def _warnings(bag: Bag) -> str:
    told = (str(bag.attrs.get(key, "")) for key in WARNINGS)
    return "; ".join(filter(None, told))


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
        return agreed(f"slide {path.name}", "mpp", found, mpp, SAME), size
    return mpp, None


def _check_alike(attrs: dict[str, Any], first: dict[str, Any]) -> None:
    for key in ("encoder", "encoder_dim", "tile_px", "tile_mpp"):
        same = math.isclose(attrs[key], first[key], rel_tol=SAME) if key == "tile_mpp" else attrs[key] == first[key]
        if not same:
            raise InputError(
                f"{key} is {attrs[key]}, that of {first['slide_id']} {first[key]}: bags must be of one kind"
            )
