"""What a reader offers, and what the readers share."""

import os
import re
import struct
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from hsa.errors import InputError
from hsa.slides.readers.causes import looks_like
from hsa.slides.readers.reduction import MEAN, means

# What tifffile, imagecodecs, Pillow and ElementTree raise for broken files.
BROKEN: tuple[type[Exception], ...] = (
    *(OSError, EOFError, SyntaxError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError),
    *(AttributeError, struct.error),
)


class DamagedError(Exception):
    """A region of the file cannot be decoded."""


class Reader(Protocol):
    """What `hsa.slides.slide.Slide` needs of a file.

    Attributes:
        format: name of the format, recorded with every bag.
        size: width and height of level 0, px.
        mpp: um per pixel of level 0 along x and y, as the file says, plausible or not; None if it says nothing.
        power: of the objective, such as 40; None if the file does not name one.
        downsamples: level-0 pixels a pixel of each level, ascending; the first is 1.
        via: what decodes the pixels: `"direct"` (tiled JPEGs, see `hsa.slides.readers.jpeg_tiles`), `"openslide"`,
            `"tifffile"` or `"pillow"`.
    """

    format: str
    size: tuple[int, int]
    mpp: tuple[float, float] | None
    power: float | None
    downsamples: tuple[float, ...]
    via: str

    def read(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region of a level.

        Args:
            x: left edge, level-0 px.
            y: upper edge, level-0 px.
            level: index into `downsamples`.
            width: px of the level.
            height: px of the level.

        Returns:
            (height, width, 3) uint8, RGB, on white where transparent, white beyond the edge and where the scanner
            has not been.

        Raises:
            DamagedError: the file is damaged there.
        """
        ...

    def near(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region that may begin at the nearest whole pixel of the level, where `read` would interpolate."""
        return self.read(x, y, level, width, height)

    def reduced(self, x: int, y: int, level: int, width: int, height: int, factor: int, how: str = MEAN) -> np.ndarray:
        """Read a region of a level and reduce it by a whole factor.

        Args:
            x: left edge, level-0 px.
            y: upper edge, level-0 px.
            level: index into `downsamples`.
            width: px of the reduced level.
            height: px of the reduced level.
            factor: pixels of the level a pixel, along each side.
            how: see `hsa.slides.readers.reduction`; `"dct"` only by a factor of `dct_factors`.

        Returns:
            (height, width, 3) uint8, as `read`.

        Raises:
            DamagedError: the file is damaged there.
        """
        return means(self.read(x, y, level, width * factor, height * factor), factor)

    def dct_factors(self, level: int) -> tuple[int, ...]:
        """Factors by which the decoder itself reduces a level, the largest first; none but for tiled JPEGs."""
        return ()

    def close(self) -> None:
        """Close the file."""
        ...


def split_scene(path: Path) -> tuple[Path, int | None]:
    """Split `slide.ome.tiff#2` into the file and the number of the image that is meant in it, from 1.

    The number is None where none is given. A file whose own name ends so is that file.
    """
    named = re.fullmatch(r"(.+)#([0-9]{1,6})", path.name)
    if named is None or os.path.exists(path):
        return path, None
    return path.with_name(named[1]), int(named[2])


def slide_files(path: Path) -> list[Path]:
    """List the files of a slide: all in a folder of DICOM files, an MRXS file and its folder, else the one file."""
    path, _ = split_scene(path)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    if path.suffix.lower() == ".mrxs" and path.with_suffix("").is_dir():
        return [path, *slide_files(path.with_suffix(""))]
    return [path]


def unreadable(path: Path, error: object) -> InputError:
    """Make the error for a file that no reader takes; it says what the file is instead, where that can be seen."""
    found = looks_like(path)
    if found:
        return InputError(f"slide {path} {found}")
    return InputError(
        f"slide {path} cannot be read ({error}): what is read is SVS, NDPI, MRXS, SCN, BIF, DICOM, tiled TIFF, "
        "OME-TIFF, PNG, JPEG and BMP; copy the file again or convert it to a tiled pyramidal TIFF"
    )


def too_large(width: int, height: int) -> bool:
    """Tell whether a picture is beyond Pillow's ceiling (`Image.MAX_IMAGE_PIXELS`, None for none)."""
    return Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS


def on_white(picture: Image.Image) -> np.ndarray:
    """Lay an RGBA picture on white: (h, w, 3) uint8."""
    alpha = picture.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return np.asarray(picture.convert("RGB"))
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=alpha)
    return np.asarray(white)


def overlay(region: np.ndarray, pixels: np.ndarray, x: int, y: int) -> None:
    """Copy into `region`, whose corner lies at (x, y) of `pixels`, what `pixels` has of it."""
    bottom, right = min(region.shape[0], pixels.shape[0] - y), min(region.shape[1], pixels.shape[1] - x)
    top, left = max(0, -y), max(0, -x)
    if bottom > top and right > left:
        region[top:bottom, left:right] = pixels[y + top : y + bottom, x + left : x + right]
