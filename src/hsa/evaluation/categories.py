"""How well more than two ordered classes are told apart, such as HER2 0, 1+, 2+ and 3+."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hsa.errors import InputError
from hsa.evaluation.metrics import patient_draws

METRICS = ("weighted_f1", "macro_precision", "macro_recall", "quadratic_kappa")


def score(predictions: pd.DataFrame, classes: int, draws: int = 1000, seed: int = 0) -> dict[str, dict[str, float]]:
    """Compare predicted with true categories.

    weighted_f1, macro_precision and macro_recall as scikit-learn defines them, over the classes that are there.
    quadratic_kappa: agreement beyond chance, in which a miss by two classes costs four times one by one (Cohen 1968).
    Intervals are percentiles over bootstrap samples of patients; all seeds are scored on the same samples.

    Args:
        predictions: case_id, patient_id, category, pred_category; a row a case, or a row a case and `seed`.
        classes: number of classes.
        draws: bootstrap samples.
        seed: seed of the draws.

    Returns:
        Metric name -> value (mean over seeds), low, high, n (cases), seeds.

    Raises:
        InputError: a column is missing, or a category is none of the classes.
    """
    tables = _tables(predictions, classes)
    everyone = np.ones((1, len(tables[0])))
    found = np.mean([_metrics(_confusion(table, everyone, classes)) for table in tables], axis=0)[0]
    samples = np.concatenate(
        [
            np.mean([_metrics(_confusion(table, weights, classes)) for table in tables], axis=0)
            for weights in patient_draws(tables[0]["patient_id"], draws, seed)
        ]
    )
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    size = {"n": len(tables[0]), "seeds": len(tables)}
    return {
        name: {"value": float(found[i]), "low": float(low[i]), "high": float(high[i]), **size}
        for i, name in enumerate(METRICS)
    }


def confusion(predictions: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Count cases by true (rows) and predicted class (columns), averaged over seeds.

    Args:
        predictions: as for `score`; of a marker with two classes label and pred in place of the categories.
        names: of all classes, lowest first.
    """
    if len(names) == 2:
        both = predictions.drop(columns=["category", "pred_category"], errors="ignore")
        predictions = both.rename(columns={"label": "category", "pred": "pred_category"})
    tables = _tables(predictions, len(names))
    counts = np.mean([_confusion(table, np.ones((1, len(table))), len(names))[0] for table in tables], axis=0)
    return pd.DataFrame(counts, index=pd.Index(names, name="true"), columns=pd.Index(names, name="predicted"))


def _tables(predictions: pd.DataFrame, classes: int) -> list[pd.DataFrame]:
    missing = {"case_id", "patient_id", "category", "pred_category"} - set(predictions.columns)
    if missing:
        raise InputError(f"predictions: column {sorted(missing)} is missing; give those of a marker with `classes`.")
    for column in ("category", "pred_category"):
        if not predictions[column].isin(range(classes)).all():
            raise InputError(f"predictions: {column} must be 0 to {classes - 1}; predict again.")
    seeds = predictions["seed"] if "seed" in predictions else pd.Series(0, predictions.index)
    return [table.sort_values("case_id", ignore_index=True) for _, table in predictions.groupby(seeds)]


def _confusion(table: pd.DataFrame, weights: np.ndarray, classes: int) -> np.ndarray:
    """Weighted counts (draws, true class, predicted class)."""
    cell = table["category"].to_numpy(int) * classes + table["pred_category"].to_numpy(int)
    return np.asarray(weights @ np.eye(classes**2)[cell]).reshape(-1, classes, classes)


def _metrics(counts: np.ndarray) -> np.ndarray:
    """Compute `METRICS` (draws, 4) of counts (draws, K, K)."""
    hit = np.diagonal(counts, axis1=1, axis2=2)
    true, said, total = counts.sum(axis=2), counts.sum(axis=1), counts.sum(axis=(1, 2))
    there = (true + said) > 0  # as scikit-learn: a class neither true nor predicted does not count
    recall, precision = hit / np.maximum(true, 1), hit / np.maximum(said, 1)
    f1 = 2 * hit / np.maximum(true + said, 1)
    miss = np.subtract.outer(range(counts.shape[1]), range(counts.shape[1])) ** 2
    expected = np.einsum("di,dj->dij", true, said) / total[:, None, None]
    chance = (miss * expected).sum(axis=(1, 2))
    agreement = 1 - (miss * counts).sum(axis=(1, 2)) / np.where(chance > 0, chance, 1)
    kappa = np.where(chance > 0, agreement, 0.0)
    share = there.sum(axis=1)
    columns = ((f1 * true).sum(axis=1) / total, precision.sum(axis=1) / share, recall.sum(axis=1) / share, kappa)
    return np.stack(columns, axis=1)
