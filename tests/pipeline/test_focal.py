import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hsa.bags.bag import read_bag
from hsa.cli import app
from hsa.cohorts.cohort import fold_table
from hsa.errors import InputError
from hsa.pipeline import steps
from hsa.pipeline.experiment import calibration
from hsa.pipeline.experiment.points import points
from hsa.pipeline.steps import focal
from hsa.study.study import load

SMALL = {
    "cohort.cases": 30,
    "cohort.share": 0.05,
    "cohort.labs": 1,
    "cohort.specimens": 4,
    "cohort.specimen_px": 1024,
    "cohort.tiles": 32,
    "cohort.regions": 4,
    "evaluation.folds": 3,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("focal") / "studies"
    folder.mkdir()
    for name in ("virtual", "diffuse", "focal"):
        (folder / f"{name}.yml").write_text(load(name).file.read_text())
    return load(folder / "focal.yml", changes=SMALL)


@pytest.fixture(scope="module")
def cohort(study):
    return steps.make_features(study, progress=False)


def bag(study, name):
    return read_bag(study.paths.bags / f"{name}.h5")


def test_both_sections_of_a_case_have_the_same_places_and_other_tiles(study, cohort):
    for case in ("F0000", "F0029"):
        he, ihc = (bag(study, f"{case}-{stain}") for stain in ("HE", "P53"))
        np.testing.assert_array_equal(he.coords, ihc.coords)
        assert he.features.shape == ihc.features.shape == (32, 512)
        assert not np.array_equal(he.features, ihc.features)
    assert len(list(study.paths.bags.glob("*.h5"))) == len(cohort.slides) == 60


def test_the_folds_are_the_parts_of_the_bank_and_labels_are_even(study, cohort):
    table = fold_table(study, cohort, "P53")
    test = table[table["split"] == "test"]
    assert (test["fold"] == test["case_id"].str[1:].astype(int) % 3).all()
    assert test.groupby("fold")["label"].mean().between(0.4, 0.6).all()


def test_a_bank_is_made_once_for_all_shares_and_bags_anew_for_each(study, cohort, monkeypatch):
    monkeypatch.setattr(focal, "_shard", lambda *_: pytest.fail("the bank is there"))
    before = (study.paths.bags / "F0000-HE.h5").stat().st_mtime_ns
    steps.make_features(study, progress=False)
    assert (study.paths.bags / "F0000-HE.h5").stat().st_mtime_ns == before
    wider = load(study.file, changes={**SMALL, "cohort.share": 0.15, "name": "focal-wider"})
    steps.make_features(wider, progress=False)
    few, many = (pd.read_csv(one.paths.bags / "foci.csv").groupby("case_id").size() for one in (study, wider))
    assert (few == 2).all()
    assert (many[few.index] >= few).all()
    assert many.max() == 5


def test_what_stains_lies_in_the_foci_of_positive_cases(study, cohort):
    foci = pd.read_csv(study.paths.bags / "foci.csv")
    darker = {0: [], 1: []}
    for case, rows in foci.groupby("case_id"):
        brightness = bag(study, f"{case}-P53").colours[:, :3].mean(axis=1)
        inside = np.isin(np.arange(32), rows["tile"])
        darker[int(cohort.labels.loc[case, "P53"])].append(brightness[~inside].mean() - brightness[inside].mean())
    assert np.mean(darker[1]) > np.mean(darker[0]) + 5


def test_every_point_of_the_repository_is_a_valid_study():
    found = {point.name: point.study for point in points(load("focal"))}
    assert len(found) == 11
    assert found["share-of-tiles-in-foci-0.05"].cohort.share == 0.05
    assert list(found["middle"].markers) == ["P53"]
    assert list(found["tiles-of-a-bag-1000"].methods) == ["classification_only", "full"]


def test_a_bank_is_for_a_focal_cohort_of_one_marker(study, tmp_path):
    with pytest.raises(InputError, match="a bank of tiles is for a focal cohort"):
        focal.make_bank(load("smoke"))
    path = study.file.with_name("two.yml")
    path.write_text("extends: focal\nname: two\nmarkers: {P53: {}, Ki-67: {}}\n")
    with pytest.raises(InputError, match="a focal cohort has one, whose foci they are; found P53, Ki-67"):
        load(path)


def test_every_tile_of_a_case_is_of_its_own_place_and_only_the_focus_is_painted_otherwise(study, cohort):
    bank, features = focal.bank_tiles(study)
    foci = pd.read_csv(study.paths.bags / "foci.csv")
    for case in ("F0000", "F0011", "F0028"):
        own = bag(study, f"{case}-HE").features
        kind = "focus" if cohort.labels.loc[case, "P53"] else "other"
        where = {name: {row.tobytes() for row in held} for name, held in features.items()}
        inside = np.isin(np.arange(32), foci.loc[foci["case_id"] == case, "tile"])
        assert inside.sum() == 2
        assert all(row.tobytes() in where[kind] for row in own[inside])
        assert all(row.tobytes() in where["plain"] for row in own[~inside])
    assert len(bank) == len(features["plain"])


def test_a_marker_that_moves_the_tissue_is_refused_before_anything_is_painted(study):
    path = study.file.with_name("moves.yml")
    path.write_text("extends: focal\nname: moves\nmarkers: {PD-L1: {}}\n")
    with pytest.raises(InputError, match="PD-L1 changes how the tissue is laid out"):
        focal.make_bank(load(path, changes=SMALL))


def test_calibration_takes_the_smallest_shift_and_the_share_in_between_and_leaves_the_cohort_alone(
    study, cohort, monkeypatch
):
    made, attention = [], {0.03: 0.6, 0.05: 0.78, 0.1: 0.9}
    monkeypatch.setattr(calibration, "bank_tiles", lambda one, *_: (one.cohort.shift, None))
    monkeypatch.setattr(
        calibration, "tile_auc", lambda shift, _, kinds: {0.5: 0.6, 2.0: 0.91}[shift] + 0.01 * (len(kinds) == 1)
    )

    def share_row(one, shift, share, *_):
        made.append(calibration._changed(one, "x", shift=shift, share=share).cohort)
        return {"share": share, "shift": shift, "mean_auc": 0.5, "attention_auc": attention[share]}

    monkeypatch.setattr(calibration, "_share", share_row)
    shifts, shares = calibration.calibrate(study, [3.0, 0.5, 2.0], [0.1, 0.03, 0.05], progress=False)
    assert shifts[["shift", "chosen"]].to_numpy().tolist() == [[0.5, False], [2.0, True]]  # 3 is not made
    assert shares["share"][shares["chosen"]].tolist() == [0.05]
    assert {(one.seed, one.shift) for one in made} == {(study.cohort.seed + calibration.APART, 2.0)}
    for name, table in (("shift", shifts), ("share", shares)):
        written = pd.read_csv(study.paths.kept / f"calibration_{name}.csv")
        assert written["chosen"].tolist() == table["chosen"].tolist()
    with pytest.raises(InputError, match=r"no shift of .* reach 0\.9"):
        calibration.calibrate(study, [0.5], [0.05], progress=False)


def test_a_share_is_measured_on_whole_bags_of_cases_of_another_seed(study):
    row = calibration._share(study, 3.0, 0.3, 1, False)
    assert 0 <= row["mean_auc"] <= 1
    assert 0 <= row["attention_auc"] <= 1
    bags = study.paths.bags.parent.parent / "focal-calibration-share-0.3"
    assert bags.is_dir()


def test_tiles_of_a_focus_are_told_from_other_tumour(study, cohort):
    bank, features = focal.bank_tiles(study)
    for other in (["plain"], ["other"], ["plain", "other"]):
        assert 0.55 < calibration.tile_auc(bank, features, other) <= 1
    assert calibration.tile_auc(bank, {**features, "focus": features["plain"]}, ["plain"]) == pytest.approx(
        0.5, abs=0.01
    )


@pytest.mark.parametrize("command", [["train", "--stain", "P53", "--method", "full"], ["evaluate", "--stain", "P53"]])
def test_a_book_of_a_cohort_without_slides_is_refused_before_anything_is_made(study, command):
    path = study.file.with_name("other.yml")
    path.write_text("extends: focal\nname: other\n")
    run = CliRunner().invoke(app, [*command, "--study", str(path), "--quiet"])
    assert run.exit_code == 2, run.output
    assert "such a cohort has tiles and no slides, so no book can be made of it" in run.output
    assert not load(path).paths.bags.exists()
