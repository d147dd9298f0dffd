import numpy as np
import pandas as pd
import pytest

from hsa.bags.bag import read_bag
from hsa.cohorts.cohort import fold_table
from hsa.errors import InputError
from hsa.pipeline import steps
from hsa.pipeline.experiment import calibration
from hsa.pipeline.experiment.points import points
from hsa.pipeline.steps import focal
from hsa.study.study import load

SMALL = {
    "cohort.cases": 30,
    "cohort.labs": 1,
    "cohort.background": 4,
    "cohort.foci": 1,
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
    assert found["share-of-tiles-in-foci-0.1"].cohort.share == 0.1
    assert list(found["middle"].markers) == ["P53"]
    assert list(found["tiles-of-a-bag-1000"].methods) == ["classification_only", "full"]


def test_a_bank_is_for_a_focal_cohort_of_one_marker(study, tmp_path):
    with pytest.raises(InputError, match="a bank of tiles is for a focal cohort"):
        focal.make_bank(load("smoke"))
    path = study.file.with_name("two.yml")
    path.write_text("extends: focal\nname: two\nmarkers: {P53: {}, Ki-67: {}}\n")
    with pytest.raises(InputError, match="a focal cohort has one, whose foci they are; found P53, Ki-67"):
        load(path)


def test_calibration_takes_the_smallest_shift_that_a_tile_shows_and_leaves_the_cohort_alone(study, cohort, monkeypatch):
    monkeypatch.setattr(calibration, "tile_auc", lambda bank, features: {0.5: 0.6, 2.0: 0.91, 3.0: 0.99}[shift_of[0]])
    shift_of, made, real = [0.0], [], steps.make_features

    def make_features(one, *more):
        made.append((one.cohort.seed, one.cohort.shift))
        shift_of[0] = one.cohort.shift
        bags = study.model_copy(update={"name": "focal", "bags": None})
        one.paths.bags.parent.mkdir(parents=True, exist_ok=True)
        if not one.paths.bags.exists():
            one.paths.bags.symlink_to(bags.paths.bags)
        return cohort

    monkeypatch.setattr(steps, "make_features", make_features)
    monkeypatch.setattr(calibration, "bank_tiles", lambda one: (None, None))
    table = calibration.calibrate(study, [3.0, 0.5, 2.0], progress=False)
    assert table["shift"].tolist() == [0.5, 2.0, 3.0]
    assert table["chosen"].tolist() == [False, True, False]
    assert table[["mean_auc", "attention_auc"]].notna().all(axis=None)
    assert [seed for seed, _ in made] == [study.cohort.seed + calibration.APART] * 3
    assert (study.paths.kept / "calibration.csv").is_file()
    assert real is not steps.make_features


def test_tiles_of_a_focus_are_told_from_other_tumour(study, cohort):
    bank, features = focal.bank_tiles(study)
    found = calibration.tile_auc(bank, features)
    assert 0.5 < found <= 1
    shuffled = bank.assign(kind=np.random.default_rng(0).permutation(bank["kind"]))
    assert calibration.tile_auc(shuffled, features) < found
