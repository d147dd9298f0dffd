"""The tiles and strips of a TIFF: which a region touches, and whether their data are whole."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hsa.slides.readers.protocol import BROKEN, DamagedError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

# Codes of TIFF 6.0, its supplement and Aperio: planar configuration and compressions.
SEPARATE = 2
UNCOMPRESSED, JPEG = 1, 7
# JPEG 2000 as Aperio, Leica and libvips write it.
JPEG2000 = (33003, 33004, 33005, 34712)
# Lossless ones, whose pixels are counted after decompression: LZW, deflate (two codes), PackBits, LZMA, zstd.
LOSSLESS = (UNCOMPRESSED, 5, 8, 32773, 32946, 34925, 50000)
# End of image of JPEG, and end of codestream of JPEG 2000.
END = b"\xff\xd9"
# What no complete scan needs: put before the end, it changes a picture only where a decoder lacked data. Not zeros,
# which may stand for blocks without detail.
FILLER = bytes(range(0x35, 0xF5, 7)) * 4
# Files whose levels are plain grids of tiles, by OpenSlide's name of the vendor.
PLAIN_GRIDS = ("aperio", "generic-tiff", "philips", "trestle")
# Those of tiles that lie elsewhere than their number says, or overlap: all of them are looked at, once.
PLACED_TILES = ("leica", "ventana")
TAIL_BYTES = 64


def touched(page: "TiffPage", left: int, top: int, width: int, height: int) -> list[int]:
    """Indices of the tiles or strips of a page, in all its planes, that a region touches."""
    rows, columns = segment_shape(page)
    down, across = math.ceil(page.imagelength / rows), math.ceil(page.imagewidth / columns)
    touched_rows = range(max(0, top // rows), min(down, math.ceil((top + height) / rows)))
    touched_columns = range(max(0, left // columns), min(across, math.ceil((left + width) / columns)))
    planes = range(page.samplesperpixel if page.planarconfig == SEPARATE else 1)
    return [(p * down + row) * across + column for p in planes for row in touched_rows for column in touched_columns]


def segment_shape(page: "TiffPage") -> tuple[int, int]:
    """Rows and columns of a tile or strip, px."""
    return (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)


def check_whole(page: "TiffPage", index: int, data: bytes) -> None:
    """Refuse the data of a tile or strip that end too early: decoders fill what is missing, and say nothing.

    Raises:
        DamagedError: a JPEG or JPEG 2000 without its end, or fewer bytes than the pixels take.
    """
    from tifffile import TIFF

    if page.compression in (JPEG, *JPEG2000):
        if not data.rstrip(b"\0").endswith(END):
            raise DamagedError(f"a {'JPEG' if page.compression == JPEG else 'JPEG 2000'} tile has no end")
        return
    rows, columns = segment_shape(page)
    if not page.is_tiled:
        rows = min(rows, page.imagelength - index % math.ceil(page.imagelength / rows) * rows)
    samples = 1 if page.planarconfig == SEPARATE else page.samplesperpixel
    if page.compression not in LOSSLESS or page.bitspersample != 8:
        return
    try:
        length = len(data if page.compression == UNCOMPRESSED else TIFF.DECOMPRESSORS[page.compression](data))
    except BROKEN as error:
        raise DamagedError(str(error)) from error
    if length < rows * columns * samples:
        raise DamagedError(f"a tile has {length} bytes of pixels in place of {rows * columns * samples}")


def is_cut(data: bytes, pixels: np.ndarray, decode: Callable[[bytes], np.ndarray]) -> bool:
    """Tell whether the scan of a JPEG stops before its picture does, though an end of image follows.

    A decoder fills what it lacks with one grey, so only pictures that end in a flat block are decoded again, with more
    data before the end: a complete scan does not look at them.

    Args:
        data: the JPEG.
        pixels: (h, w, C) uint8, as decoded from it.
        decode: pixels of other data.
    """
    end = _end_of_scan(data)
    last = pixels[-1:, -4:]
    if end < 0 or (last != last[:, -1:]).any():
        return False
    return not np.array_equal(decode(data[:end] + FILLER + data[end:]), pixels)


def check_first_page(path: Path) -> None:
    """Look at all tiles or strips of the picture that Pillow shows.

    Raises:
        DamagedError: the data of one end too early.
    """
    from tifffile import TiffFile

    with TiffFile(path) as tiff:
        page = tiff.pages.first
        for index, (place, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
            tiff.filehandle.seek(place)
            check_whole(page, index, tiff.filehandle.read(length))


def damage_of_any_tile(path: Path) -> str:
    """Look at the ends of all tiles of a TIFF that are JPEG or JPEG 2000; tell the first that has none, or nothing."""
    from tifffile import TiffFile, TiffPage

    with TiffFile(path) as tiff:
        file = tiff.filehandle
        for number, page in enumerate(tiff.pages):
            if not isinstance(page, TiffPage) or not page.is_tiled or page.compression not in (JPEG, *JPEG2000):
                continue
            for index, (place, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
                if length == 0:
                    continue
                file.seek(place + max(0, length - TAIL_BYTES))
                tail = file.read(min(length, TAIL_BYTES))
                if not tail.strip(b"\0"):
                    file.seek(place)
                    tail = file.read(length)
                try:
                    check_whole(page, index, tail)
                except DamagedError as error:
                    return f"tile {index} of picture {number}: {error}"
    return ""


def _end_of_scan(data: bytes) -> int:
    """Where the end of image stands that a decoder meets, -1 if none; an EXIF thumbnail has one of its own."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker == 0xDA:  # start of scan; in the scan itself, no 0xff is followed by 0xd9
            return data.find(END, at)
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # filling, or a marker without a segment
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return -1


class TileIndex:
    """The tiles of a TIFF that another library decodes: whether those below a region are whole.

    Each tile is looked at once. Nothing is checked in a file whose tiles tifffile cannot tell.
    """

    def __init__(self, path: Path, sizes: Sequence[tuple[int, int]]) -> None:
        from tifffile import TiffFile

        self._tiff: TiffFile | None = None
        self._pages: list[TiffPage | None] = [None] * len(sizes)
        self._whole: set[tuple[int, int]] = set()
        try:
            self._tiff = TiffFile(path)
            self._pages = [_page(self._tiff, size) for size in sizes]
        except BROKEN:
            self.close()

    def check(self, level: int, left: int, top: int, width: int, height: int) -> None:
        """Look at the tiles of a level that a region touches, in px of the level.

        Raises:
            DamagedError: a tile's data end too early.
        """
        page = self._pages[level]
        if page is None or self._tiff is None:
            return
        for index in touched(page, left, top, width, height):
            place, length = page.dataoffsets[index], page.databytecounts[index]
            if (level, index) in self._whole or length == 0:
                continue
            self._tiff.filehandle.seek(place)
            check_whole(page, index, self._tiff.filehandle.read(length))
            self._whole.add((level, index))

    def close(self) -> None:
        """Close the file."""
        if self._tiff is not None:
            self._tiff.close()
            self._tiff = None


def _page(tiff: "TiffFile", size: tuple[int, int]) -> "TiffPage | None":
    """The first tiled page of a size."""
    from tifffile import TiffPage

    for page in tiff.pages:
        if isinstance(page, TiffPage) and page.is_tiled and (page.imagewidth, page.imagelength) == size:
            return page
    return None
