"""Whole-slide images, read by microns per pixel."""

import logging
import math
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from hsa.errors import InputError
from hsa.slides.readers import DamagedError, Reader, absent, open_reader, split_scene, too_large, unreadable
from hsa.slides.readers.levels import sound_levels
from hsa.slides.readers.reduction import DCT, MEAN, WAYS, means
from hsa.slides.resolution import Given, agreed, given

log = logging.getLogger(__name__)

# A level this close to the wanted mpp is read as it is: resampling would only blur it.
SAME_MPP = 0.005
# So close to a whole number, pixels of a level are averaged in squares: over 2048 px the two differ by 0.02 px.
WHOLE = 1e-5
# Finer than this against level 0, the detail would be invented.
MAX_ENLARGEMENT = 1.25
# Thumbnails are read in blocks of so many output pixels, and never of more pixels of the file, so that memory grows
# neither with the slide nor with what a pyramid lacks.
BLOCK_PX = 256
BLOCK_SOURCE_PX = 2048


NONE = "none"
RESAMPLING = {"box": Image.Resampling.BOX, "lanczos": Image.Resampling.LANCZOS}


class Source(NamedTuple):
    """From which pixels of a file those of a resolution are made, and how.

    Attributes:
        level: of the file.
        decoded: factor by which the decoder reduces it already.
        ratio: pixels of that a wanted pixel, along each side.
        how: they are made of them: `"none"`, `"mean"`, `"box"` or `"lanczos"`.
    """

    level: int
    decoded: int
    ratio: float
    how: str


def open_file(path: Path) -> Reader:
    """Open the file of a slide, its resolution not yet looked at.

    Raises:
        InputError: no such file, not a slide, or not 8-bit RGB.
    """
    try:
        if not split_scene(path)[0].exists():
            raise InputError(f"slide {path} {absent(path)}")
        return open_reader(path)
    except OSError as error:
        raise unreadable(path, error) from error


class Slide:
    """A slide, patch or region in any format of `hsa.slides.readers`; a context manager.

    Attributes:
        path: the file, or the folder of DICOM files.
        format: name of the format: OpenSlide's vendor name, `"ome-tiff"`, `"png"`, `"jpeg"`, `"bmp"` or `"tiff"`.
        mpp: resolution of level 0, um/px.
        mpp_from: where the resolution was found: `"file"`, `"manifest"`, `"command line"` or `"override"`.
        size: width and height of level 0, px.
        via: what decodes the pixels, see `hsa.slides.readers.Reader`.
    """

    def __init__(self, reader: Reader, path: Path, mpp: float, mpp_from: str, reduction: str = MEAN) -> None:
        self._reader = reader
        self._reduction = reduction
        self.via = reader.via
        self.path = path
        self.format = reader.format
        self.mpp = mpp
        self.mpp_from = mpp_from
        self.size = reader.size

    @classmethod
    def open(cls, path: str | Path, mpp: float | Given | None = None, reduction: str = MEAN) -> Self:
        """Open a slide.

        Args:
            path: the file, or a folder that holds the DICOM files of one slide; `file#2` is the second image of an
                OME-TIFF.
            mpp: level-0 resolution from the manifest, um/px; needed where the file does not hold it. A
                `hsa.slides.resolution.Given` also tells that it comes from elsewhere, or wins over the file.
            reduction: how `read` makes coarser pixels, where a level has to be reduced: `"mean"`, exactly, or `"dct"`,
                in the decoder, where that can (tiled JPEGs, by 2, 4 or 8): twice as fast, and other pixels.

        Raises:
            InputError: no such file, not a slide, not 8-bit RGB, or no resolution that can be true: see
                `hsa.slides.resolution.agreed`; or an unknown reduction.
        """
        path = Path(path)
        if reduction not in WAYS:
            raise InputError(f"unknown reduction {reduction!r}: use one of {', '.join(WAYS)}")
        reader = open_file(path)
        try:
            slide = cls(reader, path, *agreed(path, reader, given(mpp)), reduction)
        except InputError:
            reader.close()
            raise
        log.info("slide %s: %s, decoded by %s", path, slide.format, slide.via)
        return slide

    def again(self) -> Self:
        """Open the slide once more, for another thread; its levels are not looked at anew."""
        other = type(self)(open_reader(self.path), self.path, self.mpp, self.mpp_from, self._reduction)
        if "levels" in vars(self):
            vars(other)["levels"] = self.levels
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Levels of the file that are read: those that show the same tissue as the one above; 0 is the first.

        They are looked at once, when a level beside 0 is first asked for.
        """
        sound = sound_levels(self._reader)
        dropped = [f"{d:.3g}" for level, d in enumerate(self._reader.downsamples) if level not in sound]
        if dropped:
            log.warning(
                "slide %s: the pictures reduced %s times do not show the slide as level 0 does, and are not read",
                *(self.path, ", ".join(dropped)),
            )
        return sound

    @property
    def levels_dropped(self) -> str:
        """Numbers of the levels of the file that are not read, such as `"3, 4"`; empty if none."""
        return ", ".join(str(level) for level in range(len(self._reader.downsamples)) if level not in self.levels)

    def extent(self, size: int, mpp: float) -> int:
        """Level-0 pixels that `size` pixels at `mpp` cover."""
        source = self._source(mpp, self._reduction)
        return round(size * source.ratio * source.decoded * self._reader.downsamples[source.level])

    def reduced_by(self, mpp: float) -> str:
        """How `read` makes pixels of `mpp` from those of the file.

        Returns:
            `"none"`, `"mean"` (exact means of squares), `"dct"` (see `open`), `"box"` (means of areas that are no whole
            squares) or `"lanczos"`; or two of them, such as `"dct+lanczos"`.
        """
        source = self._source(mpp, self._reduction)
        return "+".join([DCT] * (source.decoded > 1) + [source.how] * (source.how != NONE)) or NONE

    def read(self, x: int, y: int, width: int, height: int, mpp: float) -> np.ndarray:
        """Read a region.

        Pixels come from the coarsest level that is at least as fine as `mpp`, averaged or interpolated
        (Lanczos) down to it. What lies beyond the edge or is transparent comes out white.

        Args:
            x: left edge, level-0 px.
            y: upper edge, level-0 px.
            width: px at `mpp`.
            height: px at `mpp`.
            mpp: wanted resolution, um/px.

        Returns:
            (height, width, 3) uint8, RGB.

        Raises:
            InputError: the file is damaged there, or the slide is coarser than `mpp` by more than a quarter.
        """
        return self._read(x, y, width, height, mpp, self._source(mpp, self._reduction))

    def _read(self, x: int, y: int, width: int, height: int, mpp: float, source: Source) -> np.ndarray:
        level, decoded, ratio, how = source
        needed = (math.ceil(width * ratio), math.ceil(height * ratio))
        try:
            if how == MEAN and decoded == 1:
                return self._reader.reduced(x, y, level, width, height, round(ratio))
            if decoded > 1:
                region = self._reader.reduced(x, y, level, *needed, decoded, DCT)
            else:
                region = self._reader.read(x, y, level, *needed)
        except DamagedError as error:
            raise InputError(
                f"slide {self.path} is damaged at x={x} y={y} (level 0, region of {width} x {height} px "
                f"at {mpp:g} um/px): {error}. Copy the file again from its source, or "
                "leave it out"
            ) from error
        if how == NONE:
            return region
        if how == MEAN:
            return means(region, round(ratio))
        box = (0, 0, width * ratio, height * ratio)
        return np.asarray(Image.fromarray(region).resize((width, height), RESAMPLING[how], box=box))

    def thumbnail(self, mpp: float) -> np.ndarray:
        """Read the whole slide.

        Args:
            mpp: wanted resolution, um/px.

        Returns:
            (h, w, 3) uint8, RGB, of `size_at(mpp)`.

        Raises:
            InputError: as `read`, or more pixels than Pillow's ceiling.
        """
        width, height = self.size_at(mpp)
        return self.thumbnail_part(slice(0, height), slice(0, width), mpp)

    def thumbnail_part(self, rows: slice, columns: slice, mpp: float) -> np.ndarray:
        """Read some rows and columns, both within `size_at(mpp)`, of what `thumbnail` gives: (h, w, 3) uint8, RGB."""
        scale = mpp / self.mpp
        picture = np.empty((rows.stop - rows.start, columns.stop - columns.start, 3), dtype=np.uint8)
        source = self._source(mpp, MEAN)  # the mask is the same, however tiles are read
        block = max(1, min(BLOCK_PX, int(BLOCK_SOURCE_PX / source.ratio)))
        # A few pixels more, the margin of a filter, are not worth a call of their own.
        if max(picture.shape[:2]) <= 1.25 * block:
            block = max(picture.shape[:2])
        for top in range(0, picture.shape[0], block):
            for left in range(0, picture.shape[1], block):
                part = picture[top : top + block, left : left + block]
                x, y = round((columns.start + left) * scale), round((rows.start + top) * scale)
                part[:] = self._read(x, y, part.shape[1], part.shape[0], mpp, source)
        return picture

    def size_at(self, mpp: float) -> tuple[int, int]:
        """Width and height of the slide at `mpp`, rounded, at least 1 px.

        Raises:
            InputError: more pixels than Pillow's ceiling.
        """
        width, height = (max(1, round(side * self.mpp / mpp)) for side in self.size)
        if too_large(width, height):  # at 8 um/px, 76 mm by 76: three times a glass slide
            wide, high = (side * self.mpp / 1000 for side in self.size)
            raise InputError(
                f"slide {self.path} is {wide:.0f} x {high:.0f} mm ({self.size[0]} x {self.size[1]} px of "
                f"{self.mpp:g} um), too large for a picture of {mpp:g} um/px: correct its mpp, or copy the file again"
            )
        return width, height

    @property
    def coarsest_mpp(self) -> float:
        """Resolution of the coarsest level that is read, um/px."""
        return self.mpp * self._reader.downsamples[self.levels[-1]]

    def view_mpp(self, longest: int = 1500, finest: float = 1.0) -> float:
        """Resolution, um/px, at which the whole slide is to be looked at.

        Args:
            longest: side that the picture may have, px.
            finest: um/px; a small slide is shown no finer.
        """
        return max(finest, self.mpp, self.mpp * max(self.size) / longest)

    def _source(self, mpp: float, reduction: str) -> Source:
        """What to read for `mpp`, and what to make of it."""
        if mpp * MAX_ENLARGEMENT < self.mpp:
            raise InputError(
                f"slide {self.path} has {self.mpp:g} um/px, coarser than the {mpp:g} wanted: set "
                f"`mpp: {self.mpp:g}` or more under `tiles` in the study file, or use a slide scanned at a "
                "higher magnification"
            )
        ratios = [mpp / (self.mpp * downsample) for downsample in self._reader.downsamples]
        fine = [level for level, ratio in enumerate(ratios) if ratio >= 1 - SAME_MPP]
        if fine and fine[-1] > 0:
            fine = [level for level in fine if level in self.levels]
        level = fine[-1] if fine else 0
        ratio, decoded = ratios[level], 1
        if reduction == DCT:
            factors = self._reader.dct_factors(level)
            decoded = next((factor for factor in factors if ratio / factor >= 1 - SAME_MPP), 1)
            ratio /= decoded
        if abs(ratio - 1) <= SAME_MPP:
            return Source(level, decoded, 1.0, NONE)
        if round(ratio) > 1 and abs(ratio - round(ratio)) <= WHOLE:
            return Source(level, decoded, round(ratio), MEAN)
        return Source(level, decoded, ratio, "box" if ratio >= 2 else "lanczos")
