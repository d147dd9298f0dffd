"""CPU time of `hsa cohort check` a row, first and again, beside OpenSlide that only opens the slides.

Run: python benchmarks/cohorts.py [--slides 2000] [--rounds 5]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import tifffile

from hsa.cohorts.check import check
from hsa.study.settings import Marker

SLIDES = 2000
MARKERS = {"HER2": Marker()}
FIRST, AGAIN = "check, slides opened", "check again, slides known"
AGAINST = "OpenSlide opens each slide"


def cohort(folder: Path, slides: int) -> Path:
    """Write a manifest of pairs of small tiled TIFFs, as a folder of slides has them: a file each."""
    rng = np.random.default_rng(0)
    made = folder / "one.tif"
    resolution = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    picture = rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)
    tifffile.imwrite(made, picture, tile=(256, 256), compression="jpeg", photometric="rgb", **resolution)
    data, rows = made.read_bytes(), []
    for case in range(slides // 2):
        for stain in ("HE", "HER2"):
            path = folder / f"{case}_{stain}.tif"
            path.write_bytes(data)
            row = {"patient_id": f"p{case}", "case_id": f"c{case}", "slide_id": path.stem, "stain": stain}
            rows.append(row | {"path": path.name, "label_HER2": case % 2})
    made.unlink()
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def rows(repeats: int, slides: int = SLIDES) -> list[dict]:
    """Time a first check, a second and OpenSlide by turns, in one process.

    Returns:
        A row each: benchmark, row, value and unit (median of the repeats); and, for the checks, against, ratio (median
        of those within a repeat) and spread (lowest and highest ratio).
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = cohort(folder, slides)
        paths = sorted(folder.glob("*.tif"))
        # Slides that were written just now are not remembered: they may still change.
        for path in paths:
            os.utime(path, (path.stat().st_mtime - 60,) * 2)
        spent: dict[str, list[float]] = {FIRST: [], AGAIN: [], AGAINST: []}
        for turn in range(repeats):
            memory = folder / f"{turn}.json"
            spent[AGAINST].append(_timed(lambda: [openslide.OpenSlide(path).close() for path in paths]))
            for what in (FIRST, AGAIN):
                spent[what].append(_timed(lambda memory=memory: check(manifest, MARKERS, memory=memory)))
    table = []
    for what in (FIRST, AGAIN):
        ratios = [theirs / ours for ours, theirs in zip(spent[what], spent[AGAINST], strict=True)]
        ratio = {"against": AGAINST, "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}
        table.append(_row(what, spent[what], slides) | ratio)
    return [*table, _row(AGAINST, spent[AGAINST], slides)]


def _timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _row(what: str, spent: list[float], slides: int) -> dict:
    value = 1000 * statistics.median(spent) / slides
    nothing = {"against": None, "ratio": None, "spread": None}
    return {"benchmark": "cohorts", "row": what, "value": value, "unit": "CPU ms a slide", **nothing}


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=SLIDES, help="in the manifest")
    parser.add_argument("--rounds", type=int, default=5, help="repeats by turns")
    asked = parser.parse_args()
    print(pd.DataFrame(rows(asked.rounds, asked.slides)).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
