"""The chapter "Your own cohort", done as a reader would: its files, its commands, in its order."""

import re
import shlex
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from hsa.cli import app
from hsa.files import REPOSITORY, read_json
from hsa.reporting.staging import CHAPTERS
from hsa.virtual.scan import make_cohort

CHAPTER = (REPOSITORY / "book/own_cohort.md").read_text()
CHECKLIST = (REPOSITORY / "book/tripod_ai.md").read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Slides as a stranger may name them, and a table of labels. Cases have gaps, as the chapter allows.

    The first case has two H&E slides, the second no IHC slide, the last no label.
    """
    made = tmp_path / "made"
    make_cohort(made, markers=["P53"], cases=21, slide_px=768, strength=2.0, seed=0, progress=False)
    manifest = pd.read_csv(made / "manifest.csv", dtype={"case_id": str})
    *kept, spare = manifest["case_id"].unique()
    manifest = manifest[manifest["case_id"] != spare]
    (tmp_path / "slides").mkdir()
    (tmp_path / "new").mkdir()
    for row in manifest.itertuples():
        name = f"{row.case_id}_{row.stain.replace('P53', 'HER2')}"
        shutil.copy(made / row.path, tmp_path / "slides" / f"{name}.tif")
    shutil.copy(tmp_path / "slides" / f"{manifest['case_id'][0]}_HE.tif", tmp_path / "new" / "B1_HE.svs")
    first, second, *_, last = kept
    shutil.copy(made / "slides" / f"{spare}-HE.tif", tmp_path / "slides" / f"{first}_HE_2.tif")
    (tmp_path / "slides" / f"{second}_HER2.tif").unlink()
    labels = manifest.groupby("case_id")[["patient_id", "label_P53"]].first()
    labels.rename(columns={"label_P53": "HER2"}).drop(index=last).to_csv(tmp_path / "labels.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.smoke
def test_the_commands_of_the_chapter_run_as_they_stand(folder):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", CHAPTER, re.DOTALL | re.MULTILINE)
    study = next(text for kind, text in blocks if kind == "yaml")
    (folder / "studies").mkdir()
    short = study.replace("epochs: 25", "epochs: 2").replace("folds: 5", "folds: 3")
    assert short != study
    (folder / "studies/mine.yml").write_text(short)
    commands = [line for kind, text in blocks if not kind for line in text.splitlines() if line.startswith("hsa ")]
    assert len(commands) >= 9
    for command in commands:
        if command.startswith("hsa notebook"):
            continue  # all of them are run below
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output, result.exception)
    summary = read_json(folder / "results/mine/summary.json")
    assert set(summary["prediction"]) == {"HER2"}
    assert summary["prediction"]["HER2"]["full"]["roc_auc"]["n"] == 19
    for chapter in CHAPTERS:
        result = CliRunner().invoke(app, ["notebook", chapter, "--stain", "HER2", "--study", "mine"])
        assert result.exit_code == 0, (chapter, result.exception)
    pictures = {path.stem for path in (folder / "results/mine/seed0/her2/figures").glob("*.png")}
    assert {"labels", "pair", "tiles", "bags", "umap", "heat", "forest", "worklist"} <= pictures
    promised = set(re.findall(r"`((?:results|slides|studies|predictions)/[^` ]+)`", CHECKLIST))
    lies = dict(re.findall(r"of the (\w+) `([^`]+)`", CHECKLIST))
    promised |= {f"{lies[whose]}/{name}" for name, whose in re.findall(r"`([^`]+)` of the (\w+)", CHECKLIST)}
    assert len(promised) >= 11 and not [path for path in promised if not (folder / path).exists()]
    assert (folder / "predictions").is_dir() and list((folder / "trident").rglob("*.h5"))
