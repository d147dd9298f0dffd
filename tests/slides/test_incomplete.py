import os
import re

import numpy as np
import pytest
from PIL import Image

from hsa.cohorts.paths import Places
from hsa.errors import InputError
from hsa.slides.readers import open_reader


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Not found</html>", r"web page.*download it again"),
    ],
)
def test_what_a_download_left_is_told(tmp_path, content, told):
    (tmp_path / "a.svs").write_bytes(content)
    with pytest.raises(InputError, match=told):
        open_reader(tmp_path / "a.svs")


def test_the_thumbnail_of_an_mrxs_slide_is_not_taken_for_the_slide(tmp_path):
    Image.fromarray(np.full((300, 300, 3), 200, np.uint8)).save(tmp_path / "a.mrxs", format="JPEG")
    with pytest.raises(InputError, match="lacks its folder"):
        open_reader(tmp_path / "a.mrxs")
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match=r"Slidedat\.ini"):
        open_reader(tmp_path / "a.mrxs")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.svs")
    with pytest.raises(InputError, match="no regular file"):
        open_reader(tmp_path / "a.svs")


def test_a_file_with_a_slash_behind_it_is_not_there(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II")
    places = Places(tmp_path)
    assert not places.look("a.tif/").there
    assert "did you mean 'a.tif'?" in places.why_absent("a.tif/")
    (tmp_path / "dicom").mkdir()
    assert places.look("dicom/").there


@pytest.mark.parametrize("name", ["~/a.svs", "$HOME/a.svs", "https://host/a.svs", "s3://bucket/a.svs"])
def test_a_path_that_only_a_shell_or_browser_follows_says_so(tmp_path, name):
    assert re.search("is an address|are not filled in", Places(tmp_path).why_absent(name))
