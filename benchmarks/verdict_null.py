"""How often the experiment's verdict is wrong where no method differs: simulated studies, start to end.

python benchmarks/verdict_null.py [--studies 1000] [--cases 500] [--seeds 5] [--scatter 0.03] [--contrasts 6]

Every method has the same true AUC. Scores share what a case looks like, differ by method and, more, by seed: each seed
of a method has an AUC of its own, with an SD of `--scatter`. Each study is tested as the experiment is
(`hsa.evaluation.contrasts.compare`): AUC within five folds, cases and seeds, Holm over the contrasts. Printed: how
often a single contrast has p < 0.05, and how often any contrast of a study gets a verdict.
"""

import argparse

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

from hsa.evaluation.contrasts import compare
from hsa.study.settings import Contrast

AUC, FOLDS = 0.75, 5


def study(rng: np.random.Generator, cases: int, seeds: int, scatter: float, contrasts: int) -> pd.DataFrame:
    label = (np.arange(cases) % 2).astype(int)
    case = [f"c{i:04}" for i in range(cases)]
    base = pd.DataFrame({"case_id": case, "patient_id": case, "fold": np.arange(cases) // 2 % FOLDS, "label": label})
    gap = np.sqrt(2) * norm.ppf(AUC)
    slope = np.sqrt(2) / norm.pdf(norm.ppf(AUC))  # of the gap, by the AUC
    shared, frames = rng.standard_normal(cases), []
    for method in ["full", *(f"other{i}" for i in range(contrasts))]:
        own = rng.standard_normal(cases)
        for seed in range(seeds):
            apart = gap + slope * scatter / np.sqrt(2) * rng.standard_normal()  # a difference has twice the variance
            score = (
                apart * label + np.sqrt(0.6) * shared + np.sqrt(0.25) * own + np.sqrt(0.15) * rng.standard_normal(cases)
            )
            frames.append(base.assign(marker="M", method=method, seed=seed, score_validated=score, chance=0.5))
    return pd.concat(frames, ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scatter", type=float, default=0.03)
    parser.add_argument("--contrasts", type=int, default=6)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    asked = {f"c{i}": Contrast(of="full", minus=f"other{i}", asks="?") for i in range(given.contrasts)}
    single, wrong = 0, 0
    for _ in range(given.studies):
        found = compare(study(rng, given.cases, given.seeds, given.scatter, given.contrasts), asked)
        single += int((found["p"] < 0.05).sum())
        wrong += bool((found["verdict"] != "open").any())
    for name, count, n in (
        ("a contrast, p < 0.05", single, given.studies * given.contrasts),
        ("any verdict", wrong, given.studies),
    ):
        low, high = binomtest(count, n).proportion_ci()
        print(f"{name:<22} {count / n:6.1%} of {n}  (95 % interval {low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
