"""How good predictions are, how well their probabilities can be trusted, and how sure we are of both.

A Predictions frame has one row a case: case_id, patient_id, fold, label (0 or 1), score (P(1)), pred (0, 1).
With several training seeds it has a column `seed` more, and each case once a seed; the seeds share cases,
patients and labels. The patient, not the case, is the unit that is resampled: two cases of one patient are not
two witnesses, and neither are two seeds.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

from hsa.errors import InputError
from hsa.evaluation.ranking import auc_and_precision

METRICS = (
    "weighted_f1",
    "roc_auc",
    "macro_precision",
    "macro_recall",
    "balanced_accuracy",
    "average_precision",
)
_WITHIN_CLASSES = ("roc_auc", "macro_recall", "balanced_accuracy", "average_precision")
_CHUNK = 200_000  # case weights held at a time: 1.6 MB, about what a core's cache holds


def point(predictions: pd.DataFrame) -> dict[str, float]:
    """Compute the metrics of one Predictions frame.

    Args:
        predictions: one row a case, or a row a case and seed.

    Returns:
        Metric name -> value, the mean over seeds; the names are `METRICS`.

    Raises:
        InputError: a column is missing, a value is not finite, only one class is there, a case is there twice
            (in one seed), or the seeds hold different cases.
    """
    return {name: float(values.mean()) for name, values in seed_values(by_seed(predictions)).items()}


def bootstrap(
    predictions: pd.DataFrame, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, dict[str, float | None]]:
    """Compute the metrics with bootstrap intervals, patients drawn with replacement.

    All seeds are scored on the same draw, whose value is their mean: the interval says how the mean over these
    seeds varies with the cases, `seed_sd` how a single seed varies on the same cases. A draw that holds one class
    only has no AUC, precision or recall; it is left out of the intervals of those metrics and counted as skipped.
    The intervals are those of `intervals`.

    Args:
        predictions: one row a case, or a row a case and seed.
        draws: number of bootstrap samples (the paper: 1000).
        seed: seed of the draws.
        level: coverage of the interval.

    Returns:
        Metric name -> value, low, high, n (cases), skipped (draws), seeds, seed_sd (standard deviation over
        seeds; None where there is one).

    Raises:
        InputError: as `point`.
    """
    tables = by_seed(predictions)
    return intervals(seed_values(tables), bootstrap_values(tables, draws, seed), tables[0], level)


def within_folds(predictions: pd.DataFrame) -> float:
    """Compute the ROC AUC over the pairs of a positive and a negative case of the same fold.

    The pooled AUC also compares cases of different folds, which were scored by different models and probes. If
    those scores do not share one scale, the two differ. A sensitivity check, without an interval.

    Args:
        predictions: one row a case, or a row a case and seed, with its test fold in `fold`.

    Returns:
        The share of such pairs in which the positive scores higher, ties counting half; the mean over seeds.
        NaN where no fold holds both classes.

    Raises:
        InputError: as `point`, or there is no column `fold`.
    """
    if "fold" not in predictions:
        raise InputError("predictions: column 'fold' is missing; give the frame of hsa.evaluation.probe.")
    return float(np.mean([_within(table) for table in by_seed(predictions)]))


def _within(table: pd.DataFrame) -> float:
    ordered, pairs = 0.0, 0
    for _, fold in table.groupby("fold"):
        label = fold["label"].to_numpy() == 1
        count = int(label.sum() * (~label).sum())
        if count:
            auc, _ = auc_and_precision(label, fold["score"].to_numpy(float), np.ones((1, len(fold))))
            ordered, pairs = ordered + count * auc[0], pairs + count
    return ordered / pairs if pairs else np.nan


def patient_draws(patients: pd.Series, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Draw patients with replacement and give how often each case is then in the sample.

    Args:
        patients: patient of each case (n,).
        draws: number of samples.
        seed: seed of the draws.

    Yields:
        Weights (d, n), d summing to `draws`; memory is bounded by handing them out in chunks.
    """
    codes, names = pd.factorize(patients)
    count = len(names)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(len(codes), 1))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        chosen = rng.integers(0, count, (size, count))
        chosen += count * np.arange(size)[:, None]
        yield np.bincount(chosen.ravel(), minlength=size * count).reshape(size, count)[:, codes].astype(float)


def seed_values(tables: Sequence[pd.DataFrame]) -> dict[str, np.ndarray]:
    """Score each of `by_seed`'s frames: metric name -> values (seeds,)."""
    parts = [_weighted_metrics(table, np.ones((1, len(table)))) for table in tables]
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def bootstrap_values(tables: Sequence[pd.DataFrame], draws: int, seed: int) -> dict[str, np.ndarray]:
    """Score every seed on the same draws and average over the seeds.

    The draws depend on the patients, their order and `seed` only: two methods with the same cases in the same
    order are drawn alike.

    Args:
        tables: Predictions frames with the same cases in the same order, one a seed.
        draws: number of samples.
        seed: seed of the draws.

    Returns:
        Metric name -> values (draws,), NaN where a draw does not define the metric.
    """
    parts = []
    for weights in patient_draws(tables[0]["patient_id"], draws, seed):
        scored = [_weighted_metrics(table, weights) for table in tables]
        parts.append({name: np.mean([one[name] for one in scored], axis=0) for name in METRICS})
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def intervals(
    values: Mapping[str, np.ndarray],
    samples: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    level: float,
    difference: bool = False,
) -> dict[str, dict[str, float | None]]:
    """Put bootstrap intervals around metrics or around differences of metrics.

    Chosen by simulation (benchmarks/bootstrap.py):
    Metrics: percentiles, set wider for small samples by the t quantile (the expanded percentile interval; Hesterberg
    2015). Its n is the patients, and for AUC, recall, balanced accuracy and average precision, which are means within
    classes, those of the rarer class.
    Average precision is biased upwards, and a draw's once more, so its percentiles lie too high: they are shifted by
    the bootstrap's bias, on the logit scale (whose use Boyd, Eng & Page 2013 recommend).
    Differences: normal, with the bootstrap standard error and the same t.

    Measured for normal scores, AUC 0.65 to 0.85, prevalence 0.17 and 0.5 (error 0.4-0.8): 95 % intervals hold the
    truth in 93-97 % of cohorts of 120, 250 and 500 cases, those of differences in 92.5-97 %. With 60 cases, ten of them
    positive, they are 93-97 % too, but for recall and balanced accuracy at AUC 0.85 (89-93 %: ten cases can
    only have eleven sensitivities) and average precision (up to 97.5 %).
    Plain percentiles of average precision hold 90-92 % at 60 cases, 91-94 % at 120.

    Args:
        values: metric name -> value of each seed (seeds,).
        samples: metric name -> bootstrap values (draws,); NaN marks a draw without this metric.
        table: one seed's Predictions frame.
        level: coverage of the interval.
        difference: whether the values are differences of two methods.

    Returns:
        Metric name -> value, low, high (None where no two draws define the metric), n, skipped, seeds, seed_sd.
    """
    everyone = table["patient_id"].nunique()
    rarer = int(table.groupby("label")["patient_id"].nunique().min())
    result = {}
    for name, value in values.items():
        kept = samples[name][np.isfinite(samples[name])]
        wide = _wide(rarer if name in _WITHIN_CLASSES and not difference else everyone, level)
        centre = float(np.mean(value))
        if len(kept) < 2:
            low = high = None
        elif difference:
            low, high = centre + wide * kept.std(ddof=1) * np.array([-1, 1])
        elif name == "average_precision":
            low, high = _unbiased_quantiles(centre, kept, wide, len(table))
        else:
            low, high = np.quantile(kept, stats.norm.cdf([-wide, wide]))
        result[name] = {
            "value": centre,
            "low": None if low is None else float(low),
            "high": None if high is None else float(high),
            "n": len(table),
            "skipped": len(samples[name]) - len(kept),
            "seeds": len(value),
            "seed_sd": float(np.std(value, ddof=1)) if len(value) > 1 else None,
        }
    return result


def _wide(n: int, level: float) -> float:
    """Give the half-width in bootstrap standard errors: t for n units, the bootstrap dividing by n, not n - 1."""
    n = max(n, 2)
    return float(stats.t.ppf(0.5 + level / 2, n - 1) * np.sqrt(n / (n - 1)))


def _unbiased_quantiles(value: float, samples: np.ndarray, wide: float, n: int) -> np.ndarray:
    """Give quantiles of a share's samples less their bias, on the logit scale, 0 and 1 held half a case away."""
    centre, drawn = (logit((n * np.asarray(x) + 0.5) / (n + 1)) for x in (value, samples))
    ends = np.quantile(drawn, stats.norm.cdf([-wide, wide])) - (drawn.mean() - centre)
    return np.asarray(np.clip(((n + 1) * expit(ends) - 0.5) / n, 0, 1))


def _weighted_metrics(table: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Compute each metric for case weights (draws, n). A class never predicted has precision 0."""
    label, pred = table["label"].to_numpy() == 1, table["pred"].to_numpy() == 1
    cells = np.stack([label & pred, ~label & pred, label & ~pred, ~label & ~pred], axis=1).astype(float)
    tp, fp, fn, tn = (weights @ cells).T
    with np.errstate(invalid="ignore", divide="ignore"):
        both = np.where((tp + fn > 0) & (tn + fp > 0), 1.0, np.nan)
        recall = (tp / (tp + fn) + tn / (tn + fp)) / 2 * both
        precision = (_ratio(tp, tp + fp) + _ratio(tn, tn + fn)) / 2 * both
        f1 = _ratio(2 * tp, 2 * tp + fp + fn), _ratio(2 * tn, 2 * tn + fp + fn)
        weighted_f1 = ((tp + fn) * f1[0] + (tn + fp) * f1[1]) / (tp + fp + fn + tn)
        auc, ap = auc_and_precision(label, table["score"].to_numpy(float), weights)
    return {
        "weighted_f1": weighted_f1,
        "roc_auc": auc * both,
        "macro_precision": precision,
        "macro_recall": recall,
        "balanced_accuracy": recall,
        "average_precision": ap * both,
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)


def by_seed(predictions: pd.DataFrame) -> list[pd.DataFrame]:
    """Check a Predictions frame and split it into one frame a seed, all in the first seed's order of cases."""
    checked(predictions)
    if "seed" not in predictions.columns:
        return [predictions.reset_index(drop=True)]
    tables = [table.reset_index(drop=True) for _, table in predictions.groupby("seed")]
    order = tables[0]["case_id"]
    return [tables[0]] + [table.set_index("case_id").loc[order].reset_index() for table in tables[1:]]


def checked(predictions: pd.DataFrame) -> pd.DataFrame:
    """Give the frame back if it is a Predictions frame that can be scored, else raise InputError."""
    missing = {"case_id", "patient_id", "label", "score", "pred"} - set(predictions.columns)
    if missing:
        raise InputError(f"predictions: column {sorted(missing)} is missing; give the frame of hsa.evaluation.probe.")
    if not all(np.isfinite(predictions[name].to_numpy(float)).all() for name in ("label", "score", "pred")):
        raise InputError("predictions: label, score or pred holds NaN or infinity; drop or predict these cases.")
    if set(predictions["label"]) != {0, 1} or not set(predictions["pred"]) <= {0, 1}:
        raise InputError("predictions: labels must be 0 and 1, both present, and pred 0 or 1.")
    seeded = "seed" in predictions.columns
    key = ["seed", "case_id"] if seeded else ["case_id"]
    again = predictions.duplicated(key)
    if again.any():
        twice = predictions.loc[again, "case_id"].iloc[0]
        raise InputError(
            f"predictions: case {twice!r} is there twice; pool every case once a seed, from its test fold, "
            "and give several seeds a column 'seed'."
        )
    if seeded:
        _check_seeds(predictions)
    return predictions


def _check_seeds(predictions: pd.DataFrame) -> None:
    """Raise InputError unless every seed holds the same cases, patients and labels."""
    if predictions["seed"].isna().any():
        raise InputError("predictions: column 'seed' holds NaN; give every row its seed, or drop the column.")
    cases = predictions.groupby("case_id").agg(
        seeds=("seed", "size"), patients=("patient_id", "nunique"), labels=("label", "nunique")
    )
    odd = cases[cases["seeds"] < predictions["seed"].nunique()]
    if len(odd):
        raise InputError(f"predictions: the seeds hold different cases ({odd.index[0]!r}); give each seed all of them.")
    odd = cases[(cases["patients"] != 1) | (cases["labels"] != 1)]
    if len(odd):
        raise InputError(f"predictions: case {odd.index[0]!r} changes patient or label from seed to seed; correct it.")
