import pandas as pd
import pytest

from hsa.errors import InputError
from hsa.pipeline import steps, sweep
from hsa.study.study import load


@pytest.fixture
def swept(tmp_path):
    path = tmp_path / "swept.yml"
    path.write_text(
        "extends: smoke\nname: swept\nsweep:\n  learning rate:\n    0.001: {}\n    0.01: {training.lr: 0.01}\n"
        "  cases: {20: {design.cases: 20, training.epochs: 1}}\n"
    )
    return load(path)


def test_each_point_changes_what_it_says_and_the_middle_is_the_study(swept):
    points = sweep.points(swept)
    assert [(axis, value) for axis, value, _ in points] == [
        ("learning rate", 0.001),
        ("learning rate", 0.01),
        ("cases", 20),
    ]
    middle, faster, fewer = (study for _, _, study in points)
    assert middle is swept
    assert faster.name == "swept-learning-rate-0.01" and faster.training.lr == 0.01
    assert fewer.design.cases == 20 and fewer.training.epochs == 1 and fewer.training.lr == swept.training.lr
    assert len({study.paths.root for _, _, study in points}) == 3


def test_every_point_of_the_repository_is_a_valid_study():
    assert len(sweep.points(load("sweep"))) == 16


def test_a_wrong_key_names_itself(tmp_path):
    path = tmp_path / "wrong.yml"
    path.write_text("extends: smoke\nname: wrong\nsweep: {rate: {1: {training.lrr: 1.0}}}\n")
    with pytest.raises(InputError, match=r"training.lrr: unknown key"):
        sweep.points(load(path))
    with pytest.raises(InputError, match="no `sweep`"):
        sweep.points(load("smoke"))


def test_the_table_has_a_row_for_each_point_and_marker(swept, monkeypatch):
    def evaluate(study, marker, progress):
        number = {"value": study.training.lr, "low": 0.0, "high": 1.0}
        scores = {name: {"roc_auc": number} for name in study.methods}
        aligned = {study.full: {"alignment": number, "recall_1": {"value": 0.25}}}
        gains = {"metrics": {"roc_auc": number}, "delong": {"p": 0.5}}
        return {"cases": {"n": 20, "positive": 8}, "prediction": scores, "difference": gains, "alignment": aligned}

    monkeypatch.setattr(steps, "evaluate", evaluate)
    made = []
    monkeypatch.setattr(steps, "make_features", lambda study, *a: made.append(study.name))
    table = pd.read_csv(sweep.run(swept, progress=False))
    assert len(table) == 3 * 3
    assert table.set_index(["axis", "marker", "value"]).loc[("learning rate", "P53", 0.01), "gain"] == 0.01
    assert (table["auc_full"] == table["gain"]).all() and (table["alignment"] == table["gain"]).all()
    assert (table[["low", "high", "p", "recall_1"]] == [0.0, 1.0, 0.5, 0.25]).all(axis=None)
    assert made == [study.name for _, _, study in sweep.points(swept)]
