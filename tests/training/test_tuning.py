import pandas as pd
import pytest

from hsa import files
from hsa.models import checkpoints
from hsa.pipeline import steps
from hsa.study.settings import Candidate, Tuning
from hsa.training import tuning

GOOD, BAD = Candidate(lr=1e-2), Candidate(lr=1e-9)


@pytest.fixture
def tuned(tiny_study):
    return tiny_study.model_copy(update={"tuning": Tuning(seed=9, candidates=[BAD, GOOD])})


@pytest.fixture
def quick(tuned, tiny_cohort, monkeypatch):
    """The steps of the tiny study, its cohort given."""
    for room in ("fit", "tuning"):
        monkeypatch.setattr(f"hsa.pipeline.steps.{room}.encoded", lambda *_: tiny_cohort)
    return tuned


def test_each_fold_takes_the_candidate_that_ranks_its_validation_cases_best(tuned, tiny_cohort, tmp_path):
    found = tuning.tune(tuned, tiny_cohort, "P53", "full", tmp_path / "t", progress=False)
    table = pd.read_csv(tmp_path / "t" / "trials.csv")
    assert len(table) == 2 * 3
    for fold, chosen in enumerate(found["folds"]):
        aucs = table[table["fold"] == fold].set_index("trial")["auc"]
        assert aucs[chosen] == aucs.max()
    assert found["candidates"] == [{"lr": 1e-9}, {"lr": 1e-2}]


def test_test_cases_do_not_decide(tuned, tiny_cohort, tmp_path, monkeypatch):
    def scores(he, seed, first_positive):
        """Validation favours the second trial in every fold, test the first."""
        second = he["v0"].iloc[0] == 1
        rows = he[he["split"] != "train"].copy()
        right = (rows["split"] == "val") == second
        rows["score"] = rows["label"].where(right, 1 - rows["label"])
        return rows, []

    def fit(study, cohort, marker, method, folder, progress):
        trial = int(study.training.lr == GOOD.lr)
        frame = tuning_frame().assign(v0=float(trial))
        return frame, None

    def tuning_frame():
        split = ["train", "val", "val", "test", "test"]
        one = pd.DataFrame({"case_id": list("abcde"), "split": split, "label": [0, 0, 1, 0, 1]})
        return pd.concat([one.assign(fold=k) for k in range(3)])

    monkeypatch.setattr(tuning, "fit", fit)
    monkeypatch.setattr(tuning, "probe_folds", scores)
    found = tuning.tune(tuned, tiny_cohort, "P53", "full", tmp_path, progress=False)
    assert found["folds"] == [1, 1, 1]


def test_the_runs_that_are_judged_use_what_was_chosen_and_their_own_seed(quick):
    steps.train(quick, "P53", "classification_only", progress=False)
    chosen = steps.tune(quick, "P53", "classification_only")
    folder = quick.paths.method("P53", "classification_only")
    for fold in range(3):
        _, record = checkpoints.load_fold(folder, fold)
        assert record["settings"]["training"]["lr"] == chosen[fold].lr
        assert record["settings"]["seed"] == 3
    _, trial = checkpoints.load_fold(quick.paths.tuning("P53", "classification_only") / "trial0", 0)
    assert trial["settings"]["seed"] == 9


def test_what_is_not_trained_is_not_tuned(quick):
    assert steps.tune(quick, "P53", "mean") is None
    steps.train(quick, "P53", "mean", progress=False)
    assert not quick.paths.tuning("P53", "mean").exists()


def test_training_leaves_what_prediction_needs(quick):
    steps.train(quick, "P53", "mean", progress=False)
    folder = quick.paths.method("P53", "mean")
    assert len(files.read_json(folder / "probe.json")["folds"]) == 3
    told = files.read_json(folder / "study.json")
    assert (told["marker"], told["classes"], told["tiles"]["size_px"]) == ("P53", ["negative", "positive"], 256)
    assert set(pd.read_csv(folder / "predictions.csv")["split"]) == {"val", "test"}


def test_several_seeds_are_trained_and_only_what_is_stale_again(quick, monkeypatch):
    both = quick.model_copy(update={"seeds": [3, 4], "tuning": None})
    steps.train(both, "P53", "classification_only", progress=False)
    heads = [both.at(seed).paths.method("P53", "classification_only") for seed in (3, 4)]
    scores = [pd.read_csv(head / "predictions.csv")["score"] for head in heads]
    assert not scores[0].equals(scores[1])
    monkeypatch.setattr("hsa.training.fit.fit", lambda *a, **k: pytest.fail("trained again"))
    steps.train(both, "P53", "classification_only", progress=False)
    (heads[0] / "probe.json").unlink()
    steps.train(both, "P53", "classification_only", progress=False)  # the probe alone is fitted again
    assert (heads[0] / "probe.json").is_file()
