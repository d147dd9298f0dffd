"""Readers of slide files: one small adapter a format, chosen by what a file holds, not by its name."""

from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import openslide

from hsa.errors import InputError
from hsa.slides.readers.causes import absent, lacking
from hsa.slides.readers.ome_tiff import LIKE_SIZE, OmeTiffReader
from hsa.slides.readers.openslide_file import OpenSlideReader, dicom_file
from hsa.slides.readers.pages import PagesReader, PlainTiffReader, hidden_levels, plain_levels
from hsa.slides.readers.picture import PictureReader
from hsa.slides.readers.protocol import (
    BROKEN,
    DamagedError,
    Reader,
    slide_files,
    split_scene,
    too_large,
    unreadable,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

__all__ = ["DamagedError", "Reader", "absent", "open_reader", "slide_files", "split_scene", "too_large", "unreadable"]

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Photometric interpretations of TIFF 6.0 that are colour: RGB, palette, YCbCr.
COLOUR = (2, 3, 6)
# Kinds of a fourth sample that are transparency.
ALPHA = ((1,), (2,))


def open_reader(path: Path) -> Reader:
    """Open a slide, a picture or a folder of DICOM files with the adapter for what it holds.

    OpenSlide opens an OME-TIFF as a generic TIFF, without its pyramid and its resolution, and shows one channel of
    several as grey. So a TIFF that none of its vendor drivers knows is looked into first.

    Raises:
        InputError: not a picture, not 8-bit RGB, several of them in one file, or none of the number that is asked for.
    """
    path, scene = split_scene(path)
    if path.is_dir():
        _refuse_scene(path, scene)
        return OpenSlideReader(dicom_file(path))
    if gone := lacking(path):
        raise InputError(f"slide {path} {gone}")
    vendor = openslide.OpenSlide.detect_format(path)
    if vendor in (None, "generic-tiff") and _is_tiff(path):
        reader = _look_into(path, scene, vendor)
        if reader is not None:
            return reader
    _refuse_scene(path, scene)
    return OpenSlideReader(path) if vendor else PictureReader(path)


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in TIFF_MAGIC


def _refuse_scene(path: Path, scene: int | None) -> None:
    if scene is not None:
        raise InputError(
            f"slide {path}: `#{scene}` chooses an image of an OME-TIFF, which this file is not: leave it out"
        )


def _look_into(path: Path, scene: int | None, vendor: str | None) -> PagesReader | None:
    """The reader of a TIFF of which OpenSlide and Pillow show one picture; None if that is all there is in it."""
    from tifffile import TiffFile

    with ExitStack() as stack:
        try:
            tiff = stack.enter_context(TiffFile(path))
            if tiff.is_ome:
                reader: PagesReader = OmeTiffReader(path, tiff, scene)
            else:
                _check(path, tiff)
                _refuse_scene(path, scene)
                alone = vendor is not None or len(tiff.pages) == 1
                if not plain_levels(tiff) or (alone and not hidden_levels(tiff)):
                    return None
                reader = _plain(path, tiff, vendor)
        except InputError:
            raise
        except BROKEN as error:
            raise unreadable(path, error) from error
        stack.pop_all()  # the reader closes it
    return reader


def _plain(path: Path, tiff: "TiffFile", vendor: str | None) -> PlainTiffReader:
    """The reader of all levels, with the resolution that OpenSlide finds, if it opens the file."""
    if vendor is None:
        return PlainTiffReader(path, tiff, "tiff", None)
    whole = OpenSlideReader(path)
    whole.close()
    return PlainTiffReader(path, tiff, vendor, whole.mpp)


def _check(path: Path, tiff: "TiffFile") -> None:
    """Refuse what OpenSlide and Pillow would show as something else."""
    from tifffile import TiffPage

    first, others = tiff.pages.first, [page for page in islice(tiff.pages, 1, None) if isinstance(page, TiffPage)]
    whole = [page for page in others if not page.is_reduced]
    largest = max([first, *others], key=_area)
    problem = ""
    if first.is_tiled and too_large(first.tilewidth, first.tilelength):
        # OpenSlide takes the memory of a whole tile, and ends the process where there is none.
        problem = f"has tiles of {first.tilewidth} x {first.tilelength} px"
    elif first.sampleformat != 1:
        problem = "has signed or fractional numbers for pixels"
    elif first.bitspersample != 8:
        problem = f"has {first.bitspersample} bits a channel"
    elif first.photometric not in COLOUR or first.samplesperpixel > 4:
        problem = f"is not in RGB (channels: {first.samplesperpixel})"
    elif first.samplesperpixel == 4 and tuple(map(int, first.extrasamples)) not in ALPHA:
        problem = "has a fourth channel that is not said to be transparency"
    elif any(page.shape == first.shape for page in whole):
        problem = "is a stack of pictures of one size"
    elif _area(largest) > _area(first):
        problem = f"begins with a picture of {_size(first)} px, and the largest in it has {_size(largest)} px"
    elif alike := [page for page in whole if _area(page) > LIKE_SIZE * _area(first)]:
        problem = f"holds several pictures of like size ({', '.join(map(_size, [first, *alike]))} px)"
    if problem:
        raise InputError(f"slide {path} {problem}: export one 8-bit RGB picture as a tiled pyramidal TIFF")


def _area(page: "TiffPage") -> int:
    return page.imagewidth * page.imagelength


def _size(page: "TiffPage") -> str:
    return f"{page.imagewidth} x {page.imagelength}"
