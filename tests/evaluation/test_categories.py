import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from hsa.errors import InputError
from hsa.evaluation import categories
from hsa.evaluation.metrics import patient_draws


def predictions(n=150, seeds=1, seed=0, keep=0.6):
    rng = np.random.default_rng(seed)
    true = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    frames = []
    for run in range(seeds):
        said = np.where(rng.random(n) < keep, true, rng.choice(3, n))
        case = [f"c{i:03d}" for i in range(n)]
        patient = [f"p{i // 2}" for i in range(n)]
        frames.append(
            pd.DataFrame({"case_id": case, "patient_id": patient, "category": true, "pred_category": said, "seed": run})
        )
    return pd.concat(frames, ignore_index=True)


def expected(frame):
    true, said = frame["category"], frame["pred_category"]
    average = {"average": "macro", "zero_division": 0}
    return {
        "weighted_f1": metrics.f1_score(true, said, average="weighted"),
        "macro_precision": metrics.precision_score(true, said, **average),
        "macro_recall": metrics.recall_score(true, said, **average),
        "quadratic_kappa": metrics.cohen_kappa_score(true, said, weights="quadratic"),
    }


def test_metrics_are_those_of_scikit_learn_averaged_over_seeds():
    frame = predictions(seeds=2)
    found = categories.score(frame, 4, draws=50)
    runs = [expected(table) for _, table in frame.groupby("seed")]
    for name in categories.METRICS:
        assert found[name]["value"] == pytest.approx(np.mean([run[name] for run in runs]))
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
        assert found[name]["n"] == 150 and found[name]["seeds"] == 2


def test_intervals_are_those_of_a_naive_loop_over_the_same_patients():
    frame = predictions(n=40, seeds=2).sample(frac=1, random_state=0)
    found = categories.score(frame, 4, draws=60, seed=3)
    runs = [run.sort_values("case_id", ignore_index=True) for _, run in frame.groupby("seed")]
    draws = np.concatenate(list(patient_draws(runs[0]["patient_id"], 60, 3))).astype(int)
    scores = pd.DataFrame(expected(run.loc[run.index.repeat(draw)]) for draw in draws for run in runs)
    low, high = scores.groupby(np.arange(120) // 2).mean().quantile([0.025, 0.975]).to_numpy()
    for name, bounds in zip(scores, zip(low, high, strict=True), strict=True):
        assert (found[name]["low"], found[name]["high"]) == pytest.approx(bounds)


def test_agreement_on_a_single_class_is_no_agreement_beyond_chance():
    frame = predictions().assign(category=1, pred_category=1)
    assert categories.score(frame, 4, draws=5)["quadratic_kappa"]["value"] == 0


def test_a_class_nobody_has_or_predicts_does_not_count():
    frame = predictions()
    for name, value in expected(frame).items():
        assert categories.score(frame, 6, draws=5)[name]["value"] == pytest.approx(value)


def test_patients_are_drawn_not_cases():
    frame = predictions(n=200)
    twice = frame.assign(case_id=frame["case_id"] + "b")
    both = pd.concat([frame, twice], ignore_index=True)
    width = [
        np.ptp([s["low"], s["high"]]) for s in (categories.score(f, 4, 400)["macro_recall"] for f in (frame, both))
    ]
    assert width[1] == pytest.approx(width[0], rel=0.1)


def test_the_confusion_holds_every_case():
    frame = predictions(seeds=2)
    table = categories.confusion(frame, ["0", "1+", "2+", "3+"])
    assert table.to_numpy().sum() == pytest.approx(150)
    first = ((frame["category"] == 1) & (frame["pred_category"] == 2)).sum() / 2
    assert table.loc["1+", "2+"] == first


def test_the_confusion_of_two_classes_is_that_of_their_labels():
    frame = predictions(seeds=2)
    frame["label"], frame["pred"] = frame["category"] >= 2, frame["pred_category"] >= 3
    frame[["label", "pred"]] = frame[["label", "pred"]].astype(int)
    table = categories.confusion(frame, ["low", "high"])
    assert table.to_numpy() == pytest.approx(metrics.confusion_matrix(frame["label"], frame["pred"]) / 2)
    alone = frame.drop(columns=["category", "pred_category"])
    pd.testing.assert_frame_equal(categories.confusion(alone, ["low", "high"]), table)


def test_wrong_predictions_are_refused():
    with pytest.raises(InputError, match="category must be 0 to 1"):
        categories.score(predictions(), 2)
    with pytest.raises(InputError, match=r"\['category'\] is missing"):
        categories.score(predictions().drop(columns="category"), 4)
