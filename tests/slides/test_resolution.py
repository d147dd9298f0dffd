"""What a file says of its resolution, what its user says, and what cannot be."""

import logging
import math
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from hsa.cli import app
from hsa.cohorts import check
from hsa.cohorts.cohort import read_manifest
from hsa.errors import InputError
from hsa.screening.worklist import read_worklist
from hsa.slides.resolution import COMMAND_LINE, MANIFEST, Given, agreed, given, givens
from hsa.slides.slide import Slide
from hsa.study.settings import Marker
from slide_files import tissue_picture


def svs(path, power, mpp, side=512):
    told = f"Aperio Image Library v12.0.15\r\n{side}x{side} [0,0 {side}x{side}] (256x256)|AppMag = {power}|MPP = {mpp}"
    picture = tissue_picture(side, 0.5, 0)
    tifffile.imwrite(path, picture, tile=(256, 256), compression="jpeg", description=told, metadata=None)
    return path


def test_a_marked_resolution_wins_and_is_recorded(make_slide):
    path = make_slide(mpp=0.25)
    for told_by in ("manifest", COMMAND_LINE):
        with Slide.open(path, Given(0.5, True, told_by)) as slide:
            assert (slide.mpp, slide.mpp_from) == (0.5, "override")
    with Slide.open(path, Given(0.251, False, COMMAND_LINE)) as slide:
        assert (slide.mpp, slide.mpp_from) == (0.25, "file")
    with Slide.open(make_slide("b.tif", mpp=None), Given(0.5, False, COMMAND_LINE)) as slide:
        assert slide.mpp_from == COMMAND_LINE


@pytest.mark.parametrize(
    ("told_by", "remedy"),
    [("manifest", "put 1 into the column `mpp_override`"), (COMMAND_LINE, "add `--override-mpp`")],
)
def test_a_contradiction_tells_how_to_mark_it_where_it_came_from(make_slide, told_by, remedy):
    path = make_slide(mpp=0.25)
    other = {"manifest": "command line|--override", COMMAND_LINE: "manifest"}[told_by]
    with pytest.raises(InputError, match=rf"says 0\.25 um/px, the {told_by} says 0\.5: .*{remedy}") as error:
        Slide.open(path, Given(0.5, False, told_by))
    assert not any(word in str(error.value) for word in other.split("|"))


@pytest.mark.parametrize("said", [0.05, 0.0025, 42.3, 21.2])
def test_what_no_microscope_has_says_nothing(make_slide, said):
    path = make_slide(mpp=said)
    with pytest.raises(InputError, match=r"does not say its resolution \([\d.]+ um/px is none of a microscope\)"):
        Slide.open(path)
    with Slide.open(path, 0.5) as slide:
        assert (slide.mpp, slide.mpp_from) == (0.5, "manifest")
    for mpp in (0.07, 21.0):
        with pytest.raises(InputError, match=r"the command line's mpp .* \(0\.08 to 20\)"):
            Slide.open(path, Given(mpp, True, COMMAND_LINE))


@pytest.mark.parametrize(("power", "mpp"), [(40, 0.09), (40, 1.0), (20, 0.09), (10, 0.25), (5, 0.5)])
def test_an_objective_that_contradicts_the_resolution_is_named(tmp_path, power, mpp):
    path = svs(tmp_path / "a.svs", power, mpp)
    with pytest.raises(InputError, match=rf"{mpp:g} um/px \(file\) do not go with an objective of {power}x, about"):
        Slide.open(path)
    for told in (Given(mpp), Given(mpp, True), Given(10 / power, True)):
        with Slide.open(path, told) as slide:
            assert slide.mpp == pytest.approx(told.mpp)


@pytest.mark.parametrize(("power", "mpp"), [(40, 0.2273), (40, 0.2525), (20, 0.499), (20, 0.55), (60, 0.17)])
def test_usual_objectives_are_no_contradiction(tmp_path, caplog, power, mpp):
    with Slide.open(svs(tmp_path / "a.svs", power, mpp)) as slide:
        assert slide.mpp == pytest.approx(mpp)
    assert not caplog.records


def test_a_manifest_is_held_against_the_objective_where_the_file_says_no_more(tmp_path):
    path = svs(tmp_path / "a.svs", 40, 0.02499)
    with pytest.raises(InputError, match=r"none of a microscope; an objective of 40x makes about 0\.25"):
        Slide.open(path)
    with pytest.raises(InputError, match=r"2\.5 um/px \(manifest\) do not go with an objective of 40x, about 0\.25"):
        Slide.open(path, 2.5)
    with Slide.open(path, 0.25) as slide:
        assert slide.mpp_from == "manifest"


def test_the_objective_of_an_ome_tiff_is_a_witness(tmp_path):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0, "axes": "YXS"}
    tifffile.imwrite(path, tissue_picture(512, 0.5, 0), tile=(256, 256), photometric="rgb", metadata=sizes)
    with tifffile.TiffFile(path, mode="r+") as file:
        objective = '<Instrument ID="I:0"><Objective ID="O:0" NominalMagnification="40"/></Instrument>'
        told = file.ome_metadata.replace("<Image ", f"{objective}<Image ", 1)
        at = told.index("<Pixels ")
        file.pages.first.tags["ImageDescription"].overwrite(told[:at] + '<ObjectiveSettings ID="O:0"/>' + told[at:])
    with pytest.raises(InputError, match=r"1 um/px \(file\) do not go with an objective of 40x"):
        Slide.open(path)
    with Slide.open(path, Given(0.25, True)) as slide:
        assert slide.mpp == 0.25


@pytest.mark.parametrize("said", ["0,5", "about half", ""])
def test_a_size_that_is_no_number_says_nothing(tmp_path, said):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": "0.987", "PhysicalSizeY": "0.987", "axes": "YXS"}
    tifffile.imwrite(path, tissue_picture(512, 0.5, 0), tile=(256, 256), photometric="rgb", metadata=sizes)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["ImageDescription"].overwrite(file.ome_metadata.replace("0.987", said))
    with Slide.open(path, 0.5) as slide:
        assert (slide.mpp, slide.mpp_from) == (0.5, "file" if said == "0,5" else "manifest")


def test_a_slide_is_held_against_the_size_of_glass(tmp_path, caplog):
    def strip(width, height):
        path = tmp_path / f"{width}.tif"
        tifffile.imwrite(path, np.full((height, width, 3), 200, np.uint8), photometric="rgb", compression="lzw")
        return path

    with Slide.open(strip(7_000, 2_000), 10.0):
        assert not caplog.records
    with caplog.at_level(logging.WARNING), Slide.open(strip(8_000, 16), 20.0):
        assert "160 x 0 mm at 20 um/px (manifest), a glass slide 76 x 26" in caplog.text
    for told in (20.0, Given(20.0, True)):
        with pytest.raises(InputError, match=r"400 x 0 mm at 20 um/px .* the resolution is wrong, correct it"):
            Slide.open(strip(20_000, 16), told)


def test_a_bare_number_is_the_manifests():
    assert given(None) is None and given(float("nan")) is None
    assert given(0.5) == Given(0.5, False, "manifest")


@pytest.fixture
def manifest(make_slide, tmp_path):
    """Writes a manifest of one slide that says 0.25 um/px, with cells for mpp and mpp_override."""
    slide = make_slide("a.tif", mpp=0.25)

    def write(mpp, mark):
        path = slide.with_name("manifest.csv")
        head = "patient_id,case_id,slide_id,stain,path,mpp,mpp_override,label_ER"
        path.write_text(f"{head}\nP1,C1,S1,HE,{slide.name},{mpp},{mark},1\n")
        return path

    return write


@pytest.mark.parametrize("mark", ["1", "true", "TRUE", "yes"])
def test_a_manifest_marks_what_wins(manifest, mark):
    path = manifest(0.5, mark)
    slides = read_manifest(path, {"ER": Marker()}).slides
    for table in (slides, read_worklist(path)):
        assert givens(table) == [Given(0.5, True)]
    report = check.check(path, {"ER": Marker()})
    assert not report.problems and "0.5 um/px" in report.notes[0]


@pytest.mark.parametrize(
    ("mpp", "mark", "told"),
    [
        (0.5, "", r"says 0\.25 um/px, the manifest says 0\.5: .* `mpp_override`"),
        (0.5, "no", r"says 0\.25 um/px, the manifest says 0\.5"),
        ("", "1", r"row 2: mpp_override without mpp\. Give the right resolution"),
        (0.5, "maybe", r"row 2: mpp_override 'maybe': give 1 where mpp wins"),
        (0.07, "1", r"row 2: mpp '0\.07': give microns per pixel \(0\.08 to 20\)"),
    ],
)
def test_a_manifest_is_told_what_is_wrong_with_its_marks(manifest, mpp, mark, told):
    problems = check.check(manifest(mpp, mark), {"ER": Marker()}).problems
    assert any(re.search(told, problem) for problem in problems), problems


def test_the_option_of_the_command_line_needs_its_number(tmp_path):
    run = CliRunner().invoke(app, ["predict", "a.svs", "--model", str(tmp_path), "--override-mpp"])
    assert run.exit_code == 2 and "--override-mpp needs --mpp" in run.output


@pytest.mark.parametrize(
    ("says", "given", "manifest", "line"),
    [
        (None, math.nan, "fill the manifest's `mpp` column", "give `--mpp`"),
        ((0.5, 0.7), math.nan, "column `mpp_override`", "`--override-mpp`"),
        ((0.5, 0.5), 0.25, "column `mpp_override`", "`--override-mpp`"),
        ((0.5, 0.5), math.nan, "column `mpp_override`", "`--override-mpp`"),
    ],
)
def test_a_message_names_the_remedy_of_the_place_where_it_appears(says, given, manifest, line):
    class Said:
        size, power, mpp = (10**7 if says == (0.5, 0.5) else 1000, 1000), None, says

    for place, there, elsewhere in ((MANIFEST, manifest, "--"), (COMMAND_LINE, line, "manifest")):
        with pytest.raises(InputError) as caught:
            agreed(Path("x.tif"), Said, Given(given, told_by=place))
        assert there in str(caught.value) and elsewhere not in str(caught.value)
