"""How well scores rank the positive cases before the others, for many weightings of the cases at once."""

import numpy as np


def roc_auc(label: np.ndarray, score: np.ndarray) -> float:
    """Compute the area under the ROC curve of scores (n,) for labels (n,), 0 or 1; equal scores count half."""
    return float(auc_and_precision(label == 1, score, np.ones((1, len(score))))[0][0])


def average_precision(label: np.ndarray, score: np.ndarray) -> float:
    """Compute the average precision of scores (n,) for labels (n,), 0 or 1."""
    return float(auc_and_precision(label == 1, score, np.ones((1, len(score))))[1][0])


def auc_and_precision(label: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the area under the ROC curve and the average precision of weighted cases.

    Args:
        label: (n,) bool.
        score: (n,); equal scores count half in the area.
        weights: (draws, n), whole numbers: how often each case is there.

    Returns:
        Two arrays (draws,); NaN or infinite where a draw holds one class only.
    """
    order = np.argsort(-score, kind="stable")
    up = order[label[order]]
    starts, up_starts = _starts(score[order]), _starts(score[up])
    every = np.add.reduceat(weights[:, order], starts, axis=1)  # (draws, distinct scores)
    seen = every.cumsum(axis=1)
    held = np.isin(score[order][starts], score[up])  # both metrics are sums over the scores that a positive has
    positives = np.add.reduceat(weights[:, up], up_starts, axis=1)  # (draws, distinct scores of positives)
    true = positives.cumsum(axis=1)
    false, negatives = seen[:, held] - true, every[:, held] - positives
    total, others = true[:, -1], seen[:, -1] - true[:, -1]
    auc = (positives * (others[:, None] - false + negatives / 2)).sum(axis=1) / (total * others)
    ap = (positives * true / np.maximum(seen[:, held], 1)).sum(axis=1) / total
    return auc, ap


def _starts(ordered: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.r_[True, np.diff(ordered) != 0])
