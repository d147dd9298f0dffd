import pandas as pd
import pytest

from hsa.files import REPOSITORY, read_json
from hsa.reporting import controls, reference, sentences
from hsa.study.study import load

KEPT = REPOSITORY / "book" / "reference"


@pytest.fixture
def shuffled():
    return read_json(KEPT / "shuffled-pairs.json")


@pytest.fixture
def sweep():
    return pd.read_csv(KEPT / "sweep.csv")


def test_true_pairs_stand_beside_shuffled_ones_of_equal_settings(shuffled, sweep):
    told = controls.pairing(shuffled, sweep)
    rows = [line.split(" | ")[0].strip("| ") for line in told.splitlines() if "pairs |" in line]
    assert rows == [f"{m}, {run} pairs" for m in ("P53", "PD-L1", "Ki-67") for run in ("true", "shuffled")]
    like = sweep[(sweep["axis"] == "cases") & (sweep["value"] == 500) & (sweep["marker"] == "P53")].iloc[0]
    full = shuffled["prediction"]["P53"]["full"]["roc_auc"]["value"]
    assert f"P53 {like['auc_full'] - full:+.3f}" in told
    assert f"| {like['auc_full']:.3f} |" in told and f"| {full:.3f} |" in told


@pytest.mark.parametrize("change", ["another baseline", "other cases", "twice"])
def test_a_run_that_is_not_like_is_not_laid_beside(shuffled, sweep, change):
    if change == "another baseline":
        sweep["auc_classification_only"] += 0.001  # which sees no pair: settings or cases differ
    elif change == "other cases":
        sweep = sweep[(sweep["axis"] != "cases") | (sweep["value"] != 500)]
    else:
        sweep = pd.concat([sweep, sweep])
    assert (
        controls.pairing(shuffled, sweep)
        == "*No like run with true pairs is kept: what pairing is worth is not known.*\n"
    )


def test_the_study_files_of_both_differ_in_the_pairs_alone():
    swept = load(REPOSITORY / "studies" / "sweep.yml")
    changes = swept.sweep["cases"][500]
    like = load(REPOSITORY / "studies" / "sweep.yml", changes=changes).model_dump()
    control = load(REPOSITORY / "studies" / "shuffled-pairs.yml").model_dump()
    assert {key for key in like if like[key] != control[key]} == {"name", "title", "methods", "design", "sweep"}
    assert {key for key in like["design"] if like["design"][key] != control["design"][key]} == {"cases"}
    paired = {name: way for name, way in control["methods"].items() if "info_nce" in way["losses"]}
    assert {way["pairs"] for way in paired.values()} == {"shuffled"}
    for name in set(paired) & set(like["methods"]):
        assert {**paired[name], "pairs": "own"} == like["methods"][name]
    assert like["design"]["cases"] == control["cohort"]["cases"], "that is all of them"


def test_collapsed_encoders_are_named(shuffled):
    told = controls.vanished(shuffled)
    assert "Contrastive only (P53, PD-L1, Ki-67), HistoStainAlign (full) (P53, PD-L1, Ki-67)" in told
    for marker in shuffled["alignment"]:
        for found in shuffled["alignment"][marker].values():
            found["cosine_he"]["value"] = 0.5
    assert "collapsed" not in controls.vanished(shuffled)


def test_the_leading_number_stands_beside_what_it_is_without_signal(sweep):
    chance = read_json(KEPT / "no-signal.json")
    told = controls.nuisance(chance, sweep)
    assert "it still does so in 32% to 41% (chance 2%), in a like run with signal in 37% to 48%: sections" in told
    assert "like run" not in controls.nuisance(chance, None)
    for marker in chance["alignment"]:
        chance["alignment"][marker]["full"]["recall_1"] |= {"value": 0.02, "low": 0.0}
    told = controls.nuisance(chance, sweep)
    assert "it still does so in 2%" in told and "resemble" not in told
    main = read_json(KEPT / "reference.json")
    lead = sentences.lead(main, load(REPOSITORY / "studies/reference.yml"), "NUISANCE.")
    assert lead.index("finds its own IHC") < lead.index("NUISANCE.") < lead.index("**Whether")
    assert "In a control of 240 cases" in reference.fragments(KEPT, main, load("virtual"))["short.md"]


def test_the_middle_point_is_counted_once(sweep):
    middle = {"signal strength": 1.0, "cases": 240.0, "labelled share": 1.0, "temperature": 0.01}
    rows = {line.split(" | ")[0].strip("| "): line for line in reference.settled(sweep, middle).splitlines()[1:-1]}
    assert rows["all"].startswith("| all | 39 | 10 | 0 | 29 |"), (
        "4 axes of 4 points, one of them shared, times 3 stains"
    )
    assert rows["the middle point, on every axis"].split(" | ")[1] == "3"
    assert rows["cases"].startswith("| cases | 9 |")
    apart = reference.settled(sweep, {})
    assert "| cases | 12 |" in apart and "middle" not in apart
