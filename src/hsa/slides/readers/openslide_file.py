"""Whole-slide files that OpenSlide reads."""

import logging
import math
from pathlib import Path

import numpy as np
import openslide

from hsa.errors import InputError
from hsa.slides.readers.causes import looks_like, within
from hsa.slides.readers.jpeg_tiles import JpegTiles, jpeg_tiles
from hsa.slides.readers.protocol import DamagedError, Reader, on_white, slide_files, unreadable
from hsa.slides.readers.reduction import DCT, MEAN
from hsa.slides.readers.segments import PLACED_TILES, PLAIN_GRIDS, TileIndex, damage_of_any_tile

# OpenSlide's names of vendors whose tiles it lays side by side as they are.
SIDE_BY_SIDE = ("aperio", "generic-tiff")
APERIO = "aperio"

log = logging.getLogger(__name__)

# Its values say what an image is; of one that was reduced from another, the last is RESAMPLED (PS3.3 C.8.12.4.1.1).
_IMAGE_TYPE = [f"dicom.ImageType[{value}]" for value in range(8)]


class OpenSlideReader(Reader):
    """SVS, NDPI, MRXS, SCN, BIF, tiled TIFF, DICOM ...; `format` is OpenSlide's name of the vendor.

    Tiled JPEGs are decoded without OpenSlide, wherever it would show the same pixels.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._handle = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise unreadable(path, error) from error
        self.properties = self._handle.properties
        across, down = (float(self.properties.get(f"openslide.mpp-{axis}", "nan")) for axis in "xy")
        power = float(self.properties.get("openslide.objective-power", "nan"))
        self.format: str = self.properties["openslide.vendor"]
        self.size: tuple[int, int] = self._handle.dimensions
        self.mpp = None if math.isnan(across + down) else (across, down)
        self.power = None if math.isnan(power) else power
        self.downsamples: tuple[float, ...] = self._handle.level_downsamples
        self._tiles: TileIndex | None = None
        self._damage = None if self.format in PLACED_TILES else ""  # None until all tiles have been looked at
        self._direct = self._jpeg_tiles()
        self.via = "direct" if self._direct else "openslide"
        if self.format == "dicom" and "RESAMPLED" in map(self.properties.get, _IMAGE_TYPE):
            width, height = self.size
            log.warning(
                "slide %s: its full-size image is not among its DICOM files; the largest, %d x %d px, was reduced from "
                "it: copy all files of the series",
                *(path, width, height),
            )

    def read(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region; see `hsa.slides.readers.Reader`."""
        left, top = (edge / self.downsamples[level] for edge in (x, y))
        # Between the pixels of a level OpenSlide interpolates.
        if self._direct and left.is_integer() and top.is_integer():
            return self._direct.read(level, int(left), int(top), width, height)
        if self.format in PLAIN_GRIDS:
            # OpenSlide shows what a tile has, and a flat block in place of the rest.
            self._tiles = self._tiles or TileIndex(self._path, self._handle.level_dimensions)
            self._tiles.check(level, math.floor(left), math.floor(top), width, height)
        if self._damage is None:
            self._damage = damage_of_any_tile(self._path)
        if self._damage:
            raise DamagedError(self._damage)
        try:
            region = self._handle.read_region((x, y), level, (width, height))
        except openslide.OpenSlideError as error:
            # After an error OpenSlide refuses all that is read through the handle.
            self._handle.close()
            self._handle = openslide.OpenSlide(self._path)
            raise DamagedError(str(error)) from error
        return on_white(region)

    def near(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region near a place; see `hsa.slides.readers.Reader`."""
        if self._direct is None:
            return self.read(x, y, level, width, height)
        left, top = (round(edge / self.downsamples[level]) for edge in (x, y))
        return self._direct.read(level, left, top, width, height)

    def reduced(self, x: int, y: int, level: int, width: int, height: int, factor: int, how: str = MEAN) -> np.ndarray:
        """Read a region and reduce it; see `hsa.slides.readers.Reader`."""
        left, top = (edge / self.downsamples[level] for edge in (x, y))
        if self._direct and (how == DCT or self._direct.divides(level, factor, left, top)):
            return self._direct.read(level, math.floor(left), math.floor(top), width, height, factor, how)
        return super().reduced(x, y, level, width, height, factor)

    def dct_factors(self, level: int) -> tuple[int, ...]:
        """Factors by which JPEGs are decoded smaller; see `hsa.slides.readers.Reader`."""
        return self._direct.dct_factors(level) if self._direct else ()

    def _jpeg_tiles(self) -> JpegTiles | None:
        """The tiles of the file, if they can be decoded one by one and laid side by side."""
        if self.format not in SIDE_BY_SIDE:
            return None
        found = jpeg_tiles(self._path, self._handle.level_dimensions)
        # Where a tile is missing in a file of Aperio, OpenSlide shows a finer level there and in all coarser ones.
        if found and self.format == APERIO and found.lacks_tiles():
            found.close()
            return None
        return found

    def close(self) -> None:
        """Close the file."""
        self._handle.close()
        if self._direct is not None:
            self._direct.close()
        if self._tiles is not None:
            self._tiles.close()


def dicom_file(folder: Path) -> Path:
    """Find one DICOM file of a folder that holds one slide; OpenSlide finds the other levels by itself.

    Raises:
        InputError: no DICOM file there, one that is damaged, or more than one series.
    """
    for file in slide_files(folder):
        if file.suffix.lower() == ".dcm" and openslide.OpenSlide.detect_format(file) != "dicom":
            what = looks_like(file) or "is no DICOM file: copy it again from its source"
            raise InputError(f"slide {folder}: its file {file.name!r} {what}")
    files = [file for file in slide_files(folder) if openslide.OpenSlide.detect_format(file) == "dicom"]
    if not files:
        raise InputError(
            f"slide {folder} is a folder without a DICOM slide{within(folder)}: give the file of the slide, "
            "or a folder of DICOM files"
        )
    series = set()
    for file in files:
        reader = OpenSlideReader(file)
        series.add(reader.properties["dicom.SeriesInstanceUID"])
        reader.close()
        if len(series) > 1:
            raise InputError(
                f"slide {folder} holds more than one DICOM series: give one file of the slide's series instead, or "
                "move each series to a folder of its own"
            )
    return files[0]
