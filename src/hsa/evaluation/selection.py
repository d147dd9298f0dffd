"""Choices that treat methods alike: one strength of the probe a method, and an epoch by how the probe validates.

The published protocol searches the strength of the penalty in each fold on the training cases, which the encoder has
learned by heart: there every strength ranks them without a fault, the draw decides, and tests of sureness follow it.
Here strengths are judged by validation cases, which no encoder was fitted on, of all folds together. Test cases are
looked at by no choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from hsa.evaluation.logistic import fit_logistic
from hsa.evaluation.ranking import roc_auc

STRENGTHS = np.logspace(-3, 1, 9)  # of the penalty: C, two a decade
CHANCE = 0.5
LOOSE = 100.0  # C of the recalibration: next to no penalty, but an end where the classes come apart


@dataclass(frozen=True)
class Reading:
    """What probes of several strengths read off one snapshot of a fold.

    Attributes:
        auc: of the validation cases, one a strength (K,); 0.5 where they are of one class and tell nothing.
        score: log odds of every validation and test case with a label (n, K).
    """

    auc: np.ndarray
    score: np.ndarray


def held_out(cases: pd.DataFrame) -> pd.Series:
    """Tell which rows of a fold are read out: validation and test cases whose label is known; bool (cases,)."""
    return cases["split"].isin(["val", "test"]) & (cases["label"] >= 0)


def read_out(vectors: np.ndarray, cases: pd.DataFrame, strengths: np.ndarray) -> Reading:
    """Fit a probe of each strength on a fold's labelled training cases and score the others.

    Args:
        vectors: H&E embeddings (cases, D).
        cases: label (1, 0, or -1: not known), split (train, pairs, val, test); a row a case, in the same order.
        strengths: values of C (K,).

    Raises:
        InputError: a class is missing among the training cases, or an embedding is not finite.
    """
    train = ((cases["split"] == "train") & (cases["label"] >= 0)).to_numpy()
    read, label = held_out(cases).to_numpy(), cases["label"].to_numpy()
    mean, scale = vectors[train].mean(axis=0, dtype=float), vectors[train].std(axis=0, dtype=float)
    scaled = (vectors - mean) / np.where(scale > 0, scale, 1)
    coef, intercept = fit_logistic(scaled[train], label[train], strengths)
    score = scaled[read] @ coef.T + intercept
    val = (cases.loc[read, "split"] == "val").to_numpy()
    known = label[read][val]
    both = len(set(known.tolist())) == 2
    auc = [roc_auc(known, column) if both else CHANCE for column in score[val].T]
    return Reading(np.array(auc), score)


def choose(validated: np.ndarray) -> tuple[int, int]:
    """Choose a setting of the training and a strength of the probe by validation cases of all folds together.

    For each setting and strength, each fold takes its best epoch, as it will when it is judged; the mean over folds
    decides. Of equals the first wins, so that the weaker of two strengths does.

    Args:
        validated: AUC of validation cases (settings, folds, epochs, strengths).

    Returns:
        Number of the setting, number of the strength.
    """
    mean = validated.max(axis=2).mean(axis=1).round(9)  # (settings, strengths)
    setting, strength = np.unravel_index(int(mean.argmax()), mean.shape)
    return int(setting), int(strength)


def best_epoch(validated: Mapping[int, float]) -> int:
    """Choose the epoch whose embeddings let the probe rank the validation cases best; of equals the earliest."""
    return max(sorted(validated), key=lambda epoch: round(validated[epoch], 9))


def recalibrate(predictions: pd.DataFrame) -> pd.Series:
    """Turn log odds into chances by validation cases: a slope and an offset for each fold (Platt 1999).

    Args:
        predictions: fold, split (val, test), label, score (log odds), of one method and seed.

    Returns:
        P(1) of each row. Where a fold's validation cases are of one class the offset is theirs alone, and the slope 0.
    """
    chance = pd.Series(np.nan, index=predictions.index)
    for _, rows in predictions.groupby("fold"):
        val = rows[rows["split"] == "val"]
        x, y = val[["score"]].to_numpy(), val["label"].to_numpy()
        if len(set(y.tolist())) < 2:
            chance[rows.index] = (y.sum() + 1) / (len(y) + 2)
            continue
        spread = float(x.std()) or 1.0
        coef, intercept = fit_logistic(x / spread, y, np.array([LOOSE]), balanced=False)
        chance[rows.index] = expit(rows["score"] / spread * coef[0, 0] + intercept[0])
    return chance
