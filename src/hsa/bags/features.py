"""From slides to bags: mask, grid, then the tiles through a tile encoder; the next slide is opened meanwhile."""

import hashlib
import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np

import hsa
from hsa.bags.bag import Bag
from hsa.bags.content import ATTRIBUTE, content
from hsa.bags.opened import OpenTiles, colours
from hsa.encoders.encoder import TileEncoder
from hsa.errors import InputError, reason
from hsa.slides.readers import slide_files
from hsa.slides.resolution import Given, given, givens
from hsa.study.settings import Tiles

if TYPE_CHECKING:
    import pandas as pd

Item = TypeVar("Item")
# A slide that is worked on: what is asked for, the open slide, its checksum, and features and colours part by part.
InHand = tuple["Order", Future[OpenTiles], Future[str], list[Future[tuple[np.ndarray, np.ndarray]]]]
# Of the pixels that a tile shows and of the features that it gets. It goes up by one when a change of the code changes
# either: `hsa features --keep` then makes the bags of before again. A test holds it against 20 kept tiles.
VERSION = 1
HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Order:
    """A slide to be encoded.

    Attributes:
        slide_id: its name in the manifest.
        path: the file.
        mpp: level-0 resolution from the manifest, um/px, where the file does not hold it, or a `Given` one.
    """

    slide_id: str
    path: Path
    mpp: float | Given | None = None


def encode_slide(
    path: str | Path,
    encoder: TileEncoder,
    tiles: Tiles,
    *,
    slide_id: str | None = None,
    mpp: float | Given | None = None,
    batch: int = 32,
    threads: int = 1,
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
        threads: see `encode_slides`. The result does not depend on them.
        stamp: fingerprint of what the bag depends on, stored with it.
        settings: fingerprint of the settings alone, stored with it.

    Raises:
        InputError: the slide cannot be read, has no mpp, no tissue or no tile; or the encoder wants
            other tiles.
    """
    path = Path(path)
    order = Order(slide_id or path.stem, path, mpp)
    [(_, made)] = encode_slides([order], encoder, tiles, batch=batch, threads=threads, stamp=stamp, settings=settings)
    if isinstance(made, Exception):
        raise made
    return made


def encode_slides(
    orders: Iterable[Order],
    encoder: TileEncoder,
    tiles: Tiles,
    *,
    batch: int = 32,
    threads: int = 1,
    stamp: str = "",
    settings: str = "",
) -> Generator[tuple[Order, Bag | Exception]]:
    """Turn slides into bags, one after the other, see `encode_slide`.

    While the tiles of a slide are encoded, the next ones are opened, their tissue found and their files hashed; what
    decodes, hashes and encodes lets other threads of Python run. A slide is closed when its tiles are done.

    Args:
        orders: the slides.
        encoder: where it is `concurrent`, every thread encodes what it has read; else one at a time does, and the
            others read ahead.
        tiles: which tiles to take.
        batch: tiles a call of the encoder.
        threads: that work; memory grows with them by a batch of tiles each.
        stamp: fingerprint of what the bags depend on.
        settings: fingerprint of the settings alone.

    Yields:
        Each slide in the order given, and its bag or why there is none: an `InputError` or `OSError`.

    Raises:
        InputError: the encoder wants other tiles.
    """
    if tiles.size_px != encoder.size_px:
        raise InputError(
            f"encoder {encoder.name} takes tiles of {encoder.size_px} px, the study says {tiles.size_px}: "
            f"set `size_px: {encoder.size_px}` under `tiles`"
        )
    gate = nullcontext() if encoder.concurrent else Lock()

    def encode(opened: OpenTiles, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = opened.read(corners)
        with gate:
            features = encoder(pixels)
        return _half(features, encoder), colours(pixels)

    pool, unclosed = ThreadPoolExecutor(threads), deque[Future[OpenTiles]]()

    def opening() -> Iterator[tuple[Order, Future[OpenTiles], Future[str]]]:
        for order in orders:
            unclosed.append(pool.submit(OpenTiles.open, order.path, order.mpp, tiles))
            yield order, unclosed[-1], pool.submit(sha256, order.path)

    def encoding() -> Iterator[InHand]:
        """Each slide once it is done, or once the slides behind it are work enough for all threads."""
        queue: deque[InHand] = deque()
        for order, opened, digest in _ahead(opening(), threads):
            chunks = [] if opened.exception() else opened.result().batches(batch)
            queue.append((order, opened, digest, [pool.submit(encode, opened.result(), part) for part in chunks]))
            while queue and (not _undone([queue[0]]) or _undone(list(queue)[1:]) >= 2 * threads):
                yield queue.popleft()
        yield from queue

    try:
        for order, opened, digest, parts in encoding():
            made: Bag | Exception
            try:
                source, done = opened.result(), [part.result() for part in parts]
                features, painted = (np.concatenate(arrays) for arrays in zip(*done, strict=True))
                attrs = _attributes(order, source, tiles, encoder, digest.result())
                bag = Bag(features, source.grid.coords, attrs | {"settings": settings, "stamp": stamp}, painted)
                made = replace(bag, attrs=bag.attrs | {ATTRIBUTE: content(bag)})
            except Exception as error:  # whatever a decoder or an encoder raises is of this slide alone
                for part in parts:
                    part.cancel()
                wait(parts)
                made = error if isinstance(error, InputError | OSError) else _failed(order, error)
            _close(unclosed.popleft())
            yield order, made
    finally:
        pool.shutdown(cancel_futures=True)
        for opened in unclosed:
            _close(opened)


def sample_tiles(slides: "pd.DataFrame", tiles: Tiles, count: int = 192, seed: int = 0) -> np.ndarray:
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
            with closing(OpenTiles.open(Path(path), mpp, tiles)) as opened:
                corners = opened.grid.coords
                drawn += list(opened.read(corners[rng.permutation(len(corners))[:each]]))
        except Exception:  # a decoder may raise anything; the cohort's run tells what
            continue
        if len(drawn) >= count:
            break
    if not drawn:
        raise InputError(f"none of the {len(slides)} slides gives a tile: `hsa tiles SLIDE` shows the mask of one")
    return np.stack(drawn[:count])


def source(path: Path, mpp: float | Given | None) -> dict[str, str | int | float]:
    """Tell a slide by its name, its size in bytes and the resolution that the manifest gives it."""
    size = sum(file.stat().st_size for file in slide_files(path))
    told = given(mpp)
    known = 0.0 if told is None or math.isnan(told.mpp) else told.mpp
    return {"source": path.name, "source_bytes": size, "manifest_mpp": known}


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


def _attributes(
    order: Order, opened: OpenTiles, tiles: Tiles, encoder: TileEncoder, digest: str
) -> dict[str, str | int | float]:
    """What a bag says of itself, but for the fingerprints."""
    slide, mask, grid = opened.slide, opened.mask, opened.grid
    return {
        "slide_id": order.slide_id,
        **source(order.path, order.mpp),
        "source_sha256": digest,
        "format": slide.format,
        "mpp": slide.mpp,
        "mpp_from": slide.mpp_from,
        "levels_dropped": slide.levels_dropped,
        "reader": slide.via,
        "reduction": slide.reduced_by(tiles.mpp),
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
    }


def _failed(order: Order, error: Exception) -> InputError:
    failed = InputError(
        f"slide {order.path} could not be encoded ({reason(error)}): look at it with `hsa tiles`; if the encoder lacks "
        "memory, lower `encoder.batch` or `--workers`"
    )
    failed.__cause__ = error
    return failed


def _half(features: np.ndarray, encoder: TileEncoder) -> np.ndarray:
    """Features as bags hold them."""
    largest = np.abs(features).max()
    if largest > HALF:
        raise InputError(
            f"encoder {encoder.name} ({encoder.how}) gave a feature of {largest:g}, and bags hold 16-bit floats, up to "
            f"{HALF:g}: scale its features, in an encoder of your own (the book, Tile encoders)"
        )
    return features.astype(np.float16)


def _ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Give each item once so many after it have been made."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _undone(slides: Iterable[InHand]) -> int:
    return sum(not part.done() for *_, parts in slides for part in parts)


def _close(opened: Future[OpenTiles]) -> None:
    if opened.done() and not opened.cancelled() and not opened.exception():
        opened.result().close()
