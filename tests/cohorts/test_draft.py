import os
import re
import shlex

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
        ("Case 1 - H&E.jpg", "{case} {stain}", ("Case-1", "HE")),
        ("Case 1 \u2013 P53.jpg", "{case} {stain}", ("Case-1", "P53")),
        ("C1__HE.svs", "{case}_{stain}", ("C1", "HE")),
        ("C1 (HE).svs", "{case}({stain})", ("C1", "HE")),
        ("C1, HE.svs", "{case} {stain}", ("C1", "HE")),
        ("HE - C1.svs", "{stain} {case}", ("C1", "HE")),
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
    assert "often end in CK7 (2): if that is a marker of its own, add it (`--marker CK7`); if it is another" in said
    assert "patient_id is the case_id" in said
    assert "4 slides cannot be opened; copy them again, or remove their rows:\n  " in said
    assert "resolution, such as" not in said


def test_files_of_other_formats_are_listed(tmp_path, make_slide):
    make_slide("c1_HE.tif", picture=BLANK, mpp=0.5, levels=1)
    touch(tmp_path, "c2_HE.vsi", "_c2_HE_/stack1/frame_t.ets", "c4_HE.isyntax", "c5_HE.qptiff", "c6_HE.jp2")
    touch(tmp_path, "c7_HE.svs.part", "c8_HE.NDPI.crdownload", "c9_HE.mrxs.tmp", "c10_HE.sdpc", "labels.csv", "README")
    touch(tmp_path, "c2_HE.czi", "c1_HE.geojson")
    draft = draft_manifest(tmp_path, MARKERS)
    assert [path for (path,) in table(draft, "path")] == ["c1_HE.tif", "c2_HE.czi"], "czi is tried"
    assert "1 slides cannot be opened" in draft.summary() and "c2_HE.czi" in draft.summary()
    kinds = {"c2_HE.vsi": ".vsi", "c4_HE.isyntax": ".isyntax", "c5_HE.qptiff": ".qptiff", "c6_HE.jp2": ".jp2"}
    told = {
        name: f"{kind} is not read; convert it to OME-TIFF or another pyramidal TIFF" for name, kind in kinds.items()
    }
    told["c10_HE.sdpc"] = ".sdpc is not read; convert it to OME-TIFF or another pyramidal TIFF"
    half = ["c7_HE.svs.part", "c8_HE.NDPI.crdownload", "c9_HE.mrxs.tmp"]
    assert draft.unread == told | dict.fromkeys(half, "a copy that was not finished")
    with pytest.raises(InputError, match=r"(?s)no slides in it.*c2_HE.vsi: .vsi is not read"):
        draft_manifest(touch(tmp_path / "only", "c2_HE.vsi"), MARKERS)


def test_slides_of_one_name_have_ids_of_their_own(tmp_path):
    touch(
        tmp_path,
        "c1_HE.svs",
        "c1_HE.ndpi",
        "c1_P53.svs",
        "a/b/c2_HE.svs",
        "a_b/c2_HE.svs",
        "x/c3_HE.svs",
        "x_c3_HE.svs",
    )
    touch(tmp_path, "y/c3_HE.tif")
    draft = draft_manifest(tmp_path, MARKERS)
    names = [name for (name,) in table(draft, "slide_id")]
    assert len({name.lower() for name in names}) == len(names) == 8
    assert {"c1_HE.svs", "c1_HE.ndpi", "c1_P53"} < set(names)
    assert "c1_HE.ndpi and c1_HE.svs differ in their ending only" in draft.summary()
    write_draft(draft, tmp_path / "manifest.csv")
    assert len(read_manifest(tmp_path / "manifest.csv", {m: Marker() for m in MARKERS}).slides) == 8


def test_sites_may_name_their_files_differently(tmp_path):
    touch(tmp_path, "a/C1_HE.svs", "a/C1_P53.svs", "a/C2_HE.svs", "b/HE-D1.svs", "b/P53-D1.svs", "b/P53 sketch.png")
    draft = draft_manifest(tmp_path, MARKERS)
    assert draft.pattern == "{case}_{stain} and {stain}-{case}"
    assert table(draft, "case_id", "stain") == [
        *(("C1", "HE"), ("C1", "P53"), ("C2", "HE")),
        *(("D1", "HE"), ("D1", "P53")),
    ]
    assert draft.unread == {"b/P53 sketch.png": "does not fit {case}_{stain} and {stain}-{case}"}


def test_a_hint_is_given_where_the_cause_is_known(tmp_path):
    touch(tmp_path, "C1_HE.svs", "C1x HE.svs", "C2x HE.svs", "C3_CK7.svs", "C4_CK7.svs", "C5_1.svs", "C6_1.svs")
    said = draft_manifest(tmp_path, MARKERS, "{case}_{stain}").summary()
    assert "often end in HE (2): a stain that is known, so say how these files are named (`--pattern`)" in said
    assert "often end in CK7 (2): if that is a marker" in said
    assert "--alias HE" not in said and "1 (2)" not in said


def test_labels_join_cases_whose_names_hold_signs(tmp_path):
    touch(tmp_path, *[f"Case {k} - {stain}.jpg" for k in (1, 2, 3) for stain in ("H&E", "HER2")])
    (tmp_path / "labels.csv").write_text("case_id,HER2\nCase 1,0\nCase 2,1\nCase 3,1\n")
    draft = draft_manifest(tmp_path, ["HER2"], labels=tmp_path / "labels.csv")
    assert table(draft, "case_id", "label_HER2")[::2] == [("Case-1", "0"), ("Case-2", "1"), ("Case-3", "1")]
    assert "are not in labels.csv" not in draft.summary()


@pytest.mark.parametrize(("out", "root"), [("manifest.csv", ""), ("slides/m.csv", ""), ("lists/m.csv", "slides")])
def test_a_draft_elsewhere_says_how_its_paths_are_found(tmp_path, make_slide, monkeypatch, out, root):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slides").mkdir()
    (tmp_path / "lists").mkdir()
    make_slide("slides/C1_HE.tif", picture=BLANK, mpp=0.5, levels=1)
    said = CliRunner().invoke(app, ["cohort", "init", "slides", "--marker", "P53", "--out", out]).stdout
    (command,) = re.findall("`hsa (cohort check .*)`", said)
    assert ("--root" in command) == ("cohort.root" in said) == bool(root)
    assert CliRunner().invoke(app, shlex.split(command)).exit_code == 0


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
    assert "1 slides do not say their resolution, such as C1_P53.tif: give `--mpp`" in draft.summary()
    told = draft_manifest(tmp_path, MARKERS, mpp=0.5)
    assert table(told, "stain", "mpp") == [("HE", "0.25"), ("P53", "0.5")]
    assert "1 slides do not say their resolution, such as C1_P53.tif: taken as 0.5" in told.summary()
    (tmp_path / "C2_P53.tif").write_bytes(b"II*\0 cut")
    said = draft_manifest(tmp_path, MARKERS, mpp=0.5)
    assert table(said, "case_id", "mpp")[-1] == ("C2", "") and "1 slides cannot be opened" in said.summary()
    assert "C2_P53.tif" in said.summary().partition("cannot be opened")[2]
    with pytest.raises(InputError, match="--mpp 250: give microns per pixel"):
        draft_manifest(tmp_path, MARKERS, mpp=250)


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
