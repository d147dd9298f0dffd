"""Bags into padded batches: read, put in order, sampled, masked, dealt."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from hsa.bags.bag import attributes, read_bag
from hsa.bags.scale import check_scale
from hsa.errors import InputError

Tiles = tuple[np.ndarray, np.ndarray]  # features (N, D) and coordinates (N, 2) of one slide
Made = TypeVar("Made")


class Batch(NamedTuple):  # a tuple, so that Fabric and DDP see the tensors in it
    """Bags of several slides, padded to one length.

    Attributes:
        features: (B, N, D) float32.
        coords: (B, N, 2) int64, pixels of the tiles.
        mask: (B, N) bool, True on real tiles, which come first.
    """

    features: Tensor
    coords: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Move to a device."""
        return Batch(*(tensor.to(device) for tensor in self))


class Bags:
    """The bags of a study, by slide; read when asked for, kept as long as they fit into `limit` bytes.

    Several slides of one stain (`"a+b"`) make one bag, laid side by side as if they were sections on one slide.

    Tiles are in raster order (by y, then x), in training and afterwards alike: dilated attention depends on the
    order. (The official code shuffles them in training and takes file order afterwards.)

    Args:
        folder: holds `<slide_id>.h5`.
        colours: give the colours of each tile in place of its features.
        limit: bytes of features to keep in memory.
        grid: cells a side that the slide encoder tells apart, see `hsa.bags.scale.check_scale`.
    """

    def __init__(self, folder: str | Path, colours: bool = False, limit: int = 2**31, grid: int | None = None):
        self.folder, self.colours, self.limit, self.grid = Path(folder), colours, limit, grid
        self._kept: dict[str, Tiles] = {}
        self._bytes = 0
        self._width: int | None = None
        self._made: tuple[str, ...] | None = None

    def __getitem__(self, slide_id: str) -> Tiles:
        """Give features (N, D) float16 and coordinates (N, 2) int64 in pixels of the tiles.

        The slide that a case lacks, "", is one tile of zeros: it keeps a batch in step, and no loss looks at it.

        Raises:
            InputError: no such bag, an empty one, coordinates that cannot be level-0 pixels, or another
                number of features a tile than in the bags read before.
        """
        if slide_id in self._kept:
            return self._kept[slide_id]
        if not slide_id:
            return np.zeros((1, self._width or 1), np.float16), np.zeros((1, 2), np.int64)
        parts = [self._read(name) for name in slide_id.split("+")]
        tiles = parts[0] if len(parts) == 1 else side_by_side(parts)
        if self._bytes + tiles[0].nbytes <= self.limit:
            self._kept[slide_id] = tiles
            self._bytes += tiles[0].nbytes
        return tiles

    def _read(self, slide_id: str) -> Tiles:
        path = self.folder / f"{slide_id}.h5"
        bag = read_bag(path)
        missing = [key for key in ("tile_px", "tile_px_level0") if key not in bag.attrs]
        if missing:
            raise InputError(f"bag {path} has no attribute {missing[0]!r}: make it with `hsa features`")
        if not len(bag.coords):
            raise InputError(f"bag {path} has no tile: leave its slide out, or lower tiles.min_tissue")
        features = bag.colours if self.colours else bag.features
        if features is None:
            raise InputError(
                f"bag {path} holds no colours: make it with `hsa features`, or leave out `encoder: colour`"
            )
        self._width = self._width or features.shape[1]
        if features.shape[1] != self._width:
            raise InputError(
                f"bag {path} has {features.shape[1]} features a tile, others have {self._width}: encode all "
                "slides with one tile encoder"
            )
        made = tuple(bag.attrs.get(key, "") for key in ("encoder", "encoder_weights"))
        self._made = self._made or made
        if made != self._made:
            raise InputError(
                f"bag {path} is of encoder {' '.join(made)}, others of {' '.join(self._made)}: encode all with one"
            )
        size, size_level0 = bag.attrs["tile_px"], bag.attrs["tile_px_level0"]
        check_scale(bag.coords, size_level0, f"bag {path}", self.grid)
        order = np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))
        coords = np.floor_divide(bag.coords[order] * size, size_level0).astype(np.int64)
        return features[order], coords

    def packed(self, slide_ids: Iterable[str], tokens: int) -> Iterator[list[Tiles]]:
        """Give slides in the order asked for, in lists that fit in memory once padded.

        Args:
            slide_ids: which.
            tokens: at most so many tiles a list, padding included; a larger slide comes alone.
        """
        run: list[Tiles] = []
        for slide_id in slide_ids:
            tiles = self[slide_id]
            longest = max(len(features) for features, _ in [*run, tiles])
            if longest * (len(run) + 1) > tokens and run:
                yield run
                run = []
            run.append(tiles)
        if run:
            yield run

    def origin(self, slide_ids: Iterable[str]) -> list[str]:
        """Tell what each bag was made from, for a stamp, without reading its features."""
        told = []
        for slide_id in "+".join(filter(None, slide_ids)).split("+"):
            path = self.folder / f"{slide_id}.h5"
            if not path.is_file():
                raise InputError(f"bag {path} does not exist: make it with `hsa features`")
            attrs = attributes(path, ("stamp", "source_sha256"))
            if attrs is None:
                raise InputError(f"bag {path} is damaged: delete it and run `hsa features` again")
            told.append(f"{attrs.get('stamp', '')} {attrs.get('source_sha256', '')}")
        return told

    def mean_and_deviation(self, slide_ids: Iterable[str]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (D,) float32 of all tiles of these slides; 1 where a feature is constant."""
        count, total, square = 0, 0.0, 0.0
        for slide_id in filter(None, slide_ids):
            features = self[slide_id][0].astype(np.float64)
            count += len(features)
            total, square = total + features.sum(0), square + (features**2).sum(0)
        mean = total / count
        deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
        deviation[deviation < 1e-6] = 1
        return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()


def side_by_side(parts: Sequence[Tiles], gap: int = 512) -> Tiles:
    """Put the tiles of several slides into one bag: each moved to the right of the one before.

    Args:
        parts: features (N, D) and coordinates (N, 2) of each slide.
        gap: px between the tissue of two slides, measured between the corners of their tiles.
    """
    right, moved = 0, []
    for _, coords in parts:
        moved.append(coords - coords.min(axis=0) + [right, 0])
        right = moved[-1][:, 0].max() + gap
    return np.concatenate([features for features, _ in parts]), np.concatenate(moved)


def sample(tiles: Tiles, count: int, rng: np.random.Generator) -> Tiles:
    """Draw `count` tiles without replacement and keep their order; all of them if there are no more."""
    features, coords = tiles
    if len(features) <= count:
        return tiles
    chosen = np.sort(rng.choice(len(features), count, replace=False))
    return features[chosen], coords[chosen]


def collate(slides: Sequence[Tiles]) -> Batch:
    """Pad slides to the longest and stack them."""
    longest = max(len(features) for features, _ in slides)
    features = torch.zeros(len(slides), longest, slides[0][0].shape[1])
    coords = torch.zeros(len(slides), longest, 2, dtype=torch.int64)
    mask = torch.zeros(len(slides), longest, dtype=torch.bool)
    for i, (values, xy) in enumerate(slides):
        features[i, : len(xy)] = torch.from_numpy(values)
        coords[i, : len(xy)] = torch.from_numpy(xy)
        mask[i, : len(xy)] = True
    return Batch(features, coords, mask)


def draw_masked(mask: Tensor, fraction: float, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Choose exactly floor(fraction n) of the n real tiles of each slide.

    Args:
        mask: (B, N) bool, True on real tiles, which come first.
        fraction: share of tiles.
        rngs: one generator a slide.

    Returns:
        (B, N) bool, True on the chosen tiles.
    """
    chosen = torch.zeros_like(mask)
    for row, n, rng in zip(chosen, mask.sum(1).tolist(), rngs, strict=True):
        row[torch.from_numpy(rng.choice(n, int(fraction * n), replace=False))] = True
    return chosen


def deal(order: np.ndarray, size: int, world: int = 1) -> list[np.ndarray]:
    """Cut cases into batches, none lost and none of a single case: it would have no negatives.

    Args:
        order: case numbers.
        size: cases a batch, over all processes. A last batch of one case joins the one before.
        world: number of processes. They must get equal shares, so up to world - 1 cases of a batch that does
            not divide are left out; with an order drawn anew each epoch these are others each time.

    Returns:
        Arrays of case numbers.
    """
    starts = list(range(0, len(order), size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    batches = np.split(order, starts[1:])
    batches = [batch[: len(batch) // world * world] for batch in batches]
    return [batch for batch in batches if len(batch)]


def ahead(makers: Iterable[Callable[[], Made]]) -> Iterator[Made]:
    """Make things in order, each in a thread while the one before is used: a GPU need not wait for bags to be read.

    Args:
        makers: make one thing each; called one at a time.
    """
    before: Future[Made] | None = None
    with ThreadPoolExecutor(1) as pool:
        for maker in makers:
            before, latest = pool.submit(maker), before
            if latest is not None:
                yield latest.result()
        if before is not None:
            yield before.result()
