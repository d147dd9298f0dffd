"""Connected parts of a mask that is too large to be numbered as a whole: block by block, joined along the seams."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Rows and columns of a block. Blocks that are empty or full, most of a large mask, are not numbered at all.
BLOCK = 256

Block = tuple[slice, slice]
# The mask in a block, and other masks whose pixels are counted in each part.
Layer = Callable[[Block], tuple[np.ndarray, ...]]


def blocks(shape: tuple[int, int], side: int = BLOCK) -> Iterator[Block]:
    """Squares of `side` px that cover the shape, in reading order; those at its far edges are smaller."""
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield slice(top, min(top + side, shape[0])), slice(left, min(left + side, shape[1]))


class Parts:
    """Parts of a mask whose pixels touch by their sides, told by size.

    Attributes:
        sums: (layers, parts) int64, pixels of the mask, then of the other masks, in each part.
    """

    def __init__(self, shape: tuple[int, int], layer: Layer) -> None:
        """Number and count.

        Args:
            shape: height and width of the mask.
            layer: gives it and the masks to count in it, (h, w) bool each, for a block; it is asked again by `change`.
        """
        self._shape, self._layer = shape, layer
        self._first: list[int] = []
        sums: list[np.ndarray] = []
        seams: list[np.ndarray] = []
        above = np.zeros(shape[1], np.int64)
        beside = np.zeros(0, np.int64)
        count = kinds = 0
        for rows, columns in blocks(shape):
            mask, *others = layer((rows, columns))
            labels, number = _labelled(mask)
            self._first.append(count)
            kinds = 1 + len(others)
            if number:
                counted = [np.bincount(labels.ravel(), minlength=number + 1)]
                counted += [np.bincount(labels[other & mask], minlength=number + 1) for other in others]
                sums.append(np.stack(counted)[:, 1:])
            edges = {at: _numbers(line, count) for at, line in _edges(labels).items()}
            seams.append(_touching(above[columns], edges["top"]))
            if columns.start:
                seams.append(_touching(beside, edges["left"]))
            above[columns], beside = edges["bottom"], edges["right"]
            count += number
        pairs = np.concatenate(seams, axis=1) - 1
        graph = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), shape=(count, count))
        parts = 0
        self._part: np.ndarray = np.zeros(0, np.int32)
        if count:
            parts, self._part = connected_components(graph, directed=False)
        self.sums = np.zeros((kinds, parts), np.int64)
        if count:
            for into, one in zip(self.sums, np.concatenate(sums, axis=1), strict=True):
                np.add.at(into, self._part, one)

    def change(self, chosen: np.ndarray) -> Iterator[tuple[Block, np.ndarray]]:
        """Yield each block that holds pixels of the chosen parts (bool, one a part), and these pixels, (h, w) bool."""
        if not chosen.any():
            return
        own = chosen[self._part]
        ends = [*self._first[1:], len(own)]
        for block, first, end in zip(blocks(self._shape), self._first, ends, strict=True):
            here = own[first:end]
            if here.any():
                mask = self._layer(block)[0]
                yield block, mask if here.all() else np.r_[False, here][_labelled(mask)[0]]


def _labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the parts (h, w) of one block from 1; and their count."""
    if not mask.any():
        return np.zeros(mask.shape, np.int8), 0
    if mask.all():
        return np.ones(mask.shape, np.int8), 1
    return ndimage.label(mask)


def _edges(labels: np.ndarray) -> dict[str, np.ndarray]:
    return {"top": labels[0], "bottom": labels[-1], "left": labels[:, 0], "right": labels[:, -1]}


def _numbers(line: np.ndarray, first: int) -> np.ndarray:
    """Numbers among all blocks, from 1; 0 where there is nothing."""
    return np.where(line > 0, line.astype(np.int64) + first, 0)


def _touching(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Numbers (2, n) of the parts on both sides of a seam, each pair once where it begins."""
    both = (one > 0) & (other > 0)
    if not both.any():
        return np.zeros((2, 0), np.int64)
    one, other = one[both], other[both]
    begins = np.r_[True, (one[1:] != one[:-1]) | (other[1:] != other[:-1])]
    return np.stack([one[begins], other[begins]])
