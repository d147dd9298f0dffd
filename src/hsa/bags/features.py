"""From a slide to a bag: mask, grid, then its tiles through a tile encoder."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd

import hsa
from hsa.bags.bag import Bag
from hsa.encoders.encoder import TileEncoder
from hsa.errors import InputError
from hsa.slides.readers import slide_files
from hsa.slides.resolution import Given, given, givens
from hsa.slides.slide import Slide
from hsa.slides.tiling import Mask, TileGrid, tile_grid, tissue_mask
from hsa.study.settings import Tiles

# Of the pixels that a tile shows and of the features that it gets. It goes up by one when a change of the code changes
# either: `hsa features --keep` then makes the bags of before again. A test holds it against 20 kept tiles.
VERSION = 1


def encode_slide(
    path: str | Path,
    encoder: TileEncoder,
    tiles: Tiles,
    *,
    slide_id: str | None = None,
    mpp: float | Given | None = None,
    batch: int = 32,
    readers: int = 1,
    stamp: str = "",
    settings: str = "",
) -> Bag:
    """Turn a slide into a bag: mask, grid, then tiles in row order through the encoder, a batch at a time.

    Args:
        path: the slide.
        encoder: from `hsa.encoders.encoder.tile_encoder`.
        tiles: which tiles to take.
        slide_id: the slide's name in the manifest; by default the file's stem.
        mpp: level-0 resolution from the manifest, um/px, where the file does not hold it, or a `Given` one.
        batch: tiles a call of the encoder. Memory grows with it, the result does not depend on it.
        readers: threads that read tiles ahead, so that a GPU need not wait. The result does not depend on them.
        stamp: fingerprint of what the bag depends on, stored with it.
        settings: fingerprint of the settings alone, stored with it.

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
        mask, grid = _grid(slide, tiles)
        parts, colours = [], []
        for pixels in _batches(slide, partial(Slide.open, path, mpp), grid, batch, readers):
            parts.append(encoder(pixels).astype(np.float16))
            colours.append(np.concatenate([pixels.mean((1, 2)), pixels.std((1, 2))], axis=1))
        attrs = {
            "slide_id": slide_id or path.stem,
            **source(path, mpp),
            "source_sha256": sha256(path),
            "format": slide.format,
            "mpp": slide.mpp,
            "mpp_from": slide.mpp_from,
            "levels_dropped": slide.levels_dropped,
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
            "features_version": VERSION,
            "hsa_version": hsa.__version__,
            "settings": settings,
            "stamp": stamp,
        }
    return Bag(np.concatenate(parts), grid.coords, attrs, np.concatenate(colours).astype(np.float32))


def sample_tiles(slides: pd.DataFrame, tiles: Tiles, count: int = 192, seed: int = 0) -> np.ndarray:
    """Draw tiles at random from slides drawn at random: up to 48 slides, the same number of each, slide by slide.

    Slides that cannot be read are left out.

    Args:
        slides: as for `encode_cohort`.
        tiles: which tiles there are.
        count: how many to draw; fewer come where the slides hold fewer.
        seed: of the draw.

    Returns:
        (N, S, S, 3) uint8.

    Raises:
        InputError: no slide gave a tile.
    """
    rng, drawn = np.random.default_rng(seed), []
    each = -(-count // min(len(slides), 48))
    shuffled = slides.iloc[rng.permutation(len(slides))]
    for path, mpp in zip(shuffled["path"], givens(shuffled), strict=True):
        try:
            with Slide.open(path, mpp) as slide:
                grid = _grid(slide, tiles)[1]
                chosen = rng.permutation(len(grid.coords))[:each]
                drawn += [slide.read(x, y, grid.size_px, grid.size_px, grid.mpp) for x, y in grid.coords[chosen]]
        except InputError:
            continue
        if len(drawn) >= count:
            break
    if not drawn:
        raise InputError(f"none of the {len(slides)} slides gives a tile: `hsa tiles SLIDE` shows the mask of one")
    return np.stack(drawn[:count])


def source(path: Path, mpp: float | Given | None) -> dict[str, Any]:
    """Tell a slide by its name, its size in bytes and the resolution that the manifest gives it."""
    size = sum(file.stat().st_size for file in slide_files(path))
    return {"source": path.name, "source_bytes": size, "manifest_mpp": told.mpp if (told := given(mpp)) else 0.0}


def sha256(path: Path) -> str:
    """SHA-256 of the file; of a slide of several files, that of the list of their digests and names."""
    digests = []
    for file in slide_files(path):
        with file.open("rb") as handle:
            digests.append(hashlib.file_digest(handle, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    listed = "".join(f"{digest}  {file.name}\n" for digest, file in zip(digests, slide_files(path), strict=True))
    return hashlib.sha256(listed.encode()).hexdigest()


def _grid(slide: Slide, tiles: Tiles) -> tuple[Mask, TileGrid]:
    mask = tissue_mask(slide, tiles.mask)
    return mask, tile_grid(slide, mask, tiles.size_px, tiles.mpp, tiles.min_tissue, tiles.max_tiles)


def _batches(
    slide: Slide, again: Callable[[], Slide], grid: TileGrid, batch: int, readers: int
) -> Iterator[np.ndarray]:
    """Pixels of the tiles (B, size, size, 3), in order; several readers each open the slide again."""
    corners = grid.coords.tolist()
    chunks = [corners[start : start + batch] for start in range(0, len(corners), batch)]

    def read(source: Slide, chunk: list[list[int]]) -> np.ndarray:
        return np.stack([source.read(x, y, grid.size_px, grid.size_px, grid.mpp) for x, y in chunk])

    if readers <= 1:
        yield from (read(slide, chunk) for chunk in chunks)
        return
    idle: SimpleQueue[Slide] = SimpleQueue()

    def read_idle(chunk: list[list[int]]) -> np.ndarray:
        source = idle.get()
        try:
            return read(source, chunk)
        finally:
            idle.put(source)

    with ExitStack() as opened, ThreadPoolExecutor(readers) as pool:
        for _ in range(readers):
            idle.put(opened.enter_context(again()))
        ahead: deque[Future[np.ndarray]] = deque()
        for chunk in chunks:
            ahead.append(pool.submit(read_idle, chunk))
            if len(ahead) > readers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
