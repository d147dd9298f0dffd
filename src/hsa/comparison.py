"""Whether two methods differ: paired bootstrap, DeLong, signed-rank tests, correction for many tests."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from hsa.errors import InputError
from hsa.metrics import METRICS, bootstrap_values, checked, intervals, point


def paired_bootstrap(
    first: pd.DataFrame, second: pd.DataFrame, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, dict[str, float]]:
    """Compute `second` minus `first` for every metric, both methods scored on the same drawn patients.

    Args:
        first: predictions of one method.
        second: predictions of the other, for the same cases.
        draws: number of bootstrap samples.
        seed: seed of the draws.
        level: coverage of the interval.

    Returns:
        Metric name -> value, low, high, n, skipped.

    Raises:
        InputError: the two hold different cases, labels or patients.
    """
    first, second = _matched(first, second)
    before, after = point(first), point(second)
    value = {name: after[name] - before[name] for name in METRICS}
    one, other = bootstrap_values([first, second], draws, seed)
    return intervals(value, {name: other[name] - one[name] for name in METRICS}, len(first), level)


def delong(first: pd.DataFrame, second: pd.DataFrame, level: float = 0.95) -> dict[str, float]:
    """Compare two correlated AUCs (DeLong, DeLong & Clarke-Pearson 1988).

    Where patients have several cases, placement values are summed by patient (Obuchowski 1997); with one case
    a patient that is DeLong's estimate exactly.

    Args:
        first: predictions of one method.
        second: predictions of the other, for the same cases.
        level: coverage of the normal intervals.

    Returns:
        first, second: the two AUCs; first_low, first_high, second_low, second_high; value: second - first;
        low, high, se, z and the two-sided p of that difference; n.

    Raises:
        InputError: the two hold different cases, or a class has fewer than two patients.
    """
    first, second = _matched(first, second)
    positive = first["label"].to_numpy() == 1
    patient = pd.factorize(first["patient_id"])[0]
    if min(len(set(patient[positive])), len(set(patient[~positive]))) < 2:
        raise InputError("predictions: DeLong's variance needs at least two patients of each class.")
    scores = np.stack([first["score"], second["score"]])  # (2, n)
    auc, covariance = _auc_covariance(scores, positive, patient)
    se = np.sqrt(np.maximum(np.diag(covariance), 0))
    contrast = np.array([-1.0, 1.0])
    difference = float(contrast @ auc)
    error = float(np.sqrt(max(contrast @ covariance @ contrast, 0)))
    z = difference / error if error > 1e-12 else 0.0
    wide = stats.norm.ppf(0.5 + level / 2)
    result = {"value": difference, "low": difference - wide * error, "high": difference + wide * error}
    result |= {"se": error, "z": z, "p": float(2 * stats.norm.sf(abs(z))), "n": len(first)}
    for name, value, spread in zip(("first", "second"), auc, se, strict=True):
        low, high = np.clip([value - wide * spread, value + wide * spread], 0, 1)
        result |= {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}
    return {key: value if key == "n" else float(value) for key, value in result.items()}


def confidence_gain(baseline: pd.DataFrame, full: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Test whether `full` is surer of the truth than `baseline`, as the paper tests it.

    One-sided Wilcoxon signed-rank tests, baseline < full: of P(1) over the truly positive cases, of P(0) over
    the truly negative ones. The test takes cases as independent.

    Args:
        baseline: predictions of the classification-only model.
        full: predictions of the model with all losses, for the same cases.

    Returns:
        positives, negatives -> statistic, p, n.

    Raises:
        InputError: the two hold different cases.
    """
    baseline, full = _matched(baseline, full)
    positive = baseline["label"].to_numpy() == 1
    low, high = baseline["score"].to_numpy(), full["score"].to_numpy()
    return {
        "positives": signed_rank(low[positive], high[positive]),
        "negatives": signed_rank(1 - low[~positive], 1 - high[~positive]),
    }


def signed_rank(smaller: np.ndarray, larger: np.ndarray) -> dict[str, float]:
    """Test `smaller` < `larger` pair by pair: one-sided Wilcoxon signed-rank.

    Pairs without a difference are left out, as Wilcoxon did; if none differs, p is 1.

    Args:
        smaller: values (n,).
        larger: values (n,) of the same units.

    Returns:
        statistic (sum of the ranks where `larger` is larger), p, n (pairs), median (of the differences).
    """
    difference = np.asarray(larger, float) - np.asarray(smaller, float)
    changed = difference[difference != 0]
    median = float(np.median(difference)) if len(difference) else 0.0
    if len(changed) == 0:
        return {"statistic": 0.0, "p": 1.0, "n": len(difference), "median": median}
    test = stats.wilcoxon(changed, alternative="greater")
    return {
        "statistic": float(test.statistic),
        "p": float(test.pvalue),
        "n": len(difference),
        "median": median,
    }


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p values for multiple tests (Holm 1979): the family-wise error stays below the chosen level.

    Args:
        p_values: name of a test -> p value.

    Returns:
        The same names -> adjusted p value, at most 1.
    """
    names = sorted(p_values, key=lambda name: p_values[name])
    adjusted, running = {}, 0.0
    for rank, name in enumerate(names):
        running = max(running, (len(names) - rank) * p_values[name])
        adjusted[name] = min(1.0, running)
    return {name: adjusted[name] for name in p_values}


def _auc_covariance(scores, positive, patient) -> tuple[np.ndarray, np.ndarray]:
    """Give the AUCs (k,) of scores (k, n) and their covariance (k, k), cases clustered by patient."""
    m, n = positive.sum(), (~positive).sum()
    placed = np.empty_like(scores)
    for row, score in zip(placed, scores, strict=True):
        up, down = stats.rankdata(score[positive]), stats.rankdata(score[~positive])
        every = stats.rankdata(score)
        row[positive] = (every[positive] - up) / n
        row[~positive] = 1 - (every[~positive] - down) / m
    auc = placed[:, positive].mean(axis=1)
    centred = placed - auc[:, None]
    clusters = patient.max() + 1
    sums = {}
    for name, member in (("up", positive), ("down", ~positive)):
        sums[name] = np.stack([np.bincount(patient, row * member, clusters) for row in centred])
    i_up, i_down = len(set(patient[positive])), len(set(patient[~positive]))
    s_up = i_up / (i_up - 1) * sums["up"] @ sums["up"].T / m**2
    s_down = i_down / (i_down - 1) * sums["down"] @ sums["down"].T / n**2
    cross = clusters / (clusters - 1) * sums["up"] @ sums["down"].T / (m * n)
    return auc, s_up + s_down + cross + cross.T


def _matched(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring two Predictions frames into one order of cases."""
    one = checked(first).sort_values("case_id", ignore_index=True)
    other = checked(second).sort_values("case_id", ignore_index=True)
    shared = ["case_id", "patient_id", "label"]
    if len(one) != len(other) or not (one[shared].to_numpy() == other[shared].to_numpy()).all():
        raise InputError("predictions: the two methods hold different cases, patients or labels; compare on the same.")
    return one, other
