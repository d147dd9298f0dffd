import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from hsa.bags.bag import Bag, write_bag
from hsa.bags.checksums import of_bags, of_files, of_slides
from hsa.cli import app
from hsa.cohorts.cohort import read_manifest
from hsa.cohorts.identity import alike, copies, refuse_copies
from hsa.errors import InputError
from hsa.pipeline import steps
from hsa.study.settings import Marker
from hsa.study.study import load
from slide_files import write_tiff

CUT = {"Ki-67": Marker(cutoff=20)}


@pytest.fixture
def rows(tmp_path):
    """Rows of a manifest, a case each, and a function that reads them as a study does."""

    def read(ids, labels=None, markers=None, column="patient_id"):
        frame = pd.DataFrame({"patient_id": [f"p{k}" for k in range(len(ids))]})
        frame["case_id"] = [f"c{k}" for k in range(len(ids))]
        frame["slide_id"] = [f"s{k}" for k in range(len(ids))]
        frame["stain"] = "HE"
        frame["path"] = [f"{name}.svs" for name in frame["slide_id"]]
        frame[column] = ids
        frame["label_Ki-67"] = labels or "1"
        for name in frame["path"]:
            (tmp_path / name).touch()
        frame.to_csv(tmp_path / "manifest.csv", index=False)
        return read_manifest(tmp_path / "manifest.csv", markers or {"Ki-67": Marker()})

    return read


@pytest.mark.parametrize("column", ["patient_id", "case_id"])
@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (["7", "7.0", "007", "8"], "'7' (row 2), '7.0' (row 3), '007' (row 4): equal as numbers"),
        (["12", "12."], "'12' (row 2), '12.' (row 3): equal as numbers"),
        (["1E3", "1000"], "'1E3' (row 2), '1000' (row 3): equal as numbers"),
        (["P1", "p1"], "'P1' (row 2), 'p1' (row 3): equal up to case and spaces"),
        (["P 1", "P1"], "'P 1' (row 2), 'P1' (row 3): equal up to case and spaces"),
        (["Ｐ1", "P1"], "equal up to case and spaces"),
    ],
)
def test_ids_that_differ_in_spelling_only_are_told_together(rows, column, ids, told):
    with pytest.raises(InputError) as caught:
        rows(ids, column=column)
    assert f"{column} " in str(caught.value) and told in str(caught.value) and "Write them alike" in str(caught.value)


@pytest.mark.parametrize("ids", [["7", "7a", "70", "0.7"], ["P7", "P007"], ["1-1", "11"], ["1E2", "1E3", "E1"]])
def test_other_ids_are_apart(rows, ids):
    assert rows(ids).slides["patient_id"].tolist() == ids


def test_slides_may_be_numbered_with_and_without_zeros(rows):
    rows(["1", "01"], column="slide_id")
    with pytest.raises(InputError, match=r"slide_id 'a' .row 2., 'A' .row 3.: equal up to case"):
        rows(["a", "A"], column="slide_id")


def test_many_rows_are_named_by_the_first():
    ids = ["7"] * 9 + ["07"]
    frame = pd.DataFrame({"patient_id": ids, "case_id": [f"c{k}" for k in range(10)], "slide_id": "s"})
    assert "'7' (rows 0, 1, 2, 3, 4 and 4 more), '07' (row 9)" in alike(frame)[0]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["35", "-1", "12"], ["'-1' (row 3)", "from 12 to 35", "write -1e0"]),
        (["35", "-9.0", "12"], ["'-9.0' (row 3)", "write -9e0"]),
        (["35", "999", "12", "999"], ["'999' (rows 3, 5)"]),
        (["5", "99", "12"], ["'99' (row 3)"]),
        (["0", "1", "9"], ["'9' (row 4)"]),
        (["35", "-1", "999", "0"], ["'-1' (row 3)", "'999' (row 4)", "from 0 to 35"]),
    ],
)
def test_a_number_for_not_known_is_told_where_a_marker_has_a_cut_off(rows, labels, told):
    with pytest.raises(InputError) as caught:
        rows([f"p{k}" for k in range(len(labels))], labels, CUT)
    for words in told:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "labels",
    [["85", "99", "12"], ["-1", "-2.5", "1", "3"], ["35", "-1e0", "12"], ["250", "999", "400"], ["2", "9"], ["0", "1"]],
)
def test_a_number_that_may_have_been_measured_is_kept(rows, labels):
    assert len(rows([f"p{k}" for k in range(len(labels))], labels, CUT).labels) == len(labels)


def slides(*rows):
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "case_id", "stain"])


@pytest.mark.parametrize(
    ("second", "problem", "note"),
    [
        (("b", "p2", "c2", "HE"), "under several patients", ""),
        (("b", "p2", "c2", "P53"), "under several patients", ""),
        (("b", "p1", "c1", "P53"), "as several stains", ""),
        (("b", "p1", "c2", "P53"), "as several stains", ""),
        (("b", "p1", "c2", "HE"), "", "in several cases of a patient"),
        (("b", "p1", "c1", "HE"), "", "twice in one case"),
    ],
)
def test_one_picture_under_two_names(second, problem, note):
    frame = slides(("a", "p1", "c1", "HE"), second, ("d", "p3", "c3", "HE"), ("e", "p4", "c4", "HE"))
    checksums = {"a": "1", "b": "1", "d": "2"}
    problems, notes = copies(frame, checksums)
    assert len(problems) == bool(problem) and all(
        problem in text and "slides a (patient p1" in text for text in problems
    )
    assert len(notes) == bool(note) and all(note in text for text in notes)
    if problem:
        with pytest.raises(InputError, match=problem):
            refuse_copies(frame, checksums)
    else:
        refuse_copies(frame, checksums)


@pytest.fixture
def twice(tmp_path):
    """A manifest whose two patients have one slide, copied."""
    picture = np.full((300, 300, 3), 200, np.uint8)
    write_tiff(tmp_path / "one.tif", picture, mpp=0.5, levels=1)
    shutil.copy(tmp_path / "one.tif", tmp_path / "two.tif")
    frame = slides(("a", "p1", "c1", "HE"), ("b", "p2", "c2", "HE")).assign(path=["one.tif", "two.tif"])
    for marker in ("P53", "PD-L1", "Ki-67"):
        frame[f"label_{marker}"] = ["0", "1"]
    frame.to_csv(tmp_path / "manifest.csv", index=False)
    return frame.assign(path=[tmp_path / name for name in frame["path"]])


def bag(folder, name, **attrs):
    write_bag(folder / f"{name}.h5", Bag(np.ones((1, 2), np.float16), np.zeros((1, 2), np.int64), attrs))


def test_the_check_reads_files_of_equal_size_and_says_which_are_equal(twice, tmp_path):
    arguments = ["cohort", "check", str(tmp_path / "manifest.csv")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "slides a (patient p1, case c1, HE), b (patient p2, case c2, HE): one picture" in result.stderr
    assert CliRunner().invoke(app, [*arguments, "--no-checksums"]).exit_code == 0


def test_the_check_takes_checksums_from_the_bags_of_the_study(twice, tmp_path, smoke_file):
    told = yaml.safe_load(smoke_file.read_text())
    told["cohort"] = {"kind": "manifest", "manifest": str(tmp_path / "manifest.csv")}
    smoke_file.write_text(yaml.safe_dump(told))
    arguments = ["cohort", "check", str(tmp_path / "manifest.csv"), "--study", str(smoke_file), "--no-checksums"]
    assert "one picture" not in CliRunner().invoke(app, arguments).stderr
    folder = load(smoke_file).paths.bags
    for row in twice.itertuples():
        bag(folder, row.slide_id, source_sha256="x", source_bytes=row.path.stat().st_size)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "one picture" in result.stderr
    assert of_slides(twice, folder, read=True) == {"a": "x", "b": "x"}


def test_a_bag_tells_of_the_file_that_it_was_made_from(twice, tmp_path):
    size = (tmp_path / "one.tif").stat().st_size
    bag(tmp_path, "a", source_sha256="x", source_bytes=size)
    bag(tmp_path, "b", source_sha256="x", source_bytes=size + 1)
    assert of_bags(twice, tmp_path) == {"a": "x"}, "the second file has changed since"
    (tmp_path / "b.h5").write_bytes(b"cut")
    assert of_bags(twice, tmp_path) == {"a": "x"}
    (tmp_path / "two.tif").unlink()
    bag(tmp_path, "b", source_sha256="x", source_bytes=size + 1)
    assert of_bags(twice, tmp_path) == {"a": "x", "b": "x"}


def test_only_files_of_equal_size_are_read(twice, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("hsa.bags.checksums.sha256", lambda path: read.append(path.name) or "x")
    (tmp_path / "three.tif").write_bytes(b"of another size")
    more = pd.concat([twice, twice[:1].assign(slide_id="d", path=tmp_path / "three.tif")])
    for name in ("f", "g"):
        (tmp_path / name).touch()  # no slide; that is told elsewhere
        more = pd.concat([more, twice[:1].assign(slide_id=name, path=tmp_path / name)])
    more = pd.concat([more, twice[:1].assign(slide_id="e", path=tmp_path / "none.tif")])
    assert of_files(more) == {"a": "x", "b": "x"} and read == ["one.tif", "two.tif"]


def test_features_are_not_called_made_where_two_patients_have_one_picture(twice, tmp_path, smoke_file, monkeypatch):
    study = load(smoke_file, changes={"cohort": {"kind": "manifest", "manifest": str(tmp_path / "manifest.csv")}})

    def encode(slides, folder, *args, **kwargs):
        for name, path in zip(slides["slide_id"], slides["path"], strict=True):
            bag(folder, name, source_sha256="x", source_bytes=(tmp_path / path).stat().st_size)
        return slides.assign(source_sha256="x")

    monkeypatch.setattr("hsa.pipeline.steps.encode.encode_cohort", encode)
    monkeypatch.setattr("hsa.pipeline.steps.features.check_folds", lambda *a: None)
    with pytest.raises(InputError, match=r"slides a .patient p1.*b .patient p2.*under several patients"):
        steps.make_features(study, progress=False)
    assert not (study.paths.bags / "made.json").exists()
