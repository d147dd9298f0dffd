"""Bags: the features and coordinates of one slide's tiles, their HDF5 file, and how they are made."""

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from tqdm import tqdm

import hsa
from hsa.encoders import TileEncoder, tile_encoder
from hsa.errors import InputError
from hsa.files import replacing
from hsa.readers import slide_files
from hsa.settings import Encoder, Tiles
from hsa.slide import Slide
from hsa.tiling import TileGrid, tile_grid, tissue_mask


@dataclass(frozen=True)
class Bag:
    """The tiles of one slide.

    Attributes:
        features: (N, D) float16.
        coords: (N, 2) int64, x and y of each tile's upper left corner, level-0 px.
        colours: (N, 6) float32, mean and standard deviation of the tile's red, green and blue, 0-255; None in bags
            of other tools.
        attrs: where they come from: slide, file, mpp, tile size, mask, encoder, version. Text and numbers.
    """

    features: np.ndarray
    coords: np.ndarray
    attrs: dict[str, str | int | float | bool] = field(default_factory=dict)
    colours: np.ndarray | None = None


def write_bag(path: str | Path, bag: Bag) -> None:
    """Write a bag as HDF5, whole or not at all: contiguous `features` and `coords`, attributes."""
    _check(path, bag.features, bag.coords)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("features", data=bag.features.astype(np.float16))
        file.create_dataset("coords", data=bag.coords.astype(np.int64))
        if bag.colours is not None:
            file.create_dataset("colours", data=bag.colours.astype(np.float32))
        for key in sorted(bag.attrs):
            file.attrs[key] = bag.attrs[key]


def read_bag(path: str | Path) -> Bag:
    """Read a bag.

    An HDF5 file can point at any file of this machine and claim any size; only plain data inside the
    file is read.

    Raises:
        InputError: no such file, no HDF5, another layout, data outside the file, or values that are not
            finite.
    """
    if not Path(path).is_file():
        raise InputError(f"bag {path} does not exist: make it with `hsa features`")
    try:
        with h5py.File(path, "r") as file:
            limit = Path(path).stat().st_size
            features, coords = (_plain_dataset(path, file, name, limit)[:] for name in ("features", "coords"))
            colours = _plain_dataset(path, file, "colours", limit)[:] if "colours" in file else None
            attrs = {key: _plain_attribute(path, key, value) for key, value in file.attrs.items()}
    except OSError as error:
        raise InputError(
            f"bag {path} is not a readable HDF5 file ({error}): delete it and run `hsa features` again"
        ) from error
    _check(path, features, coords)
    return Bag(features.astype(np.float16, copy=False), coords.astype(np.int64, copy=False), attrs, colours)


def encode_slide(
    path: str | Path,
    encoder: TileEncoder,
    tiles: Tiles,
    *,
    slide_id: str | None = None,
    mpp: float | None = None,
    batch: int = 32,
    stamp: str = "",
) -> Bag:
    """Turn a slide into a bag: mask, grid, then tiles in row order through the encoder, a batch at a time.

    Args:
        path: the slide.
        encoder: from `hsa.encoders.tile_encoder`.
        tiles: which tiles to take.
        slide_id: the slide's name in the manifest; by default the file's stem.
        mpp: level-0 resolution from the manifest, um/px, where the file does not hold it.
        batch: tiles a call of the encoder. Memory grows with it, the result does not depend on it.
        stamp: what the bag depends on (`hsa.files.stamp`), stored with it.

    Raises:
        InputError: the slide cannot be read, has no mpp, no tissue or no tile; or the encoder wants
            other tiles.
    """
    path = Path(path)
    if tiles.size_px != encoder.size_px:
        raise InputError(
            f"encoder {encoder.name} takes tiles of {encoder.size_px} px, the study says {tiles.size_px}: "
            f"set `size_px: {encoder.size_px}` under `tiles`"
        )
    with Slide.open(path, mpp) as slide:
        mask = tissue_mask(slide, tiles.mask)
        grid = tile_grid(slide, mask, tiles.size_px, tiles.mpp, tiles.min_tissue, tiles.max_tiles)
        parts, colours = [], []
        for pixels in _batches(slide, grid, batch):
            parts.append(encoder(pixels).astype(np.float16))
            colours.append(np.concatenate([pixels.mean((1, 2)), pixels.std((1, 2))], axis=1))
        attrs = {
            "slide_id": slide_id or path.stem,
            **_source(path, mpp),
            "source_sha256": _sha256(path),
            "format": slide.format,
            "mpp": slide.mpp,
            "mpp_from": slide.mpp_from,
            "tile_px": grid.size_px,
            "tile_mpp": grid.mpp,
            "tile_px_level0": grid.size_level0,
            "mask": tiles.mask,
            "mask_warning": mask.warning,
            "tissue_fraction": mask.fraction,
            "encoder": encoder.name,
            "encoder_dim": encoder.dim,
            "encoder_weights": encoder.weights,
            "encoder_how": encoder.how,
            "hsa_version": hsa.__version__,
            "stamp": stamp,
        }
    return Bag(np.concatenate(parts), grid.coords, attrs, np.concatenate(colours).astype(np.float32))


def encode_cohort(
    slides: pd.DataFrame,
    folder: str | Path,
    encoder: Encoder,
    tiles: Tiles,
    *,
    stamp: str,
    workers: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Encode every slide of a cohort to `folder/<slide_id>.h5`; slides that are done are kept.

    Done means: the bag carries this stamp, and the slide, if it is still there, has the size and the
    manifest mpp it was made from. An interrupted run therefore goes on where it stopped.

    Args:
        slides: a row a slide with `slide_id`, `path` and `mpp` (NaN where the file holds it).
        folder: where the bags go.
        encoder: name, runtime and batch of the tile encoder.
        tiles: which tiles to take.
        stamp: what the bags depend on (`hsa.files.stamp`).
        workers: processes, one thread each. Bags do not depend on their number.
        progress: show a progress bar.

    Returns:
        A row a slide in the order given: slide_id, status (`"kept"` or `"encoded"`), tiles,
        tissue_fraction, warning.

    Raises:
        InputError: some slides could not be encoded; all others are done by then. Lists which and why.
    """
    rows = []
    pending = []
    for slide_id, path, mpp in zip(slides["slide_id"], slides["path"], slides["mpp"], strict=True):
        path, mpp = Path(path), None if mpp is None or np.isnan(mpp) else float(mpp)
        target = Path(folder) / f"{slide_id}.h5"
        wanted = {"stamp": stamp, "encoder": encoder.name} | (_source(path, mpp) if path.exists() else {})
        attrs = _attributes(target)
        if attrs is not None and wanted.items() <= attrs.items():
            rows.append(_report(slide_id, "kept", attrs))
        else:
            pending.append(partial(_encode_one, slide_id, path, mpp, target, encoder, tiles, stamp))
    with tqdm(total=len(slides), initial=len(rows), desc="slides", disable=not progress) as bar:
        for row in _run(pending, min(workers, len(pending))):
            rows.append(row)
            bar.update()
    problems = sorted(row["problem"] for row in rows if "problem" in row)
    if problems:
        raise InputError(
            f"{len(problems)} of {len(slides)} slides could not be encoded, the others are done:\n  "
            + "\n  ".join(problems)
        )
    columns = ["slide_id", "status", "tiles", "tissue_fraction", "warning"]
    return pd.DataFrame(rows, columns=columns).set_index("slide_id").loc[slides["slide_id"]].reset_index()


def encoder_options(encoder: Encoder, tiles: Tiles) -> dict[str, Any]:
    """Give what `hsa.encoders.tile_encoder` is to be called with for a study's tiles."""
    named = encoder.model_dump(include={"name", "runtime", "weights", "device", "precision"})
    return named | {"size_px": tiles.size_px, "mpp": tiles.mpp}


def _run(jobs: list[Callable[[], dict]], workers: int) -> Iterator[dict]:
    """Results of the jobs as they come."""
    if workers <= 1:
        yield from (job() for job in jobs)
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from (future.result() for future in as_completed([pool.submit(job) for job in jobs]))
    finally:
        pool.shutdown(cancel_futures=True)


def _encode_one(
    slide_id: str,
    path: Path,
    mpp: float | None,
    target: Path,
    encoder: Encoder,
    tiles: Tiles,
    stamp: str,
) -> dict[str, Any]:
    """Make one bag; what the report says of it."""
    network = _encoder(tuple(encoder_options(encoder, tiles).items()))
    try:
        bag = encode_slide(path, network, tiles, slide_id=slide_id, mpp=mpp, batch=encoder.batch, stamp=stamp)
        write_bag(target, bag)
    except InputError as error:
        return {"slide_id": slide_id, "problem": f"{slide_id}: {error}"}
    return _report(slide_id, "encoded", bag.attrs | {"tiles": len(bag.coords)})


def _report(slide_id: str, status: str, attrs: dict[str, Any]) -> dict[str, Any]:
    row = {"slide_id": slide_id, "status": status, "tiles": attrs["tiles"]}
    return row | {"tissue_fraction": attrs["tissue_fraction"], "warning": attrs["mask_warning"]}


@cache
def _encoder(options: tuple[tuple[str, Any], ...]) -> TileEncoder:
    """One encoder a process: making it takes seconds."""
    return tile_encoder(threads=1, **dict(options))


def _batches(slide: Slide, grid: TileGrid, batch: int) -> Iterator[np.ndarray]:
    for start in range(0, len(grid.coords), batch):
        corners = grid.coords[start : start + batch].tolist()
        yield np.stack([slide.read(x, y, grid.size_px, grid.size_px, grid.mpp) for x, y in corners])


def _source(path: Path, mpp: float | None) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in slide_files(path))
    return {"source": path.name, "source_bytes": size, "manifest_mpp": mpp or 0.0}


def _sha256(path: Path) -> str:
    """SHA-256 of the file; of a slide of several files, that of the list of their digests and names."""
    digests = []
    for file in slide_files(path):
        with file.open("rb") as handle:
            digests.append(hashlib.file_digest(handle, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    listed = "".join(f"{digest}  {file.name}\n" for digest, file in zip(digests, slide_files(path), strict=True))
    return hashlib.sha256(listed.encode()).hexdigest()


def _attributes(path: Path) -> dict[str, Any] | None:
    """Attributes and number of tiles of a bag, None if there is no sound file."""
    try:
        with h5py.File(path, "r") as file:
            return dict(file.attrs) | {"tiles": len(file["features"])}
    except (OSError, KeyError):
        return None


def _plain_dataset(path: str | Path, file: h5py.File, name: str, limit: int) -> h5py.Dataset:
    """A dataset of numbers that lies inside the file."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InputError(
            f"bag {path} has no dataset {name!r} of its own (missing, or a link elsewhere): a bag holds "
            "`features` (N, D) and `coords` (N, 2)"
        )
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise InputError(f"bag {path}: {name!r} is not a dataset of numbers; make the bag again with `hsa features`")
    if dataset.is_virtual or dataset.external is not None or dataset.nbytes > limit:
        raise InputError(
            f"bag {path}: {name!r} claims {dataset.nbytes} bytes that are not in the file ({limit} bytes): "
            "it is cut, or points at other files; do not use it"
        )
    return dataset


def _plain_attribute(path: str | Path, key: str, value: Any) -> str | int | float | bool:
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, str | int | float | bool):
        raise InputError(f"bag {path}: attribute {key!r} is neither text nor a number")
    return plain


def _check(path: str | Path, features: np.ndarray, coords: np.ndarray) -> None:
    if features.ndim != 2 or coords.shape != (len(features), 2) or coords.dtype.kind not in "iu":
        raise InputError(
            f"bag {path}: features {features.shape} and coords {coords.shape} ({coords.dtype}) do not "
            "fit; expected (N, D) and integer (N, 2) with the same N"
        )
    if not np.isfinite(features).all():
        raise InputError(f"bag {path}: features that are not finite; make the bag again with `hsa features`")
