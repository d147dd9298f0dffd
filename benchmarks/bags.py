"""How fast bags are read and looked at again, and whether memory grows over a cohort. CPU time, alternating rounds.

python benchmarks/bags.py [--rounds 5] [--tiles 10000] [--dim 1536] [--bags 200]
python benchmarks/bags.py --memory [--slides 200] [--px 5000]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np
import pandas as pd
import tifffile
from skimage.data import immunohistochemistry

from hsa.bags.bag import Bag, read_bag, write_bag
from hsa.bags.encoding import encode_cohort
from hsa.bags.features import sha256, source
from hsa.encoders.encoder import Options, weights_of
from hsa.study.settings import Encoder, Tiles
from hsa.workers import peak_mb


def cpu_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compared(row: str, ours: Callable, theirs: Callable, against: str, repeats: int, each: int = 1) -> dict[str, Any]:
    """Time two ways in turn. `ratio`: how many times as fast as `against`; `spread`: lowest and highest."""
    pairs = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(repeats)]
    ratios = [their / our for our, their in pairs]
    return {
        "benchmark": "bags",
        "row": row,
        "value": 1000 * median(our for our, _ in pairs) / each,
        "unit": "CPU ms",
        "against": against,
        "ratio": median(ratios),
        "spread": [min(ratios), max(ratios)],
    }


def reading(folder: Path, tiles: int, dim: int, repeats: int) -> dict[str, Any]:
    features = np.random.default_rng(0).standard_normal((tiles, dim), np.float32).astype(np.float16)
    coords = np.stack([np.arange(tiles) % 100, np.arange(tiles) // 100], axis=1) * 256
    write_bag(path := folder / "bag.h5", Bag(features, coords, {"slide_id": "bag", "mpp": 0.5}))

    def plainly() -> None:
        with h5py.File(path) as file:
            np.isfinite(file["features"][:]).all()

    how = "h5py and np.isfinite"
    return compared(f"reading a bag of {tiles} x {dim}", lambda: read_bag(path), plainly, how, repeats)


def resuming(folder: Path, bags: int, repeats: int) -> dict[str, Any]:
    """What `hsa features` costs for a slide whose bag is made."""
    (slide := folder / "slide.tif").write_bytes(b"read once, then looked at by size and time alone")
    os.utime(slide, (1e9, 1e9))  # not of this moment, so that what is remembered of it counts
    texts = ("mask_warning", "format", "levels_dropped", "mask", "encoder_how", "settings")
    made = {"encoder": "lite0-mid", "encoder_weights": weights_of("lite0-mid", Options()), "mpp_from": "file"}
    made |= source(slide, None) | {"source_sha256": sha256(slide)}
    attrs = made | dict.fromkeys(texts, "text") | {"stamp": "1", "tissue_fraction": 0.5}
    names = [f"s{number}" for number in range(bags)]
    for name in names:
        tiles = np.ones((8, 512), np.float16), np.arange(16).reshape(8, 2)
        write_bag(path := folder / "bags" / f"{name}.h5", Bag(*tiles, attrs))
        os.utime(path, (1e9, 1e9))
    slides = pd.DataFrame({"slide_id": names, "path": str(slide), "mpp": np.nan})

    def again() -> None:
        """The first time each bag is opened, and later on its size and time are looked at."""
        report = encode_cohort(slides, folder / "bags", Encoder(), Tiles(), stamp="1", progress=False)
        assert set(report["status"]) == {"kept"}

    def plainly() -> None:
        for name in names:
            with h5py.File(folder / "bags" / f"{name}.h5") as file:
                dict(file.attrs)

    again()
    return compared("finding one bag made", again, plainly, "all attributes by h5py", repeats, each=bags)


def memory(folder: Path, slides: int, px: int) -> dict[str, Any]:
    """Peak memory after all slides, against that after a quarter of them."""
    field = immunohistochemistry()
    tissue = np.tile(field, (-(-px // 512), -(-px // 512), 1))[:px, :px]
    tissue[: px // 4] = 243  # glass
    path = folder / "slide.tif"
    tifffile.imwrite(path, tissue, tile=(256, 256), compression="jpeg", resolution=(20000, 20000), resolutionunit=3)
    del tissue
    peaks = []
    for part in np.array_split(np.arange(slides), 4):
        frame = pd.DataFrame({"slide_id": [f"m{k}" for k in part], "path": str(path), "mpp": np.nan})
        encode_cohort(frame, folder / "made", Encoder(), Tiles(), stamp="1", workers=2, progress=False)
        peaks.append(peak_mb())
    return {
        "benchmark": "bags",
        "row": f"peak memory over {slides} slides of {px} px",
        "value": peaks[-1],
        "unit": "MB",
        "against": "peak over the first quarter of them",
        "ratio": peaks[0] / peaks[-1],
        "spread": [peaks[0] / peaks[-1]] * 2,
    }


def rows(repeats: int) -> list[dict[str, Any]]:
    """Give what is measured, in a minute or two; see `compared`. Memory: `ratio` is 1 where it does not grow."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        return [
            memory(folder, slides=12, px=1024),
            reading(folder, 10_000, 1536, repeats),
            resuming(folder, 200, repeats),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="times that each way is timed")
    parser.add_argument("--tiles", type=int, default=10_000, help="of the bag that is read")
    parser.add_argument("--dim", type=int, default=1536, help="its features")
    parser.add_argument("--bags", type=int, default=200, help="that are made already")
    parser.add_argument("--memory", action="store_true", help="peak memory over a cohort, and nothing else")
    parser.add_argument("--slides", type=int, default=200, help="of that cohort")
    parser.add_argument("--px", type=int, default=5000, help="side of its slides")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if asked.memory:
            found = [memory(Path(made), asked.slides, asked.px)]
        else:
            found = [reading(Path(made), asked.tiles, asked.dim, asked.rounds)]
            found.append(resuming(Path(made), asked.bags, asked.rounds))
    for row in found:
        print("{row}: {value:.2f} {unit}; {ratio:.2f} of {against} ({spread[0]:.2f} to {spread[1]:.2f})".format(**row))


if __name__ == "__main__":
    main()
