import os

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hsa.cli import app
from hsa.cohorts.cohort import read_manifest
from hsa.cohorts.draft import draft_manifest, write_draft
from hsa.errors import InputError
from hsa.study.settings import Marker

MARKERS = ["P53", "Ki-67", "PD-L1"]
BLANK = np.full((64, 64, 3), 255, np.uint8)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def table(draft, *columns):
    return [tuple(row) for row in draft.manifest[list(columns)].to_numpy()]


@pytest.mark.parametrize(
    ("name", "pattern", "read"),
    [
        ("C01_HE.svs", "{case}_{stain}", ("C01", "HE")),
        ("S_2020_1_H&E.ndpi", "{case}_{stain}", ("S_2020_1", "HE")),
        ("C01_h_e.tiff", "{case}_{stain}", ("C01", "HE")),
        ("C01_H and E.mrxs", "{case}_{stain}", ("C01", "HE")),
        ("C01_KI67.ome.tif", "{case}_{stain}", ("C01", "Ki-67")),
        ("C01_ki-67_2.svs", "{case}_{stain}", ("C01", "Ki-67")),
        ("C01_HE2.svs", "{case}_{stain}", ("C01", "HE")),
        ("C01-PDL1.svs", "{case}-{stain}", ("C01", "PD-L1")),
        ("C01 P53.svs", "{case} {stain}", ("C01", "P53")),
        ("P53_C01_1.svs", "{stain}_{case}", ("C01_1", "P53")),
        ("a/H&E/C01.svs", "{stain}/{case}", ("C01", "HE")),
        ("C01/he.svs", "{case}/{stain}", ("C01", "HE")),
    ],
)
def test_names_are_read_without_a_pattern(tmp_path, name, pattern, read):
    draft = draft_manifest(touch(tmp_path, name), MARKERS)
    assert draft.pattern == pattern
    assert table(draft, "case_id", "stain", "path") == [(*read, name)]


@pytest.mark.parametrize(
    ("name", "pattern", "read"),
    [
        ("P1_C1_HE.svs", "{patient}_{case}_{stain}", ("P1", "C1", "HE")),
        ("site/P1/C 1/HE.svs", "{patient}/{case}/{stain}.svs", ("P1", "C-1", "HE")),
        ("P1_C1_block3_Dako22C3.svs", "{patient}_{case}_{any}_{stain}", ("P1", "C1", "PD-L1")),
        ("P1_C1_HE7.svs", "{patient}_{case}_{stain}", ("P1", "C1", "P53")),  # an alias, and no seventh slide in HE
    ],
)
def test_names_are_read_by_a_pattern(tmp_path, name, pattern, read):
    draft = draft_manifest(touch(tmp_path, name), MARKERS, pattern, {"Dako 22C3": "PD-L1", "HE7": "P53"})
    assert table(draft, "patient_id", "case_id", "stain") == [read]


def test_what_is_no_slide_or_not_read_is_told(tmp_path):
    touch(tmp_path, "C1_HE.svs", "C1_HE.png", "C1_P53.mrxs", "C1_P53/Data0001.dat", "C1_P53/preview.png", "notes.txt")
    touch(tmp_path, "C2_HE.vms", "C2_HE(1,0).jpg", "scan.svs", "C1_CK7.svs", "C2_CK7.svs", "C1_P532.svs", ".x_HE.svs")
    touch(tmp_path, ".trash/C9_HE.svs")
    touch(tmp_path, "C3_HE/1.dcm", "C3_HE/2.dcm", "loose_HE.dcm")
    draft = draft_manifest(tmp_path, MARKERS)
    assert [path for (path,) in table(draft, "path")] == ["C1_HE.svs", "C1_P53.mrxs", "C2_HE.vms", "C3_HE"]
    reasons = {
        "C1_HE.png": "an image beside a slide",
        "C2_HE(1,0).jpg": "an image beside a slide",
        "loose_HE.dcm": "DICOM slides need a folder each",
    }
    odd = dict.fromkeys(["scan.svs", "C1_CK7.svs", "C2_CK7.svs", "C1_P532.svs"], "does not fit {case}_{stain}")
    assert draft.unread == reasons | odd
    said = draft.summary()
    assert said.startswith("read by {case}_{stain}: 4 slides (3 HE, 1 P53), 3 cases, 3 patients\n7 files are not in it")
    assert "often end in CK7 (2): another marker (`--marker`), or another spelling (`--alias CK7=P53`)?" in said
    assert "patient_id is the case_id" in said
    assert "mpp is to be filled in for 4 slides" in said


def test_a_link_out_of_the_folder_is_not_taken(tmp_path):
    touch(tmp_path, "elsewhere/C1_HE.svs", "slides/C2_HE.svs")
    os.symlink(tmp_path / "elsewhere/C1_HE.svs", tmp_path / "slides/C1_HE.svs")
    draft = draft_manifest(tmp_path / "slides", MARKERS)
    assert table(draft, "case_id") == [("C2",)]
    assert draft.unread == {"C1_HE.svs": "a link to outside of slides"}


def test_ids_are_valid_and_unique(tmp_path):
    touch(tmp_path, "HE/C 1.svs", "HE/C-1.svs", "P53/C 1.svs", "P53/Ü(2).svs")
    draft = draft_manifest(tmp_path, MARKERS)
    assert table(draft, "case_id", "slide_id") == [
        ("2", "2"),
        ("C-1", "HE_C-1"),
        ("C-1", "P53_C-1"),
        ("C-1-2", "C-1"),
    ]
    assert "case_id were changed to be valid and unique, such as 'C 1' to 'C-1'" in draft.summary()
    long = draft_manifest(touch(tmp_path / "long", f"{'L' * 130}_HE.svs"), MARKERS)
    assert table(long, "case_id") == [("L" * 120,)]
    # Not every disk would tell bags of these names apart.
    alike = draft_manifest(touch(tmp_path / "alike", "HE/c1.svs", "P53/C1.svs"), MARKERS)
    assert table(alike, "slide_id") == [("P53_C1",), ("HE_c1",)]


def test_mpp_comes_from_the_file(tmp_path, make_slide):
    make_slide("C1_HE.tif", picture=BLANK, mpp=0.25, levels=1)
    make_slide("C1_P53.tif", picture=BLANK, mpp=None, levels=1)
    draft = draft_manifest(tmp_path, MARKERS)
    assert table(draft, "stain", "mpp") == [("HE", "0.25"), ("P53", "")]
    assert "mpp is to be filled in for 1 slides" in draft.summary()


def test_a_draft_with_labels_is_a_manifest(tmp_path, make_slide):
    touch(tmp_path, "C1_HE.svs", "C1_P53.svs", "C1_HE_2.svs", "C2_HE.svs", "C2_P53.svs", "C3_HE.svs")
    labels = pd.DataFrame({"case_id": ["C1", "C2", "C9"], "p53": [0, 1, 1], "patient_id": ["A", "A", "B"]})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    draft = draft_manifest(tmp_path, ["P53", "HER2"], labels=tmp_path / "labels.csv")
    assert list(draft.manifest)[-2:] == ["label_P53", "label_HER2"]
    said = draft.summary()
    for note in ("no column for label_HER2", "1 cases are not in labels.csv, such as C3", "1 cases of labels.csv"):
        assert note in said
    write_draft(draft, tmp_path / "manifest.csv")
    cohort = read_manifest(tmp_path / "manifest.csv", {"P53": Marker(), "HER2": Marker()})
    assert cohort.slides["path"].map(os.path.exists).all()
    assert cohort.slides["patient_id"].tolist() == ["A"] * 5 + ["C3"]
    assert cohort.labels["P53"].dropna().to_dict() == {"C1": 0, "C2": 1}


def test_labels_may_come_from_any_spreadsheet(tmp_path):
    touch(tmp_path, "C1_HE.svs", "C2_HE.svs")
    labels = tmp_path / "labels.csv"
    labels.write_text("case_id;HER2\nC1; 3+\nC2;0\n", encoding="utf-8-sig")
    draft = draft_manifest(tmp_path, ["HER2"], labels=labels)
    assert table(draft, "case_id", "label_HER2") == [("C1", "3+"), ("C2", "0")]
    labels.write_text("case_id,HER2\nC1,0\nC1,1\n")
    with pytest.raises(InputError, match="case 'C1' has several rows"):
        draft_manifest(tmp_path, ["HER2"], labels=labels)
    labels.write_text("Case,HER2\nC1,0\n")
    with pytest.raises(InputError, match="no column case_id; found Case, HER2"):
        draft_manifest(tmp_path, ["HER2"], labels=labels)


def test_labels_may_name_a_case_as_its_files_do(tmp_path):
    touch(tmp_path, "C 1_ER.svs", "C 1_HE.svs")
    pd.DataFrame({"case_id": ["C 1"], "label_ER": [1], "ER": ["80 %"]}).to_csv(tmp_path / "labels.csv", index=False)
    draft = draft_manifest(tmp_path, ["ER"], labels=tmp_path / "labels.csv")
    assert table(draft, "case_id", "stain", "label_ER") == [("C-1", "HE", "1"), ("C-1", "ER", "1")]


def test_an_existing_manifest_is_kept_unless_forced(tmp_path):
    draft = draft_manifest(touch(tmp_path, "C1_HE.svs"), MARKERS)
    (tmp_path / "manifest.csv").write_text("mine")
    with pytest.raises(InputError, match="may hold your corrections"):
        write_draft(draft, tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_text() == "mine"
    write_draft(draft, tmp_path / "manifest.csv", force=True)
    assert (tmp_path / "manifest.csv").read_text().startswith("patient_id,case_id,slide_id,stain,path,mpp,label_P53")


def test_a_draft_from_the_shell_has_the_markers_of_the_study(tmp_path):
    touch(tmp_path, "C1_HE.svs", "C1_ER.svs")
    arguments = ["cohort", "init", str(tmp_path), "--study", "smoke", "--marker", "ER"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    made = (tmp_path / "manifest.csv").read_text()
    assert made.splitlines()[0].endswith("mpp,label_P53,label_PD-L1,label_Ki-67,label_ER")
    (tmp_path / "manifest.csv").write_text("mine")
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0
    assert (tmp_path / "manifest.csv").read_text() == made


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        ([], {}, "no slides in it"),
        (["scan1.svs"], {}, "patterns {case}_{stain}.* fit none of 1 files such as 'scan1.svs'.*`--pattern`"),
        (["C1_HE.svs"], {"pattern": "{case}-{stain}"}, "pattern {case}-{stain} fits none of 1 files"),
        (["C1_HE.svs"], {"pattern": "{case}_{dye}"}, "needs {case} and {stain}"),
        (["C1_HE.svs"], {"pattern": "{case}_{case}_{stain}"}, "each once"),
        (["C1_HE.svs"], {"aliases": {"CD3": "CD-3"}}, "'CD-3' is none of HE, P53"),
        (["C1_HE.svs", "l.csv"], {"labels": "l.csv"}, "not a readable CSV"),
    ],
)
def test_what_cannot_be_drafted_is_refused(tmp_path, names, given, message):
    touch(tmp_path, *names)
    if "labels" in given:
        given = {"labels": tmp_path / given["labels"]}
    with pytest.raises(InputError, match=message):
        draft_manifest(tmp_path, MARKERS, **given)
