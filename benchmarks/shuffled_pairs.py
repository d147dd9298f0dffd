"""How often the interval of the alignment holds 0, where pairs are permuted at random: a thousand times within folds.

python benchmarks/shuffled_pairs.py [STUDY] [--permutations 1000]    default: shuffled-pairs, as `make study` leaves it
"""

import argparse

import numpy as np
import pandas as pd

from hsa.evaluation.alignment import mean_interval
from hsa.evaluation.probe import feature_columns
from hsa.study.study import Study, load


def cosines(study: Study, marker: str, method: str) -> list[np.ndarray]:
    """Cosine of every H&E (row) with every IHC (column) of each test fold."""
    folder, sides = study.paths.method(marker, method), []
    for stain in ("he", "ihc"):
        frame = pd.read_parquet(folder / f"embeddings_{stain}.parquet")
        test = frame[frame["split"] == "test"].sort_values(["fold", "slide_id"])
        vectors = test[feature_columns(test)].to_numpy(float)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        sides.append([unit[test["fold"] == fold] for fold in sorted(test["fold"].unique())])
    return [he @ ihc.T for he, ihc in zip(*sides, strict=True)]


def permuted(cosine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Alignment of each H&E slide with an IHC drawn for it: its cosine less the mean one of the others."""
    own = cosine[np.arange(len(cosine)), rng.permutation(len(cosine))]
    return own - (cosine.sum(axis=1) - own) / (len(cosine) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", default="shuffled-pairs", help="file, or name in studies/")
    parser.add_argument("--permutations", type=int, default=1000, help="of the pairs, within each fold")
    asked = parser.parse_args()
    study = load(asked.study)
    study = study.at(study.seed)
    print("| stain | method | intervals that hold 0, % | SD of the mean | half interval / 1.96 |")
    print("|---|---|---|---|---|")
    for marker in study.markers:
        for method in study.methods:
            if study.methods[method].encoder == "colour":
                continue
            rng, folds = np.random.default_rng(0), cosines(study, marker, method)
            found = pd.DataFrame(
                mean_interval(np.concatenate([permuted(cosine, rng) for cosine in folds]))
                for _ in range(asked.permutations)
            )
            holds = ((found["low"] <= 0) & (found["high"] >= 0)).mean()
            half = (found["high"] - found["low"]).mean() / 2 / 1.96
            print(f"| {marker} | {method} | {holds:.1%} | {found['value'].std():.5f} | {half:.5f} |")


if __name__ == "__main__":
    main()
