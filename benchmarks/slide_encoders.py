"""Speed and memory of the slide encoders: a training step on small bags, one long bag, one whole fit.

python benchmarks/slide_encoders.py [step|long|fit] [--rounds 30] [--tiles 1000 10000] [--cases 120] [--epochs 25]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric

from hsa.bags.bag import Bag, write_bag
from hsa.bags.batches import collate
from hsa.cohorts.cohort import Cohort
from hsa.models import attention
from hsa.models.longnet import LongNet
from hsa.models.model import SlideModel
from hsa.models.pooling import GatedABMIL
from hsa.models.published import GIGAPATH
from hsa.study.study import load
from hsa.training.fit import fit
from hsa.training.terms import Run, loss_terms
from hsa.workers import peak_mb

STUDY = Path(__file__).parents[1] / "studies" / "virtual.yml"


def bag(tiles, width, rng):
    side = int(np.ceil(np.sqrt(tiles)))
    coords = np.stack([np.arange(tiles) % side, np.arange(tiles) // side], 1) * 256
    return rng.standard_normal((tiles, width)).astype(np.float16), coords


def step(asked):
    study, rng = load(STUDY), np.random.default_rng(0)
    for method in ("abmil", "classification_only", "full"):
        chosen = study.methods[method]
        model = SlideModel(512, chosen.encoder, study.model, 2 if "classification" in chosen.losses else 0)
        optimiser = torch.optim.AdamW(model.parameters(), fused=True)
        he, ihc = (collate([bag(int(n), 512, rng) for n in rng.integers(10, 17, 12)]) for _ in range(2))
        masked = he.mask & (torch.rand(he.mask.shape) < 0.5)
        labels, paired = torch.arange(12) % 2, torch.ones(12, dtype=torch.bool)
        run = Run(Fabric(accelerator="cpu", devices=1), None, study.training, chosen.losses, (0,))
        spent = []
        for _ in range(asked.rounds):
            start = time.process_time()
            three = "info_nce" in chosen.losses
            output = model(he, masked if three else None, ihc if three else None)
            terms = loss_terms(output, labels, paired, run, everywhere=False)
            optimiser.zero_grad()
            terms["total"].backward()
            optimiser.step()
            spent.append(time.process_time() - start)
        print(f"step, 12 pairs of 10-16 tiles x 512, {method}: {1e3 * np.median(spent):.1f} ms of CPU")


def long(asked):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    encoders = {
        "gated ABMIL": GatedABMIL(1536, 768, 384).eval(),
        "LongNet, 2 layers": LongNet(**GIGAPATH | {"depth": 2}).eval(),
        "LongNet, 2 layers, public kernel": LongNet(**GIGAPATH | {"depth": 2}).eval(),
    }
    for tiles in asked.tiles:
        batch = collate([bag(tiles, 1536, rng)])
        for name, encoder in encoders.items():
            private = attention.CPU_KERNEL
            if "public" in name:
                attention.CPU_KERNEL = None
            before, start = peak_mb(), time.process_time()
            with torch.inference_mode():
                encoder(*batch)
            spent, after = time.process_time() - start, peak_mb()
            attention.CPU_KERNEL = private
            print(f"{tiles} tiles x 1536, {name}: {spent:.2f} s of CPU, peak +{after - before:.0f} MB")


def whole_fit(asked):
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "virtual.yml"
        file.write_text(STUDY.read_text())
        changes = {"training.epochs": asked.epochs} if asked.epochs else {}
        study, rows = load(file, changes=changes), []
        for i in range(asked.cases):
            for stain in ("HE", "P53"):
                slide = f"C{i}_{stain}"
                features, coords = bag(int(rng.integers(10, 17)), 512, rng)
                attrs = {"tile_px": 256, "tile_px_level0": 256}
                colours = rng.uniform(0, 255, (len(coords), 6)).astype(np.float32)
                write_bag(study.paths.bags / f"{slide}.h5", Bag(features, coords, attrs, colours))
                rows.append({"patient_id": f"P{i}", "case_id": f"C{i}", "slide_id": slide, "stain": stain})
        labels = pd.DataFrame({"P53": {f"C{i}": i % 2 for i in range(asked.cases)}})
        cohort = Cohort(pd.DataFrame(rows), labels)
        for method in study.methods:
            wall, start = time.perf_counter(), time.process_time()
            fit(study, cohort, "P53", method, Path(folder) / method, progress=False)
            wall, spent = time.perf_counter() - wall, time.process_time() - start
            plan = f"{asked.cases} cases, {study.evaluation.folds} folds x {study.training.epochs} epochs"
            print(f"fit, {plan}, {method}: {spent:.1f} s of CPU, {wall:.1f} s")


PARTS = {"step": step, "long": long, "fit": whole_fit}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=PARTS, help="default: all")
    parser.add_argument("--rounds", type=int, default=30, help="step: times that it is timed")
    parser.add_argument("--tiles", type=int, nargs="+", default=[1000, 10000], help="long: tiles of the bag")
    parser.add_argument("--cases", type=int, default=120, help="fit: cases")
    parser.add_argument("--epochs", type=int, help="fit: epochs; default: the study's")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for part in [asked.part] if asked.part else PARTS:
        PARTS[part](asked)


if __name__ == "__main__":
    main()
