"""Pyramids whose levels are not what they are said to be, in the formats that hold pyramids."""

import numpy as np
import pytest
import tifffile

from hsa.bags.features import encode_slide
from hsa.encoders.encoder import TileEncoder
from hsa.slides.readers import open_reader
from hsa.slides.readers.levels import sound_levels
from hsa.slides.slide import Slide
from hsa.study.settings import Tiles
from slide_files import tissue_picture, write_dicom, write_sparse_slide

SIDE = 1536


@pytest.fixture(scope="module")
def pyramid():
    """A slide and its three sound levels."""
    levels = [tissue_picture(SIDE, 0.45, 3)]
    while len(levels) < 4:
        height, width = (side // 2 for side in levels[-1].shape[:2])
        levels.append(levels[-1].reshape(height, 2, width, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8))
    return levels


def tiff(path, levels, flag=1):
    with tifffile.TiffWriter(path) as file:
        for number, picture in enumerate(levels):
            options = {"photometric": "rgb", "compression": "adobe_deflate", "subfiletype": flag * (number > 0)}
            file.write(picture, tile=(128, 128), **options)
    return path


def ome(path, levels):
    with tifffile.TiffWriter(path, ome=True) as file:
        for number, picture in enumerate(levels):
            first = {"subifds": len(levels) - 1, "metadata": {"axes": "YXS"}} if number == 0 else {"subfiletype": 1}
            file.write(picture, tile=(128, 128), photometric="rgb", compression="adobe_deflate", **first)
    return path


def dicom(path, levels):
    for number, picture in enumerate(levels):
        write_dicom(path / f"{number}.dcm", picture, 0.5 * SIDE / picture.shape[1], number=number + 1)
    return path


def padded(picture, by=160):
    return np.pad(picture, ((0, by), (0, by), (0, 0)), constant_values=255)


def cut(picture, axis):
    picture = picture.copy()
    np.moveaxis(picture, axis, 0)[int(0.7 * picture.shape[axis]) :] = 255
    return picture


BROKEN = {
    "padded to whole tiles": lambda levels: [*levels[:2], padded(levels[2]), padded(levels[3])],
    "padded a little": lambda levels: [*levels[:3], padded(levels[3], 16)],
    "a macro": lambda levels: [*levels[:2], tissue_picture(400, 0.3, 8)],
    "cut below": lambda levels: [*levels[:2], cut(levels[2], 0)],
    "cut at the right": lambda levels: [*levels[:2], cut(levels[2], 1)],
    "of another slide": lambda levels: [*levels[:2], levels[2][::-1]],
    "white": lambda levels: [levels[0], *(np.full_like(level, 255) for level in levels[1:])],
}


@pytest.mark.parametrize("write", [tiff, ome, dicom])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_level_that_shows_something_else_is_not_read(tmp_path, pyramid, caplog, write, fault):
    levels = BROKEN[fault](pyramid)
    path, sound = write(tmp_path / "a.tif", levels), write(tmp_path / "b.tif", pyramid)
    with Slide.open(path, 0.5 if write is not dicom else None) as slide, Slide.open(sound, slide.mpp) as other:
        difference = np.abs(slide.thumbnail(4.0).astype(int) - other.thumbnail(4.0)).mean()
        assert difference < 1, "the sound pyramid's picture"
        first = 1 if fault == "white" else 3 if fault == "padded a little" else 2
        assert slide.levels == tuple(range(first))
        assert slide.levels_dropped == ", ".join(map(str, range(first, len(levels))))
        assert other.levels_dropped == ""
    assert [record.getMessage() for record in caplog.records if "are not read" in record.getMessage()]


@pytest.mark.parametrize("flag", [1, 9])
def test_a_macro_that_is_flagged_as_reduced_is_no_level(tmp_path, pyramid, flag):
    with Slide.open(tiff(tmp_path / "a.tif", [pyramid[0], tissue_picture(540, 0.3, 8)], flag), 0.5) as slide:
        assert slide.levels == (0,)


@pytest.mark.parametrize("write", [tiff, ome, dicom])
@pytest.mark.parametrize("how", ["averaged", "picked"])
def test_sound_levels_all_stay(tmp_path, pyramid, write, how):
    levels = pyramid if how == "averaged" else [pyramid[0][:: 2**k, :: 2**k] for k in range(4)]
    reader = open_reader(write(tmp_path / "a.tif", levels))
    assert sound_levels(reader) == (0, 1, 2, 3)
    reader.close()


def test_levels_of_odd_sizes_stay(tmp_path):
    # 1531 px become 765, 382 and 191: each level lies up to a pixel beside the one above.
    picture, levels = tissue_picture(1531, 0.6, 1), []
    for _ in range(4):
        levels.append(picture)
        height, width = (side // 2 for side in picture.shape[:2])
        picture = picture[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    for write in (tiff, ome):
        reader = open_reader(write(tmp_path / f"{write.__name__}.tif", levels))
        assert sound_levels(reader) == (0, 1, 2, 3)
        reader.close()


def test_a_slide_of_glass_keeps_its_levels(tmp_path):
    glass = [tissue_picture(512 >> level, 0.0, level) for level in range(2)]
    with Slide.open(tiff(tmp_path / "a.tif", glass), 0.5) as slide:
        assert slide.levels == (0, 1)


def test_a_small_piece_of_tissue_on_a_large_slide_is_found(tmp_path):
    path = write_sparse_slide(tmp_path / "a.tif", 50_000, 0.25, [(43_300, 21_700, 900)])
    asked = []
    with Slide.open(path) as slide:
        read = slide._reader.read
        slide._reader.read = lambda x, y, level, w, h: (asked.append(w * h), read(x, y, level, w, h))[1]
        assert slide.levels == (0, 1, 2, 3)
    assert sum(asked) < 20e6


def test_level_0_alone_looks_at_no_level(tmp_path, pyramid, monkeypatch):
    monkeypatch.setattr("hsa.slides.slide.sound_levels", lambda reader: pytest.fail("looked"))
    with Slide.open(tiff(tmp_path / "a.tif", pyramid), 0.5) as slide:
        assert slide.read(0, 0, 64, 64, 0.5).shape == (64, 64, 3)


def test_a_damaged_tile_drops_no_level_and_hinders_no_other_tile(make_slide):
    path = make_slide(size=1024, covered=0.5)
    with tifffile.TiffFile(path) as file:
        offset, length = file.pages[0].dataoffsets[5], file.pages[0].databytecounts[5]
    data = bytearray(path.read_bytes())
    data[offset : offset + length] = bytes(length)
    path.write_bytes(data)
    with Slide.open(path) as slide:
        assert slide.levels == (0, 1, 2)
        assert slide.read(512, 512, 128, 128, 0.5).std() > 5


def test_a_bag_tells_the_levels_that_were_not_read(tmp_path, pyramid):
    encoder = TileEncoder("lite0-mid", 3, 256, 0.5, lambda tiles: tiles.mean((1, 2), dtype=np.float32))
    bags = [
        encode_slide(tiff(tmp_path / name, levels), encoder, Tiles(), mpp=0.5)
        for name, levels in (("a.tif", pyramid), ("b.tif", BROKEN["padded to whole tiles"](pyramid)))
    ]
    assert [bag.attrs["levels_dropped"] for bag in bags] == ["", "2, 3"]
    np.testing.assert_array_equal(bags[0].coords, bags[1].coords)
