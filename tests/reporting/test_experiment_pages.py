import copy

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hsa.files import write_frame, write_json
from hsa.pipeline.experiment.kept import Kept, Unit
from hsa.reporting import experiment, experiment_axes, focus, reference
from hsa.study.study import load


def contrast(name, marker, value, verdict):
    row = {"contrast": name, "marker": marker, "first": 0.7, "second": 0.7 + value, "value": value}
    return row | {"low": value - 0.03, "high": value + 0.03, "p": 0.01, "p_holm": 0.04, "verdict": verdict}


def level(marker, method, auc, recall):
    row = {"marker": marker, "method": method, "auc": auc, "low": auc - 0.02, "high": auc + 0.02, "seeds": 5, "n": 500}
    row |= {"pooled_auc": auc, "weighted_f1": 0.7, "recall_1": recall, "chance_1": 0.01, "alignment": 0.3}
    return row | {"cosine_he": 0.4, "epoch": 15.0, "seed_sd": 0.01, "calibration_error": 0.1}


@pytest.fixture(scope="module")
def study():
    return load("diffuse")


@pytest.fixture
def found():
    """Two contrasts on two markers, all open, at the middle; and one point without signal."""
    rows = [contrast(name, marker, 0.01, "open") for name in ("alignment", "pairing") for marker in ("P53", "Ki-67")]
    here = {"contrasts": rows, "levels": [level("P53", "full", 0.75, 0.4)]}
    chance = {"contrasts": [], "levels": [level("P53", "full", 0.5, 0.3)]}
    units = {"kept": 10, "wanted": 10}
    points = {
        "middle": {"axis": "", "value": None, "units": units}
        | {rule: copy.deepcopy(here) for rule in experiment.RULES},
        "signal-strength-0": {"axis": "signal strength", "value": 0.0, "units": {"kept": 3, "wanted": 5}}
        | {rule: copy.deepcopy(chance) for rule in experiment.RULES},
    }
    return points


def judge(found, name, marker, verdict):
    for row in found["middle"]["validated"]["contrasts"]:
        if (row["contrast"], row["marker"]) == (name, marker):
            row["verdict"] = verdict


def test_what_is_not_settled_is_called_open(study, found):
    said = experiment.answer(study, found)
    assert said.endswith("it is **open** whether alignment changes the prediction from H&E, in every marker.\n")
    judge(found, "pairing", "Ki-67", "higher")
    said = experiment.answer(study, found)
    assert said.endswith("in every marker. True pairs score higher than shuffled ones (Ki-67).\n")


@pytest.mark.parametrize(("word", "verb"), [("higher", "**helps**"), ("lower", "**harms**")])
def test_help_and_harm_are_said_and_owed_to_pairs_only_where_that_is_shown(study, found, word, verb):
    judge(found, "alignment", "P53", word)
    said = experiment.answer(study, found)
    assert f"alignment {verb} (P53), and it is open whether that is owed to the truth of the pairs" in said
    judge(found, "pairing", "P53", word)
    assert f"alignment {verb} (P53), and the truth of the pairs has a share in it (P53)" in experiment.answer(
        study, found
    )


def test_contrary_findings_are_not_summed_up_as_one(study, found):
    judge(found, "alignment", "P53", "higher")
    judge(found, "pairing", "Ki-67", "lower")
    assert "true pairs do the contrary in Ki-67" in experiment.answer(study, found)
    judge(found, "alignment", "Ki-67", "lower")
    assert "opposite directions: P53: higher; Ki-67: lower" in experiment.answer(study, found)


def test_every_contrast_is_laid_out_with_its_question_and_verdict(study, found):
    judge(found, "alignment", "P53", "higher")
    told = experiment.answers(study, found)
    assert (
        f"| {study.contrasts['alignment'].asks} | P53 | +0.010 [\N{MINUS SIGN}0.020, +0.040] | 0.040 | **higher** |"
        in told
    )
    assert "over all 4 tests" in told


def test_an_answer_that_depends_on_the_rule_shows_it(study, found):
    found["middle"]["last"]["contrasts"][0] = contrast("alignment", "P53", -0.05, "lower")
    told = experiment.rules(study, found)
    line = next(line for line in told.splitlines() if "Full without contrast | P53" in line)
    assert "+0.010" in line and "\N{MINUS SIGN}0.050" in line and "\N{DOWNWARDS ARROW}" in line


def test_retrieval_stands_beside_what_it_is_without_signal(study, found):
    told = experiment_axes.controls(study, found)
    assert (
        "| P53 | HistoStainAlign (full) | 0.400 | 0.300 | 0.010 | 0.750 [0.730, 0.770] | 0.500 [0.480, 0.520] |" in told
    )
    del found["signal-strength-0"]
    assert experiment_axes.controls(study, found) == ""


def test_a_point_that_is_not_finished_says_so(study, found):
    assert (
        "| signal strength: 0 | P53 | HistoStainAlign (full) | 0.500 [0.480, 0.520] | 0.300 | 0.400 | 5 | 3 of 5 |"
        in experiment_axes.axes(study, found)
    )


def test_alignment_never_stands_without_what_tells_a_collapse(study, found):
    told = experiment.levels(study, found)
    assert "| alignment | two H&E |" in told
    assert "| 0.400 (0.010) | +0.300 | 0.400 | 15 |" in told


def test_labels_that_mean_nothing_are_told_with_their_scatter(study, found):
    assert experiment_axes.permuted(study, found) == ""
    found["permuted"] = found["signal-strength-0"] | {"axis": "permuted labels", "value": 1.0}
    told = experiment_axes.permuted(study, found)
    assert "| P53 | HistoStainAlign (full) | 0.500 [0.480, 0.520] | 0.010 | 5 |" in told


def test_deals_are_told_by_their_lowest_and_highest_and_spread(study, found):
    assert experiment_axes.deals(study, found) == ""
    for value, gain in ((1.0, 0.02), (2.0, -0.04)):
        rows = {"contrasts": [contrast("alignment", "P53", gain, "open")], "levels": []}
        point = {"axis": "deal of the folds", "value": value, "units": {"kept": 1, "wanted": 1}}
        found[f"deal-{value:g}"] = point | dict.fromkeys(experiment.RULES, rows)
    told = experiment_axes.deals(study, found)
    assert "| \N{MINUS SIGN}0.040 | +0.020 | 0.042 | 2 |" in told
    assert told.count("| P53 |") == 1


@pytest.fixture
def own(study, tmp_path):
    """The study in a folder of its own, with nothing kept."""
    (tmp_path / "studies").mkdir()
    for name in ("virtual", "diffuse"):
        (tmp_path / f"studies/{name}.yml").write_text(load(name).file.read_text())
    return load(tmp_path / "studies/diffuse.yml")


def test_pages_without_results_say_so_and_have_every_piece(study, found, own):
    for room in (experiment, experiment_axes):
        empty = room.fragments(own, None)
        assert set(empty) == set(room.fragments(own, found))
    assert "`make study` makes them" in experiment.fragments(own, None)["diffuse_answer.md"]
    empty = experiment.fragments(own, None) | experiment_axes.fragments(own, None)
    assert sum(bool(text) for text in empty.values()) == 1
    assert experiment.read(own) is None
    write_json(own.paths.kept / "findings.json", found)
    assert experiment.read(own).keys() == found.keys()
    for rows in found["middle"]["validated"].values():
        rows.reverse()
    write_json(own.paths.kept / "findings.json", found)
    told = experiment.read(own)["middle"]["validated"]["contrasts"]
    assert [(row["marker"], row["contrast"]) for row in told] == [
        (marker, name) for marker in ("P53", "Ki-67") for name in ("alignment", "pairing")
    ]


def test_nothing_is_concluded_before_every_run_of_the_middle_is_there(found, own):
    found["middle"]["units"]["kept"] = 9
    write_json(own.paths.kept / "findings.json", found)
    assert experiment.read(own) is None


def test_the_first_page_leads_with_the_experiments_that_are_done_and_with_the_study_else(found, own, summary):
    here = load("virtual")
    before = reference.fragments([own], summary, here)
    assert "finds its own IHC section first" in before["short.md"]
    write_json(own.paths.kept / "findings.json", found)
    told = reference.fragments([own], summary, here)
    assert told.keys() == before.keys()
    assert told["short.md"].startswith("In *Diffuse signal, 500 cases* it is **open**")
    assert "fig-short" in told["short.md"]
    real = here.model_copy(update={"cohort": here.cohort.model_copy(update={"kind": "manifest"})})
    assert "fig-short" not in reference.fragments([own], summary, real)["short.md"]


def test_how_runs_were_made_is_told_from_what_is_kept(own):
    made = {"commit": "abcdef1234", "clean": True, "date": "2026-11-27T01:00", "minutes": 3, "cpu_minutes": 90}
    made |= {"device": "cpu", "torch": "2.13.0", "numpy": "2.3", "hsa": "0.2", "peak_mb": 700}
    cases = pd.DataFrame({"fold": [0], "case_id": ["a"], "label": [1], "score_last": [0.5]})
    kept = Kept(own.paths.kept)
    for seed, clean in ((10, True), (11, False)):
        kept.add(Unit("middle", "P53", "full", seed), cases, {"made": made | {"clean": clean}, "folds": []})
        told = experiment_axes.made_of(own)
        assert ("not all from a clean tree" in told) == (not clean)
    assert "2 runs are kept, 2026-11-27, of commit `abcdef1`" in told and "3.0 hours of one core" in told


def test_the_calibration_is_shown_with_what_was_chosen(own, tmp_path):
    assert experiment_axes.calibration(own) == ""
    shifts = pd.DataFrame(
        {"shift": [1.0, 2.0], "tile_auc": [0.7, 0.91], "plain_auc": [0.7, 0.92], "other_auc": [0.7, 0.9]}
    ).assign(chosen=[False, True])
    shares = pd.DataFrame({"share": [0.03, 0.1], "shift": 2.0, "mean_auc": [0.5, 0.7], "attention_auc": [0.8, 0.9]})
    write_frame(own.paths.kept / "calibration_shift.csv", shifts)
    write_frame(own.paths.kept / "calibration_share.csv", shares.assign(chosen=[True, False]))
    told = experiment_axes.calibration(own)
    assert "At a shift of 2 SD a classifier of tiles reaches an AUC of 0.910; with 3% of the tiles" in told
    experiment_axes.draw(own, None, tmp_path / "out")
    assert (tmp_path / "out" / "diffuse_calibration.png").stat().st_size > 10_000


def test_figures_come_with_their_numbers_and_the_middle_stands_on_its_axes(study, found, tmp_path):
    study = study.model_copy(update={"contrasts": {name: study.contrasts[name] for name in ("alignment", "pairing")}})
    judge(found, "alignment", "P53", "lower")
    experiment.draw(study, found, tmp_path)
    experiment_axes.draw(study, found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"diffuse_contrasts.png", "diffuse_axes.png"}
    rows = (tmp_path / "diffuse_axes.csv").read_text().splitlines()
    assert len(rows) == 1 + 2
    assert sum(line.startswith("signal strength,1.0,P53,full,0.75") for line in rows) == 1
    experiment.draw(study, None, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_focus_is_pictured_with_what_the_experiment_says_of_it(tmp_path):
    focus.draw(load("focal"), tmp_path)
    with Image.open(tmp_path / "focus.png") as picture:
        assert picture.width > 1200
        shades = np.asarray(picture.convert("RGB")).astype(int)
    brown = (shades[..., 0] - shades[..., 2] > 60) & (shades[..., 0] < 170)
    third, half = shades.shape[1] // 3, shades.shape[0] // 2
    counts = [brown[half:, k * third : (k + 1) * third].mean() for k in range(3)]
    assert counts[1] > 2 * max(counts[0], counts[2])


def test_subgroups_are_told_and_those_that_are_too_small_named(study, found):
    assert experiment_axes.subgroups(study, found) == ""
    row = {"subgroup": "least tumour, a third", "marker": "P53", "n": 33, "value": 0.02, "low": -0.1, "high": 0.14}
    found["middle"]["subgroups"] = [row, row | {"marker": "Ki-67", "value": None}]
    told = experiment_axes.subgroups(study, found)
    assert "| least tumour, a third | P53 | 33 | +0.020 [\N{MINUS SIGN}0.100, +0.140] |" in told
    assert "| Ki-67 | 33 | too few |" in told


def test_tables_are_folded_and_a_point_that_is_not_run_says_so(study, found):
    made = experiment.fragments(study, found) | experiment_axes.fragments(study, found)
    assert made["diffuse_levels.md"].startswith(
        "::::{dropdown} Diffuse signal, 500 cases: every method\n:::{container}"
    )
    assert made["diffuse_levels.md"].count("::::") == 2
    assert "`make study` goes on" in made["diffuse_permuted.md"]
