"""CPU time and memory of mask, coordinates and all pixels of a large sparse slide, beside histolab's TissueMask.

python benchmarks/mask_speed.py [--side 100352] [--repeats 3]      two minutes of CPU time; prints a row a line

Each measurement is a process of its own on one thread, in turn with the others: peak memory counts the interpreter.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from hsa.files import REPOSITORY
from hsa.slides.slide import Slide
from hsa.slides.tiling import tile_grid, tissue_mask
from hsa.workers import peak_mb

SIDE_PX, MPP = 100_352, 0.5
# Centre and radius of its two discs of tissue as shares of its side: 2.3 % of the slide.
DISCS = ((0.3, 0.3, 0.065), (0.7, 0.6, 0.055))


def make_slide(path: Path, side: int) -> Path:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from slide_files import write_sparse_slide

    return write_sparse_slide(path, side, MPP, [tuple(round(share * side) for share in disc) for disc in DISCS])


def mask(slide: Slide) -> int:
    """One mask."""
    tissue_mask(slide)
    return 1


def histolab_mask(slide: Slide) -> int:
    """One mask of histolab's."""
    tissue_mask(slide, "histolab")
    return 1


def all_pixels(slide: Slide) -> int:
    """The tiles of mask, coordinates and all pixels."""
    grid = tile_grid(slide, tissue_mask(slide))
    for x, y in grid.coords.tolist():
        slide.read(x, y, grid.size_px, grid.size_px, grid.mpp)
    return len(grid.coords)


WORKS = {work.__name__: work for work in (mask, histolab_mask, all_pixels)}


def here(work: str, path: Path) -> dict[str, float]:
    """CPU seconds from opening the slide on, peak MB of this process, and how many things were made."""
    start = time.process_time()
    with Slide.open(path) as slide:
        made = WORKS[work](slide)
    spent = time.process_time() - start
    return {"cpu_s": spent, "peak_mb": peak_mb(), "made": made}


def alone(work: str, path: Path) -> dict[str, float]:
    """`here` in a process of its own, on one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--one", work, str(path)]
    run = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def speed(side: int, repeats: int) -> list[dict[str, Any]]:
    """Rows for `masks.rows`; `ratio` is histolab's number divided by ours, None where it is not compared."""
    works = [work for work in WORKS if work != "histolab_mask" or find_spec("histolab")]
    with tempfile.TemporaryDirectory() as folder:
        path = make_slide(Path(folder) / "slide.tif", side)
        rounds = [{work: alone(work, path) for work in works} for _ in range(repeats)]
    peer = "histolab TissueMask" if "histolab_mask" in works else ""
    told = [
        (f"mask of a slide of {side} px", "CPU s", "mask", lambda one: one["cpu_s"], peer),
        (f"mask of a slide of {side} px, peak memory", "MB", "mask", lambda one: one["peak_mb"], peer),
        ("mask, coordinates, all pixels", "tiles per CPU s", "all_pixels", lambda one: one["made"] / one["cpu_s"], ""),
        ("mask, coordinates, all pixels, peak memory", "MB", "all_pixels", lambda one: one["peak_mb"], ""),
    ]
    rows = []
    for name, unit, work, number, against in told:
        values = [number(one[work]) for one in rounds]
        row = {"benchmark": "masks", "row": name, "value": median(values), "unit": unit}
        if not against:
            rows.append(row | {"against": None, "ratio": None, "spread": None})
            continue
        ratios = [number(one["histolab_mask"]) / number(one[work]) for one in rounds]
        rows.append(row | {"against": against, "ratio": median(ratios), "spread": [min(ratios), max(ratios)]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=SIDE_PX, help="of the slide, px")
    parser.add_argument("--repeats", type=int, default=3, help="times that each is measured")
    parser.add_argument("--one", nargs=2, metavar=("WORK", "SLIDE"), help=f"one of {', '.join(WORKS)}, in this process")
    asked = parser.parse_args()
    for row in [here(asked.one[0], Path(asked.one[1]))] if asked.one else speed(asked.side, asked.repeats):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
