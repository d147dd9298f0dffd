"""Pages of a TIFF as the levels of a slide, read tile by tile or strip by strip through tifffile."""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from hsa.errors import InputError
from hsa.slides.readers.jpeg_tiles import JpegTiles, is_direct
from hsa.slides.readers.protocol import BROKEN, DamagedError, Reader, overlay
from hsa.slides.readers.reduction import DCT, MEAN
from hsa.slides.readers.segments import JPEG, SEPARATE, check_whole, is_cut, segment_shape, touched

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage

# Codes of TIFF 6.0: photometric interpretations, extra samples, orientation.
RGB, YCBCR = 2, 6
ASSOCIATED, UNASSOCIATED = 1, 2
ORIENTATION, UPRIGHT = 274, 1
# Decoded pixels that are kept, so that a strip as wide as the slide is not decoded again for each tile.
KEPT_PX = 16_000_000
# Pages of one slide are alike in shape, within so much of a side or a pixel.
ALIKE = 0.02


class PagesReader(Reader):
    """A slide whose levels are pages of a TIFF, or three pages each: red, green and blue.

    Only the tiles or strips that a region touches are decoded.
    """

    mpp: tuple[float, float] | None = None
    power: float | None = None

    def __init__(self, path: Path, tiff: "TiffFile", levels: Sequence[Sequence["TiffPage | TiffFrame"]]) -> None:
        frames: list[Any] = [pages[0].keyframe for pages in levels]
        self._tiff = tiff
        self._levels = levels
        self.size: tuple[int, int] = (frames[0].imagewidth, frames[0].imagelength)
        self.downsamples = tuple(self.size[0] / frame.imagewidth for frame in frames)
        largest = max(math.prod(segment_shape(frame)) for frame in frames)
        self._decoded = lru_cache(max(3, KEPT_PX // largest))(self._decode)
        tiled = all(len(pages) == 1 and is_direct(frame) for pages, frame in zip(levels, frames, strict=True))
        self._direct = JpegTiles(path, [pages[0] for pages in levels]) if tiled else None
        self.via = "direct" if tiled else "tifffile"

    def read(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region; see `hsa.slides.readers.Reader`."""
        left, top = (round(edge / self.downsamples[level]) for edge in (x, y))
        if self._direct:
            return self._direct.read(level, left, top, width, height)
        region = np.full((height, width, 3), 255, np.uint8)
        try:
            for channel, page in enumerate(self._levels[level]):
                frame: Any = page.keyframe
                for index in touched(frame, left, top, width, height):
                    data, (plane, _, row, column, _), _ = self._decoded(level, channel, index)
                    if data is None:  # the scanner has not been there
                        continue
                    pixels = data[0, : frame.imagelength - row, : frame.imagewidth - column]  # less the padding
                    part = region if pixels.shape[-1] > 1 else region[..., channel + plane, None]
                    overlay(part, _opaque(pixels, frame), left - column, top - row)
        except BROKEN as error:
            raise DamagedError(str(error)) from error
        return region

    def reduced(self, x: int, y: int, level: int, width: int, height: int, factor: int, how: str = MEAN) -> np.ndarray:
        """Read a region and reduce it; see `hsa.slides.readers.Reader`."""
        left, top = (round(edge / self.downsamples[level]) for edge in (x, y))
        if self._direct and (how == DCT or self._direct.divides(level, factor, left, top)):
            return self._direct.read(level, left, top, width, height, factor, how)
        return super().reduced(x, y, level, width, height, factor)

    def dct_factors(self, level: int) -> tuple[int, ...]:
        """Factors by which JPEGs are decoded smaller; see `hsa.slides.readers.Reader`."""
        return self._direct.dct_factors(level) if self._direct else ()

    def close(self) -> None:
        """Close the file."""
        self._decoded.cache_clear()
        if self._direct is not None:
            self._direct.close()
        self._tiff.close()

    def _decode(self, level: int, channel: int, index: int) -> tuple:
        """Pixels of a tile or strip (None if it is empty), its place, its shape."""
        page = self._levels[level][channel]
        frame: Any = page.keyframe
        length = page.databytecounts[index]
        if length == 0:
            return frame.decode(None, index)
        self._tiff.filehandle.seek(page.dataoffsets[index])
        data = self._tiff.filehandle.read(length)
        check_whole(frame, index, data)
        if frame.compression != JPEG:
            return frame.decode(data, index)

        def decode(jpeg: bytes) -> tuple:
            return frame.decode(jpeg, index, jpegtables=page.jpegtables, jpegheader=frame.jpegheader)

        decoded = decode(data)
        if is_cut(data, decoded[0][0], lambda jpeg: decode(jpeg)[0][0]):
            raise DamagedError("a JPEG tile ends too early")
        return decoded


class PlainTiffReader(PagesReader):
    """A TIFF with its levels in SubIFDs, or in strips, where OpenSlide and Pillow know one picture of it.

    Pictures of another shape than the first are not the slide.
    """

    def __init__(self, path: Path, tiff: "TiffFile", name: str, mpp: tuple[float, float] | None) -> None:
        levels = plain_levels(tiff)
        if any(Image.MAX_IMAGE_PIXELS and math.prod(segment_shape(page)) > Image.MAX_IMAGE_PIXELS for page in levels):
            raise InputError(f"slide {path} is too large for a file without tiles: export it as a tiled pyramidal TIFF")
        super().__init__(path, tiff, [[page] for page in levels])
        self.format = name
        self.mpp = mpp


def plain_levels(tiff: "TiffFile") -> list["TiffPage"]:
    """Find the first page of a TIFF and those that may be coarser levels of it; none if the first is not plain RGB."""
    from tifffile import TiffPage

    first = tiff.pages.first
    if not _is_plain(first):
        return []
    others: list[TiffPage | TiffFrame] = list(tiff.pages)
    if first.subifds and first.pages is not None:
        others += list(first.pages)
    found = {first.imagewidth: first}
    for page in others:
        if not isinstance(page, TiffPage) or not _is_plain(page) or page.imagewidth >= first.imagewidth:
            continue
        expected = page.imagewidth * first.imagelength / first.imagewidth
        if abs(page.imagelength - expected) <= max(1, ALIKE * expected):
            found.setdefault(page.imagewidth, page)
    return [found[width] for width in sorted(found, reverse=True)]


def hidden_levels(tiff: "TiffFile") -> list["TiffPage"]:
    """Find the coarser levels of a TIFF that OpenSlide does not show: in SubIFDs, in strips, or not flagged as such."""
    pages = [page.offset for page in tiff.pages]
    levels = plain_levels(tiff)[1:]
    return [page for page in levels if not (page.is_tiled and page.is_reduced and page.offset in pages)]


def _is_plain(page: "TiffPage") -> bool:
    """Whether a page is 8-bit RGB that can be decoded as it is stored, with or without transparency."""
    colour = page.photometric == RGB or (page.photometric == YCBCR and page.compression == JPEG)
    alpha = page.samplesperpixel == 4 and tuple(map(int, page.extrasamples)) in ((ASSOCIATED,), (UNASSOCIATED,))
    upright = page.tags.valueof(ORIENTATION, default=UPRIGHT) == UPRIGHT
    return bool(colour and upright and page.bitspersample == 8 and page.sampleformat == 1) and (
        page.samplesperpixel == 3 or (alpha and page.planarconfig != SEPARATE)
    )


def _opaque(pixels: np.ndarray, page: "TiffPage") -> np.ndarray:
    """Pixels (h, w, 4) laid on white; others as they are."""
    if pixels.shape[-1] != 4:
        return pixels
    colour, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
    if page.extrasamples[0] == UNASSOCIATED:
        colour = (colour * alpha + 127) // 255
    return np.minimum(colour + 255 - alpha, 255).astype(np.uint8)
