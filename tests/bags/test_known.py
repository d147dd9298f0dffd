"""What is remembered of bags."""

import os

import numpy as np
import pytest

from hsa.bags import known
from hsa.bags.bag import Bag, write_bag
from hsa.bags.known import Known

NAMES = ("stamp", "source_bytes")


@pytest.fixture
def opened(monkeypatch):
    """Names of the bags that were opened."""
    seen, read = [], known.attributes
    monkeypatch.setattr(known, "attributes", lambda path, names: seen.append(path.stem) or read(path, names))
    return seen


def write(folder, name, age=10.0, **attrs):
    write_bag(folder / f"{name}.h5", Bag(np.ones((3, 2), np.float16), np.arange(6).reshape(3, 2), attrs))
    moment = os.stat(folder / f"{name}.h5").st_mtime - age
    os.utime(folder / f"{name}.h5", (moment, moment))


def look(folder, *names):
    looked = Known(folder, NAMES)
    found = [looked.attributes(name) for name in names]
    looked.write()
    return found


def test_a_bag_is_opened_once_and_again_when_its_file_changes(tmp_path, opened):
    write(tmp_path, "a", stamp="1", source_bytes=5)
    write(tmp_path, "b", stamp="2", mpp=0.5)
    told = [{"stamp": "1", "source_bytes": 5, "tiles": 3}, {"stamp": "2", "tiles": 3}, None]
    assert look(tmp_path, "a", "b", "c") == look(tmp_path, "a", "b", "c") == told
    assert opened == ["a", "b"]
    write(tmp_path, "a", age=5.0, stamp="3")
    assert look(tmp_path, "a", "b") == [{"stamp": "3", "tiles": 3}, told[1]]
    assert opened == ["a", "b", "a"]
    (tmp_path / "b.h5").unlink()
    assert look(tmp_path, "b") == [None]
    (tmp_path / "a.h5").write_bytes(b"cut")
    assert look(tmp_path, "a") == [None]


def test_a_bag_that_was_just_written_is_not_trusted_to_its_time(tmp_path, opened):
    write(tmp_path, "a", age=0.0, stamp="1")
    look(tmp_path, "a")
    look(tmp_path, "a")
    assert opened == ["a", "a"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"names": []}', '{"names": ["stamp", "source_bytes"]}', None])
def test_a_record_that_is_damaged_or_of_other_attributes_is_made_anew(tmp_path, opened, text):
    write(tmp_path, "a", stamp="1")
    if text is None:
        other = Known(tmp_path, ("mpp",))
        other.attributes("a")
        other.write()
    else:
        (tmp_path / "known.json").write_text(text)
    opened.clear()
    assert look(tmp_path, "a") == look(tmp_path, "a") == [{"stamp": "1", "tiles": 3}]
    assert opened == ["a"]


def test_a_folder_that_takes_no_file_is_no_hindrance(tmp_path, opened, monkeypatch):
    write(tmp_path, "a", stamp="1")
    monkeypatch.setattr(known.files, "write_json", lambda *a: (_ for _ in ()).throw(PermissionError("read only")))
    assert look(tmp_path, "a") == look(tmp_path, "a")
    assert opened == ["a", "a"]
