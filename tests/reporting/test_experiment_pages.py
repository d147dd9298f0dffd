import copy

import pytest

from hsa.files import write_json
from hsa.reporting import experiment
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
    assert "it is **open** whether alignment changes" in experiment.answer(study, found)


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
    told = experiment.controls(study, found)
    assert (
        "| P53 | HistoStainAlign (full) | 0.400 | 0.300 | 0.010 | 0.750 [0.730, 0.770] | 0.500 [0.480, 0.520] |" in told
    )
    del found["signal-strength-0"]
    assert "holds no results" in experiment.controls(study, found)


def test_a_point_that_is_not_finished_says_so(study, found):
    assert (
        "| signal strength: 0 | P53 | HistoStainAlign (full) | 0.500 [0.480, 0.520] | 5 | 3 of 5 |"
        in experiment.axes(study, found)
    )


def test_alignment_never_stands_without_what_tells_a_collapse(study, found):
    told = experiment.levels(study, found)
    assert "| alignment | two H&E |" in told
    assert "| 0.400 (0.010) | +0.300 | 0.400 | 15 |" in told


def test_pages_without_results_say_so_and_have_every_piece(study, found, tmp_path):
    empty = experiment.fragments(study, None)
    assert set(empty) == set(experiment.fragments(study, found))
    assert all("`make study` makes them" in text for text in empty.values())
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/virtual.yml").write_text(load("virtual").file.read_text())
    (tmp_path / "studies/diffuse.yml").write_text(study.file.read_text())
    own = load(tmp_path / "studies/diffuse.yml")
    assert experiment.read(own) is None
    write_json(own.paths.kept / "findings.json", found)
    assert experiment.read(own) == found


def test_figures_come_with_their_numbers_and_the_middle_stands_on_its_axes(study, found, tmp_path):
    study = study.model_copy(update={"contrasts": {name: study.contrasts[name] for name in ("alignment", "pairing")}})
    judge(found, "alignment", "P53", "lower")
    experiment.draw(study, found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"diffuse_contrasts.png", "diffuse_axes.png"}
    rows = (tmp_path / "diffuse_axes.csv").read_text().splitlines()
    assert len(rows) == 1 + 2
    assert sum(line.startswith("signal strength,1.0,P53,full,0.75") for line in rows) == 1
    experiment.draw(study, None, tmp_path / "none")
    assert not (tmp_path / "none").exists()
