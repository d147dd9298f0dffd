import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from hsa.errors import InputError
from hsa.evaluation.comparison import delong
from hsa.evaluation.power import auc_variance, detectable_difference


def two_methods(rng, cases, prevalence, aucs, correlation):
    """Normal scores of two methods, correlated within a class; the AUCs are those of an endless cohort."""
    label = (rng.random(cases) < prevalence).astype(int)
    shared = rng.standard_normal(cases)
    frames = []
    for auc in aucs:
        noise = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.standard_normal(cases)
        score = np.sqrt(2) * norm.ppf(auc) * label + noise
        frame = pd.DataFrame({"case_id": np.arange(cases), "patient_id": np.arange(cases), "label": label})
        frames.append(frame.assign(score=score, pred=0))
    return frames


def auc_correlation(first, second):
    """Give the correlation of two AUCs from the standard errors of each, against chance, and of their difference."""
    chance = first.assign(score=0.0)
    one, other, both = (delong(*pair)["se"] for pair in ((chance, first), (chance, second), (first, second)))
    return (one**2 + other**2 - both**2) / (2 * one * other)


def test_delong_finds_the_detectable_difference_as_often_as_it_was_planned():
    rng = np.random.default_rng(0)
    correlation = auc_correlation(*two_methods(rng, 40_000, 0.3, (0.75, 0.83), 0.6))
    assert 0.5 < correlation < 0.6  # a little below that of the scores
    difference = detectable_difference(250, 0.3, auc=0.75, correlation=correlation)
    pairs = (two_methods(rng, 250, 0.3, (0.75, 0.75 + difference), 0.6) for _ in range(300))
    found = np.mean([delong(*pair)["p"] < 0.05 for pair in pairs])
    error = np.sqrt(0.8 * 0.2 / 300)
    assert abs(found - 0.8) < 2.5 * error
    assert detectable_difference(250, 0.3, correlation=correlation, power=0.65) < 0.85 * difference


@pytest.mark.parametrize("auc", [0.65, 0.85])
def test_the_variance_of_an_auc_is_that_of_simulated_cohorts(auc):
    rng = np.random.default_rng(1)
    up = np.sqrt(2) * norm.ppf(auc) + rng.standard_normal((16_000, 20, 1))
    seen = (up > rng.standard_normal((16_000, 1, 60))).mean(axis=(1, 2))
    assert seen.mean() == pytest.approx(auc, abs=0.005)
    assert auc_variance(auc, 20, 60) == pytest.approx(seen.var(), rel=0.03)  # its own error is sqrt(2 / 16,000) = 1.1 %


def test_without_signal_the_variance_is_mann_whitneys():
    assert auc_variance(0.5, 20, 60) == pytest.approx((20 + 60 + 1) / (12 * 20 * 60))
    assert auc_variance(1.0, 20, 60) == 0


def test_more_cases_balance_and_correlation_show_smaller_differences():
    usual = detectable_difference(500, 0.3)
    assert detectable_difference(1000, 0.3) < usual < detectable_difference(250, 0.3)
    assert detectable_difference(500, 0.5) < usual < detectable_difference(500, 0.1)
    assert detectable_difference(500, 0.3, correlation=0.9) < usual < detectable_difference(500, 0.3, correlation=0)
    assert detectable_difference(500, 0.3, level=0.2) < usual < detectable_difference(500, 0.3, power=0.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: detectable_difference(500, 1.2), "prevalence is 1.2"),
        (lambda: detectable_difference(5, 0.1), "fewer than 2"),
        (lambda: detectable_difference(20, 0.5, auc=0.95), "add cases"),
    ],
)
def test_plans_out_of_range_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_seeds_that_scatter_hide_a_difference_and_more_of_them_show_it():
    alone = detectable_difference(500, 0.3)
    several = [detectable_difference(500, 0.3, seeds=seeds, seed_sd=0.03) for seeds in (2, 5, 50_000)]
    assert several[0] > several[1] > several[2]
    assert several[2] == pytest.approx(alone, abs=1e-4)
    error = alone / (norm.ppf(0.975) + norm.ppf(0.8))
    wide = several[1] / (norm.ppf(0.975) + norm.ppf(0.8))
    assert wide**2 - error**2 == pytest.approx(0.03**2 / 5, rel=0.05)
    with pytest.raises(InputError, match="give one seed or more"):
        detectable_difference(500, 0.3, seeds=0)
