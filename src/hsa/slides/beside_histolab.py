"""Our tiles beside histolab's, on one slide, with one mask: how many, how long, and whether the pixels are the same."""

import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from hsa.slides.histolab_masks import OpticalDensityMask
from hsa.slides.resolution import Given
from hsa.slides.slide import Slide
from hsa.slides.tiling import tile_grid, tissue_mask

Made = TypeVar("Made")


def beside_histolab(path: Path, mpp: float | Given | None, size_px: int, min_tissue: float) -> pd.DataFrame:
    """Tile a slide at its own resolution in four ways.

    histolab's tilers take our mask, but lay their grid from the corner of the tissue and look for tissue in each tile
    anew, so their tiles are others; and they write each tile to disk. So our corners are read with histolab, too.

    Args:
        path: of the slide.
        mpp: as for `Slide.open`.
        size_px: side of a tile, level-0 px.
        min_tissue: share of a tile that must be tissue, 0-1.

    Returns:
        A row a way: way, tiles, seconds (CPU), same (tiles whose pixels are those of ours at the same corner; NaN where
        the corners are others).

    Raises:
        InputError: histolab is not installed, or as `Slide.open` and `tile_grid`.
    """
    mask = OpticalDensityMask(mpp)  # tells what to type where histolab is missing
    from histolab.exceptions import TileSizeOrCoordinatesError
    from histolab.scorer import NucleiScorer
    from histolab.slide import Slide as HistolabSlide
    from histolab.tiler import GridTiler, ScoreTiler, Tiler
    from histolab.types import CoordinatePair

    def ours() -> tuple[np.ndarray, list[np.ndarray]]:
        with Slide.open(path, mpp) as slide:
            grid = tile_grid(slide, tissue_mask(slide), size_px, slide.mpp, min_tissue)
            return grid.coords, [slide.read(x, y, size_px, size_px, slide.mpp) for x, y in grid.coords]

    rows = []
    (corners, pixels), seconds = _timed(ours)
    rows.append({"way": "hsa", "tiles": len(pixels), "seconds": seconds, "same": len(pixels)})
    size = (size_px, size_px)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # histolab calls its own dependencies by old names

        def theirs() -> dict[int, np.ndarray]:
            slide, found = HistolabSlide(str(path), folder), {}
            for i, (x, y) in enumerate(corners.tolist()):
                with suppress(TileSizeOrCoordinatesError):  # it gives no tile that touches the edge of the slide
                    tile = slide.extract_tile(CoordinatePair(x, y, x + size_px, y + size_px), size, level=0)
                    found[i] = np.asarray(tile.image.convert("RGB"))
            return found

        read, seconds = _timed(theirs)
        same = sum(np.array_equal(pixels[i], tile) for i, tile in read.items())
        rows.append({"way": "histolab, our corners", "tiles": len(read), "seconds": seconds, "same": same})
        share = {"tissue_percent": 100 * min_tissue}
        for name, tiler in (
            ("histolab GridTiler, our mask", GridTiler(size, **share)),
            ("histolab ScoreTiler, our mask", ScoreTiler(NucleiScorer(), size, n_tiles=0, **share)),
        ):
            into = Path(folder) / name
            slide = HistolabSlide(str(path), str(into))

            def tile(tiler: Tiler = tiler, slide: HistolabSlide = slide) -> None:
                with suppress(RuntimeError):  # so it tells that it found no tile
                    tiler.extract(slide, extraction_mask=mask)

            _, seconds = _timed(tile)
            rows.append({"way": name, "tiles": len(list(into.rglob("*.png"))), "seconds": seconds, "same": np.nan})
    return pd.DataFrame(rows)


def _timed(make: Callable[[], Made]) -> tuple[Made, float]:
    began = time.process_time()
    made = make()
    return made, time.process_time() - began
