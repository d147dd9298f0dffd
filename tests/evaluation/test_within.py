import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from hsa.errors import InputError
from hsa.evaluation.comparison import delong, with_seeds
from hsa.evaluation.within import contrast, mean_auc, verdict, within_folds


def methods(cases=100, folds=5, seeds=1, gap=1.0, gain=0.0, spread=0.0, rng=None, scales=None):
    """Give two methods whose scores share what a case looks like; `spread` is the SD of a seed's own gap."""
    rng = np.random.default_rng(0) if rng is None else rng
    label = np.arange(cases) % 4 == 0
    fold = np.arange(cases) // 4 % folds  # each class dealt evenly
    shared, frames = rng.standard_normal(cases), []
    for more in (0.0, gain):
        for seed in range(seeds):
            logit = (gap + more + spread * rng.standard_normal()) * label + 0.7 * shared
            logit += 0.7 * rng.standard_normal(cases)
            if scales is not None:
                logit = logit + np.asarray(scales)[fold]
            case = [f"c{i:03}" for i in range(cases)]
            frame = pd.DataFrame({"case_id": case, "patient_id": case, "fold": fold, "label": label.astype(int)})
            frames.append(frame.assign(seed=seed, score=logit, pred=(logit > 0).astype(int)))
    return pd.concat(frames[:seeds], ignore_index=True), pd.concat(frames[seeds:], ignore_index=True)


def test_each_fold_is_ranked_by_itself():
    first, _ = methods()
    for row in within_folds(first).itertuples():
        here = first[first["fold"] == row.fold]
        assert row.auc == pytest.approx(roc_auc_score(here["label"], here["score"]))
        assert (row.positives, row.negatives) == (here["label"].sum(), (here["label"] == 0).sum())


def test_the_scale_of_a_fold_changes_nothing():
    plain, shifted = (contrast(*methods(gain=0.4, scales=scales)) for scales in (None, [0, 3, -5, 1, 8]))
    assert plain == pytest.approx(shifted)


def test_one_fold_and_one_seed_is_delong():
    first, second = methods(folds=1, gain=0.5)
    found, known = contrast(first, second), delong(first.drop(columns="seed"), second.drop(columns="seed"))
    for key in ("value", "low", "high", "se", "p", "first", "second"):
        assert found[key] == pytest.approx(known[key]), key


def test_several_folds_have_the_variance_of_independent_parts():
    first, second = methods(cases=200, gain=0.5)
    parts = [delong(*(frame[frame["fold"] == k].drop(columns="seed") for frame in (first, second))) for k in range(5)]
    found = contrast(first, second)
    assert found["value"] == pytest.approx(np.mean([part["value"] for part in parts]))
    assert found["se"] == pytest.approx(np.sqrt(sum(part["se"] ** 2 for part in parts)) / 5)


def test_seeds_widen_the_interval_by_the_spread_of_their_mean():
    first, second = methods(cases=200, seeds=4, gain=0.3, spread=0.5)
    found = contrast(first, second)
    by_seed = [within_folds(frame).groupby("seed")["auc"].mean() for frame in (first, second)]
    assert found["seed_sd"] == pytest.approx((by_seed[1] - by_seed[0]).std())
    assert found["high"] - found["low"] > found["cases_high"] - found["cases_low"]
    assert found["seeds"] == 4
    assert found["n"] == 200


def test_a_method_against_itself_is_open():
    first, _ = methods(seeds=3)
    found = contrast(first, first)
    assert (found["value"], found["p"]) == (0, 1)
    assert verdict(found, found["p"]) == "open"


@pytest.mark.parametrize(("value", "p", "said"), [(0.1, 0.01, "higher"), (-0.1, 0.01, "lower"), (0.1, 0.05, "open")])
def test_a_verdict_can_be_harm(value, p, said):
    assert verdict({"value": value}, p) == said


def test_rejects_a_true_null_about_as_often_as_it_says():
    rng, rejected = np.random.default_rng(1), 0
    for _ in range(300):
        rejected += contrast(*methods(cases=120, seeds=3, spread=0.2, rng=rng))["p"] < 0.05
    assert 1 <= rejected <= 21  # 0.3 % to 7 %: wide rather than narrow


def test_cases_of_a_patient_are_no_independent_evidence():
    first, second = methods(cases=200, gain=0.5)
    twice = [pd.concat([f, f.assign(case_id=f["case_id"] + "b")], ignore_index=True) for f in (first, second)]
    assert contrast(*twice)["se"] == pytest.approx(contrast(first, second)["se"], rel=0.05)


def test_what_cannot_be_compared_is_told():
    first, second = methods()
    with pytest.raises(InputError, match="different folds"):
        contrast(first, second.assign(fold=(second["fold"] + 1) % 5))
    with pytest.raises(InputError, match="fold 2: its test cases are of one class"):
        within_folds(first[(first["fold"] != 2) | (first["label"] == 0)])
    few = first["case_id"].isin([*first.loc[first["label"] == 0, "case_id"], "c000", "c004", "c008"])
    with pytest.raises(InputError, match="fewer than two patients of a class"):
        contrast(first[few], second[few])


def test_an_interval_with_one_seed_is_that_over_cases():
    found = contrast(*methods(gain=0.5))
    assert (found["low"], found["high"]) == pytest.approx((found["cases_low"], found["cases_high"]))
    assert found["seed_sd"] is None
    assert with_seeds(found | {"n": 100})["value"] == found["value"]


def test_the_level_of_a_method_has_the_interval_that_its_difference_from_a_constant_has():
    first, _ = methods(seeds=3, spread=0.3)
    found = mean_auc(first)
    constant = contrast(first.assign(score=0.0), first)
    assert found["value"] == pytest.approx(0.5 + constant["value"])
    assert found["se"] == pytest.approx(constant["se"])
    assert found["high"] - found["value"] == pytest.approx(constant["high"] - constant["value"])
