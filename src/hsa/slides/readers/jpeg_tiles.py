"""Tiles of a TIFF that are JPEGs: read from their places in the file, and decoded one by one.

OpenSlide decodes a tile and then lays it on transparent ground, which takes longer than decoding. Here the pixels of a
tile are copied to where they belong. The decoder is the same libjpeg-turbo with the same settings (accurate inverse
DCT, smooth upsampling of colour), so the pixels are the same too.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import simplejpeg

from hsa.slides.readers.kept_tiles import KeptTiles
from hsa.slides.readers.protocol import BROKEN, DamagedError
from hsa.slides.readers.reduction import DCT, DCT_FACTORS, MEAN, means
from hsa.slides.readers.segments import JPEG, SEPARATE, check_whole

if TYPE_CHECKING:
    from tifffile import TiffFrame, TiffPage

# Photometric interpretations of TIFF 6.0.
RGB, YCBCR = 2, 6
# Markers of JPEG. Two segments (JFIF, Adobe) tell a decoder how colours are coded; here the TIFF's own word counts.
START, START_OF_SCAN, TELL_COLOURS = b"\xff\xd8", 0xDA, (0xE0, 0xEE)
ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
# Zeros before the end fill a tile, and are the one thing that libjpeg-turbo warns of in a whole picture.
END, FILLED = b"\xff\xd9", "extraneous bytes"


class Level(NamedTuple):
    """Where the tiles of a picture lie in the file, and what a decoder needs beside them."""

    size: tuple[int, int]
    tile: tuple[int, int]
    across: int
    places: Sequence[int]
    lengths: Sequence[int]
    head: bytes
    transform: int
    page: "TiffPage"


def jpeg_tiles(path: Path, sizes: Sequence[tuple[int, int]]) -> "JpegTiles | None":
    """Find the tiles of a TIFF whose levels have these sizes; None if any level is not one page of tiled JPEGs."""
    from tifffile import TiffFile, TiffPage

    try:
        with TiffFile(path) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, TiffPage) and page.is_tiled]
            levels = [[page for page in pages if (page.imagewidth, page.imagelength) == size] for size in sizes]
            if all(len(alike) == 1 and is_direct(alike[0]) for alike in levels):
                return JpegTiles(path, [alike[0] for alike in levels])
    except BROKEN:
        return None  # whatever reads it then will tell
    return None


def is_direct(page: "TiffPage") -> bool:
    """Tell whether the tiles of a page are JPEGs of RGB or YCbCr, 8 bits a sample, and all have a place."""
    count = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength) if page.is_tiled else 0
    return (
        page.is_tiled
        and page.compression == JPEG
        and page.photometric in (RGB, YCBCR)
        and (page.samplesperpixel, page.bitspersample) == (3, 8)
        and page.planarconfig != SEPARATE
        and len(page.dataoffsets) == len(page.databytecounts) == count
    )


class JpegTiles:
    """Pyramid of tiled JPEGs in one file, each level a page for which `is_direct` holds.

    A tile that is too short, or that makes the decoder warn, is damage: the error tells its number and its place.
    """

    def __init__(self, path: Path, pages: Sequence["TiffPage | TiffFrame"]) -> None:
        self._levels = [_level(page) for page in pages]
        self._file = path.open("rb", buffering=0)
        self._turn = threading.Lock()
        self._kept = KeptTiles()

    def read(
        self, level: int, left: int, top: int, width: int, height: int, factor: int = 1, how: str = MEAN
    ) -> np.ndarray:
        """Read a region, reduced by a whole factor.

        Args:
            level: index of the page.
            left: left edge, px of the level; the region begins at the multiple of the factor at or before it.
            top: upper edge, likewise.
            width: px of the reduced level.
            height: px of the reduced level.
            factor: divides the sides of a tile; see `divides`.
            how: `"mean"` of each square of pixels, or `"dct"`, decoded at that size.

        Returns:
            (height, width, 3) uint8, RGB, white beyond the edge and where a tile is missing.

        Raises:
            DamagedError: a tile that is touched is damaged.
        """
        with self._turn:
            return self._read(level, left // factor, top // factor, width, height, factor, how)

    def _read(self, level: int, left: int, top: int, width: int, height: int, factor: int, how: str) -> np.ndarray:
        """Read a region whose corner is in px of the reduced level."""
        picture = self._levels[level]
        wide, high = (side // factor for side in picture.tile)
        # A pixel on the edge is a mean with white; in the decoder it would be one with whatever fills the tile.
        columns, rows = (side // factor if how == DCT else -(-side // factor) for side in picture.size)
        inside = left >= 0 and top >= 0 and left + width <= columns and top + height <= rows
        if inside and (width, height, left % wide, top % high) == (wide, high, 0, 0):
            return self._decode(level, top // high, left // wide, factor, how, np.empty((high, wide, 3), np.uint8))
        region = np.empty((height, width, 3), np.uint8) if inside else np.full((height, width, 3), 255, np.uint8)
        right, bottom = min(left + width, columns), min(top + height, rows)
        if right <= max(0, left) or bottom <= max(0, top):
            return region
        above, below = max(0, top) // high, -(-bottom // high)
        self._kept.forget((level, factor, how), above, below)
        for row in range(above, below):
            y, end_y, y0 = max(top, row * high), min(bottom, (row + 1) * high), row * high
            for column in range(max(0, left) // wide, -(-right // wide)):
                x, end_x, x0 = max(left, column * wide), min(right, (column + 1) * wide), column * wide
                place = (level, factor, how), row
                tile = self._kept.take(place, column)
                if tile is None:
                    tile = self._decode(level, row, column, factor, how, self._kept.buffer((high, wide, 3)))
                region[y - top : end_y - top, x - left : end_x - left] = tile[y - y0 : end_y - y0, x - x0 : end_x - x0]
                # Of regions that lie side by side and are read row by row, none comes back to a tile whose lower right
                # corner is in this one.
                done = end_x == min((column + 1) * wide, columns) and end_y == min((row + 1) * high, rows)
                self._kept.spare(tile) if done else self._kept.put(place, column, tile)
        return region

    def divides(self, level: int, factor: int, left: float = 0, top: float = 0) -> bool:
        """Tell whether a factor divides tiles and corner, so that a region can be reduced tile by tile."""
        return not any(side % factor for side in (*self._levels[level].tile, left, top))

    def dct_factors(self, level: int) -> tuple[int, ...]:
        """Give the factors by which the tiles of a level can be decoded smaller, the largest first."""
        return tuple(factor for factor in DCT_FACTORS if self.divides(level, factor))

    def lacks_tiles(self) -> bool:
        """Tell whether any tile is missing."""
        return any(0 in level.lengths for level in self._levels)

    def close(self) -> None:
        """Close the file."""
        self._kept = KeptTiles()
        self._file.close()

    def _decode(self, level: int, row: int, column: int, factor: int, how: str, reduced: np.ndarray) -> np.ndarray:
        """Put the pixels of a tile, reduced, into memory that is given."""
        found, index = self._levels[level], row * self._levels[level].across + column
        wide, high = found.tile
        if found.lengths[index] == 0:
            reduced[:] = 255
            return reduced
        averaged = how == MEAN and factor > 1
        whole = self._kept.buffer((high, wide, 3)) if averaged else reduced
        try:
            data = self._data(found.places[index], found.lengths[index])
            check_whole(found.page, index, data)
            _decode_into(whole, found.head + _as_told(data, found.transform), 1 if averaged else factor)
        except (DamagedError, OSError) as error:
            raise DamagedError(f"tile {index} of level {level} (px {column * wide}, {row * high}): {error}") from error
        if averaged:
            # What a tile has beyond the edge of the picture may be anything.
            right, bottom = found.size[0] - column * wide, found.size[1] - row * high
            whole[max(0, bottom) :], whole[:, max(0, right) :] = 255, 255
            means(whole, factor, reduced)
            self._kept.spare(whole)
        return reduced

    def _data(self, place: int, length: int) -> bytes:
        """Bytes of the file."""
        if hasattr(os, "pread"):  # forked processes share the place of a file
            return os.pread(self._file.fileno(), length, place)
        self._file.seek(place)
        return self._file.read(length)


def _level(page: "TiffPage | TiffFrame") -> Level:
    frame: Any = page.keyframe  # of several pages, what is alike in all
    transform, tables = int(frame.photometric == YCBCR), page.jpegtables[2:-2] if page.jpegtables else b""
    return Level(
        (frame.imagewidth, frame.imagelength),
        (frame.tilewidth, frame.tilelength),
        -(-frame.imagewidth // frame.tilewidth),
        page.dataoffsets,
        page.databytecounts,
        START + ADOBE + bytes([transform]) + tables,
        transform,
        frame,
    )


def _as_told(data: bytes, transform: int) -> bytes:
    """A JPEG without its start, and without what contradicts the TIFF on its colours (0 for RGB, 1 for YCbCr)."""
    first = data[:1024]
    adobe = first.find(b"Adobe")
    if (transform or b"JFIF" not in first) and (adobe < 0 or first[adobe + 11 : adobe + 12] == bytes([transform])):
        return data[2:]
    at, kept = 2, []
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data) and data[at + 1] != START_OF_SCAN:
        after = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] not in TELL_COLOURS:
            kept.append(data[at:after])
        at = after
    return b"".join([*kept, data[at:]])


def _decode_into(pixels: np.ndarray, data: bytes, factor: int) -> None:
    """Decode a JPEG that, reduced by a factor of 1, 2, 4 or 8, has to be of the size of `pixels`."""
    size = pixels.shape[1::-1]
    options = {"min_width": size[0], "min_height": size[1], "min_factor": factor} if factor > 1 else {}
    try:
        try:
            found = simplejpeg.decode_jpeg(data, "RGB", buffer=pixels, **options)
        except ValueError as error:
            if FILLED not in str(error):
                raise
            bare = data.rstrip(b"\0").removesuffix(END).rstrip(b"\0") + END
            found = simplejpeg.decode_jpeg(bare, "RGB", buffer=pixels, **options)
    except ValueError as error:
        raise DamagedError(str(error)) from error
    if found.shape != pixels.shape:
        raise DamagedError(f"a JPEG of {found.shape[1]} x {found.shape[0]} px in place of {size[0]} x {size[1]}")
