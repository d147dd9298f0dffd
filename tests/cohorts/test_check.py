import re

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from hsa.cli import app
from hsa.cohorts import check
from hsa.errors import InputError
from hsa.study.settings import Marker
from hsa.study.study import load
from slide_files import write_tiff


@pytest.fixture
def manifest(tmp_path):
    """A manifest of two cases whose slides can be opened, as a frame, and a function that writes an edited one."""
    rows = []
    for case in ("A", "B"):
        for stain in ("HE", "HER2"):
            picture = np.full((300, 300, 3), 200 + 9 * len(rows), np.uint8)
            write_tiff(tmp_path / f"{case}_{stain}.tif", picture, mpp=0.5, levels=1)
            row = {"patient_id": case, "case_id": case, "slide_id": f"{case}-{stain}", "stain": stain}
            rows.append(row | {"path": f"{case}_{stain}.tif", "mpp": "", "label_HER2": str(int(case == "A"))})

    def write(frame):
        frame.to_csv(tmp_path / "manifest.csv", index=False)
        return tmp_path / "manifest.csv"

    return pd.DataFrame(rows), write


def test_a_sound_manifest_is_counted(manifest):
    frame, write = manifest
    report = check.check(write(frame), {"HER2": Marker()})
    assert report.problems == []
    assert report.notes == ["4 slides: 4 generic-tiff, 0.5 um/px", "HER2: 2 cases: 1 negative, 1 positive"]


def test_columns_that_nothing_reads_are_named(manifest):
    frame, write = manifest
    frame = frame.assign(age="61", label_ER="", **{"Unnamed: 0": "1"})
    report = check.check(write(frame), {"HER2": Marker()})
    assert "columns that are not read: 'age', 'Unnamed: 0', 'label_ER'; pandas wrote its" in report.notes[1]
    assert "use `to_csv(index=False)`" in report.notes[1] and report.problems == []


def test_rows_and_slides_are_told_at_once_and_none_is_left_out(manifest, tmp_path):
    frame, write = manifest
    frame = pd.concat([frame] + [frame.assign(slide_id="bad/id")] * 10, ignore_index=True)
    frame.loc[2, "mpp"] = "0.25"
    (tmp_path / "A_HER2.tif").write_bytes(b"no slide")
    report = check.check(write(frame), {"HER2": Marker()})
    assert sum("bad/id" in problem and "letters, digits" in problem for problem in report.problems) == 40
    assert any(problem.startswith("row 3: ") and "A_HER2.tif" in problem for problem in report.problems)
    assert any(problem.startswith("row 4: ") and "0.25" in problem for problem in report.problems)
    result = CliRunner().invoke(app, ["cohort", "check", str(tmp_path / "manifest.csv")])
    assert result.exit_code == 2
    assert result.stderr.count("bad/id") >= 40 and "more; `hsa cohort check`" not in result.stderr


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0", "1"], Marker()),
        (["", "1"], Marker()),
        (["low", "high"], Marker(negative="high", positive="low")),
        (["0", "35", "10"], Marker(cutoff=10)),
        (["0.0", "1.0"], Marker()),
        (["NaN", "1"], Marker()),
        (["Positive", "negative", "positive"], Marker(negative="negative", positive="positive")),
        (["1+", "3+", "0"], Marker(classes=["0", "1+", "3+"])),
    ],
)
def test_markers_are_read_from_the_labels_where_no_study_is_given(manifest, labels, expected):
    frame, write = manifest
    frame = frame.iloc[: len(labels)].assign(label_HER2=labels)
    assert check.markers_of(write(frame)) == {"HER2": expected}


def test_a_manifest_without_labels_or_file_is_told(manifest, tmp_path):
    frame, write = manifest
    with pytest.raises(InputError, match="no column label_<marker>"):
        check.markers_of(write(frame.drop(columns="label_HER2")))
    with pytest.raises(InputError, match=r"none\.csv: no such manifest"):
        check.markers_of(tmp_path / "none.csv")


def test_folds_that_the_cases_cannot_fill_are_told_before_anything_is_encoded(manifest, tmp_path, smoke_file):
    frame, write = manifest
    for marker in ("P53", "PD-L1", "Ki-67"):
        frame[f"label_{marker}"] = frame["label_HER2"]
    told = yaml.safe_load(smoke_file.read_text())
    told["cohort"] = {"kind": "manifest", "manifest": str(write(frame))}
    smoke_file.write_text(yaml.safe_dump(told))
    study = ["--study", str(smoke_file)]
    for command in (
        ["cohort", "check", str(tmp_path / "manifest.csv"), *study],
        ["cohort", *study],
        ["features", *study],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2
        for marker in ("P53", "PD-L1", "Ki-67"):
            assert re.search(f"{marker}: 1 .*, 1 .*: too few cases for 3 folds, each class needs 3", result.stderr)
    assert not list(load(smoke_file).paths.bags.glob("*.h5"))


@pytest.fixture
def scanned(tmp_path):
    """Return a function that checks slides of these stains and resolutions; more columns may be given."""

    def look(resolutions, **more):
        rows = []
        for k, (stain, mpp) in enumerate(resolutions):
            write_tiff(tmp_path / f"{k}.tif", np.full((64, 64, 3), 200 + k, np.uint8), mpp=mpp, levels=1)
            row = {"patient_id": f"p{k}", "case_id": f"c{k // 2}", "slide_id": f"s{k}", "stain": stain}
            rows.append(row | {"path": f"{k}.tif", "label_HER2": ""})
        frame = pd.DataFrame(rows).assign(patient_id=lambda f: f["case_id"], **more)
        frame.to_csv(tmp_path / "manifest.csv", index=False)
        report = check.check(tmp_path / "manifest.csv", {"HER2": Marker()})
        return [problem for problem in report.problems if "no HE slide" not in problem], report.notes

    return look


@pytest.mark.parametrize(("mpp", "told"), [(2.0, "4 times coarser"), (0.125, "4 times finer")])
def test_a_slide_far_off_the_median_is_told_with_its_row_and_the_way_out(scanned, mpp, told):
    usual = [("HE", 0.5), ("HER2", 0.5)] * 4
    problems, _ = scanned([*usual, ("HE", mpp)])
    assert len(problems) == 1
    for words in (
        f"row 10: slide 's8' has {mpp:g} um/px (file), {told} than the median of 5 HE slides, 0.5.",
        "write the right `mpp` and put 1 into the column `mpp_override`",
    ):
        assert words in problems[0]
    assert scanned([*usual, ("HE", mpp)], mpp=[*[""] * 8, f"{mpp}"])[0] == [], "who repeats it has looked"
    right = {"mpp": [*[""] * 8, "0.5"], "mpp_override": [*[""] * 8, "1"]}
    assert scanned([*usual, ("HE", mpp)], **right)[0] == []


def test_a_resolution_of_the_manifest_that_is_far_off_is_corrected_there(scanned):
    silent = [("HE", None), ("HER2", None)] * 3
    problems, _ = scanned(silent, mpp=["0.25"] * 5 + ["2.5"])
    assert len(problems) == 1 and "row 7: slide 's5' has 2.5 um/px (manifest), 10 times coarser" in problems[0]
    assert "Correct `mpp`, or, if it is right, put 1 into the column `mpp_override`." in problems[0]
    assert scanned(silent, mpp=["0.25"] * 5 + ["2.5"], mpp_override=[""] * 5 + ["1"])[0] == []


def test_stains_may_be_scanned_each_in_its_way(scanned):
    problems, notes = scanned([("HE", 0.25), ("HER2", 1.0)] * 3)
    assert problems == [] and any("HE 0.25, HER2 1. If they were scanned alike" in note for note in notes)
    problems, notes = scanned([("HE", 0.25), ("HER2", 0.5)] * 3)
    assert problems == [] and not any("median" in note for note in notes)
    problems, notes = scanned([("HE", 0.25)] * 3 + [("HE", 1.0)] * 2)
    assert problems == [] and any("2 of 5 HE slides (rows 5, 6) are 3 times" in note for note in notes)
    problems, _ = scanned([("HE", 0.5)] * 4 + [("HER2", 2.0)])
    assert len(problems) == 1 and "the median of all 5 slides" in problems[0]
    assert scanned([("HE", 0.5), ("HER2", 2.0)])[0] == []
