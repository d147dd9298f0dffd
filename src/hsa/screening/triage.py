"""Pre-screening: which cases to stain first by their H&E score, what that saves and what it misses.

Input is the predictions.csv of one method: case_id, patient_id, fold, split ("val" or "test"), label (0 or 1),
score (P(1)), pred, and seed where there are several. Everything that is chosen (a threshold, a recalibration) is
chosen on the validation rows of a fold, then applied to the test rows of that fold; the folds are pooled.

Several seeds are several trainings, of which a laboratory would run one. So each seed chooses for itself and the
counts (true and false positives and negatives) are averaged over seeds; averaging the scores instead would
judge an ensemble that `hsa predict` is not. Intervals draw patients; a patient is in or out for all seeds at once.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from hsa.errors import InputError
from hsa.evaluation.metrics import patient_draws

TARGETS = (0.8, 0.9, 0.95)
MEASURES = ("sensitivity", "specificity", "npv", "ppv", "saved", "missed")
_KEYS = ["case_id", "patient_id", "fold", "split", "label", "score"]


class Part(NamedTuple):
    """One fold of one seed. Cases are numbered as `cases` lists them, so that draws weigh both splits alike."""

    seed: int
    fold: int
    val: np.ndarray
    val_label: np.ndarray
    val_score: np.ndarray
    test: np.ndarray
    test_label: np.ndarray
    test_score: np.ndarray


def thresholds(predictions: pd.DataFrame, targets: Sequence[float] = TARGETS) -> pd.DataFrame:
    """Set, fold by fold, the highest threshold that finds enough of the positives of the validation cases.

    A case is stained if its score is at least the threshold. With few positives a threshold hangs on one case.
    If P positives are scored like those of the test fold and the threshold is the k-th highest of theirs, the
    test sensitivity to be expected is k / (P + 1), which is `expected`: below the target wherever P is small,
    and never above P / (P + 1). Without a positive to go by, everything is stained (threshold -inf).

    Args:
        predictions: as this module says.
        targets: sensitivities to reach on validation.

    Returns:
        A row a target, seed and fold: target, seed, fold, threshold, positives (of the validation cases),
        reached (sensitivity there), expected (sensitivity on new cases).

    Raises:
        InputError: predictions that are not as this module says.
    """
    _, parts = folds_of(predictions)
    rows = []
    for target in targets:
        for part in parts:
            found = part.val_score[part.val_label]
            threshold = float(_threshold(found, np.ones((1, len(found))), target)[0])
            above, count = int((found >= threshold).sum()), len(found)
            reached, expected = (above / count, above / (count + 1)) if count else (np.nan, 1.0)
            rows.append((target, part.seed, part.fold, threshold, count, reached, expected))
    return pd.DataFrame(rows, columns=["target", "seed", "fold", "threshold", "positives", "reached", "expected"])


def triage(
    predictions: pd.DataFrame, targets: Sequence[float] = TARGETS, draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Say what staining only the cases above the validation thresholds would find, save and miss on test.

    The intervals (95 %, percentile, patients drawn) set the thresholds anew in every draw, from the validation
    cases of that draw. In simulations (200 cohorts each of 60 to 500 cases, 30 % positive) they held the mean of the
    procedure in 96-100 % of cohorts, but where the threshold is the lowest score of a positive (high target,
    few positives) in 89-98 % for sensitivity and in 66-98 % for the share saved: no draw goes below the lowest.
    With thresholds kept as they are, the share saved was held in 59-84 % only.

    Args:
        predictions: as this module says.
        targets: sensitivities to reach on validation.
        draws: number of bootstrap samples.
        seed: seed of the draws.

    Returns:
        A row a target and measure: target, measure, value, low, high, n (test cases). Measures: sensitivity,
        specificity, npv, ppv, saved (share of cases that are not stained), missed (positives among them, a count).

    Raises:
        InputError: predictions that are not as this module says.
    """
    cases, parts = folds_of(predictions)
    rows = []
    for target in targets:
        value = _operated(parts, np.ones((1, len(cases))), target)
        samples = [_operated(parts, w, target) for w in patient_draws(cases["patient_id"], draws, seed)]
        for measure in MEASURES:
            low, high = spread(np.concatenate([chunk[measure] for chunk in samples]))
            rows.append((target, measure, float(value[measure][0]), float(low), float(high), len(cases)))
    return pd.DataFrame(rows, columns=["target", "measure", "value", "low", "high", "n"])


def at_prevalence(table: pd.DataFrame, prevalences: Sequence[float] = (0.05, 0.15, 0.3, 0.5)) -> pd.DataFrame:
    """Carry sensitivity and specificity over to clinics with more or fewer positives (Bayes).

    That they carry over is an assumption: where positives are rarer they are often milder too, and harder to see.

    Args:
        table: from `triage`.
        prevalences: shares of positives.

    Returns:
        A row a target and prevalence: target, prevalence, ppv, npv, saved, and the four shares of all cases:
        found (stained, positive), needless (stained, negative), spared (not stained, negative), missed.
    """
    wide = table.pivot(index="target", columns="measure", values="value")
    rows = []
    for target, sensitivity, specificity in zip(wide.index, wide["sensitivity"], wide["specificity"], strict=True):
        for prevalence in prevalences:
            found, missed = prevalence * sensitivity, prevalence * (1 - sensitivity)
            spared, needless = (1 - prevalence) * specificity, (1 - prevalence) * (1 - specificity)
            row = {"target": target, "prevalence": prevalence, "ppv": float(_ratio(found, found + needless))}
            row |= {"npv": float(_ratio(spared, spared + missed)), "saved": spared + missed}
            rows.append(row | {"found": found, "needless": needless, "spared": spared, "missed": missed})
    return pd.DataFrame(rows)


def worklist_curve(predictions: pd.DataFrame, points: int = 101, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Follow a worklist from the highest score down: share of stains done against share of positives found.

    Cases are ranked by their scores pooled over the folds, as the AUC does. Equal scores count in mean order.

    Args:
        predictions: as this module says.
        points: steps of the curve.
        draws: number of bootstrap samples.
        seed: seed of the draws.

    Returns:
        A row a step: done, found, low, high (95 %), random and perfect (share found in those orders).

    Raises:
        InputError: predictions that are not as this module says.
    """
    cases, parts = folds_of(predictions)
    done = np.linspace(0, 1, points)

    def along(weights: np.ndarray) -> np.ndarray:
        seeds = [[np.interp(done, x, y) for x, y in _ranked(rows, weights)] for rows in _by_seed(parts)]
        return np.mean(seeds, axis=0)

    found = along(np.ones((1, len(cases))))[0]
    low, high = spread(np.concatenate([along(w) for w in patient_draws(cases["patient_id"], draws, seed)]))
    perfect = np.minimum(1, done / cases["label"].mean())
    return pd.DataFrame({"done": done, "found": found, "low": low, "high": high, "random": done, "perfect": perfect})


def stains_needed(
    predictions: pd.DataFrame, shares: Sequence[float] = (0.8, 0.9), draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Tell how much of the worklist must be stained until a share of the positives is found.

    Known in hindsight only: who works through a real worklist does not know how many positives it holds.

    Args:
        predictions: as this module says.
        shares: shares of the positives.
        draws: number of bootstrap samples.
        seed: seed of the draws.

    Returns:
        A row a share: share, value (of all cases), low, high (95 %), random, perfect, n.

    Raises:
        InputError: predictions that are not as this module says.
    """
    cases, parts = folds_of(predictions)
    wanted = np.asarray(shares, float)

    def needed(weights: np.ndarray) -> np.ndarray:
        return np.mean([[_reach(x, y, wanted) for x, y in _ranked(rows, weights)] for rows in _by_seed(parts)], axis=0)

    value = needed(np.ones((1, len(cases))))[0]
    low, high = spread(np.concatenate([needed(w) for w in patient_draws(cases["patient_id"], draws, seed)]))
    perfect = wanted * cases["label"].mean()
    columns = {"share": wanted, "value": value, "low": low, "high": high, "random": wanted, "perfect": perfect}
    return pd.DataFrame(columns).assign(n=len(cases))


def folds_of(predictions: pd.DataFrame) -> tuple[pd.DataFrame, list[Part]]:
    """Check predictions, list their test cases (case_id, patient_id, label) and cut them into folds and seeds."""
    missing = set(_KEYS) - set(predictions.columns)
    if missing:
        raise InputError(f"predictions: column {sorted(missing)} is missing; give the predictions.csv of one method.")
    frame = predictions.assign(seed=predictions.get("seed", 0))
    if not np.isfinite(frame[["label", "score"]].to_numpy(float)).all() or not set(frame["label"]) <= {0, 1}:
        raise InputError("predictions: label must be 0 or 1 and score a finite number; predict these cases again.")
    twice = frame.duplicated(["seed", "split", "case_id"])
    if twice.any():
        case = frame.loc[twice, "case_id"].iloc[0]
        raise InputError(f"predictions: case {case!r} is there twice in one split; give the rows of one method.")
    test = frame[frame["split"] == "test"]
    cases = test.drop_duplicates("case_id").sort_values("case_id", ignore_index=True)
    cases = cases[["case_id", "patient_id", "label"]]
    if set(cases["label"]) != {0, 1}:
        raise InputError("predictions: the test rows must hold both classes; use more cases.")
    numbers = pd.Series(range(len(cases)), cases["case_id"])
    parts = []
    for (_, fold), rows in frame.groupby(["seed", "fold"]):
        split = {name: rows[rows["split"] == name].sort_values("case_id") for name in ("val", "test")}
        if split["val"].empty or split["test"].empty:
            raise InputError(f"predictions: fold {fold} lacks val or test rows; evaluate the study again.")
        if not set(split["val"]["case_id"]) <= set(numbers.index):
            raise InputError(f"predictions: fold {fold} validates cases that no fold tests; evaluate the study again.")
        columns = (
            (numbers[s["case_id"]].to_numpy(), s["label"].to_numpy() == 1, s["score"].to_numpy(float))
            for s in split.values()
        )
        run = int(rows["seed"].iloc[0]), int(rows["fold"].iloc[0])
        parts.append(Part(*run, *(column for three in columns for column in three)))
    tested = test.groupby("seed")["case_id"].size()
    if (tested != len(cases)).any():
        raise InputError("predictions: the seeds test different cases; evaluate the study again.")
    return cases, parts


def _by_seed(parts: Sequence[Part]) -> list[list[Part]]:
    return [[part for part in parts if part.seed == seed] for seed in sorted({part.seed for part in parts})]


def _threshold(found: np.ndarray, weights: np.ndarray, target: float) -> np.ndarray:
    """Give the threshold for each draw: scores of the positives (P,), their weights (d, P) -> (d,)."""
    if not len(found):
        return np.full(len(weights), -np.inf)
    order = np.argsort(-found, kind="stable")
    above = weights[:, order].cumsum(axis=1)
    first = (above >= target * above[:, -1:] - 1e-9).argmax(axis=1)
    return np.where(above[:, -1] > 0, found[order][first], -np.inf)


def _operated(parts: Sequence[Part], weights: np.ndarray, target: float) -> dict[str, np.ndarray]:
    """Set thresholds and count on test, for each draw: weights (d, n) -> measure -> (d,)."""
    tp = fp = fn = tn = np.zeros(len(weights))
    for part in parts:
        positive = part.val_label
        threshold = _threshold(part.val_score[positive], weights[:, part.val[positive]], target)
        stained, w = part.test_score >= threshold[:, None], weights[:, part.test]
        tp, fp = tp + (w * (stained & part.test_label)).sum(1), fp + (w * (stained & ~part.test_label)).sum(1)
        fn, tn = fn + (w * (~stained & part.test_label)).sum(1), tn + (w * (~stained & ~part.test_label)).sum(1)
    return {
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "npv": _ratio(tn, tn + fn),
        "ppv": _ratio(tp, tp + fp),
        "saved": _ratio(tn + fn, tp + fp + fn + tn),
        "missed": fn / len({part.seed for part in parts}),
    }


def _ranked(parts: Sequence[Part], weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give, for each draw, share of cases done and share of positives found, from (0, 0) to (1, 1)."""
    score, label, index = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("test_score", "test_label", "test")
    )
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    drawn = weights[:, index[order]]
    done = np.add.reduceat(drawn, starts, axis=1).cumsum(axis=1)
    found = np.add.reduceat(drawn * label[order], starts, axis=1).cumsum(axis=1)
    for x, y in zip(done, found, strict=True):
        if y[-1] > 0:  # a draw without a positive has no curve
            yield np.r_[0, x / x[-1]], np.r_[0, y / y[-1]]


def _reach(done: np.ndarray, found: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Where a rising line first reaches each share."""
    after = np.searchsorted(found, shares - 1e-12).clip(1)
    rise = found[after] - found[after - 1]
    part = np.where(rise > 0, (shares - found[after - 1]) / np.where(rise > 0, rise, 1), 1).clip(0, 1)
    return done[after - 1] + part * (done[after] - done[after - 1])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; NaN where there is nothing to divide by."""
    return np.where(np.asarray(whole) > 0, part / np.where(np.asarray(whole) > 0, whole, 1), np.nan)


def spread(samples: np.ndarray) -> np.ndarray:
    """Give the 2.5 % and 97.5 % quantiles over draws; draws that do not define the value are left out."""
    if not np.isfinite(samples).any():
        return np.full((2, *samples.shape[1:]), np.nan)
    return np.nanquantile(samples, [0.025, 0.975], axis=0)
