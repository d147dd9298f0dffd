import os
import time

import pytest

from hsa import files
from hsa.errors import InputError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with files.replacing(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_what_a_killed_writer_left_goes_after_a_day(tmp_path):
    stale = [".a.0123abcd.tmp.h5", ".fold0.resume.0123abcd.tmp.safetensors", ".x.deadbeef.tmp"]
    others = ["a.h5", ".hidden.tmp", ".a.tmp.h5", "a.0123abcd.tmp.h5", ".new.0123abcd.tmp.h5", ".a.0123ABCD.tmp.h5"]
    for name in (*stale, *others):
        (tmp_path / name).write_text("half")
        if not name.startswith(".new"):
            moment = time.time() - files.LEFT_OVER - 60
            os.utime(tmp_path / name, (moment, moment))
    with pytest.raises(RuntimeError), files.replacing(tmp_path / "b.c.h5") as temporary:
        temporary.write_text("half")
        moment = time.time() - files.LEFT_OVER - 60
        os.utime(temporary, (moment, moment))
        files.sweep(tmp_path)
        assert not temporary.exists(), "the names that are swept are those that are given"
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    files.sweep(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 9, "\x00", "nul"])
def test_what_is_no_json_is_told(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: not JSON"):
        files.read_json(tmp_path / "a.json")


def test_text_and_its_folder_are_written(tmp_path):
    files.write_text(tmp_path / "new" / "a.txt", "first")
    files.write_text(tmp_path / "new" / "a.txt", "second")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_text() == "second"


def test_equal_data_give_equal_bytes(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    files.write_json(tmp_path / "b.json", {"a": 2, "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "c.json", {"a": float("nan")})
    assert not (tmp_path / "c.json").exists()


TABLE = "slide_id,path,mpp\nA,a.tif,0.5\nB,b.tif,\n"


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        TABLE.replace("\n", "\r\n"),
        "\ufeff" + TABLE,
        TABLE.replace(",", ";"),
        TABLE.replace("\n", " , ,\n"),
        'slide_id,path,mpp\n\nA , a.tif,0.5\n,,\n"B",b.tif,\n\n',
    ],
)
def test_what_a_spreadsheet_leaves_around_a_table_is_left_out(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text.encode())
    rows = files.read_rows(tmp_path / "t.csv")
    assert rows.to_numpy().tolist() == [["A", "a.tif", "0.5"], ["B", "b.tif", ""]]
    assert list(rows.index) == ([3, 5] if "\n\n" in text else [2, 3])  # as the spreadsheet counts them


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "first row is empty"),
        (TABLE.encode("utf-16"), "workbook or UTF-16"),
        (b"PK\3\4\0\0", "workbook or UTF-16"),
        (TABLE.replace("A", "\xc4").encode("latin-1"), "not a readable CSV"),
        (TABLE.replace(",", "\t").encode(), "is one column"),
        (TABLE.replace("B", '"B').encode(), "not a readable CSV"),
        (TABLE.replace("0.5", "0,5").encode(), "row 2: 4 cells, the header has 3"),
        (TABLE.replace("b.tif,", "b.tif").encode(), "row 3: 2 cells, the header has 3"),
        (TABLE.replace("mpp", "path").encode(), "'path' stands twice"),
        (b"sep=;\n" + TABLE.replace(",", ";").encode(), "row 1, 'sep=;', is a line that only Excel reads. Remove it"),
        (b"\xef\xbb\xbfSEP=,\r\n" + TABLE.encode(), "row 1, 'SEP=,', is a line that only Excel reads. Remove it"),
        (b"# made by hand\n" + TABLE.encode(), "row 1, '# made by hand', is a comment. Remove it"),
        (b"#" + TABLE.encode(), "row 1, '#slide_id,path,mpp', is a comment"),
        (TABLE.encode() + b"# the end, of it\n", "row 4: '# the end,of it' is a comment. Remove it"),
        (TABLE.replace("path", "").encode(), r"column 2 has no name\. Name or remove it\.$"),
        (TABLE.replace("slide_id", "").encode(), r"column 1 has no name.*pandas.*index=False"),
    ],
)
def test_a_table_that_would_be_read_wrong_is_refused(tmp_path, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(InputError, match=message):
        files.read_rows(tmp_path / "t.csv")
