from functools import partial

import pandas as pd
import pytest

from hsa.errors import InputError
from hsa.files import read_json, write_json
from hsa.pipeline import steps
from hsa.pipeline.experiment import findings
from hsa.pipeline.experiment import run as running
from hsa.pipeline.experiment.kept import Kept, Unit
from hsa.pipeline.experiment.points import middles, points, twin, units
from hsa.study.study import load
from hsa.training import follow

STUDY = """
name: trial
title: Trial
seeds: [0, 1]
cohort: {kind: virtual, cases: 20, slide_px: 512, strength: 1.0, seed: 0}
markers: {P53: {}}
model: {dim: 16, depth: 1, heads: 2, segment_lengths: [4, 16], dilated_ratios: [1, 2], head_hidden: 8}
methods:
  mean: {title: Mean, encoder: mean}
  classification_only: {title: Classification, losses: [classification]}
  full: {title: Full, losses: [intra_modality, info_nce, classification]}
  shuffled: {title: Shuffled, losses: [intra_modality, info_nce, classification], pairs: shuffled}
baseline: classification_only
full: full
training: {epochs: 2, batch: 6, lr: 1.0e-3, min_lr: 1.0e-5, warmup_epochs: 1, tiles_per_slide: 5}
tuning: {seed: 100, candidates: [{lr: 1.0e-3}, {lr: 1.0e-2, temperature: 0.1, batch: 8}]}
evaluation: {folds: 3}
sweep:
  labelled share:
    0.5: {design.labelled: 0.5, seeds: [0], only: [classification_only, full]}
    1.0: {}
  temperature:
    0.5: {training.temperature: 0.5, only: [full]}
  strength:
    0.0: {cohort.strength: 0.0, seeds: [0]}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "trial.yml").write_text(STUDY)
    return load(tmp_path / "studies" / "trial.yml")


@pytest.fixture
def ready(study, tiny_study, tiny_cohort, monkeypatch):
    """The study with the bags and the cohort of the tiny one, whatever the point; and the points that were encoded."""
    made = []

    def make_features(point, *_):
        made.append(point.name)
        point.paths.bags.parent.mkdir(parents=True, exist_ok=True)
        if not point.paths.bags.exists():
            point.paths.bags.symlink_to(tiny_study.paths.bags)

    monkeypatch.setattr(steps, "make_features", make_features)
    monkeypatch.setattr(steps, "make_cohort", lambda *_, **__: tiny_cohort)
    monkeypatch.setattr(follow, "EVERY", 1)
    return study, made


def test_points_share_slides_unless_they_change_them(study):
    found = {point.name: point for point in points(study)}
    assert list(found) == ["middle", "labelled-share-0.5", "temperature-0.5", "strength-0"]
    assert middles(study) == {"labelled share": 1.0}
    bags = {name: point.study.paths.bags for name, point in found.items()}
    assert bags["labelled-share-0.5"] == bags["temperature-0.5"] == bags["middle"]
    assert bags["strength-0"] != bags["middle"]
    assert list(found["labelled-share-0.5"].study.methods) == ["classification_only", "full"]
    assert (found["labelled-share-0.5"].axis, found["labelled-share-0.5"].value) == ("labelled share", 0.5)


def test_units_come_seed_by_seed(study):
    middle = points(study)[0]
    assert [(unit.seed, unit.method) for unit in units(middle)] == [(s, m) for s in (0, 1) for m in study.methods]


def test_a_control_is_trained_as_the_method_that_it_controls(study):
    assert [twin(study, method) for method in study.methods] == ["mean", "classification_only", "full", "full"]
    alone = study.model_copy(update={"methods": {"shuffled": study.methods["shuffled"]}})
    with pytest.raises(InputError, match="control of a method with its own pairs, and there is none"):
        twin(alone, "shuffled")


def test_an_experiment_is_made_once_and_goes_on_where_it_stopped(ready, monkeypatch):
    study, made = ready
    kept = running.run(study, progress=False, only=["middle", "labelled-share-0.5", "temperature-0.5"])
    wanted = [unit for point in points(study)[:3] for unit in units(point)]
    assert set(kept.units) == {unit.name for unit in wanted}
    assert len(wanted) == 8 + 2 + 2
    assert set(kept.tuned) == {"P53/mean", "P53/classification_only", "P53/full"}
    cases = kept.cases("middle")
    assert cases.groupby(["method", "seed"]).size().eq(21).all()
    assert cases.select_dtypes("float").dtypes.astype(str).eq("float32").all()
    assert len(kept.folds()) == 3 * len(wanted)

    done, real = [], running._unit
    monkeypatch.setattr(running, "_unit", lambda point, unit, *more: done.append(unit) or real(point, unit, *more))
    made.clear()
    running.run(study, progress=False, only=["middle"])
    assert not done
    assert not made  # what is kept needs no slides, on whichever machine
    lost = Kept(study.paths.kept)
    del lost.units["middle/P53/full/1"]
    lost._write()
    before = kept.cases("middle")
    again = running.run(study, progress=False, only=["middle"])
    assert [unit.name for unit in done] == ["middle/P53/full/1"]
    pd.testing.assert_frame_equal(again.cases("middle"), before)


def test_settings_are_those_tuned_at_the_middle_but_for_what_a_point_varies(ready):
    study, _ = ready
    kept = running.run(study, progress=False, only=["temperature-0.5", "labelled-share-0.5"])
    chosen = kept.tuned["P53/full"]
    warm = kept.units["temperature-0.5/P53/full/0"]["settings"]
    assert warm["temperature"] == 0.5
    expected = {"lr": study.training.lr, **chosen["settings"]}
    assert warm["lr"] == expected["lr"]
    assert warm["strength"] == chosen["strength"]
    assert kept.units["labelled-share-0.5/P53/full/0"]["settings"]["lr"] == expected["lr"]


@pytest.mark.parametrize("changes", [{"training.temperature": 0.01}, {"training": {"temperature": 0.01}}])
def test_a_point_that_names_the_value_of_the_study_overrules_what_was_tuned(ready, changes):
    study, _ = ready
    assert study.training.temperature == 0.01
    study = study.model_copy(update={"sweep": {"temperature": {0.01: {**changes, "seeds": [0], "only": ["full"]}}}})
    kept = Kept(study.paths.kept)
    kept.tune("P53", "full", {"settings": {"temperature": 0.1, "lr": 0.02}, "strength": 1.0})
    point = points(study)[1]
    settings, _ = running._settings(study, point, kept, next(iter(units(point))))
    assert (settings.temperature, settings.lr) == (0.01, 0.02)


@pytest.mark.parametrize("change", [{"training.epochs": 3}, {"evaluation.fold_seed": 5}, {"cohort.seed": 4}])
def test_another_setting_makes_units_stale(ready, change):
    study, _ = ready
    running.run(study, progress=False, only=["middle"])
    other = load(study.file, changes=change)
    kept, middle = Kept(study.paths.kept), points(other)[0]
    assert len(running._missing(other, middle, kept)) == 8
    assert not running._missing(study, points(study)[0], kept)


def test_a_title_or_a_published_number_makes_nothing_stale(ready):
    study, _ = ready
    running.run(study, progress=False, only=["middle"])
    other = load(study.file, changes={"title": "Other", "markers.P53": {"published_f1": [0.1, 0.0, 0.2]}})
    assert not running._missing(other, points(other)[0], Kept(study.paths.kept))


def test_what_is_kept_says_how_it_was_made(ready):
    study, _ = ready
    kept = running.run(study, progress=False, only=["temperature-0.5"])
    record = read_json(study.paths.kept / "units.json")["units"]["temperature-0.5/P53/full/0"]
    assert record == kept.units["temperature-0.5/P53/full/0"]
    assert set(record["made"]) >= {"commit", "clean", "date", "minutes", "cpu_minutes", "peak_mb", "torch"}
    assert {"validated", "last", "published", "val_auc", "cosine_he"} <= set(record["folds"][0])


def test_wrong_names_are_told(study, tmp_path):
    with pytest.raises(InputError, match=r"no point 'noon'; there are middle, labelled-share-0.5"):
        running.run(study, only=["noon"])
    with pytest.raises(InputError, match="tuning: missing"):
        running.run(study.model_copy(update={"tuning": None}), progress=False)
    path = study.file.with_name("wrong.yml")
    path.write_text("extends: trial\nname: wrong\nsweep: {a: {1: {training.lr: 0.1, only: [ful]}}}\n")
    with pytest.raises(InputError, match="unknown method 'ful'"):
        points(load(path))
    path.write_text("extends: trial\nname: wrong\nsweep: {a: {1: {training.lr: 0.1, only: full}}}\n")
    with pytest.raises(InputError, match="only: 'full'; give a list"):
        points(load(path))


def test_a_damaged_register_is_told(tmp_path):
    (tmp_path / "units.json").write_text("[]")
    with pytest.raises(InputError, match=r"units\.json: expected units and tuned"):
        Kept(tmp_path)


def test_keeping_a_unit_again_replaces_its_rows(tmp_path):
    kept, unit = Kept(tmp_path), Unit("middle", "P53", "full", 0)
    cases = pd.DataFrame({"case_id": ["a", "b"], "fold": [0, 1], "score_last": [0.5, 0.25]})
    add = partial(kept.add, unit)
    add(cases, {"fingerprint": "1", "folds": []})
    add(cases.assign(score_last=[1.0, 2.0]), {"fingerprint": "2", "folds": []})
    kept.add(Unit("middle", "P53", "full", 1), cases, {"fingerprint": "1", "folds": []})
    rows = Kept(tmp_path).cases("middle")
    assert rows["score_last"].tolist() == [1.0, 2.0, 0.5, 0.25]
    assert kept.has(unit, "2") and not kept.has(unit, "1")


def test_findings_hold_every_point_under_every_rule_and_can_be_reckoned_again(ready):
    study, _ = ready
    asked = {"full": {"of": "full", "minus": "classification_only", "asks": "Does it help?"}}
    study = load(study.file, changes={"contrasts": asked})
    running.run(study, progress=False, only=["middle", "temperature-0.5"])
    found = read_json(study.paths.kept / "findings.json")
    assert list(found) == ["middle", "temperature-0.5"]
    for rule in ("validated", "last", "published"):
        assert [row["contrast"] for row in found["middle"][rule]["contrasts"]] == ["full"]
        assert len(found["middle"][rule]["levels"]) == 4
        assert not found["temperature-0.5"][rule]["contrasts"]
    assert found["middle"]["units"] == {"kept": 8, "wanted": 8}
    assert findings.verify(study) == []


def test_a_number_that_its_cases_do_not_bear_out_is_found(ready):
    study, _ = ready
    running.run(study, progress=False, only=["middle"])
    path = study.paths.kept / "findings.json"
    found = read_json(path)
    row = found["middle"]["validated"]["levels"][2]
    before, row["auc"] = row["auc"], row["auc"] + 0.001
    write_json(path, found)
    ((place, written, again),) = findings.verify(study)
    assert place == f"middle/validated/levels/P53/{row['method']}/auc"
    assert (written, again) == (row["auc"], pytest.approx(before))
    found["middle"]["last"]["levels"].pop()
    write_json(path, found)
    assert len(findings.verify(study)) > 10
    path.unlink()
    with pytest.raises(InputError, match=r"findings\.json: not there"):
        findings.verify(study)
