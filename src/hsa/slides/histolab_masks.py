"""Masks shared with histolab: its own for our slides, and ours for its tilers."""

import warnings
from pathlib import Path

import numpy as np

from hsa.errors import InputError
from hsa.slides.canvas import slide_canvas
from hsa.slides.resolution import Given
from hsa.slides.slide import Slide
from hsa.slides.tissue import MASK_MPP, canvas_tissue

try:
    from histolab.masks import BinaryMask, TissueMask
    from histolab.slide import Slide as HistolabSlide
except ImportError:  # histolab pins old versions and goes in with --no-deps
    BinaryMask = object


class OpticalDensityMask(BinaryMask):
    """The mask of `hsa.slides.tiling.tissue_mask` in the form that histolab's tilers and `slide.locate_mask` take.

    Example:
        >>> tiler = histolab.tiler.GridTiler((256, 256))
        >>> tiler.extract(histolab_slide, extraction_mask=OpticalDensityMask(mpp=0.5))
    """

    def __init__(self, mpp: float | Given | None = None) -> None:
        """Take the level-0 resolution of the slides, um/px, as `Slide.open` does: None where their files hold it."""
        _require_histolab()
        self._mpp = mpp

    def _mask(self, slide: "HistolabSlide") -> np.ndarray:
        # Read by our own reader, for histolab asks more of a file, and resamples it in another way.
        with Slide.open(slide._path, self._mpp) as own:
            return canvas_tissue(slide_canvas(own, MASK_MPP))[0]


def histolab_tissue(path: Path) -> np.ndarray:
    """Give histolab's `TissueMask` of a slide, (h, w) bool, at the resolution that histolab chooses.

    Raises:
        InputError: histolab is not there.
    """
    _require_histolab()
    with warnings.catch_warnings():
        # It calls scikit-image and SciPy by names that are about to change.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(TissueMask()(HistolabSlide(path, "")), dtype=bool)


def _require_histolab() -> None:
    if BinaryMask is object:
        raise InputError(
            "histolab is not installed; type: pip install --no-deps --ignore-requires-python histolab==0.7.0"
        )
