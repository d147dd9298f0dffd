"""The linear probe: what a logistic regression can read off slide embeddings, fold by fold.

Each fold has its own slide encoder, so its own embedding space: a probe is fitted on the train embeddings of
that fold and predicts its validation and test embeddings. The test folds together hold every case once, and so do
the validation folds; they are pooled.
"""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterSampler, StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from hsa.errors import InputError
from hsa.evaluation.ranking import average_precision

STRENGTHS = np.logspace(-3, 2, 100)  # candidates for C, the inverse of the L2 penalty
DRAWS = 40
INNER_FOLDS = 5
_KEYS = ["case_id", "patient_id", "fold", "split", "label"]
_COLUMNS = ["case_id", "patient_id", "fold", "split", "label", "score", "pred"]


def probe_folds(
    embeddings: pd.DataFrame, seed: int, stain: str = "HE", first_positive: int = 1
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Fit the probe on the train embeddings of each fold and predict its validation and test cases.

    As published: features standardised on train, logistic regression with balanced class weights, C by random
    search (40 of 100 values from 1e-3 to 1e2, 5-fold inner cross-validation, average precision). Departures:
    the inner folds keep a patient's cases together where patients repeat, and there are fewer of them where a
    class has fewer than 5 cases; with a single case of a class C is 1. With more than two classes the regression is
    multinomial, and a positive case is one of class `first_positive` or above. C is still chosen by how well the
    positives are ranked, which is what AUC and pre-screening are about; that C need not be the best at telling the
    classes within the positives, or within the negatives, apart.

    Args:
        embeddings: H&E embeddings, a row for each slide and fold: case_id, patient_id, stain, fold, split
            (train, pairs, val, test), label (0, 1, or -1: not known), category (class number, where there are more than
            two) and v0, v1, ... (D features). Rows of split `pairs` and those without a label are left out.
        seed: seed of the drawn values of C, the same for each fold.
        stain: of every row. Anything but HE is a ceiling, not a prediction.
        first_positive: lowest category that counts as positive.

    Returns:
        Predictions frame: case_id, patient_id, fold, split (val or test), label, score (P(1)), pred, and with more than
        two classes category and its prediction, pred_category; and the probe of each fold: fold, mean, scale, c and
        coef (D,), intercept, so that score = sigmoid(((z - mean) / scale) . coef + intercept), or coef (classes, D),
        intercept (classes,), first_positive, so that it is the sum of the softmax from first_positive on.

    Raises:
        InputError: a row of another stain than H&E, NaN, one case tested twice, a patient on both sides of a
            fold, a fold without train or test cases or with one class in train.
    """
    if "stain" not in embeddings or set(embeddings["stain"]) != {stain}:
        raise InputError(
            f"embeddings: the probe predicts from {stain} alone and found another stain or none named; "
            f"give the rows with stain {stain!r}."
        )
    names = feature_columns(embeddings)
    _check_splits(embeddings)
    rows = _labelled(embeddings).sort_values(["fold", "case_id"])
    probe = partial(_probe_fold, names=names, seed=seed, first_positive=first_positive)
    frames, probes = zip(*(probe(fold) for _, fold in rows.groupby("fold")), strict=True)
    columns = _columns(rows)
    return pd.concat(frames)[columns].sort_values(["split", "case_id"], ignore_index=True), list(probes)


def majority(folds: pd.DataFrame) -> pd.DataFrame:
    """Predict the commoner class of each fold's train cases: what any method must beat.

    The score is the train prevalence averaged over the folds, hence equal for all cases. The prevalence of
    each fold would not do: it is high where the test cases hold few positives, which pulls the pooled AUC of
    a predictor that knows nothing below 0.5.

    Args:
        folds: a row for each case and fold: case_id, patient_id, fold, split, label, category where there is one.

    Returns:
        Predictions frame, as `probe_folds`. Of equally common classes the lowest is predicted.

    Raises:
        InputError: as `probe_folds`.
    """
    _check_splits(folds)
    rows = _labelled(folds)
    train, held = (rows[rows["split"].isin(parts)] for parts in (["train"], ["val", "test"]))
    prevalence = train.groupby("fold")["label"].mean()
    frame = held.assign(score=prevalence.mean(), pred=(held["fold"].map(prevalence) > 0.5).astype(int))
    if "category" in rows:
        commonest = train.groupby("fold")["category"].agg(lambda values: values.mode().min())
        frame["pred_category"] = held["fold"].map(commonest)
    return frame[_columns(rows)].sort_values(["split", "case_id"], ignore_index=True)


def feature_columns(embeddings: pd.DataFrame) -> list[str]:
    """Give the feature columns v0, v1, ... in numerical order.

    Raises:
        InputError: there are none, one is missing between, or one holds NaN or infinity.
    """
    count = sum(name.startswith("v") and name[1:].isdigit() for name in map(str, embeddings.columns))
    names = [f"v{i}" for i in range(count)]
    if not names or not set(names) <= set(embeddings.columns):
        raise InputError("embeddings: feature columns must be v0, v1, ... without a gap.")
    broken = ~np.isfinite(embeddings[names].to_numpy(float)).all(axis=1)
    if broken.any():
        row = embeddings[broken].iloc[0]
        raise InputError(
            f"embeddings: case {row.get('case_id')!r}, fold {row.get('fold')!r} holds NaN or infinity "
            f"({broken.sum()} rows in all); train this method again."
        )
    return names


# Matrices this small lose more to waking threads than they gain.
@threadpool_limits.wrap(limits=1)  # type: ignore[untyped-decorator]
def search_strength(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int, first_positive: int = 1
) -> tuple[float, dict[float, float]]:
    """Choose C by random search, as scikit-learn's RandomizedSearchCV does but without its overhead.

    Same draws, same inner folds, same fits; scores agree to rounding. They are rounded to 1e-9 before the
    best is taken, so that candidates that rank the cases equally tie and the first drawn wins everywhere.

    Args:
        x: standardised features (N, D).
        y: class of each row (N,), 0, 1, ...
        groups: patient of each row (N,).
        seed: seed of the drawn candidates.
        first_positive: lowest class that counts as positive for the average precision.

    Returns:
        The chosen C, and candidate -> mean average precision in the order drawn (empty if none could be had).
    """
    drawn = [draw["C"] for draw in ParameterSampler({"C": list(STRENGTHS)}, DRAWS, random_state=seed)]
    folds = []
    for train, test in _inner_folds(y, groups):
        positive = (y[test] >= first_positive).astype(int)
        if len(set(y[train])) == len(set(y)) and len(set(positive)) == 2:
            ranked = [_ranking(_fit(x[train], y[train], c), x[test], first_positive) for c in drawn]
            folds.append([average_precision(positive, row) for row in ranked])
    if not folds:
        return 1.0, {}
    scores = np.mean(folds, axis=0).round(9)
    return float(drawn[int(scores.argmax())]), dict(zip(map(float, drawn), scores.tolist(), strict=True))


def _probe_fold(
    fold: pd.DataFrame, names: list[str], seed: int, first_positive: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    train, held = fold[fold["split"] == "train"], fold[fold["split"] != "train"]
    scaler = StandardScaler().fit(train[names].to_numpy(float))
    x = scaler.transform(train[names].to_numpy(float))
    y = train["category" if "category" in train else "label"].to_numpy(int)
    strength, _ = search_strength(x, y, train["patient_id"].to_numpy(), seed, first_positive)
    fitted = _fit(x, y, strength)
    chance = fitted.predict_proba(scaler.transform(held[names].to_numpy(float)))
    record = {
        "fold": int(fold["fold"].iloc[0]),
        "mean": scaler.mean_.tolist(),
        "scale": scaler.scale_.tolist(),
        "coef": fitted.coef_[0].tolist(),
        "intercept": float(fitted.intercept_[0]),
        "c": strength,
    }
    if "category" not in held:
        score = chance[:, 1]
        return held.assign(score=score, pred=(score > 0.5).astype(int)), record
    record |= {"coef": fitted.coef_.tolist(), "intercept": fitted.intercept_.tolist(), "first_positive": first_positive}
    likely = fitted.classes_[chance.argmax(axis=1)]
    positive = {"score": chance[:, first_positive:].sum(axis=1), "pred": (likely >= first_positive).astype(int)}
    return held.assign(**positive, pred_category=likely), record


def _ranking(fitted: LogisticRegression, x: np.ndarray, first_positive: int) -> np.ndarray:
    """Numbers (N,) that rise with the chance of a positive."""
    if len(fitted.classes_) == 2:
        return np.asarray(fitted.decision_function(x))
    return np.asarray(fitted.predict_proba(x)[:, fitted.classes_ >= first_positive].sum(axis=1))


def _inner_folds(y: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    repeated = len(set(groups)) < len(groups)
    smallest = min(len(set(groups[y == label])) for label in set(y))
    if smallest < 2:
        return []
    count = min(INNER_FOLDS, smallest)
    splitter = StratifiedGroupKFold(count) if repeated else StratifiedKFold(count)
    return list(splitter.split(y, y, groups if repeated else None))


def _fit(x: np.ndarray, y: np.ndarray, strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=10_000).fit(x, y)


def _check_splits(frame: pd.DataFrame) -> None:
    missing = set(_KEYS) - set(frame.columns)
    if missing:
        raise InputError(f"folds: column {sorted(missing)} is missing.")
    if frame[_KEYS].isna().any(axis=None) or not set(frame["label"]) <= {-1, 0, 1}:
        raise InputError("folds: case, patient, fold, split must be given and labels be 0, 1 or -1 (not known).")
    if not set(frame["split"]) <= {"train", "pairs", "val", "test"}:
        raise InputError(f"folds: split must be train, pairs, val or test, found {sorted(set(frame['split']))}.")
    _refuse(
        frame,
        frame.duplicated(["fold", "case_id"]),
        "is there twice in one fold; give one row a case and fold",
    )
    test = frame[frame["split"] == "test"]
    _refuse(test, test["case_id"].duplicated(), "is tested in two folds; test every case once")
    sides = frame.replace({"split": {"pairs": "train"}}).groupby(["fold", "patient_id"])["split"].transform("nunique")
    _refuse(frame, sides > 1, "belongs to a patient who is in two splits of one fold; split by patient")
    known = _labelled(frame)
    column = "category" if "category" in known else "label"
    every = set(known[column]) if column == "category" else {0, 1}
    for fold, rows in known.groupby("fold"):
        classes = set(rows.loc[rows["split"] == "train", column])
        if classes != every or not (rows["split"] == "test").any():
            raise InputError(
                f"fold {fold}: needs test cases and every class in train, found {sorted(classes)}; "
                "use fewer folds or more cases."
            )


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose label the study knows."""
    return frame[(frame["split"] != "pairs") & (frame["label"] >= 0)]


def _columns(rows: pd.DataFrame) -> list[str]:
    return _COLUMNS + ["category", "pred_category"] * ("category" in rows)


def _refuse(frame: pd.DataFrame, wrong: pd.Series, why: str) -> None:
    if wrong.any():
        raise InputError(f"folds: case {frame.loc[wrong.to_numpy(), 'case_id'].iloc[0]!r} {why}.")
