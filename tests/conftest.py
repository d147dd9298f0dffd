"""Fixtures of general use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from hsa.cohort import Cohort
from hsa.features import Bag, write_bag
from hsa.files import REPOSITORY
from hsa.study import Study, load

TINY = """
name: tiny
title: Tiny
seeds: [3]
cohort: {kind: virtual, cases: 20, slide_px: 512, strength: 1.0, seed: 0}
markers: {P53: {}}
model:
  {dim: 16, depth: 2, heads: 2, segment_lengths: [4, 16], dilated_ratios: [1, 2], head_hidden: 8}
methods:
  mean: {title: Mean, encoder: mean}
  untrained: {title: Untrained}
  abmil: {title: ABMIL, encoder: abmil, losses: [classification]}
  classification_only: {title: Classification, losses: [classification]}
  full: {title: Full, losses: [intra_modality, info_nce, classification]}
baseline: classification_only
full: full
training: {epochs: 3, batch: 6, lr: 1.0e-3, min_lr: 1.0e-5, warmup_epochs: 1, tiles_per_slide: 5}
evaluation: {folds: 3}
"""
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


@pytest.fixture
def tiny_study(tmp_path: Path) -> Study:
    """A study that trains in a second."""
    (tmp_path / "tiny.yml").write_text(TINY)
    return load(tmp_path / "tiny.yml")


@pytest.fixture
def tiny_cohort(tiny_study: Study) -> Cohort:
    """21 cases, whose bags of 6 features a tile tell the label, on disk where the tiny study looks for them."""
    rng, paint = np.random.default_rng(0), np.random.default_rng(1)
    rows, labels = [], {}
    for i in range(21):
        case, labels[case] = f"C{i:02}", i % 2
        for stain in ("HE", "P53"):
            slide, n = f"{case}_{stain}", int(rng.integers(3, 9))
            named = {"patient_id": f"P{i:02}", "case_id": case, "slide_id": slide, "stain": stain}
            rows.append(named | {"path": "", "mpp": 0.5})
            features = rng.standard_normal((n, 6)) * 3 + 10 + 2 * (i % 2)
            coords = np.stack([np.arange(n) % 4, np.arange(n) // 4], 1) * 512
            attrs = {"tile_px": 256, "tile_px_level0": 512, "stamp": "s"}
            colours = paint.uniform(0, 255, (n, 6)).astype(np.float32)
            bag = Bag(features.astype(np.float16), coords, attrs, colours)
            write_bag(tiny_study.paths.bags / f"{slide}.h5", bag)
    return Cohort(pd.DataFrame(rows), pd.DataFrame({"P53": labels}))
