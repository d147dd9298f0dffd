"""Patches and regions as ordinary pictures."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from hsa.errors import InputError
from hsa.slides.readers.jpeg_scans import damage
from hsa.slides.readers.protocol import BROKEN, DamagedError, Reader, on_white, overlay, unreadable
from hsa.slides.readers.segments import check_first_page, is_cut

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")


class PictureReader(Reader):
    """A PNG, JPEG, BMP or untiled TIFF, decoded whole by Pillow at the first read, up to Pillow's ceiling of pixels.

    Its resolution is the manifest's: the dpi tag of an image editor says how to print a picture, not how it was
    scanned.
    """

    via = "pillow"
    mpp: tuple[float, float] | None = None
    power: float | None = None
    downsamples: tuple[float, ...] = (1.0,)

    def __init__(self, path: Path) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                self._picture = Image.open(path, formats=FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise InputError(
                f"slide {path} has more pixels than a picture that is decoded whole may have "
                f"({Image.MAX_IMAGE_PIXELS}): convert it to a tiled pyramidal TIFF"
            ) from error
        except BROKEN as error:
            raise unreadable(path, error) from error
        try:
            problem = _problem(self._picture)
        except BROKEN as error:
            self._picture.close()
            raise unreadable(path, error) from error
        if problem:
            self._picture.close()
            raise InputError(f"slide {path} {problem}: export it as one 8-bit RGB picture")
        self._path = path
        self.format = str(self._picture.format).lower()
        self.size: tuple[int, int] = self._picture.size
        self._pixels: np.ndarray | None = None

    def read(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Read a region; see `hsa.slides.readers.Reader`."""
        if self._pixels is None:
            try:
                self._check()
                plain = self._picture.mode == "RGB" and not self._picture.has_transparency_data
                self._pixels = np.asarray(self._picture) if plain else on_white(self._picture.convert("RGBA"))
            except BROKEN as error:
                raise DamagedError(str(error)) from error
        region = np.full((height, width, 3), 255, np.uint8)
        overlay(region, self._pixels, x, y)
        return region

    def _check(self) -> None:
        """Refuse what Pillow shows with a flat part where data are missing."""
        if self._picture.format == "TIFF":
            check_first_page(self._path)
        elif self._picture.format == "JPEG":
            if problem := damage(self._path.read_bytes()):
                raise DamagedError(problem)

            def decode(data: bytes) -> np.ndarray:
                with Image.open(BytesIO(data), formats=["JPEG"]) as picture:
                    return np.asarray(picture)

            if is_cut(self._path.read_bytes(), np.asarray(self._picture), decode):
                raise DamagedError("the JPEG ends too early")

    def close(self) -> None:
        """Close the file."""
        self._picture.close()
        self._pixels = None


def _problem(picture: Image.Image) -> str:
    """What keeps a picture from being 8-bit RGB; empty if nothing does."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        return f"holds {frames} pictures"
    if picture.mode not in ("RGB", "RGBA", "P"):
        return f"is not in RGB (Pillow's mode {picture.mode})"
    # Pillow gives a PNG of 16 bits as RGB of 8.
    return "has 16 bits a channel" if ";16" in str(getattr(picture, "tile", "")) else ""
