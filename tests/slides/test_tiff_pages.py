"""TIFFs of several pages of which OpenSlide or Pillow show one: their other levels are found and read."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from hsa.errors import InputError
from hsa.slides.readers.pages import PlainTiffReader
from hsa.slides.slide import Slide
from slide_files import lose_half, tissue_picture


@pytest.fixture(scope="module")
def levels():
    found = [tissue_picture(1024, 0.6, 7)[:900]]
    for _ in range(2):
        height, width = (side // 2 for side in found[-1].shape[:2])
        squares = found[-1].reshape(height, 2, width, 2, 3)
        found.append(squares.mean(axis=(1, 3)).round().astype(np.uint8))
    return found


def write(path, pictures, *, sub=False, flag=1, first=None, **options):
    """The first picture, and the others as pages or in SubIFDs of it."""
    written = {"photometric": "rgb", "compression": "adobe_deflate", "metadata": None} | options
    with tifffile.TiffWriter(path) as tiff:
        for number, picture in enumerate(pictures):
            more = {"subifds": len(pictures) - 1} if sub and number == 0 else {}
            more |= first or {} if number == 0 else {"subfiletype": flag}
            tiff.write(picture, **written, **more)
    return path


LAYOUTS = {
    "strips": {"rowsperstrip": 64},
    "strips, jpeg": {"rowsperstrip": 64, "compression": "jpeg"},
    "one strip": {"rowsperstrip": 2000},
    "tiles in SubIFDs": {"tile": (128, 128), "sub": True},
    "jpeg tiles in SubIFDs": {"tile": (128, 128), "sub": True, "compression": "jpeg"},
    "strips in SubIFDs": {"rowsperstrip": 50, "sub": True},
    "tiles that are not flagged": {"tile": (128, 128), "flag": 0},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_levels_are_read(tmp_path, levels, layout):
    path = write(tmp_path / "a.tif", levels, **LAYOUTS[layout])
    with Slide.open(path, 0.5) as slide:
        assert (slide.format, slide.size) == ("generic-tiff" if "tile" in LAYOUTS[layout] else "tiff", (1024, 900))
        assert slide.via == ("direct" if "jpeg tiles" in layout else "tifffile")
        assert (slide._reader.downsamples, slide.levels) == ((1, 2, 4), (0, 1, 2))
        for mpp, level in zip((0.5, 1.0, 2.0), levels, strict=True):
            assert slide.reduced_by(mpp) == "none"
            region = slide.read(160, 240, 90, 70, mpp).astype(int)
            x, y = round(160 * 0.5 / mpp), round(240 * 0.5 / mpp)
            assert np.abs(region - level[y : y + 70, x : x + 90]).mean() < (8 if "jpeg" in layout else 1e-9)
        edge = slide.read(1000, -10, 50, 50, 0.5)
        assert (edge[:10] == 255).all() and (edge[:, 24:] == 255).all()


@pytest.mark.parametrize("more", [{"rowsperstrip": 64}, {"tile": (128, 128), "sub": True}], ids=["strips", "SubIFDs"])
@pytest.mark.parametrize("beside", ["macro", "macro of its shape"])
@pytest.mark.parametrize("flag", [0, 1, 9])
def test_a_macro_is_no_level(tmp_path, levels, more, beside, flag):
    macro = tissue_picture(400, 0.3, 1)[: 200 if beside == "macro" else 352]
    with Slide.open(write(tmp_path / "a.tif", [levels[0], macro], flag=flag, **more), 0.5) as slide:
        assert slide.levels == (0,)
        np.testing.assert_array_equal(slide.read(0, 0, 1024, 900, 0.5), levels[0])


def test_the_resolution_of_a_tiled_file_is_found(tmp_path, levels):
    tags = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    for sub in (False, True):
        path = write(tmp_path / f"{sub}.tif", levels, tile=(128, 128), sub=sub, first=tags)
        with Slide.open(path) as slide:
            assert (slide.mpp, slide.mpp_from, slide.format) == (0.5, "file", "generic-tiff")
            assert slide.levels == (0, 1, 2)
            assert isinstance(slide._reader, PlainTiffReader) is sub  # OpenSlide shows levels that are flagged


def test_a_lone_picture_goes_the_way_it_went(tmp_path, levels):
    for name, options in (("a.tif", {"rowsperstrip": 64}), ("b.tif", {"tile": (128, 128)})):
        with Slide.open(write(tmp_path / name, levels[:1], **options), 0.5) as slide:
            assert slide.via == ("pillow" if name == "a.tif" else "openslide")


def test_a_damaged_strip_is_told(tmp_path, levels):
    path = write(tmp_path / "a.tif", levels, rowsperstrip=64)
    lose_half(path, 5)
    with Slide.open(path, 0.5) as slide:
        assert slide.read(0, 0, 64, 64, 0.5).shape == (64, 64, 3)
        with pytest.raises(InputError, match=r"a\.tif is damaged at x=0 y=330"):
            slide.read(0, 330, 64, 64, 0.5)


def test_a_strip_larger_than_memory_is_refused(tmp_path, levels, monkeypatch):
    path = write(tmp_path / "a.tif", levels, rowsperstrip=2000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    with pytest.raises(InputError, match="too large for a file without tiles"):
        Slide.open(path, 0.5)


@pytest.mark.parametrize("kind", ["palette", "turned"])
def test_what_is_not_stored_as_plain_rgb_is_refused_as_before(tmp_path, levels, kind):
    if kind == "palette":
        pictures = [Image.fromarray(level).quantize(16) for level in levels]
        pictures[0].save(tmp_path / "a.tif", save_all=True, append_images=pictures[1:])
    else:
        write(tmp_path / "a.tif", levels, rowsperstrip=64, extratags=[(274, 3, 1, 6, True)])
    with pytest.raises(InputError, match="holds 3 pictures"):
        Slide.open(tmp_path / "a.tif", 0.5)
