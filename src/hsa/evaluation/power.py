"""Which difference of two AUCs a study can see, before the study is run."""

import math

from scipy.optimize import brentq
from scipy.special import owens_t
from scipy.stats import norm

from hsa.errors import InputError


def auc_variance(auc: float, positives: float, negatives: float) -> float:
    """Compute the variance of an estimated AUC.

    Hanley & McNeil 1982. Their Q1 and Q2, the chance that two cases of one class are both ranked rightly against
    one of the other, are taken for normal scores of equal variance, not from their approximation by exponential
    scores: that makes the standard error 12 to 16 % too large for normal scores at prevalence 0.17, and a study larger
    than need be.

    Args:
        auc: the true AUC.
        positives: number of positive cases.
        negatives: number of negative cases.

    Returns:
        The variance.
    """
    q = auc - 2 * owens_t(norm.ppf(auc), 1 / math.sqrt(3))  # bivariate normal with correlation 1/2; Q1 = Q2
    spread = auc * (1 - auc) + (positives + negatives - 2) * (q - auc**2)
    return float(spread / (positives * negatives))


def detectable_difference(
    cases: float,
    prevalence: float,
    auc: float = 0.75,
    correlation: float = 0.6,
    power: float = 0.8,
    level: float = 0.05,
    seeds: int = 1,
    seed_sd: float = 0.0,
) -> float:
    """Compute the smallest AUC difference that a two-sided DeLong test of two methods detects.

    The methods score the same cases, one a patient, so the variance of the difference is
    V1 + V2 - 2 r sqrt(V1 V2) (Hanley & McNeil 1983). It is taken at the alternative, as DeLong's is. A statement on
    methods, not on trained models, adds the variance of the mean over training seeds.

    Args:
        cases: number of cases.
        prevalence: share of positive cases.
        auc: AUC of the worse method.
        correlation: r, of the two AUC estimates; a little below that of the scores within a class.
        power: chance that the test rejects when the difference is real.
        level: chance that it rejects when there is none.
        seeds: number of training seeds over which the difference is averaged.
        seed_sd: SD of the difference from seed to seed.

    Returns:
        The difference.

    Raises:
        InputError: an argument is out of range, or even an AUC of 1 would not be told from `auc`.
    """
    _check(prevalence, auc, correlation, power, level)
    if seeds < 1 or seed_sd < 0:
        raise InputError(f"power: seeds is {seeds}, seed_sd {seed_sd}; give one seed or more, and an SD of 0 or more.")
    positives, negatives = cases * prevalence, cases * (1 - prevalence)
    if min(positives, negatives) < 2:
        raise InputError(f"power: {cases} cases at prevalence {prevalence} leave a class with fewer than 2; add cases.")
    reach = norm.ppf(1 - level / 2) + norm.ppf(power)
    base, scatter = auc_variance(auc, positives, negatives), seed_sd**2 / seeds

    def excess(difference: float) -> float:
        other = auc_variance(auc + difference, positives, negatives)
        return difference - float(reach) * math.sqrt(base + other - 2 * correlation * math.sqrt(base * other) + scatter)

    most = 1 - auc
    if excess(most) < 0:
        raise InputError(f"power: {cases} cases cannot tell any AUC from {auc} with power {power}; add cases.")
    return float(brentq(excess, 0, most))


def _check(prevalence: float, auc: float, correlation: float, power: float, level: float) -> None:
    """Raise InputError where an argument is out of its range."""
    for name, value, low, high in (
        ("prevalence", prevalence, 0, 1),
        ("auc", auc, 0, 1),
        ("correlation", correlation, -1, 1),
        ("power", power, 0.5, 1),
        ("level", level, 0, 1),
    ):
        if not low < value < high:
            raise InputError(f"power: {name} is {value}; it must lie between {low} and {high}.")
