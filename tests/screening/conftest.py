"""A trained method for new slides, and a tile encoder that takes no time."""

import hashlib
import json

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from hsa.bags.bag import Bag, write_bag
from hsa.cohorts.cohort import Cohort, fold_table
from hsa.encoders.encoder import TileEncoder
from hsa.screening import predictor
from hsa.study.study import load
from hsa.training import fit, seen

STUDY = """
name: tiny
title: Tiny
cohort: {kind: virtual, cases: 20, slide_px: 512, strength: 1.0, seed: 0}
markers: {P53: {negative: wild-type, positive: aberrant}}
model: {dim: 16, depth: 2, heads: 2, segment_lengths: [4, 16], dilated_ratios: [1, 2], head_hidden: 8}
methods:
  base: {title: Base, losses: [classification]}
  full: {title: Full, losses: [intra_modality, info_nce, classification]}
baseline: base
full: full
training: {epochs: 1, batch: 6, lr: 1.0e-3, warmup_epochs: 0, tiles_per_slide: 5}
evaluation: {folds: 3}
"""
CASES, WIDTH, DIM = 21, 6, 16


def colours(pixels):
    """Mean and deviation of each colour: features that differ between tiles."""
    values = pixels.astype(np.float32)
    return np.concatenate([values.mean((1, 2)), values.std((1, 2))], axis=1) / 20


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a trained method, as `hsa evaluate` leaves it."""
    home = tmp_path_factory.mktemp("study")
    (home / "tiny.yml").write_text(STUDY)
    study = load(home / "tiny.yml")
    rng = np.random.default_rng(0)
    rows, labels = [], {}
    for i in range(CASES):
        case, labels[f"C{i:02}"] = f"C{i:02}", i % 2
        for stain in ("HE", "P53"):
            names = {"patient_id": f"P{i}", "case_id": case, "slide_id": f"{case}_{stain}", "stain": stain}
            rows.append(names | {"path": "", "mpp": 0.5})
            coords = np.stack([np.arange(6) % 4, np.arange(6) // 4], 1) * 256
            values = rng.normal(6 + i % 2, 1, (6, WIDTH)).astype(np.float16)
            digest = hashlib.sha256(names["slide_id"].encode()).hexdigest()
            attrs = {"tile_px": 256, "tile_px_level0": 256, "stamp": "s", "source_sha256": digest}
            write_bag(study.paths.bags / f"{names['slide_id']}.h5", Bag(values, coords, attrs))
    folder = home / "full"
    cohort = Cohort(pd.DataFrame(rows), pd.DataFrame({"P53": labels}))
    he, _ = fit.fit(study, cohort, "P53", "full", folder, progress=False)
    seen.write_seen(folder, fold_table(study, cohort, "P53"), study.paths.bags)
    folds, parts = [], []
    for k, frame in he.groupby("fold"):
        vectors = frame.filter(regex=r"^v\d+$").to_numpy(float)
        probe = {
            "fold": int(k),
            "mean": vectors.mean(0),
            "scale": vectors.std(0) + 0.1,
            "coef": rng.normal(0, 0.3, DIM),
        }
        score = expit((vectors - probe["mean"]) / probe["scale"] @ probe["coef"] + 0.2 * k)
        folds.append({**{n: np.asarray(v).tolist() for n, v in probe.items()}, "intercept": 0.2 * k, "c": 1.0})
        parts.append(frame[["case_id", "patient_id", "fold", "split", "label"]].assign(score=score, pred=score > 0.5))
    predictions = pd.concat(parts).query("split != 'train'")
    predictions.to_csv(folder / "predictions.csv", index=False)
    about = {
        "study": "tiny",
        "marker": "P53",
        "method": "full",
        "classes": ["wild-type", "aberrant"],
        "prevalence": 0.48,
        "cohort": {"kind": "manifest", "cases": CASES},
    }
    about |= {key: study.model_dump(mode="json")[key] for key in ("tiles", "encoder")}
    (folder / "study.json").write_text(json.dumps(about | {"title": "Tiny"}))
    (folder / "probe.json").write_text(json.dumps({"folds": folds}))
    for path in folder.glob("embeddings_*"):
        path.unlink()
    return folder


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    calls = []

    def make(name, size_px, threads=1, **options):
        def run(pixels):
            calls.append(len(pixels))
            return colours(pixels)

        return TileEncoder(name=name, dim=WIDTH, size_px=size_px, mpp=0.5, run=run)

    monkeypatch.setattr(predictor, "tile_encoder", make)
    return calls


@pytest.fixture
def encode():
    """What the encoder makes of tiles."""
    return colours


@pytest.fixture
def manifest(make_slide, tmp_path):
    """Return a function that writes a manifest of (slide_id, stain, made?) rows."""

    def write(rows):
        for i, (name, _, made) in enumerate(rows):
            if made:
                make_slide(f"slides/{name}.tif", size=768, seed=i, covered=0.4 + 0.1 * i)
        frame = pd.DataFrame(rows, columns=["slide_id", "stain", "made"])
        frame["path"] = "slides/" + frame["slide_id"] + ".tif"
        frame["case_id"], frame["scanner"] = frame["slide_id"].str[:2], "x"
        frame.drop(columns="made").to_csv(tmp_path / "m.csv", index=False)
        return tmp_path / "m.csv"

    return write
