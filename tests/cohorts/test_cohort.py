import re
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pytest

from hsa.cohorts.cohort import HE, Cohort, check_folds, fold_table, read_manifest
from hsa.cohorts.cohort import load as load_cohort
from hsa.cohorts.labels import class_of
from hsa.errors import InputError
from hsa.study.settings import Marker
from hsa.study.study import load

MARKERS = {"P53": Marker(), "Ki-67": Marker(negative="low", positive="high")}


@pytest.fixture
def manifest(tmp_path):
    """A sound manifest of 40 cases of 30 patients, as a frame, and a function that reads an edited one."""
    rows = []
    (tmp_path / "slides").mkdir()
    for i in range(40):
        for stain in ["HE", *MARKERS]:
            slide = f"c{i:02d}-{stain}"
            (tmp_path / "slides" / f"{slide}.tif").touch()
            rows.append(
                {
                    "patient_id": f"p{i % 30}",
                    "case_id": f"c{i:02d}",
                    "slide_id": slide,
                    "stain": stain,
                    "path": f"slides/{slide}.tif",
                    "mpp": "0.5",
                    "label_P53": str(i % 2),
                    "label_Ki-67": str(int(i % 4 == 0)),
                }
            )

    def read(frame, markers=MARKERS):
        frame.to_csv(tmp_path / "manifest.csv", index=False)
        return read_manifest(tmp_path / "manifest.csv", markers)

    return pd.DataFrame(rows), read


def test_a_sound_manifest_gives_every_case_once(manifest):
    frame, read = manifest
    cases = read(frame).cases("Ki-67")
    assert len(cases) == 40
    assert cases.iloc[4].tolist() == ["c04", "p4", "c04-HE", "c04-Ki-67", 1]


def test_folds_share_no_patient_and_test_each_case_once(manifest):
    frame, read = manifest
    cohort = read(frame)
    folds = cohort.folds("P53", 5, seed=0).merge(cohort.cases("P53"), on="case_id")
    for _, fold in folds.groupby("fold"):
        patients = fold.groupby("split")["patient_id"].agg(set)
        assert not patients["train"] & patients["test"]
        assert not patients["train"] & patients["val"]
        assert not patients["val"] & patients["test"]
    tested, judged = (folds[folds["split"] == split] for split in ("test", "val"))
    part = tested.set_index("case_id")["fold"]
    assert (part[judged["case_id"]].to_numpy() == (judged["fold"] + 1) % 5).all()
    assert sorted(tested["case_id"]) == sorted(cohort.cases("P53")["case_id"])


def test_folds_are_stratified_and_seeded(manifest):
    frame, read = manifest
    cohort = read(frame)
    folds = cohort.folds("Ki-67", 5, seed=0)
    positives = folds[folds["split"] == "test"].merge(cohort.cases("Ki-67"), on="case_id").groupby("fold")["label"]
    assert positives.sum().between(1, 3).all()
    pd.testing.assert_frame_equal(folds, cohort.folds("Ki-67", 5, seed=0))
    assert not folds.equals(cohort.folds("Ki-67", 5, seed=1))


def test_too_few_cases_of_a_class_for_the_folds(manifest):
    frame, read = manifest
    frame["label_P53"] = (frame["case_id"] == "c00").astype(int).astype(str)
    with pytest.raises(InputError, match="39 negative, 1 positive: too few cases for 5 folds"):
        read(frame).folds("P53", 5, seed=0)


def test_given_folds_are_used(manifest):
    frame, read = manifest
    frame["fold"] = [str(int(p[1:]) % 5) for p in frame["patient_id"]]
    cohort = read(frame)
    tested = cohort.folds("P53", 5, seed=0).query("split == 'test'").set_index("case_id")["fold"]
    assert tested["c07"] == 2 and tested["c31"] == 1
    with pytest.raises(InputError, match="number them 0 to 3"):
        cohort.folds("P53", 4, seed=0)
    frame["fold"] = [str(int(p[1:]) % 5 + 1) for p in frame["patient_id"]]
    with pytest.raises(InputError, match=r"folds are \[1, 2, 3, 4, 5\].* number them 0 to 4"):
        read(frame).folds("P53", 5, seed=0)


def test_labels_are_drawn_anew_with_the_seed_of_the_folds(manifest):
    frame, read = manifest
    frame["fold"] = [str(int(p[1:]) % 3) for p in frame["patient_id"]]
    studies = [load("smoke", changes={"design.labelled": 0.5, "evaluation.fold_seed": seed}) for seed in (0, 1)]
    one, two = (fold_table(study, read(frame), "P53") for study in studies)
    assert not one.equals(two)


def test_the_folder_of_the_slides_is_relative_to_the_study(manifest, smoke_file):
    frame, _ = manifest
    path = smoke_file.parents[1] / "lists" / "deep" / "manifest.csv"
    path.parent.mkdir(parents=True)
    frame.assign(**{"label_PD-L1": ""}).to_csv(path, index=False)
    cohort = {"kind": "manifest", "manifest": "../lists/deep/manifest.csv", "root": ".."}
    assert len(load_cohort(load(smoke_file, changes={"cohort": cohort})).slides) == 120


def test_a_case_without_a_marker_is_left_out_of_that_marker_only(manifest):
    frame, read = manifest
    frame = frame[~((frame["case_id"] == "c03") & (frame["stain"] == "P53"))].copy()
    frame.loc[frame["case_id"] == "c03", "label_P53"] = ""
    cohort = read(frame)
    assert "c03" not in set(cohort.cases("P53")["case_id"])
    assert "c03" in set(cohort.cases("Ki-67")["case_id"])
    assert np.isnan(cohort.labels.loc["c03", "P53"])


def edit(column, value, row=1):
    def change(frame):
        frame.loc[row, column] = value

    return change


WRONG = {
    "duplicate slide": (edit("slide_id", "c00-HE", [1, 2]), ["row 3", "row 4: slide_id 'c00-HE' stands in row 2 too"]),
    "missing file": (edit("path", "slides/nothing.tif"), ["row 3", "no file 'slides/nothing.tif'"]),
    "path of Windows": (
        edit("path", r"slides\c00-P53.tif"),
        ["row 3", "did you mean 'slides/c00-P53.tif'?", "Write '/' for"],
    ),
    "drive of Windows": (edit("path", r"D:\slides\x.tif"), ["row 3", "Write '/' for", "the path from"]),
    "path in another case": (
        edit("path", "slides/C00-p53.TIF"),
        ["row 3", "no file", "did you mean 'slides/c00-P53.tif'?"],
    ),
    "no path": (edit("path", ""), ["row 3", "no file ''"]),
    "file outside": (edit("path", "../../etc/passwd"), ["row 3", "outside", "cohort.root"]),
    "unknown stain": (edit("stain", "P-53"), ["row 3", "unknown stain 'P-53'", "did you mean 'P53'"]),
    "bad id": (edit("slide_id", "../up"), ["row 3", "slide_id '../up'"]),
    "hidden id": (edit("slide_id", ".up"), ["row 3", "slide_id '.up'"]),
    "id apart by case": (edit("slide_id", "c00-he"), ["slide_id 'c00-HE' (row 2), 'c00-he' (row 3): equal up to case"]),
    "one file twice": (lambda f: edit("path", f.loc[0, "path"])(f), ["row 3", "is the file of row 2 too"]),
    "path too long": (edit("path", "x" * 300), ["row 3", "no file"]),
    "bad mpp": (edit("mpp", "half"), ["row 3", "mpp 'half'", "microns per pixel"]),
    "mpp in nm": (edit("mpp", "250"), ["row 3", "mpp '250'", "0.08 to 20"]),
    "a number of Python": (edit("mpp", "1_0"), ["row 3", "mpp '1_0'"]),
    "bad label": (edit("label_P53", "yes"), ["row 3", "label_P53 'yes'", "0, 1"]),
    "bad fold": (lambda f: f.insert(0, "fold", "two"), ["row 3", "fold 'two'", "0, 1, 2"]),
    "labels differ": (edit("label_P53", "1"), ["case 'c00'", "label_P53 differs"]),
    "two patients": (edit("patient_id", "p9"), ["case 'c00'", "2 patients"]),
    "typo in a column": (
        lambda f: f.insert(0, "slideid", f.pop("slide_id")),
        ["'slide_id' is missing", "did you mean 'slide_id'"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_manifest_names_the_row_and_the_remedy(manifest, name):
    frame, read = manifest
    change, told = WRONG[name]
    change(frame)
    with pytest.raises(InputError) as caught:
        read(frame)
    for words in ["manifest.csv", *told]:
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["Müller/Gewebe é.tif", "Ａ/x.tif"])
@pytest.mark.parametrize(("told", "kept"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC")])
def test_a_name_is_found_however_its_letters_are_composed(manifest, tmp_path, name, told, kept):
    frame, read = manifest
    path = tmp_path / unicodedata.normalize(kept, name)
    path.parent.mkdir()
    path.touch()
    frame.loc[0, "path"] = unicodedata.normalize(told, name)
    assert read(frame).slides["path"][0] == str(path)
    frame.loc[1, "path"] = unicodedata.normalize(kept, name)
    with pytest.raises(InputError, match=r"row 3.*is the file of row 2 too"):
        read(frame)


def test_a_link_that_leads_nowhere_is_told_as_such(manifest, tmp_path):
    frame, read = manifest
    for target in ("/elsewhere/gone.tif", "gone.tif"):
        link = tmp_path / "slides" / "link.tif"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        frame.loc[1, "path"] = "slides/link.tif"
        with pytest.raises(InputError, match=f"row 3: no file .*is a link to '{target}', which is not there. Mend"):
            read(frame)


def test_a_case_may_lack_its_ihc_or_its_label_but_not_its_he(manifest):
    frame, read = manifest
    with pytest.raises(InputError, match=r"case 'c05'.*no HE slide"):
        read(frame[frame["slide_id"] != "c05-HE"])
    frame = frame[frame["slide_id"] != "c05-P53"].copy()
    frame.loc[frame["case_id"] == "c06", "label_P53"] = ""
    frame.loc[frame["case_id"] == "c07", "label_P53"] = ""
    frame = frame[frame["slide_id"] != "c07-P53"]
    cohort = read(frame)
    cases = cohort.cases("P53").set_index("case_id")
    assert cases.loc["c05", ["ihc", "label"]].tolist() == ["", 1]
    assert cases.loc["c06", ["ihc", "label"]].tolist() == ["c06-P53", -1]
    assert "c07" not in cases.index
    assert cohort.summary("P53") == (
        "39 cases: 19 negative, 19 positive, 1 without label, 1 without P53 slide; 1 not used"
    )
    assert cohort.summary("Ki-67") == "40 cases: 30 low, 10 high"


def test_unlabelled_pairs_are_dealt_too_and_train_without_their_label(manifest, tmp_path):
    frame, read = manifest
    few = [f"c{i:02d}" for i in range(30, 40)]
    frame.loc[frame["case_id"].isin(few), "label_P53"] = ""
    frame = frame[~((frame["case_id"] < "c10") & (frame["stain"] == "P53"))]
    table = fold_table(load("smoke", changes={"evaluation.folds": 5}), read(frame), "P53")
    unknown = table[table["label"] < 0]
    assert set(unknown["case_id"]) == set(few)
    assert set(unknown["split"]) == {"pairs", "val", "test"}
    assert set(unknown.loc[unknown["split"] == "test", "fold"]) == set(range(5))
    assert "pairs" not in set(table.loc[table["label"] >= 0, "split"])
    with pytest.raises(InputError, match=r"7 cases have an H&E and a P53 slide.*needs 2 in each of 5 folds"):
        fold_table(
            load("smoke", changes={"evaluation.folds": 5}),
            read(frame[(frame["stain"] != "P53") | (frame["case_id"] > "c32")]),
            "P53",
        )


def test_several_slides_of_a_stain_are_one_bag(manifest):
    frame, read = manifest
    frame.loc[frame["slide_id"] == "c03-Ki-67", "stain"] = "HE"
    for order in (1, -1):
        cases = read(frame[::order]).cases("P53").set_index("case_id")
        assert cases.loc["c03", "he"] == "c03-HE+c03-Ki-67"


def test_a_marker_is_added_by_a_line_and_a_column(manifest):
    frame, read = manifest
    her2 = Marker(classes=["0", "1+", "2+", "3+"], positive_from="2+")
    frame["label_HER2"] = [her2.classes[int(c[1:]) % 4] for c in frame["case_id"]]
    frame.loc[frame["stain"] == "P53", "stain"] = "HER2"
    cohort = read(frame.drop(columns="label_P53"), {"HER2": her2})
    cases = cohort.cases("HER2")
    assert cases["category"].tolist() == [i % 4 for i in range(40)]
    assert cases["label"].tolist() == [int(i % 4 > 1) for i in range(40)]
    assert cohort.summary("HER2") == "40 cases: 10 0, 10 1+, 10 2+, 10 3+"
    folds = cohort.folds("HER2", 5, 0).merge(cases, on="case_id").query("split == 'test'")
    assert (folds.groupby(["fold", "category"]).size() == 2).all()
    frame.loc[3, "label_HER2"] = "4+"
    with pytest.raises(InputError, match=r"row 5: label_HER2 '4\+': give 0, 1\+, 2\+, 3\+, or nothing"):
        read(frame, {"HER2": her2})


def test_a_marker_says_which_classes_count_as_positive():
    four = {"classes": ["0", "1+", "2+", "3+"]}
    middle, top = Marker(**four, positive_from="2+"), Marker(**four)
    assert (middle.negative, middle.positive) == ("below 2+", "2+ and above")
    assert (top.negative, top.positive) == ("below 3+", "3+"), "nothing is above the highest"
    assert middle.meaning == "classes 0, 1+, 2+, 3+; positive: 2+, 3+"
    assert Marker(negative="low", positive="high").meaning == "classes low, high; positive: high"


def test_numbers_become_classes_at_the_cut_offs(manifest):
    frame, read = manifest
    frame["label_P53"] = [str(int(c[1:]) + 0.5) for c in frame["case_id"]]
    assert read(frame, {"P53": Marker(cutoff=20.5)}).cases("P53")["label"].tolist() == [0] * 20 + [1] * 20
    three = Marker(classes=["low", "middle", "high"], cutoff=[10, 30])
    cases = read(frame, {"P53": three}).cases("P53")
    assert cases["category"].tolist() == [0] * 10 + [1] * 20 + [2] * 10
    assert cases["label"].sum() == 10
    for text in ("many", "inf"):
        frame.loc[0, "label_P53"] = text
        with pytest.raises(InputError, match=f"row 2: label_P53 '{text}': give a number such as 12.5, or nothing"):
            read(frame, {"P53": three})


def test_a_label_may_be_the_name_of_its_class(manifest):
    frame, read = manifest
    frame["label_Ki-67"] = ["high " if text == "1" else "low" for text in frame["label_Ki-67"]]
    assert read(frame).summary("Ki-67") == "40 cases: 30 low, 10 high"
    frame.loc[frame["stain"] != "HE", "label_Ki-67"] = ""  # once a case is enough
    assert read(frame).summary("Ki-67") == "40 cases: 30 low, 10 high"
    frame.loc[0, "label_Ki-67"] = "1"
    with pytest.raises(InputError, match="row 2: label_Ki-67 '1': give low, middle, high, or nothing"):
        read(frame, {"Ki-67": Marker(classes=["low", "middle", "high"])})


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        (Marker(), ["1.0", "0.0", ""], [1, 0, None]),
        (Marker(), ["1", "NA", "NaN", "nan", "None", "<NA>", "NULL", "N/A", "#N/A"], [1, *[None] * 8]),
        (Marker(), ["TRUE", "False", "Positive", "NEGATIVE"], [1, 0, 1, 0]),
        (Marker(negative="low", positive="high"), ["Low", "HIGH", "true", "1.", "0.00"], [0, 1, 1, 1, 0]),
        (Marker(negative="wt", positive="WT"), ["wt", "WT"], [0, 1]),
        (Marker(classes=["0", "1+", "2+"]), ["0.0", "1+", "NA"], [0, 1, None]),
        (Marker(classes=["1", "2", "3"]), ["2.0", "3"], [1, 2]),
        (Marker(classes=["none", "low", "high"]), ["none", "Low", "NA"], [0, 1, None]),
        (Marker(cutoff=20), ["20.0", "NA", "1e1", ""], [1, None, 0, None]),
    ],
)
def test_labels_are_read_as_tables_of_other_programs_hold_them(kind, labels, expected):
    assert [class_of(text, kind) for text in labels] == expected


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (Marker(), "2"),
        (Marker(), "0.5"),
        (Marker(), "yes"),
        (Marker(), "unknown"),
        (Marker(negative="wt", positive="WT"), "Wt"),
        (Marker(classes=["none", "low", "high"]), "None"),
        (Marker(classes=["none", "low", "high"], cutoff=[1, 50]), "none"),
        (Marker(classes=["0", "1+", "2+"]), "TRUE"),
        (Marker(classes=["0", "1+", "2+"]), "1"),
    ],
)
def test_a_label_that_may_mean_two_things_is_refused(kind, label):
    with pytest.raises(ValueError, match=re.escape(label)):
        class_of(label, kind)


def test_a_manifest_that_pandas_or_r_wrote_is_read(manifest):
    frame, read = manifest
    whole = read(frame)
    frame["label_P53"] = [{"0": "0.0", "1": "1.0"}[text] for text in frame["label_P53"]]
    frame.loc[frame["stain"] == "HE", "label_P53"] = "1"
    frame.loc[frame["case_id"].map(lambda c: int(c[1:]) % 2 == 0) & (frame["stain"] == "HE"), "label_P53"] = "NA"
    frame["fold"] = [f"{int(p[1:]) % 5}.0" for p in frame["patient_id"]]
    frame.loc[frame["stain"] == "HE", "fold"] = [f"0{int(p[1:]) % 5}" for p in frame["patient_id"][::3]]
    frame["mpp"] = "NA"
    found = read(frame)
    pd.testing.assert_frame_equal(found.labels, whole.labels)
    assert found.slides["mpp"].isna().all() and found.given_folds["c07"] == 2


def test_a_column_that_is_not_ours_may_stay_and_one_that_seems_ours_may_not(manifest):
    frame, read = manifest
    plain = read(frame)
    more = frame.assign(age="61", sex="f", site="2", date="1999-01-01", **{"Unnamed: 0": "3"})
    pd.testing.assert_frame_equal(read(more).slides, plain.slides)
    for ours, theirs in {"label_P53": "label_p53", "patient_id": "Patient ID", "label_Ki-67": "ki67"}.items():
        with pytest.raises(InputError, match=f"'{ours}' is missing. Rename '{theirs}'.*did you mean '{ours}'"):
            read(frame.rename(columns={ours: theirs}))
    with pytest.raises(InputError, match=r"'MPP' is unknown .did you mean 'mpp'"):
        read(frame.rename(columns={"mpp": "MPP"}))
    with pytest.raises(InputError, match=r"'Folds' is unknown .did you mean 'fold'"):
        read(frame.assign(Folds="0"))
    with pytest.raises(InputError, match=r"column 'label_P53' is missing\. Add it"):
        read(frame.rename(columns={"label_P53": "label_P63"}))
    frame.loc[1, "stain"] = "p53"
    with pytest.raises(InputError, match=r"unknown stain 'p53' .did you mean 'P53'"):
        read(frame)


def test_one_patient_in_two_folds(manifest):
    frame, read = manifest
    frame["fold"] = [str(int(c[1:]) % 5) for c in frame["case_id"]]
    frame.loc[frame["case_id"] == "c30", "fold"] = "4"
    with pytest.raises(InputError, match="patient 'p0': stands in folds 0, 4"):
        read(frame)


def test_every_problem_is_told_at_once_and_long_lists_are_cut(manifest):
    frame, read = manifest
    frame["mpp"] = "x"
    with pytest.raises(InputError, match=r"(?s)120 problems:.*row 2.*row 21.*and 100 more"):
        read(frame)


def test_absent_empty_and_broken_manifests(tmp_path):
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv", MARKERS)
    path = tmp_path / "manifest.csv"
    path.write_text("")
    with pytest.raises(InputError, match="not a readable CSV"):
        read_manifest(path, MARKERS)
    path.write_text("patient_id,case_id,slide_id,stain,path,label_P53,label_Ki-67\n")
    with pytest.raises(InputError, match="no rows"):
        read_manifest(path, MARKERS)


def test_fields_may_be_parted_by_semicolons(manifest, tmp_path):
    frame, read = manifest
    whole = read(frame).slides
    frame.to_csv(tmp_path / "manifest.csv", index=False, sep=";", encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "manifest.csv", MARKERS).slides, whole)


def test_cases_without_a_label_may_be_fewer_than_the_folds(manifest):
    frame, read = manifest
    frame.loc[frame["case_id"] == "c07", "label_P53"] = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = read(frame).folds("P53", 5, seed=0)
    assert (folds[folds["split"] == "test"]["case_id"] == "c07").sum() == 1


def test_a_design_forgets_labels_of_training_cases_and_in_step_of_validation_cases(manifest):
    frame, read = manifest
    cohort = read(frame)
    full = fold_table(load("smoke"), cohort, "P53")
    half = fold_table(load("smoke", changes={"design.labelled": 0.5}), cohort, "P53")
    less = fold_table(load("smoke", changes={"design.labelled": 0.25}), cohort, "P53")
    assert full["split"].isin(["train", "val", "test"]).all()
    train, val, test = (full["split"] == split for split in ("train", "val", "test"))
    pd.testing.assert_frame_equal(half[test], full[test])
    for column in ("case_id", "fold", "ihc"):
        assert (full[column] == half[column]).all()
    assert (half.loc[~train, "split"] == full.loc[~train, "split"]).all()
    assert (half.loc[~val, "label"] == full.loc[~val, "label"]).all()
    for known, rows in ((half["split"] == "train", train), (half["label"] >= 0, val)):
        shares = known[rows].groupby([full["fold"], full["label"]]).mean()
        assert shares.between(0.35, 0.65).all()
    assert (half.loc[less["split"] == "train", "split"] == "train").all()  # nested: fewer labels, not others
    assert (half.loc[val & (less["label"] >= 0), "label"] >= 0).all()
    least = fold_table(load("smoke", changes={"design.labelled": 0.01}), cohort, "P53")
    for split in ("train", "val"):
        rows = least[(least["split"] == split) & (least["label"] >= 0)]
        assert rows.groupby(["fold", "label"]).size().tolist() == [2] * 6


def test_permuted_labels_are_dealt_anew_by_each_training_seed(manifest):
    frame, read = manifest
    cohort, tables = read(frame), []
    for seed in (1, 2, 2):
        study = load("smoke", seed=seed, changes={"design.permuted": True})
        tables.append(fold_table(study, cohort, "P53").drop_duplicates("case_id").set_index("case_id")["label"])
    own = cohort.labels["P53"].loc[tables[0].index]
    for labels in tables:
        assert sorted(labels) == sorted(own)
        assert (labels != own).any()
    assert (tables[0] != tables[1]).any()
    assert (tables[1] == tables[2]).all()


def test_a_design_takes_the_first_cases(manifest):
    frame, read = manifest
    cohort = read(frame)
    first = fold_table(load("smoke", changes={"design.cases": 24}), cohort, "P53")
    assert sorted(first["case_id"].unique()) == [f"c{i:02}" for i in range(24)]
    assert set(read(frame[::-1]).first(2).slides["case_id"]) == {"c39", "c38"}


def test_folds_are_checked_before_slides_are_encoded_but_not_for_a_marker_that_has_no_label_yet(smoke_file):
    slides = pd.DataFrame({"patient_id": ["a", "b"], "case_id": ["a", "b"], "slide_id": ["a", "b"], "stain": [HE, HE]})
    study = load(smoke_file)

    def cohort(value):
        return Cohort(slides, pd.DataFrame(dict.fromkeys(study.markers, value), index=["a", "b"]))

    check_folds(study, cohort(np.nan))
    with pytest.raises(InputError, match="too few cases"):
        check_folds(study, cohort(1.0))
