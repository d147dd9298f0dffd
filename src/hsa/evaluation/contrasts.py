"""The contrasts of an experiment: pairs of methods that differ in one thing, tested together.

Every contrast is two-sided and can turn out harmful. What is tested together is corrected together (Holm 1979): all
contrasts of all markers of a cohort.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hsa.errors import InputError
from hsa.evaluation.calibration import calibration_error
from hsa.evaluation.comparison import holm
from hsa.evaluation.metrics import point
from hsa.evaluation.within import contrast, mean_auc, verdict
from hsa.study.settings import Contrast


def predictions_of(cases: pd.DataFrame, marker: str, method: str, rule: str = "validated") -> pd.DataFrame:
    """Take one method's Predictions frame from the kept cases of a point.

    Args:
        cases: of `hsa.training.trial.Outcome`, with marker, method and seed.
        marker: which.
        method: which.
        rule: of selection.

    Returns:
        case_id, patient_id, fold, label, seed, score (log odds under the rule), chance (recalibrated), pred (by it).

    Raises:
        InputError: nothing is kept of that method.
    """
    rows = cases[(cases["marker"] == marker) & (cases["method"] == method) & (cases["label"] >= 0)]
    if rows.empty:
        raise InputError(f"{marker}: nothing is kept of method {method!r}; run `hsa experiment` to make it.")
    columns = ["case_id", "patient_id", "fold", "label", "seed", "chance"]
    scored = rows[columns].assign(score=rows[f"score_{rule}"].astype(float), pred=(rows["chance"] > 0.5).astype(int))
    return scored.sort_values(["seed", "case_id"], ignore_index=True)


def compare(cases: pd.DataFrame, asked: Mapping[str, Contrast], rule: str = "validated") -> pd.DataFrame:
    """Test every contrast whose two methods are kept, on every marker, corrected together.

    Args:
        cases: the kept cases of a point.
        asked: name -> methods.
        rule: of selection.

    Returns:
        A row a contrast and marker: contrast, marker, the fields of `within.contrast` (second is the method that the
        contrast is of), p_holm, and verdict: higher, lower or open.
    """
    rows: list[dict[str, Any]] = []
    for marker in cases["marker"].unique():
        there = set(cases.loc[cases["marker"] == marker, "method"])
        for name, pair in asked.items():
            if {pair.of, pair.minus} <= there:
                first, second = (predictions_of(cases, marker, method, rule) for method in (pair.minus, pair.of))
                seeds = set(first["seed"]) & set(second["seed"])
                first, second = (frame[frame["seed"].isin(seeds)] for frame in (first, second))
                rows.append({"contrast": name, "marker": marker, **contrast(first, second)})
    adjusted = holm({str(i): row["p"] for i, row in enumerate(rows)})
    for i, row in enumerate(rows):
        row["p_holm"] = adjusted[str(i)]
        row["verdict"] = verdict(row, row["p_holm"])
    return pd.DataFrame(rows)


def levels(cases: pd.DataFrame, folds: pd.DataFrame, rule: str = "validated") -> pd.DataFrame:
    """Lay out what each method reached and how its embeddings lie.

    Args:
        cases: the kept cases of a point.
        folds: what the folds of its units chose and measured (`Kept.folds`), of this point.
        rule: of selection, for the AUC; the other columns are of the first rule.

    Returns:
        A row a marker and method: auc, low, high, seed_sd, seeds, n (AUC within folds); pooled_auc, weighted_f1 and
        calibration_error (of recalibrated chances, which stand on one scale); recall_1 and chance_1 (own IHC section
        nearest); alignment (cosine to the own section less that to others); cosine_he (of different H&E slides; near 1
        the encoder collapsed); epoch (median).
    """
    rows = []
    for (marker, method), here in cases.groupby(["marker", "method"], sort=False):
        found = predictions_of(cases, str(marker), str(method), rule)
        auc = mean_auc(found)
        scored = [point(one.assign(score=one["chance"])) for _, one in found.groupby("seed")]
        paired = here[here["hit"].notna()]
        own = folds[(folds["marker"] == marker) & (folds["method"] == method)]
        rows.append(
            {
                "marker": marker,
                "method": method,
                "auc": auc["value"],
                **{key: auc[key] for key in ("low", "high", "seed_sd", "seeds", "n")},
                "pooled_auc": float(pd.DataFrame(scored)["roc_auc"].mean()),
                "weighted_f1": float(pd.DataFrame(scored)["weighted_f1"].mean()),
                "calibration_error": calibration_error(found.assign(score=found["chance"])),
                "recall_1": float(paired["hit"].mean()),
                "chance_1": float((1 / own["pairs"]).mean()),
                "alignment": float((paired["paired"] - paired["shuffled"]).mean()),
                "cosine_he": float(own["cosine_he"].mean()),
                "epoch": float(own[rule].median()),
            }
        )
    return pd.DataFrame(rows)
