"""Fixtures of general use."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hsa.bags.bag import Bag, write_bag
from hsa.cohorts.cohort import Cohort
from hsa.files import REPOSITORY
from hsa.study.study import Study, load
from slide_files import tissue_picture, write_tiff

pytest_plugins = ["parallel"]
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


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a check of slides remembers out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


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
def make_pairs(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a folder of registered pairs, four patches and a section, and gives its path."""

    def make(**changes: dict) -> Path:
        folder, entries = tmp_path / "pairs", []
        folder.mkdir()
        for number, label in enumerate(("1+", "1+", "3+", "3+", None)):
            entry: dict = {"id": f"p{number}", "kind": "patch" if label else "section", "marker": "HER2"}
            entry |= {"label": label, "dataset": "made up"}
            for stain in ("he", "ihc"):
                path = folder / f"p{number}_{stain}.png"
                picture = tissue_picture(512, 0.9, number)
                Image.fromarray(picture if stain == "he" else 255 - picture[..., ::-1] // 2).save(path)
                entry[stain] = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            entries.append(entry | changes.get(entry["id"], {}))
        (folder / "manifest.json").write_text(json.dumps(entries))
        return folder

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


@pytest.fixture(scope="session")
def snakemake() -> Callable[..., subprocess.CompletedProcess]:
    """A function that runs the graph for a study file whose results and book lie beside it."""

    def run(path: Path, *more: str) -> subprocess.CompletedProcess:
        command = [Path(sys.executable).parent / "snakemake", "--snakefile", "workflow/Snakefile", "--cores", "2"]
        command += ["--nolock", "--config", f"study={path}", f"build={path.parents[1] / 'build'}", *more]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, snakemake: Callable) -> tuple[Study, Path]:
    """The smoke study, from nothing to strict HTML by the same graph as `make book`, and the folder of its HTML."""
    path = tmp_path_factory.mktemp("smoke") / "studies" / "smoke.yml"
    path.parent.mkdir()
    path.write_text((REPOSITORY / "studies/smoke.yml").read_text())
    run = snakemake(path)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    return load(path), path.parents[1] / "build" / "_build" / "html"


@pytest.fixture(scope="session")
def pages(built: tuple[Study, Path]) -> dict[str, str]:
    """Every page of the book: name -> HTML."""
    _, html = built
    return {str(p.relative_to(html)): p.read_text() for p in html.rglob("*.html") if "_static" not in p.parts}
