"""What is said beside a prediction: of simulated tissue, of slides that the models have seen."""

import hashlib
import json
import shutil

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from hsa.cli import app
from hsa.reporting import figures
from hsa.screening import caveats
from hsa.screening.predictor import load_predictor

FINDING = "Trained on simulated tissue (21 virtual cases): what it says of a real slide is not a finding"


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments), "--quiet"])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def model(trained, tmp_path):
    """A copy of the trained method; calling it changes its study.json or who it has seen."""
    folder = shutil.copytree(trained, tmp_path / "model")

    def change(cohort="manifest", seen=(), learned=(0,), chosen=(1,), unknown=0):
        about = json.loads((folder / "study.json").read_text()) | {"cohort": {"kind": cohort, "cases": 21}}
        if cohort is None:
            del about["cohort"]
        (folder / "study.json").write_text(json.dumps(about))
        digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in seen}
        slides = {digest: {"learned": list(learned), "chosen": list(chosen)} for digest in digests}
        (folder / "seen.json").write_text(json.dumps({"folds": 3, "slides": slides, "unknown": unknown}))
        return folder

    return change


@pytest.fixture
def figure_text(monkeypatch):
    """Every title of a figure that is saved."""
    texts, save = [], figures.save
    monkeypatch.setattr(
        figures, "save", lambda fig, *rest: (texts.append(" ".join(fig.get_suptitle().split())), save(fig, *rest))[1]
    )
    return texts


def test_a_model_of_simulated_tissue_says_so_everywhere(model, manifest, tmp_path, figure_text):
    path = manifest([("c1-HE", "HE", 1), ("c2-HE", "HE", 1)])
    folder = model(cohort="virtual")
    said = run("predict", tmp_path / "slides/c1-HE.tif", "--model", folder, "--out", tmp_path / "out")
    assert said.index(FINDING) < said.index("c1-HE.tif:") and FINDING in (tmp_path / "out/summary.txt").read_text()
    assert pd.read_csv(tmp_path / "out/predictions.csv")["trained_on"].tolist() == ["simulated tissue"]
    assert "Model of simulated tissue: not a finding about a real slide or its patient." in figure_text[0]
    note = json.loads(Image.open(tmp_path / "out/c1-HE_heatmap.png").info["Description"])["notice"]
    assert "simulated tissue" in note and caveats.NOTICE in note
    said = run("prescreen", path, "--model", folder, "--out", tmp_path / "list.csv")
    assert FINDING in said and FINDING in (tmp_path / "list.txt").read_text()
    assert set(pd.read_csv(tmp_path / "list.csv")["trained_on"]) == {"simulated tissue"}
    assert "if real slides were as the simulated ones." in said and "%)." not in said.split("In cross")[0]
    assert "In cross-validation on 21 simulated cases" in said


def test_a_model_of_patients_slides_says_nothing_of_simulation(model, manifest, tmp_path, figure_text):
    path = manifest([("c1-HE", "HE", 1)])
    said = run("predict", tmp_path / "slides/c1-HE.tif", "--model", model(), "--out", tmp_path / "out")
    said += run("prescreen", path, "--model", model(), "--out", tmp_path / "list.csv")
    assert "simulated" not in said + figure_text[0] and "training" not in said + figure_text[0]
    for table in (pd.read_csv(tmp_path / "out/predictions.csv"), pd.read_csv(tmp_path / "list.csv")):
        assert table[["trained_on", "in_training"]].to_numpy().tolist() == [["slides of a manifest", "no"]]


def test_a_slide_of_the_training_is_told_by_its_content_not_by_its_name(model, manifest, tmp_path, figure_text):
    manifest([("c1-HE", "HE", 1), ("c2-HE", "HE", 1)])
    known, new = tmp_path / "slides/renamed.tif", tmp_path / "slides/c1-HE.tif"
    shutil.copy(tmp_path / "slides/c1-HE.tif", known)
    folder = model(seen=[known], learned=[0], chosen=[1])
    shutil.copy(tmp_path / "slides/c2-HE.tif", new)  # the name of a slide that was seen, and another slide
    said = run("predict", known, new, "--model", folder, "--out", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/predictions.csv").set_index("slide")["in_training"]
    assert table.to_dict() == {"renamed.tif": "2 of 3 folds", "c1-HE.tif": "no"}
    lines = {line.split(":")[0].strip(): line for line in said.splitlines()}
    assert "in training, 2 of 3 folds: not the prediction of a new slide" in lines["renamed.tif"]
    assert "training" not in lines["c1-HE.tif"]
    assert "This slide: in training, 2 of 3 folds: not the prediction of a new slide." in figure_text[0]
    assert "training" not in figure_text[1]


def test_a_worklist_does_not_count_what_slides_of_the_training_would_save(model, manifest, tmp_path):
    path = manifest([(f"c{i}-HE", "HE", 1) for i in range(4)])
    slides = [tmp_path / f"slides/c{i}-HE.tif" for i in range(4)]
    said = run("prescreen", path, "--model", model(seen=slides[:3]), "--out", tmp_path / "list.csv")
    table = pd.read_csv(tmp_path / "list.csv")
    assert dict(zip(table["slide_id"], table["in_training"], strict=True)) == {
        **{f"c{i}-HE": "2 of 3 folds" for i in range(3)},
        "c3-HE": "no",
    }
    wait = (table.set_index("slide_id").loc[["c3-HE"], "call"] == "wait").sum()
    assert "3 of 4 were in training (column in_training)" in said
    assert f"Of the other 1, staining only those at or above it would save {wait} of 1 stains ({wait:.0%})." in said
    said = run("prescreen", path, "--model", model(seen=slides), "--out", tmp_path / "list.csv")
    assert "4 of 4 were in training" in said and said.count("would save") == 1
    assert "So this list does not tell what staining only the first would save." in said


def test_an_older_model_says_that_it_does_not_know(model, manifest, tmp_path, figure_text):
    path = manifest([("c1-HE", "HE", 1)])
    folder = model(cohort=None)
    (folder / "seen.json").unlink()
    said = run("predict", tmp_path / "slides/c1-HE.tif", "--model", folder, "--out", tmp_path / "out")
    listed = run("prescreen", path, "--model", folder, "--out", tmp_path / "list.csv")
    for text in (said, listed):
        assert "Trained on simulated tissue or on patients' slides: this model's folder does not say" in text
        assert "Whether a slide was in training is not recorded" in text and "delete made.json and probe.json" in text
    assert "whether it was in training is not recorded" in said
    assert "if no slide of the training is among them (not recorded) and if the models are not" in listed
    assert "not recorded" in figure_text[0]
    for table in (pd.read_csv(tmp_path / "out/predictions.csv"), pd.read_csv(tmp_path / "list.csv")):
        assert table[["trained_on", "in_training"]].to_numpy().tolist() == [["not recorded", "not recorded"]]


def test_where_some_slides_of_the_training_are_unknown_no_slide_is_called_new(model, make_slide):
    known, new = make_slide("a.tif"), make_slide("b.tif", seed=1)
    predictor = load_predictor(model(seen=[known], unknown=2))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (known, new)]
    assert [caveats.exposure(predictor, digest).column for digest in digests] == ["2 of 3 folds", "not recorded"]
    assert "Of 2 slides of the training the file is not recorded" in caveats.of_training(predictor)[0]
    assert caveats.exposure(load_predictor(model()), "").column == "not recorded"
