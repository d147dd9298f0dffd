"""A picture that is read in parts, of a slide or at hand: what a mask is made from."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hsa.slides.parts import Block
from hsa.slides.slide import Slide

# Pictures of no more pixels are read at once.
LARGE = 2_000_000
# A level of the file so many times as coarse serves to see where there is nothing but glass.
COARSER, COARSEST = 1.5, 4.0


@dataclass(frozen=True)
class Canvas:
    """A picture that is read in parts.

    Attributes:
        shape: height and width, px.
        mpp: resolution, um/px.
        read: gives the part in these rows and columns, (h, w, 3) uint8, RGB.
        overview: the whole picture, coarser by any factor; None where there is none to be had cheaply.
    """

    shape: tuple[int, int]
    mpp: float
    read: Callable[[Block], np.ndarray]
    overview: np.ndarray | None = None


def picture_canvas(picture: np.ndarray, mpp: float) -> Canvas:
    """Make a canvas of a picture (h, w, 3), uint8, RGB, at this resolution, um/px."""
    return Canvas((picture.shape[0], picture.shape[1]), mpp, lambda block: picture[block])


def slide_canvas(slide: Slide, mpp: float) -> Canvas:
    """Make a canvas of a slide at this resolution, um/px; a large one is never in memory as a whole.

    Raises:
        InputError: as `Slide.thumbnail`, here or when it is read.
    """
    width, height = slide.size_at(mpp)
    if width * height <= LARGE:
        return picture_canvas(slide.thumbnail(mpp), mpp)
    coarse = min(slide.coarsest_mpp, COARSEST * mpp)
    overview = slide.thumbnail(coarse) if coarse >= COARSER * mpp else None
    return Canvas((height, width), mpp, lambda block: slide.thumbnail_part(*block, mpp), overview)
