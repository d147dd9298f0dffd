import numpy as np
import pandas as pd
import pytest

from hsa.evaluation.alignment import DIRECTIONS
from hsa.evaluation.evaluate import evaluate
from hsa.evaluation.probe import majority, probe_folds
from hsa.files import REPOSITORY, read_json, write_json
from hsa.study.study import load


@pytest.fixture
def study(tmp_path):
    """Two methods, few draws."""
    text = (REPOSITORY / "studies/smoke.yml").read_text()
    head, tail = text.split("methods:\n")
    methods = "methods:\n  classification_only: {title: Baseline}\n  full: {title: Full}\n"
    (tmp_path / "two.yml").write_text(head + methods + tail[tail.index("baseline:") :])
    return load(tmp_path / "two.yml")


def frames(signal, pairing, n=60, seed=0):
    """H&E and IHC embeddings of n cases in 3 folds; `signal` separates labels, `pairing` ties partners."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(n) % 2
    rows = {"HE": [], "P53": []}
    for fold in range(3):
        shared = rng.standard_normal((n, 8))
        for stain in rows:
            noise = rng.standard_normal((n, 8))
            values = pairing * shared + noise
            values[:, 0] = noise[:, 0] + signal * label
            split = np.select([np.arange(n) % 3 == fold, np.arange(n) % 3 == (fold + 1) % 3], ["test", "val"], "train")
            case = [f"c{i:02}" for i in range(n)]
            frame = pd.DataFrame(values, columns=[f"v{i}" for i in range(8)])
            frame = frame.assign(case_id=case, patient_id=case, fold=fold, split=split, label=label, stain=stain)
            rows[stain].append(frame.assign(slide_id=[f"{c}-{stain}" for c in case]))
    return tuple(pd.concat(parts, ignore_index=True) for parts in rows.values())


def judge(study, pairs, folder, seeds=(0,)):
    """Probe and evaluate, as the steps of a study do; a second seed sees the same embeddings."""
    chosen = study.model_copy(update={"seeds": list(seeds)})
    he = {name: both[0] for name, both in pairs.items()}
    predicted = {"majority": majority(he["full"]), **{name: probe_folds(frame, 0)[0] for name, frame in he.items()}}
    predictions = {
        name: pd.concat([frame.assign(seed=seed) for seed in seeds], ignore_index=True)
        for name, frame in predicted.items()
    }
    ceilings = {"oracle": predictions["full"]}
    return evaluate(chosen, "P53", predictions, ceilings, lambda name, seed: pairs[name], {}, folder)


@pytest.fixture
def found(study, tmp_path):
    pairs = {"classification_only": frames(0, 0, seed=1), "full": frames(4, 3, seed=1)}
    return judge(study, pairs, tmp_path / "out"), tmp_path / "out"


def test_a_method_that_knows_is_told_from_one_that_does_not(found):
    prediction = found[0]["prediction"]
    assert prediction["full"]["roc_auc"]["low"] > 0.8
    assert (
        prediction["classification_only"]["roc_auc"]["low"] < 0.5 < prediction["classification_only"]["roc_auc"]["high"]
    )
    assert prediction["majority"]["roc_auc"]["value"] == 0.5
    assert found[0]["difference"]["metrics"]["roc_auc"]["low"] > 0
    assert found[0]["difference"]["delong"]["p"] < 0.01 and found[0]["difference"]["delong"]["value"] > 0.2


def test_paired_embeddings_are_told_from_unpaired_ones(found):
    aligned = found[0]["alignment"]
    assert aligned["full"]["alignment"]["low"] > 0.5
    assert aligned["classification_only"]["alignment"]["low"] < 0 < aligned["classification_only"]["alignment"]["high"]
    assert aligned["full"]["recall_1"]["value"] > 0.5 > aligned["classification_only"]["recall_1"]["value"]
    assert found[0]["difference"]["alignment"]["p"] < 0.01


def test_what_is_written_is_what_is_returned(found, study):
    values, folder = found
    write_json(folder / "evaluation.json", values)  # as the step does
    assert read_json(folder / "evaluation.json") == values
    predictions = pd.read_csv(folder / "predictions.csv")
    assert set(predictions["method"]) == {"majority", "oracle", *study.methods}
    assert len(predictions) == 4 * 2 * 60
    recall = pd.read_csv(folder / "recall.csv").pivot(index=["method", "k"], columns="direction", values="recall")
    assert (recall[DIRECTIONS[0]] != recall[DIRECTIONS[1]]).any()
    for (method, k), row in recall.iterrows():
        for way, name in zip(DIRECTIONS, (f"recall_{k}", f"recall_{k}_back"), strict=True):
            assert values["alignment"][method][name]["value"] == pytest.approx(row[way])
    assert {path.name for path in folder.iterdir()} == {
        "evaluation.json",
        *(f"{name}.csv" for name in ("predictions", "alignment", "recall", "geometry", "umap")),
    }


def test_predictions_do_not_depend_on_ihc(study, tmp_path, found):
    he, ihc = frames(4, 3, seed=1)
    scrambled = ihc.assign(**{f"v{i}": np.random.default_rng(9).standard_normal(len(ihc)) for i in range(8)})
    pairs = {"classification_only": frames(0, 0, seed=1), "full": (he, scrambled)}
    again = judge(study, pairs, tmp_path / "other")
    assert again["prediction"] == found[0]["prediction"]
    assert again["alignment"]["full"] != found[0]["alignment"]["full"]


def test_validation_cases_are_kept_but_not_scored(study, tmp_path):
    pairs = {"classification_only": frames(0, 0, seed=1), "full": frames(4, 3, seed=1)}
    predicted = {name: probe_folds(both[0], 0)[0].assign(seed=0) for name, both in pairs.items()}
    wrong = {
        name: f.assign(score=f["score"].where(f["split"] == "test", 1 - f["score"])) for name, f in predicted.items()
    }
    given = study, "P53", wrong, {}, lambda name, seed: pairs[name], {}, tmp_path
    assert evaluate(*given)["prediction"]["full"]["roc_auc"]["value"] > 0.9
    assert set(pd.read_csv(tmp_path / "predictions.csv")["split"]) == {"val", "test"}


def test_two_equal_seeds_say_what_one_says(study, tmp_path, found):
    pairs = {"classification_only": frames(0, 0, seed=1), "full": frames(4, 3, seed=1)}
    twice = judge(study, pairs, tmp_path / "twice", seeds=(0, 1))
    assert twice["cases"] == found[0]["cases"]
    for name in ("full", "majority"):
        one, two = found[0]["prediction"][name]["roc_auc"], twice["prediction"][name]["roc_auc"]
        assert [two[key] for key in ("value", "low", "high")] == pytest.approx(
            [one[key] for key in ("value", "low", "high")]
        )
        assert two["seed_sd"] == pytest.approx(0) and one["seed_sd"] is None
    assert twice["difference"]["delong"]["p"] == pytest.approx(found[0]["difference"]["delong"]["p"])
    assert twice["alignment"]["full"]["recall_1"] == found[0]["alignment"]["full"]["recall_1"]


def test_every_method_is_held_against_the_baseline_and_the_size_of_the_cohort_is_judged(found):
    assert set(found[0]["against_baseline"]) == {"full"}
    assert found[0]["against_baseline"]["full"]["roc_auc"]["low"] > 0
    gain = found[0]["full_against"]["classification_only"]
    assert gain == found[0]["against_baseline"]["full"]  # full minus baseline, either way
    assert 0.1 < found[0]["power"]["detectable"] < 0.25
