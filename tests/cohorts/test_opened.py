import json
import os

import numpy as np
import pytest

from hsa.cohorts import opened
from hsa.cohorts.opened import Facts, ask
from slide_files import write_tiff


@pytest.fixture
def slides(tmp_path):
    """Three slides that were written a while ago, as absolute paths."""
    paths = []
    for k in range(3):
        write_tiff(tmp_path / f"{k}.tif", np.full((64, 64, 3), 200, np.uint8), mpp=0.5, levels=1)
        paths.append(settle(tmp_path / f"{k}.tif", 100))
    return paths


def settle(path, age):
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return str(path)


@pytest.fixture
def count(monkeypatch):
    """List the paths that are opened."""
    seen, before = [], opened.open_file
    monkeypatch.setattr(opened, "open_file", lambda path: seen.append(path.name) or before(path))
    return seen


def test_an_unchanged_slide_is_opened_once(slides, tmp_path, count):
    memory = tmp_path / "deep" / "memory.json"
    first = ask(slides, memory)
    assert first[slides[0]] == Facts("generic-tiff", (64, 64), (0.5, 0.5), None)
    assert count == ["0.tif", "1.tif", "2.tif"]
    assert ask(slides, memory) == first and len(count) == 3
    assert ask(slides) == first and len(count) == 6, "without a memory nothing is remembered"


def test_a_slide_that_changed_is_opened_again(slides, tmp_path, count):
    memory = tmp_path / "memory.json"
    ask(slides, memory)
    write_tiff(tmp_path / "1.tif", np.full((32, 64, 3), 200, np.uint8), mpp=1.0, levels=1)
    settle(tmp_path / "1.tif", 50)
    found = ask(slides, memory)
    assert count[3:] == ["1.tif"] and found[slides[1]] == Facts("generic-tiff", (64, 32), (1.0, 1.0), None)
    settle(tmp_path / "2.tif", 10)  # same bytes, other time
    ask(slides, memory)
    assert count[4:] == ["2.tif"]


def test_a_slide_that_is_new_or_cannot_be_read_is_not_remembered(slides, tmp_path, count):
    memory = tmp_path / "memory.json"
    write_tiff(tmp_path / "0.tif", np.full((64, 64, 3), 200, np.uint8), mpp=0.5, levels=1)
    (tmp_path / "1.tif").write_bytes(b"no slide")
    settle(tmp_path / "1.tif", 100)
    for _ in range(2):
        count.clear()
        found = ask(slides, memory)
        assert "0.tif" in count and "1.tif" in count
        assert isinstance(found[slides[1]], str) and "1.tif cannot be read" in found[slides[1]]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', "\x00" * 40, '{"version": "VERSION", "slides": {"PATH": [[1], "a"]}}']
)
def test_a_damaged_memory_is_made_anew(slides, tmp_path, count, text):
    memory = tmp_path / "memory.json"
    whole = ask(slides, memory)
    version = json.loads(memory.read_text())["version"]
    memory.write_text(text.replace("VERSION", version).replace("PATH", slides[0]))
    count.clear()
    assert ask(slides, memory) == whole and len(count) == 3
    assert ask(slides, memory) == whole and len(count) == 3


def test_a_memory_of_other_readers_is_not_believed(slides, tmp_path, count, monkeypatch):
    memory = tmp_path / "memory.json"
    ask(slides, memory)
    monkeypatch.setattr(opened, "_version", lambda: "another")
    ask(slides, memory)
    assert len(count) == 6


def test_what_another_process_remembered_is_kept(slides, tmp_path, count):
    memory = tmp_path / "memory.json"
    ask(slides[:1], memory)
    ask(slides[1:], memory)
    ask(slides, memory)
    assert count == ["0.tif", "1.tif", "2.tif"]


def test_a_place_where_nothing_can_be_written_does_not_stop_the_check(slides, tmp_path):
    (tmp_path / "file").touch()
    assert len(ask(slides, tmp_path / "file" / "memory.json")) == 3


@pytest.mark.slow
def test_processes_say_what_one_would(slides, tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "_BATCH", 2)
    assert ask([*slides, str(tmp_path)], workers=2) == ask([*slides, str(tmp_path)])
