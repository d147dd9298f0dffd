"""Manifests as spreadsheets, other programs and hurried hands leave them: each is read as meant, or told."""

import numpy as np
import pytest

from hsa.cohorts import check
from hsa.errors import InputError
from slide_files import write_tiff

HEAD = "patient_id,case_id,slide_id,stain,path,mpp,label_HER2"
ROWS = ["p1,c1,s1,HE,a.tif,,0", "p1,c1,s2,HER2,b.tif,,0", "p2,c2,s3,HE,c.tif,,1", "p2,c2,s4,HER2,d.tif,,1"]
SOUND = "\n".join([HEAD, *ROWS, ""])
READ = "4 slides: 4 generic-tiff, 0.5 um/px"


@pytest.fixture
def told(tmp_path):
    """Return a function that checks a manifest of four slides: its problems, or its error by lines, and notes."""
    for k, name in enumerate("abcd"):
        write_tiff(tmp_path / f"{name}.tif", np.full((64, 64, 3), 200 + k, np.uint8), mpp=0.5, levels=1)

    def look(text):
        path = tmp_path / "manifest.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            report = check.check(path, check.markers_of(path))
        except InputError as error:
            return str(error).splitlines(), []
        return report.problems, report.notes

    return look


def cells(name, *values):
    """The sound manifest with other values in a column, row by row."""
    rows, place = [row.split(",") for row in ROWS], HEAD.split(",").index(name)
    for row, value in zip(rows, values, strict=True):
        row[place] = value
    return "\n".join([HEAD, *map(",".join, rows), ""])


MEANT = {
    "byte order mark": SOUND.encode("utf-8-sig"),
    "two of them": b"\xef\xbb\xbf" + SOUND.encode("utf-8-sig"),
    "one within": SOUND.replace("p2,c2,s3", "\ufeffp2,c2,s3"),
    "semicolons": SOUND.replace(",", ";"),
    "line ends of Windows": SOUND.replace("\n", "\r\n"),
    "line ends of old Macs": SOUND.replace("\n", "\r"),
    "quoted names": SOUND.replace("patient_id", '"patient_id"'),
    "spaces about names and cells": SOUND.replace("case_id", " case_id ")
    .replace("p1,", "p1 ,")
    .replace("HE,", " HE ,"),
    "no-break spaces": SOUND.replace("p1,", "p1\u00a0,"),
    "empty rows": SOUND.replace(ROWS[1], ROWS[1] + "\n,,,,,,\n\n   "),
    "empty columns": "\n".join(f"{line},," for line in SOUND.splitlines()),
}


@pytest.mark.parametrize("name", MEANT)
def test_what_can_mean_one_thing_only_is_read(told, name):
    problems, notes = told(MEANT[name])
    assert problems == [] and notes[0] == READ


WRONG = {
    "UTF-16": (SOUND.encode("utf-16"), "no text, but a workbook or UTF-16. Save it as comma-separated UTF-8"),
    "Latin-1": (SOUND.replace("c.tif", "ü.tif").encode("latin-1"), "line 4 is not UTF-8"),
    "a workbook": (b"PK\x03\x04 and more", "no text, but a workbook"),
    "a web page": ("\n<html>sign in</html>", "no table, but a web page or XML"),
    "JSON": ('[{"path": "a.tif"}]', "no table, but JSON"),
    "tabs": (SOUND.replace(",", "\t"), "its first row is one column"),
    "bars": (SOUND.replace(",", "|"), "its first row is one column"),
    "two separators": (SOUND.replace(ROWS[2], ROWS[2].replace(",", ";")), "row 4: 1 cells, the header has 7"),
    "a column twice": (SOUND.replace("mpp", "path", 1), "column 'path' stands twice. Remove one"),
    "an open quote": (SOUND.replace("p2,c2,s3", '"p2,c2,s3'), "row 4: unexpected end of data: a quote that is opened"),
    "a cell without end": (SOUND + "p3,c3,s5,HE," + "x" * 140_000 + ",,\n", "row 6: field larger than field limit"),
    "quotes of a word processor": (SOUND.replace("p2", "“p2”"), "row 4: patient_id '“p2”': use 1 to 128 letters"),
    "no rows": (HEAD + "\n", "no rows. Give one row a slide"),
    "an empty first row": ("\n" + SOUND, "its first row is empty and names no column"),
    "the header again": (SOUND + HEAD + "\n", "row 6: unknown stain 'stain'"),
    "a sum": (SOUND + "Total,,4,,,,\n", "row 6: case_id '' names nothing. Give each its own id"),
    "ids of floating point": (
        cells("patient_id", "1.23E+11", "1.23E+11", "1.24E+11", "1.24E+11"),
        "row 2: patient_id '1.23E+11' was rounded by a spreadsheet",
    ),
    "leading zeros lost": (cells("patient_id", "007", "007", "7", "7"), "'007' (rows 2, 3), '7' (rows 4, 5): equal"),
    "numbers and text": (cells("patient_id", "1", "1", "2", "2.0"), "'2' (row 4), '2.0' (row 5): equal as numbers"),
    "dates with slashes": (cells("case_id", *["1/2/2024"] * 2, "c2", "c2"), "row 2: case_id '1/2/2024': use"),
    "an unknown patient": (cells("patient_id", "NA", "NA", "nan", "nan"), "row 4: patient_id 'nan' names nothing"),
    "a formula": (cells("slide_id", "=A1", "s2", "s3", "s4"), "row 2: slide_id '=A1': use"),
    "an error of a spreadsheet": (
        cells("label_HER2", "0", "#VALUE!", "1", "1"),
        "row 3: label_HER2 '#VALUE!': give 0, 1",
    ),
    "a label beyond numbers": (cells("label_HER2", "9" * 400, "", "3", "5"), "row 2: label_HER2 '999"),
    "infinite labels": (cells("label_HER2", "inf", "inf", "-inf", ""), "row 2: label_HER2 'inf'"),
    "mpp with its unit": (cells("mpp", "0.5um", "", "", ""), "row 2: mpp '0.5um': give microns per pixel"),
    "mpp with a comma": (cells("mpp", '"0,5"', "", "", ""), "row 2: mpp '0,5': give microns per pixel"),
    "mpp beyond numbers": (cells("mpp", "9" * 400, "", "", ""), "row 2: mpp '999"),
    "a path of Windows": (cells("path", r".\a.tif", "b.tif", "c.tif", "d.tif"), "did you mean './a.tif'?). Write '/'"),
    "a share of Windows": (cells("path", r"\\srv\a.tif", "b.tif", "c.tif", "d.tif"), "row 2: no file '\\\\\\\\srv"),
    "one's home": (cells("path", "~/a.tif", "b.tif", "c.tif", "d.tif"), "'~' and variables are not filled in"),
    "a variable": (cells("path", "$DATA/a.tif", "b.tif", "c.tif", "d.tif"), "'~' and variables are not filled in"),
    "an address": (cells("path", "s3://x/a.tif", "b.tif", "c.tif", "d.tif"), "It is an address: copy the slide"),
    "a path in quotes": (cells("path", '"""a.tif"""', "b.tif", "c.tif", "d.tif"), "(did you mean 'a.tif'?)"),
    "a slash at the end": (cells("path", "a.tif/", "b.tif", "c.tif", "d.tif"), "row 2: no file 'a.tif/' below"),
    "the folder itself": (cells("path", ".", "b.tif", "c.tif", "d.tif"), "row 2: slide"),
    "one file, two spellings": (
        cells("path", "./a.tif", "a.tif", "c.tif", "d.tif"),
        "'a.tif' is the file of row 2 too",
    ),
    "a line end in a cell": (cells("path", '"a\n.tif"', "b.tif", "c.tif", "d.tif"), r"row 2: no file 'a\n.tif'"),
    "letters that look alike": (cells("path", "а.tif", "b.tif", "c.tif", "d.tif"), "row 2: no file 'а.tif'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_its_row_or_column(told, name):
    text, expected = WRONG[name]
    problems, _ = told(text)
    assert any(expected in problem for problem in problems), problems


def test_ids_that_a_spreadsheet_may_have_made_of_others_are_noted(told):
    problems, notes = told(cells("case_id", "1-Jan", "1-Jan", "c-2024-01-02", "c-2024-01-02"))
    assert problems == []
    assert [note for note in notes if "dates" in note] == [
        "case_id such as '1-Jan' (rows 2, 3) look like dates: if a spreadsheet made them of other ids, take these "
        "again from their source, into a column that is formatted as text"
    ]
