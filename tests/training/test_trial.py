from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from hsa.errors import InputError
from hsa.evaluation.alignment import recall_hits, similarities
from hsa.study.settings import Method
from hsa.training import follow, trial
from hsa.training.fit import fit


@pytest.fixture(autouse=True)
def every_second_epoch(monkeypatch):
    monkeypatch.setattr(follow, "EVERY", 2)


def longer(study, **changes):
    return study.model_copy(update={"training": study.training.model_copy(update={"epochs": 5, **changes})})


@pytest.fixture
def study(tiny_study):
    return longer(tiny_study)


def course_of(study, cohort, method="full", fold=0):
    train, folds = trial.trainer(study, cohort, "P53", method)
    return train(study.training, fold), folds[folds["fold"] == fold].reset_index(drop=True)


def test_every_few_epochs_the_last_and_the_published_choice_are_kept(study, tiny_cohort):
    course, cases = course_of(study, tiny_cohort)
    totals = [row["val"]["total"] for row in course.history]
    assert course.published == 1 + totals.index(min(totals))
    assert set(course.kept) == {2, 4, 5, course.published}
    assert course.regular == [2, 4, 5]
    for shot in course.kept.values():
        assert shot.he.shape == (len(cases), 16)
        assert shot.ihc.shape == ((cases["split"] == "test").sum(), 16)
    assert not np.array_equal(course.kept[2].he, course.kept[5].he)


def test_the_published_choice_is_what_the_published_way_of_training_ends_with(study, tiny_cohort, tmp_path):
    he, ihc = fit(study, tiny_cohort, "P53", "full", tmp_path, progress=False)
    course, cases = course_of(study, tiny_cohort, fold=1)
    vectors = [f"v{i}" for i in range(16)]
    rows = he[he["fold"] == 1].set_index("case_id").loc[cases["case_id"], vectors]
    np.testing.assert_allclose(course.kept[course.published].he, rows.to_numpy(), atol=1e-6)
    test = cases[cases["split"] == "test"]
    rows = ihc[ihc["fold"] == 1].set_index("case_id").loc[test["case_id"], vectors]
    np.testing.assert_allclose(course.kept[course.published].ihc, rows.to_numpy(), atol=1e-6)


def test_nothing_is_trained_without_losses(study, tiny_cohort):
    course, _ = course_of(study, tiny_cohort, "mean")
    assert (list(course.kept), course.published, course.history) == ([0], 0, [])


def test_a_loss_that_is_not_finite_is_told(study, tiny_cohort):
    with pytest.raises(InputError, match="not a finite number in epoch 0"):
        course_of(longer(study, lr=1e30, warmup_epochs=0), tiny_cohort)


def test_a_unit_scores_every_test_case_once_under_every_rule(study, tiny_cohort):
    train, folds = trial.trainer(study, tiny_cohort, "P53", "full")
    found = trial.run(train, folds, study.training, 0.1)
    assert sorted(found.cases["case_id"]) == sorted(folds["case_id"].unique())
    assert found.cases.notna().all(axis=None)
    assert found.cases["chance"].between(0, 1).all()
    for row in found.folds.itertuples():
        assert row.validated in (2, 4, 5)
        assert row.last == 5
        assert row.pairs == (found.cases["fold"] == row.fold).sum()
        here = found.cases[found.cases["fold"] == row.fold]
        if row.published == row.last:
            np.testing.assert_array_equal(here["score_last"], here["score_published"])
    assert set(found.losses.columns) > {"fold", "epoch", "train_total", "val_info_nce"}
    assert len(found.losses) == 3 * 5


def test_a_unit_is_the_same_when_it_is_made_again_and_another_with_another_seed(study, tiny_cohort):
    torch.manual_seed(5)
    outcomes = []
    for one in (study, study, study.at(9)):
        train, folds = trial.trainer(one, tiny_cohort, "P53", "full")
        outcomes.append(trial.run(train, folds, one.training, 0.1).cases)
    pd.testing.assert_frame_equal(outcomes[0], outcomes[1])
    assert (outcomes[0]["score_last"] != outcomes[2]["score_last"]).any()


def test_pairs_are_measured_as_elsewhere_in_the_package(study, tiny_cohort, tmp_path):
    he, ihc = fit(study, tiny_cohort, "P53", "mean", tmp_path, progress=False)
    train, folds = trial.trainer(study, tiny_cohort, "P53", "mean")
    found = trial.run(train, folds, study.training, 0.1).cases.sort_values("case_id", ignore_index=True)
    both = pd.concat([he, ihc], ignore_index=True)
    for name in ("paired", "shuffled"):
        np.testing.assert_allclose(found[name], similarities(both)[name], atol=1e-6)
    hits = recall_hits(both, [1]).query("direction == 'H&E to IHC'").sort_values("case_id")
    np.testing.assert_allclose(found["hit"], hits["hit"], atol=1e-6)


def test_labels_of_test_cases_and_their_sections_play_no_part_in_prediction(study, tiny_cohort):
    train, folds = trial.trainer(study, tiny_cohort, "P53", "full")
    before = trial.run(train, folds, study.training, 0.1).cases
    test = folds["split"] == "test"
    turned = folds.assign(label=np.where(test, 1 - folds["label"], folds["label"]))
    after = trial.run(train, turned, study.training, 0.1).cases
    scores = ["score_validated", "score_last", "score_published", "chance"]
    pd.testing.assert_frame_equal(before[scores], after[scores])
    assert (before["label"] != after["label"]).all()


def test_a_control_of_the_pairs_is_trained_otherwise_and_measured_on_the_same_pairs(study, tiny_cohort):
    full = study.methods["full"]
    other = full.model_copy(update={"pairs": "shuffled"})
    both = study.model_copy(update={"methods": {"full": full, "shuffled": other}})
    parts = {}
    for method in both.methods:
        train, folds = trial.trainer(both, tiny_cohort, "P53", method)
        parts[method] = folds, trial.run(train, folds, both.training, 0.1).cases
    (own, first), (shuffled, second) = parts.values()
    test = own["split"] == "test"
    assert (own.loc[test, "ihc"] == shuffled.loc[test, "ihc"]).all()
    assert (own.loc[~test, "ihc"] != shuffled.loc[~test, "ihc"]).all()
    assert (first["score_last"] != second["score_last"]).any()
    assert first["case_id"].tolist() == second["case_id"].tolist()


def test_cases_without_a_label_or_a_pair_are_left_blank(study, tiny_cohort):
    labels = tiny_cohort.labels.copy().astype(float)
    labels.loc["C04"] = np.nan
    slides = tiny_cohort.slides[tiny_cohort.slides["slide_id"] != "C05_P53"]
    train, folds = trial.trainer(study, replace(tiny_cohort, slides=slides, labels=labels), "P53", "full")
    found = trial.run(train, folds, study.training, 0.1).cases.set_index("case_id")
    assert found.loc["C04", ["score_last", "chance"]].isna().all()
    assert found.loc["C05", ["paired", "shuffled", "hit"]].isna().all()
    assert found.drop(index=["C04", "C05"]).notna().all(axis=None)


def test_tuning_takes_the_setting_that_validates_best_and_looks_at_no_test_case(study, tiny_cohort):
    train, folds = trial.trainer(study, tiny_cohort, "P53", "classification_only")
    settings = [study.training.model_copy(update={"lr": lr}) for lr in (1e-9, 1e-2)]
    found = trial.tune(train, folds, settings)
    assert np.shape(found.validated) == (2, len(trial.STRENGTHS))
    best = np.array(found.validated).round(9)
    assert best[found.candidate].max() == best.max()
    assert found.strength in trial.STRENGTHS
    test = folds["split"] == "test"
    turned = folds.assign(label=np.where(test, 1 - folds["label"], folds["label"]))
    assert trial.tune(train, turned, settings) == found


def test_a_control_without_contrast_is_refused():
    with pytest.raises(ValueError, match="pairs: shuffled changes nothing"):
        Method(title="x", losses=["classification"], pairs="shuffled")
