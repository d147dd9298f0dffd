"""A number that is not finite becomes no call, no rank and no heat map, wherever in a model's folder it stands."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from hsa.bags import batches
from hsa.cli import app
from hsa.errors import InputError
from hsa.screening import verdict
from hsa.screening.predictor import load_predictor

NAN, INF = float("nan"), float("inf")


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_log_odds_become_a_probability_and_a_call():
    logits = np.array([-1.0, 0.0, 4.0])
    found = verdict.numbers(logits)
    assert found == pytest.approx({"probability": 0.7310586, "low": 0.2689414, "high": 0.9820138})
    assert verdict.class_of(logits, ("low", "high")) == "high"
    assert verdict.class_of(np.zeros(2), ("low", "high")) == "low"
    assert [verdict.stain_or_wait(logits, t) for t in (1.0, 1.1, -INF, INF)] == ["stain", "wait", "stain", "wait"]


@pytest.mark.parametrize("logits", [[NAN], [0.0, NAN], [INF, 0.0], [-INF, -1.0], [], [1e308, 1e308]])
def test_log_odds_that_are_not_finite_become_neither(logits):
    logits = np.array(logits)
    for judge in (
        verdict.numbers,
        lambda values: verdict.class_of(values, ("a", "b")),
        lambda values: verdict.stain_or_wait(values, 0.0),
    ):
        with pytest.raises(InputError, match="expected finite numbers: no prediction"):
            judge(logits)
    with pytest.raises(InputError, match="threshold of the worklist"):
        verdict.stain_or_wait(np.zeros(3), NAN)


@pytest.fixture
def model(trained, tmp_path):
    """A copy of the trained method, to be damaged."""
    return shutil.copytree(trained, tmp_path / "model")


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def weight(folder, name, value):
    path = folder / "fold1.safetensors"
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    tensors[name].view(-1)[:1].fill_(value)
    save_file(tensors, path, metadata=notes)


DAMAGE = {
    "intercept null": ("probe.json", lambda d: d["folds"][1].update(intercept=None)),
    "mean NaN": ("probe.json", lambda d: d["folds"][1]["mean"].__setitem__(2, NAN)),
    "mean short": ("probe.json", lambda d: d["folds"][1].update(mean=[1.0])),
    "scale null": ("probe.json", lambda d: d["folds"][1].update(scale=None)),
    "scale zero": ("probe.json", lambda d: d["folds"][1]["scale"].__setitem__(0, 0.0)),
    "coef inf": ("probe.json", lambda d: d["folds"][1]["coef"].__setitem__(0, INF)),
    "coef nested": ("probe.json", lambda d: d["folds"][1].update(coef=[d["folds"][1]["coef"]] * 2)),
    "coef text": ("probe.json", lambda d: d["folds"][1].update(coef="0.1")),
    "coef too large": ("probe.json", lambda d: d["folds"][1].update(coef=[1e308] * 16, mean=[-1e9] * 16)),
    "one width less": (
        "probe.json",
        lambda d: [p.update({k: p[k][:-1] for k in ("mean", "scale", "coef")}) for p in d["folds"]],
    ),
    "mean missing": ("probe.json", lambda d: d["folds"][1].pop("mean")),
    "no fold": ("probe.json", lambda d: d.update(folds=[])),
    "fold missing": ("probe.json", lambda d: d["folds"].pop()),
    "fold twice": ("probe.json", lambda d: d["folds"].append(d["folds"][0])),
    "folds a number": ("probe.json", lambda d: d.update(folds=3)),
    "prevalence NaN": ("study.json", lambda d: d.update(prevalence=NAN)),
    "one class": ("study.json", lambda d: d.update(classes=["aberrant"])),
    "classes null": ("study.json", lambda d: d.update(classes=None)),
    "three classes": ("study.json", lambda d: d.update(all_classes=["a", "b", "c"])),
    "cohort text": ("study.json", lambda d: d.update(cohort="virtual")),
    "cases null": ("study.json", lambda d: d.update(cohort={"kind": "virtual", "cases": None})),
    "no tiles": ("study.json", lambda d: d.pop("tiles")),
    "width text": ("fold1.json", lambda d: d["settings"]["input"].update(in_dim="6")),
    "no settings": ("fold1.json", lambda d: d.pop("settings")),
    "fold of another": ("fold1.json", lambda d: d.update(fold=0)),
    "folds of seen": ("seen.json", lambda d: d.update(folds="3")),
    "digest": ("seen.json", lambda d: d["slides"].update(a={"learned": [], "chosen": []})),
    "use": ("seen.json", lambda d: d["slides"].update({"0" * 64: {"learned": None, "chosen": []}})),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_predicts_nothing_and_writes_nothing(model, manifest, tmp_path, damage):
    name, change = DAMAGE[damage]
    edit(model / name, change)
    refused(model, manifest, tmp_path)


@pytest.mark.parametrize("name", ["study.json", "probe.json", "fold1.json", "seen.json"])
@pytest.mark.parametrize("text", ["", "null", "[]", "{", "{}", '"text"', "[" * 10**5])
def test_a_file_of_a_model_that_holds_something_else_is_told(model, manifest, tmp_path, name, text):
    (model / name).write_text(text)
    assert name in refused(model, manifest, tmp_path)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_weight_that_is_not_finite_predicts_nothing(model, manifest, tmp_path, value):
    weight(model, "encoder.norm.weight", value)
    assert "fold1.safetensors: encoder.norm.weight holds NaN or infinity" in refused(model, manifest, tmp_path)


def refused(model, manifest, tmp_path):
    """Both commands refuse the model with 2, name its folder and a remedy, and leave no file; give what they say."""
    listed = manifest([("c1-HE", "HE", 1)])
    for command, what in (("predict", tmp_path / "slides/c1-HE.tif"), ("prescreen", listed)):
        result = run(command, what, "--model", model, "--out", tmp_path / "out/list.csv", "--quiet")
        assert result.exit_code == 2 and not isinstance(result.exception, ValueError), result.output
        assert str(model) in result.stderr and ("hsa train" in result.stderr or "again" in result.stderr)
        assert not result.stdout and not (tmp_path / "out").exists()
    return result.stderr


@pytest.mark.parametrize("score", ["", "nan", "inf", "-1", "2", "high"])
def test_a_worklist_is_not_cut_by_scores_that_are_none(model, manifest, tmp_path, score):
    frame = pd.read_csv(model / "predictions.csv").astype(object)
    frame.loc[4, "score"] = score
    frame.to_csv(model / "predictions.csv", index=False)
    result = run("prescreen", manifest([("c1-HE", "HE", 1)]), "--model", model, "--out", tmp_path / "out/l.csv", "-q")
    assert result.exit_code == 2 and "predictions.csv: row 6: score" in result.stderr and "hsa train" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_slide_whose_score_runs_over_gets_no_call_and_no_rank(model, manifest, tmp_path, monkeypatch):
    listed = manifest([("c1-HE", "HE", 1), ("c2-HE", "HE", 1)])
    slides = [tmp_path / f"slides/{name}-HE.tif" for name in ("c1", "c2")]
    original = batches.Bags.__getitem__

    def huge(self, name):
        features, coords = original(self, name)
        return (np.full(features.shape, 3e38, np.float32), coords) if name == "c2-HE" else (features, coords)

    monkeypatch.setattr(batches.Bags, "__getitem__", huge)
    result = run("predict", *slides, "--model", model, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 2 and f"slide {slides[1]}, bag" in result.stderr
    assert "score is not a finite number" in result.stderr
    assert pd.read_csv(tmp_path / "out/predictions.csv")["slide"].tolist() == ["c1-HE.tif"]
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"c1-HE_heatmap.png"}
    result = run("prescreen", listed, "--model", model, "--out", tmp_path / "list.csv", "--quiet")
    table = pd.read_csv(tmp_path / "list.csv").set_index("slide_id")
    assert result.exit_code == 1 and table.at["c2-HE", "call"] == "unread"
    assert table.loc["c2-HE", ["rank", "probability", "low", "high"]].isna().all() and table.at["c1-HE", "rank"] == 1


def test_folds_of_two_kinds_of_models_are_refused(model):
    edit(model / "fold1.json", lambda d: d["settings"]["input"].update(encoder="mean"))
    with pytest.raises(InputError, match=r"fold1\.json is not the record of its weights"):
        load_predictor(model)
