"""Whole-slide files that OpenSlide reads."""

import math
from pathlib import Path

import numpy as np
import openslide

from hsa.errors import InputError
from hsa.slides.readers.protocol import DamagedError, on_white, slide_files, unreadable
from hsa.slides.readers.segments import PLAIN_GRIDS, TileIndex


class OpenSlideReader:
    """SVS, NDPI, MRXS, SCN, BIF, tiled TIFF, DICOM ...; `format` is OpenSlide's name of the vendor."""

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

    def read(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region; see `hsa.slides.readers.Reader`."""
        if self.format in PLAIN_GRIDS:
            # OpenSlide shows what a tile has, and a flat block in place of the rest.
            self._tiles = self._tiles or TileIndex(self._path, self._handle.level_dimensions)
            left, top = (math.floor(edge / self.downsamples[level]) for edge in (x, y))
            self._tiles.check(level, left, top, width, height)
        try:
            region = self._handle.read_region((x, y), level, (width, height))
        except openslide.OpenSlideError as error:
            # After an error OpenSlide refuses all that is read through the handle.
            self._handle.close()
            self._handle = openslide.OpenSlide(self._path)
            raise DamagedError(str(error)) from error
        return on_white(region)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()
        if self._tiles is not None:
            self._tiles.close()


def dicom_file(folder: Path) -> Path:
    """Find one DICOM file of a folder that holds one slide; OpenSlide finds the other levels by itself.

    Raises:
        InputError: no DICOM file there, or more than one series.
    """
    files = [file for file in slide_files(folder) if openslide.OpenSlide.detect_format(file) == "dicom"]
    if not files:
        raise InputError(
            f"slide {folder} is a folder without a DICOM slide: give the file of the slide, or a folder of DICOM files"
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
