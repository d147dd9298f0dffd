import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from hsa.errors import InputError
from hsa.evaluation.metrics import point
from hsa.evaluation.probe import feature_columns, majority, probe_folds, search_strength


def embeddings(cases=60, dim=12, shift=0.0, folds=5, seed=0):
    """H&E embeddings of folds whose classes lie `shift` apart along the first feature."""
    rng = np.random.default_rng(seed)
    label = np.arange(cases) % 2
    features = rng.standard_normal((cases, dim)).astype(np.float32)
    features[:, 0] += shift * label
    part = np.arange(cases) // 2 % 5  # both classes in every part
    frames = []
    for fold in range(folds):
        frame = pd.DataFrame(features, columns=[f"v{i}" for i in range(dim)])
        frame = frame.assign(case_id=[f"c{i:03d}" for i in range(cases)], stain="HE", fold=fold, label=label)
        frame["patient_id"] = [f"p{i:03d}" for i in range(cases)]
        frame["slide_id"] = frame["case_id"] + "_HE"
        frame["split"] = np.where(part == fold, "test", np.where(part == (fold + 1) % 5, "val", "train"))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def on_test(frame, seed):
    """Predictions of the test rows."""
    predictions, _ = probe_folds(frame, seed)
    return predictions[predictions["split"] == "test"].reset_index(drop=True)


def test_separable_classes_are_found_and_every_case_is_predicted_once():
    predictions = on_test(embeddings(shift=6.0), seed=0)
    assert list(predictions.columns) == ["case_id", "patient_id", "fold", "split", "label", "score", "pred"]
    assert sorted(predictions["case_id"]) == sorted(set(embeddings()["case_id"]))
    assert point(predictions)["roc_auc"] > 0.97
    assert (predictions["pred"] == (predictions["score"] > 0.5)).all()


def test_noise_stays_near_chance():
    assert 0.35 < point(on_test(embeddings(cases=150, seed=3, folds=3), seed=0))["roc_auc"] < 0.65


def test_shuffled_labels_are_at_chance_where_true_labels_are_not():
    frame = embeddings(cases=150, shift=3.0, folds=2)
    order = np.random.default_rng(1).permutation(150)
    shuffled = frame.assign(label=np.tile(frame["label"].to_numpy()[:150][order], 2))
    assert point(on_test(frame, seed=0))["roc_auc"] > 0.9
    assert 0.35 < point(on_test(shuffled, seed=0))["roc_auc"] < 0.65


def test_a_fold_is_scikit_learns_random_search_on_its_train_rows():
    frame = embeddings(shift=1.0, dim=60, folds=1)
    frame.loc[15:40, "label"] = 0  # unequal classes
    ours = on_test(frame, seed=7)
    fold = frame.sample(frac=1, random_state=0).sort_values("case_id")
    train, test = fold[fold["split"] == "train"], fold[fold["split"] == "test"]
    names = feature_columns(frame)
    scaler = StandardScaler().fit(train[names].to_numpy(float))
    search = RandomizedSearchCV(
        LogisticRegression(class_weight="balanced", max_iter=10000),
        {"C": np.logspace(-3, 2, 100)},
        n_iter=40,
        cv=5,
        scoring="average_precision",
        random_state=7,
    )
    x = scaler.transform(train[names].to_numpy(float))
    with threadpool_limits(1):
        search.fit(x, train["label"])
    strength, scores = search_strength(x, train["label"].to_numpy(), train["patient_id"].to_numpy(), 7)
    assert strength == search.best_params_["C"]
    np.testing.assert_allclose(list(scores), [p["C"] for p in search.cv_results_["params"]])
    np.testing.assert_allclose(list(scores.values()), search.cv_results_["mean_test_score"], atol=1e-8)
    expected = search.predict_proba(scaler.transform(test[names].to_numpy(float)))[:, 1]
    np.testing.assert_allclose(ours["score"], expected, atol=1e-12)


def test_row_order_and_validation_rows_do_not_matter():
    frame = embeddings(shift=1.0, dim=60, folds=1)
    expected = on_test(frame, seed=0)
    changed = frame.sample(frac=1, random_state=0)
    changed.loc[changed["split"] == "val", "v0"] = 1e6
    pd.testing.assert_frame_equal(on_test(changed, seed=0), expected)


def test_inner_folds_keep_a_patient_together():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 2)
    label = rng.permutation(np.arange(40) % 2)[patient]
    fingerprint = rng.standard_normal((40, 60))[patient]  # recognises the patient, tells nothing of the class
    grouped = search_strength(fingerprint, label, patient, 0)[1]
    leaking = search_strength(fingerprint, label, np.arange(80), 0)[1]
    assert max(leaking.values()) > 0.8
    assert max(grouped.values()) < 0.7


def test_few_cases_of_a_class_give_fewer_inner_folds_and_one_gives_the_default():
    x = np.random.default_rng(0).standard_normal((12, 3))
    label = np.zeros(12, int)
    label[:3] = 1
    assert len(search_strength(x, label, np.arange(12), 0)[1]) == 40
    label[1:3] = 0
    assert search_strength(x, label, np.arange(12), 0) == (1.0, {})


def test_validation_cases_are_predicted_and_the_stored_probe_gives_the_same_scores():
    frame = embeddings(shift=1.0)
    predictions, probes = probe_folds(frame, seed=0)
    assert sorted(predictions["split"].value_counts()) == [60, 60]
    names = feature_columns(frame)
    for probe in probes:
        rows = predictions[predictions["fold"] == probe["fold"]]
        keys = frame[frame["fold"] == probe["fold"]].set_index("case_id").loc[rows["case_id"], names]
        logit = (keys.to_numpy(float) - probe["mean"]) / probe["scale"] @ probe["coef"] + probe["intercept"]
        np.testing.assert_allclose(1 / (1 + np.exp(-logit)), rows["score"], atol=1e-9)


def test_training_cases_without_a_label_are_not_used():
    frame = embeddings(shift=1.0)
    unknown = (frame["split"] == "train") & (frame["case_id"] > "c040")
    frame.loc[unknown, "split"] = "pairs"
    expected = on_test(frame[~unknown], seed=0)
    frame.loc[unknown, "v0"] = 1e6
    pd.testing.assert_frame_equal(on_test(frame, seed=0), expected)


def test_the_ihc_ceiling_is_asked_for_by_name():
    frame = embeddings(shift=6.0).assign(stain="P53")
    assert point(probe_folds(frame, 0, "P53")[0].query("split == 'test'"))["roc_auc"] > 0.97
    with pytest.raises(InputError, match="P53 alone"):
        probe_folds(embeddings(), 0, "P53")


def test_another_stain_is_refused():
    frame = embeddings()
    frame.loc[3, "stain"] = "P53"
    with pytest.raises(InputError, match="HE alone"):
        probe_folds(frame, seed=0)
    with pytest.raises(InputError, match="HE alone"):
        probe_folds(embeddings().drop(columns="stain"), seed=0)


@pytest.mark.parametrize(
    ("column", "rows", "value", "message"),
    [
        ("v3", lambda f: f.index == 5, np.nan, "NaN or infinity"),
        ("split", lambda f: (f["case_id"] == "c000") & (f["fold"] == 3), "test", "tested in two folds"),
        ("patient_id", lambda f: f["case_id"].isin(["c000", "c004"]), "p0", "two splits of one fold"),
        ("label", lambda f: f["case_id"] == "c001", np.nan, "labels be 0, 1 or -1"),
        ("label", lambda f: f["split"] == "train", 1, "every class in train"),
        ("split", lambda f: f["fold"] == 1, "training", "train, pairs, val or test"),
        ("case_id", lambda f: f["case_id"] == "c000", "c010", "twice in one fold"),
    ],
)
def test_wrong_folds_are_refused(column, rows, value, message):
    frame = embeddings()
    if column == "label":
        frame["label"] = frame["label"].astype(float)
    frame.loc[rows(frame), column] = value
    with pytest.raises(InputError, match=message):
        probe_folds(frame, seed=0)


def test_missing_feature_is_refused():
    with pytest.raises(InputError, match="without a gap"):
        probe_folds(embeddings().drop(columns="v4"), seed=0)


def test_majority_predicts_the_commoner_class_and_ranks_nothing():
    frame = embeddings(cases=60)
    flipped = frame["case_id"].isin(["c000", "c002", "c004", "c010", "c012", "c020"])
    frame.loc[flipped, "label"] = 1
    predictions = majority(frame)
    predictions = predictions[predictions["split"] == "test"]
    assert (predictions["pred"] == 1).all()
    assert predictions["score"].nunique() == 1
    assert predictions["score"].iloc[0] == pytest.approx(36 / 60, abs=0.02)
    values = point(predictions)
    assert values["roc_auc"] == 0.5
    assert values["balanced_accuracy"] == 0.5


def test_rows_without_a_label_change_nothing():
    frame = embeddings(shift=1.0)
    unknown = embeddings(cases=20, seed=5).assign(label=-1)
    unknown = unknown.assign(**{name: "u" + unknown[name] for name in ("case_id", "patient_id")})
    both = pd.concat([frame, unknown], ignore_index=True)
    pd.testing.assert_frame_equal(probe_folds(both, 0)[0], probe_folds(frame, 0)[0])
    pd.testing.assert_frame_equal(majority(both), majority(frame))


def three_classes():
    frame = embeddings(cases=90, shift=2.0, folds=5)
    category = frame["label"] * (1 + (frame["case_id"].str[1:].astype(int) // 10 % 2))
    frame["v1"] += 3.0 * (category == 2)
    return frame.assign(category=category, label=(category >= 2).astype(int))


def test_three_classes_are_a_multinomial_regression():
    frame = three_classes()
    predictions, probes = probe_folds(frame, 0, first_positive=2)
    names = feature_columns(frame)
    for fold, probe in enumerate(probes):
        rows = frame[frame["fold"] == fold]
        train, test = (rows[rows["split"] == split].sort_values("case_id") for split in ("train", "test"))
        scaler = StandardScaler().fit(train[names].to_numpy(float))
        direct = LogisticRegression(C=probe["c"], class_weight="balanced", max_iter=10_000)
        direct.fit(scaler.transform(train[names].to_numpy(float)), train["category"])
        chance = direct.predict_proba(scaler.transform(test[names].to_numpy(float)))
        found = predictions[(predictions["fold"] == fold) & (predictions["split"] == "test")]
        np.testing.assert_allclose(found["score"], chance[:, 2], atol=1e-6)
        np.testing.assert_array_equal(found["pred_category"], chance.argmax(1))
        np.testing.assert_array_equal(found["pred"], chance.argmax(1) == 2)
    assert (predictions["category"] == predictions["pred_category"]).mean() > 0.6
    assert list(majority(frame).columns) == list(predictions.columns)
    assert set(majority(frame)["pred_category"]) == {0}


def test_a_class_that_a_fold_does_not_train_on_is_told():
    frame = three_classes()
    frame = frame[~((frame["fold"] == 1) & (frame["split"] == "train") & (frame["category"] == 2))]
    with pytest.raises(InputError, match=r"fold 1: .*every class in train"):
        probe_folds(frame, 0, first_positive=2)
