"""Pictures as JPEG that were cut and got an end again, sequential and progressive; and whole ones of every make."""

import io

import numpy as np
import pytest
from PIL import Image

from hsa.errors import InputError
from hsa.slides.readers.jpeg_scans import SCAN, damage
from hsa.slides.slide import Slide

END = b"\xff\xd9"


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(60, 250, (48, 48, 3)), np.ones((8, 8, 1)))
    return np.clip(coarse + rng.integers(-20, 20, coarse.shape), 0, 255).astype(np.uint8)


def encoded(picture, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **({"quality": 85} | options))
    return file.getvalue()


def read(path, data):
    path.write_bytes(data)
    with Slide.open(path, 0.5) as slide:
        return slide.read(0, 0, 256, 256, 0.5)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_picture_that_was_cut_and_got_an_end_is_damaged(picture, tmp_path, progressive, share):
    data = encoded(picture, progressive=progressive)
    with pytest.raises(InputError, match=r"a\.jpg is damaged"):
        read(tmp_path / "a.jpg", data[: int(share * len(data))] + END)


def test_a_progressive_picture_that_lacks_whole_scans_is_damaged(picture, tmp_path):
    data = encoded(picture, progressive=True)
    starts = [at for at in range(len(data) - 1) if data[at] == 0xFF and data[at + 1] in (0xC4, SCAN)]
    scans = [at for at in starts if data[at + 1] == SCAN]
    assert len(scans) > 5
    for scan in scans[1:]:
        tables = [at for at in starts if data[at + 1] == 0xC4 and at < scan]
        begin = max(at for at in (scan, *tables) if at <= scan and not any(at < other < scan for other in scans))
        cut = data[: min(begin, scan)] + END
        assert Image.open(io.BytesIO(cut)).convert("RGB").size == (384, 384), "Pillow has nothing to say"
        with pytest.raises(InputError, match="some of its progressive scans are missing"):
            read(tmp_path / "a.jpg", cut)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"quality": 100, "subsampling": 0, "progressive": True},
        {"quality": 5, "subsampling": 2},
        {"restart_marker_rows": 1},
        {"restart_marker_rows": 1, "progressive": True},
        {"optimize": True, "keep_rgb": True},
        {"exif": b"Exif\0\0" + b"\xff\xd9\xff\xda" * 50},
        {"comment": b"\xff\xda\xff\xd9"},
    ],
    ids=str,
)
def test_a_whole_picture_is_read(picture, tmp_path, options):
    data = encoded(picture, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[:256, :256]
    for more in (b"", b"\0" * 100, b"a note"):  # what stands behind the end is not the picture's
        assert damage(data + more) == ""
        assert np.array_equal(read(tmp_path / "a.jpg", data + more), expected)
