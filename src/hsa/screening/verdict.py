"""Where log odds become a probability, and a probability a call. A number that is not finite becomes neither."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from hsa.errors import InputError


def numbers(logits: np.ndarray) -> dict[str, float]:
    """Probability (of the mean log odds), low and high: the least and the most that one fold's model says.

    They are the spread of the models, not a confidence interval. The probe weighs all classes equally: the
    probability is that of a population in which each is as common.

    Args:
        logits: log odds of the positive class, by fold (F,).

    Raises:
        InputError: one is not finite.
    """
    found = {"probability": _mean(logits), "low": logits.min(), "high": logits.max()}
    return {name: float(expit(value)) for name, value in found.items()}


def class_of(logits: np.ndarray, classes: Sequence[str]) -> str:
    """Name the class (of negative, positive) that is called: the positive one above a probability of 0.5.

    Raises:
        InputError: log odds (F,) that are not finite.
    """
    return classes[int(expit(_mean(logits)) > 0.5)]


def stain_or_wait(logits: np.ndarray, threshold: float) -> str:
    """Say "stain" where the mean of the log odds (F,) is at or above the threshold, else "wait".

    Raises:
        InputError: log odds that are not finite, or a threshold that is NaN. At -inf everything is stained.
    """
    if np.isnan(threshold):
        raise InputError("the threshold of the worklist is not a number; evaluate the study again.")
    return "stain" if _mean(logits) >= threshold else "wait"


def _mean(logits: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(np.mean(logits)) if len(logits) and np.isfinite(logits).all() else np.nan
    if not np.isfinite(mean):
        raise InputError(
            f"the models' log odds are {[float(value) for value in logits]}, expected finite numbers: no prediction. "
            "Copy the model's folder again, or train it again."
        )
    return mean
