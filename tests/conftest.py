"""Fixtures of general use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from hsa.files import REPOSITORY

GLASS = np.array([243.0, 241.0, 242.0])
# Optical density of haematoxylin and of eosin, RGB.
STAINS = np.array([[0.55, 0.65, 0.30], [0.06, 0.40, 0.16]])


def tissue_picture(size: int, covered: float, seed: int) -> np.ndarray:
    """Draw a disc of tissue-like texture on glass, (size, size, 3) uint8; the disc covers that share."""
    rng = np.random.default_rng(seed)
    nuclei = gaussian_filter(rng.standard_normal((size, size)), 3)
    fibres = gaussian_filter(rng.standard_normal((size, size)), 8)
    amounts = np.stack([nuclei > nuclei.std(), 0.7 + 0.2 * fibres / fibres.std()], axis=-1)
    y, x = np.ogrid[:size, :size]
    radius = size * np.sqrt(covered / np.pi)
    disc = np.hypot(y - size / 2, x - size / 2) < radius
    picture = GLASS * 10 ** -((amounts * disc[..., None]) @ STAINS)
    return np.clip(picture + rng.normal(0, 1.0, picture.shape), 0, 255).astype(np.uint8)


def write_tiff(path: Path, picture: np.ndarray, mpp: float | None, levels: int = 3) -> Path:
    """Write a pyramidal tiled JPEG TIFF, each level half as large as the one before."""
    options = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    resolution = {} if mpp is None else {"resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            if mpp is not None:
                resolution["resolution"] = (1e4 / (mpp * 2**level),) * 2
            tiff.write(picture, subfiletype=int(level > 0), **options, **resolution)
            height, width = (side // 2 * 2 for side in picture.shape[:2])
            halves = picture[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
            picture = halves.mean(axis=(1, 3)).round().astype(np.uint8)
    return path


@pytest.fixture
def make_slide(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a small slide of made-up tissue and gives its path."""

    def make(
        name: str = "slide.tif",
        *,
        size: int = 1024,
        mpp: float | None = 0.5,
        covered: float = 0.5,
        seed: int = 0,
        picture: np.ndarray | None = None,
        levels: int = 3,
    ) -> Path:
        pixels = tissue_picture(size, covered, seed) if picture is None else picture
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_tiff(path, pixels, mpp, levels)

    return make


@pytest.fixture
def smoke_file(tmp_path: Path) -> Path:
    """A copy of the smoke study, so that its results go to a folder of their own."""
    (tmp_path / "studies").mkdir()
    path = tmp_path / "studies" / "smoke.yml"
    path.write_text((REPOSITORY / "studies/smoke.yml").read_text())
    return path
