"""Files that are no slides, and slides that lack a part: each is named, with what to do."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hsa.cohorts import check
from hsa.errors import InputError
from hsa.slides.slide import Slide
from hsa.study.settings import Marker
from slide_files import tissue_picture, write_dicom

VMS = """[Virtual Microscope Specimen]
NoLayers=1
ImageFile=a.jpg
ImageFile(1,0)=b.jpg
MapFile=map.jpg
MacroImage=m.jpg
"""
DAT = """[HIERARCHICAL]
INDEXFILE = Index.dat
[DATAFILE]
FILE_COUNT = 2
FILE_0 = Data0000.dat
FILE_1 = Data0001.dat
"""


def link(path):
    path.symlink_to("gone.svs")


def mirax(*present, text=DAT):
    def make(path):
        Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(path, format="JPEG")  # as the file itself is
        for name in present:
            path.with_suffix("").mkdir(exist_ok=True)
            (path.with_suffix("") / name).write_text(text if name == "Slidedat.ini" else "x")

    return make


def folder(*present):
    def make(path):
        path.mkdir()
        for name in present:
            (path / name).write_bytes(b"x")

    return make


def holds(data):
    return lambda path: path.write_bytes(data)


MADE = {
    "an empty file": ("x.svs", holds(b""), "is empty: its copy failed; copy it again"),
    "a copy of zeros": ("x.svs", holds(bytes(9000)), "begins with 4096 zeros: its copy was not finished"),
    "a link": ("x.svs", link, "is a link to 'gone.svs', which is not there: mend it"),
    "a folder": ("x.svs", folder("notes.txt"), "is a folder without a DICOM slide: give the file"),
    "a folder round a file": ("x.svs", folder("y.svs"), r"is a folder .*\(did you mean 'x.svs/y.svs'\?\)"),
    "an empty instance": ("x", folder("1.dcm"), "its file '1.dcm' is no DICOM file: copy it again"),
    "MRXS alone": ("x.mrxs", mirax(), "lacks its folder 'x', which holds its pixels: copy it to beside the file"),
    "MRXS without its index": ("x.mrxs", mirax("Data0000.dat"), "lacks, in its folder 'x', 'Slidedat.ini': copy all"),
    "MRXS without a part": (
        "x.mrxs",
        mirax("Slidedat.ini", "Index.dat", "Data0001.dat"),
        "lacks, in its folder 'x', 'Data0000.dat': copy all files of the slide again",
    ),
    "VMS alone": ("x.vms", holds(VMS.encode()), "lacks, beside it, 'a.jpg', 'b.jpg', 'map.jpg': copy all files"),
    "a Git LFS pointer": (
        "x.svs",
        holds(b"version https://git-lfs.github.com/spec/v1"),
        "is a pointer of Git LFS",
    ),
    "a web page": ("x.svs", holds(b"\xef\xbb\xbf\n<!DOCTYPE html><html>sign in"), "is a web page.* download it again"),
    "an archive": ("x.svs", holds(b"PK\x03\x04rest"), "is a ZIP archive: unpack it"),
    "gzip": ("x.tif", holds(b"\x1f\x8b\x08rest"), "is a gzip archive: unpack it"),
    "what a Mac leaves": (
        "._x.svs",
        holds(b"\x00\x05\x16\x07\x00\x02\x00\x00"),
        "is what a Mac keeps",
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_no_slide_is_named_with_its_remedy(tmp_path, name):
    called, make, told = MADE[name]
    make(tmp_path / called)
    with pytest.raises(InputError, match=rf"slide .*{called}:? {told}"):
        Slide.open(tmp_path / called, 0.5)
    problems = checked(tmp_path, called)
    assert len(problems) == 1 and problems[0].startswith("row 2: ") and "hsa predict" not in problems[0]
    if name != "a link":  # told by where it leads
        with pytest.raises(InputError, match=told):
            raise InputError(problems[0])


def checked(root, name, **more):
    row = {"patient_id": "p", "case_id": "c", "slide_id": "s", "stain": "HE", "path": name, "label_P53": "", **more}
    pd.DataFrame([row]).to_csv(root / "manifest.csv", index=False)
    return check.check(root / "manifest.csv", {"P53": Marker()}).problems


def test_a_dicom_slide_without_its_full_size_image_is_told_and_may_be_meant(tmp_path, caplog):
    picture = tissue_picture(512, 0.5, 0)
    (tmp_path / "case").mkdir()
    write_dicom(tmp_path / "case" / "1.dcm", picture, 0.5)
    write_dicom(tmp_path / "case" / "2.dcm", picture[::2, ::2], 1.0, number=2)
    assert checked(tmp_path, "case") == []
    (tmp_path / "case" / "1.dcm").unlink()
    (problem,) = checked(tmp_path, "case")
    assert "row 2: slide" in problem and "full-size image is not among its DICOM files" in problem
    assert "256 x 256 px" in problem and "copy all files of the series; or, if it is right, write its 1 into" in problem
    assert checked(tmp_path, "case", mpp="1.0") == []
    assert not caplog.records
    with Slide.open(tmp_path / "case") as slide:
        assert slide.mpp == 1.0 and "full-size image is not among" in caplog.text
