from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from hsa.errors import InputError
from hsa.slides.slide import Slide


def gradient(size=1024):
    """A picture in which a pixel's value tells its place: red = x / 8, green = y / 8."""
    y, x = np.mgrid[:size, :size]
    return np.stack([x // 8, y // 8, np.full_like(x, 128)], axis=-1).astype(np.uint8)


def test_reads_the_place_asked_for_at_every_resolution(make_slide):
    path = make_slide(picture=gradient())
    with Slide.open(path) as slide:
        assert slide.size == (1024, 1024)
        assert slide.mpp == pytest.approx(0.5)
        assert (slide.format, slide.mpp_from) == ("generic-tiff", "file")
        for mpp in (0.45, 0.5, 0.75, 1.0, 1.7, 2.0, 6.0):
            side = int(200 * 0.5 / mpp)
            region = slide.read(512, 256, side, side, mpp)
            assert region.shape == (side, side, 3)
            # The region spans 200 level-0 px, whatever the level: its centre is at (612, 356).
            middle = region[side // 2 - 1 : side // 2 + 1, side // 2 - 1 : side // 2 + 1].mean(axis=(0, 1))
            assert middle[:2] == pytest.approx([612 / 8, 356 / 8], abs=2.5), mpp


def test_a_fraction_of_a_pixel_counts(tmp_path):
    # 10 px at 0.625 um/px are 12.5 level-0 px: the last one lies around 11.9, on a ramp of 18 grey levels a px.
    ramp = np.broadcast_to(np.minimum(np.arange(256) * 18, 255).astype(np.uint8)[None, :, None], (256, 256, 3))
    path = tmp_path / "ramp.tif"
    tifffile.imwrite(path, ramp, tile=(256, 256), photometric="rgb")
    with Slide.open(path, 0.5) as slide:
        row = slide.read(0, 0, 10, 10, 0.625)[5, :, 0].astype(float)
    np.testing.assert_allclose(row[1:-1], ((np.arange(1, 9) + 0.5) * 1.25 - 0.5) * 18, atol=2)
    assert row[-1] == pytest.approx((9.5 * 1.25 - 0.5) * 18, abs=6)


def test_takes_the_coarsest_level_that_is_fine_enough(tmp_path):
    # Each level has its own colour, so that the colour tells which one was read.
    path = tmp_path / "levels.tif"
    with tifffile.TiffWriter(path) as tiff:
        for level, grey in enumerate((40, 120, 200)):
            plane = np.full((1024 >> level, 1024 >> level, 3), grey, np.uint8)
            resolution = (1e4 / (0.25 * 2**level),) * 2
            tiff.write(
                plane,
                tile=(256, 256),
                photometric="rgb",
                subfiletype=int(level > 0),
                resolution=resolution,
                resolutionunit="CENTIMETER",
            )
    with Slide.open(path) as slide:
        read = {mpp: int(slide.read(0, 0, 32, 32, mpp)[16, 16, 0]) for mpp in (0.25, 0.499, 0.49, 0.5, 0.9, 1.0, 4.0)}
    assert read == {0.25: 40, 0.499: 120, 0.49: 40, 0.5: 120, 0.9: 120, 1.0: 200, 4.0: 200}


def test_beyond_the_edge_is_white(make_slide):
    with Slide.open(make_slide(picture=np.full((512, 512, 3), 90, np.uint8), levels=1)) as slide:
        region = slide.read(-64, 448, 256, 128, 0.5)
    assert (region[64:] == 255).all()
    assert (region[:, :64] == 255).all()
    assert np.abs(region[:60, 68:] - 90.0).max() < 4


def test_thumbnail_is_the_whole_slide_in_one_piece(make_slide):
    # 1200 px in blocks of 256 at 1.5 um/px: seams would show as steps in the gradient.
    with Slide.open(make_slide(picture=gradient(1200), levels=1)) as slide:
        thumbnail = slide.thumbnail(1.5).astype(float)
    assert thumbnail.shape == (400, 400, 3)
    expected = (np.arange(399) * 3 + 1) // 8  # JPEG rings at the last pixel
    assert np.abs(thumbnail[200, :-1, 0] - expected).max() < 3
    assert np.abs(thumbnail[:-1, 200, 1] - expected).max() < 3


def test_a_coarse_pixel_is_the_mean_of_the_fine_ones(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with Slide.open(tmp_path / "noise.png", 0.25) as slide:
        coarse = slide.read(0, 0, 32, 32, 1.0)
    np.testing.assert_allclose(coarse, noise.reshape(32, 4, 32, 4, 3).mean((1, 3)), atol=1)


def test_a_thumbnail_has_at_least_a_pixel(make_slide):
    with Slide.open(make_slide(picture=gradient(64)[:4], mpp=0.25, levels=1)) as slide:
        assert slide.thumbnail(8.0).shape == (1, 2, 3)


def test_extent_is_the_size_in_level_0_pixels(make_slide):
    with Slide.open(make_slide(mpp=0.25)) as slide:
        assert slide.extent(256, 0.5) == 512
        assert slide.extent(256, 0.7) == 717


def test_mpp_comes_from_the_manifest_where_the_file_has_none(make_slide):
    path = make_slide(mpp=None)
    with Slide.open(path, mpp=0.46) as slide:
        assert (slide.mpp, slide.mpp_from) == (0.46, "manifest")
    for missing in (None, float("nan")):
        with pytest.raises(InputError, match=r"slide\.tif does not say its resolution: fill .* `mpp` column \(um"):
            Slide.open(path, missing)


def test_an_image_editors_72_dpi_is_no_resolution(tmp_path):
    path = tmp_path / "editor.tif"
    tifffile.imwrite(
        path, gradient(512), tile=(256, 256), photometric="rgb", resolution=(72, 72), resolutionunit="INCH"
    )
    with pytest.raises(InputError, match="does not say its resolution"):
        Slide.open(path)
    with Slide.open(path, 0.5) as slide:
        assert slide.mpp == 0.5


def test_a_manifest_that_contradicts_the_file_is_refused(make_slide):
    path = make_slide(mpp=0.5)
    with Slide.open(path, 0.52) as slide:
        assert (slide.mpp, slide.mpp_from) == (0.5, "file")
    with pytest.raises(InputError, match=r"says 0\.5 um/px, the manifest says 0\.47"):
        Slide.open(path, 0.47)
    with pytest.raises(InputError, match="no resolution of a microscope"):
        Slide.open(path, -1.0)


def test_a_slide_that_is_refused_is_closed(tmp_path, monkeypatch):
    closed = []
    # Of two numbers that one does not believe, none is believed.
    known = {"format": "x", "size": (9, 9), "mpp": (0.5, 353.0), "power": None, "via": "x"}
    reader = SimpleNamespace(**known, close=lambda: closed.append(True))
    monkeypatch.setattr("hsa.slides.slide.open_reader", lambda path: reader)
    with pytest.raises(InputError, match="does not say its resolution"):
        Slide.open(tmp_path)
    assert closed == [True]
    with Slide.open(tmp_path, 0.5) as slide:
        assert slide.mpp_from == "manifest"


def test_pixels_that_are_not_square_are_refused(tmp_path):
    path = tmp_path / "oblong.tif"
    tifffile.imwrite(
        path,
        gradient(512),
        tile=(256, 256),
        photometric="rgb",
        resolution=(20000, 19000),
        resolutionunit="CENTIMETER",
    )
    with pytest.raises(InputError, match=r"not square \(0\.5 x 0\.526"):
        Slide.open(path)


def test_missing_and_unreadable_files_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"no\.svs does not exist: correct its path"):
        Slide.open(tmp_path / "no.svs")
    (tmp_path / "text.svs").write_text("not a slide")
    with pytest.raises(InputError, match=r"text\.svs cannot be read"):
        Slide.open(tmp_path / "text.svs")
    Image.fromarray(gradient(64)).save(tmp_path / "flat.gif")
    with pytest.raises(InputError, match="convert it to a tiled pyramidal TIFF"):
        Slide.open(tmp_path / "flat.gif")


def test_detail_that_the_slide_lacks_is_not_invented(make_slide):
    with (
        Slide.open(make_slide(mpp=0.64)) as slide,
        pytest.raises(InputError, match=r"0\.64 um/px, coarser than the 0\.5"),
    ):
        slide.read(0, 0, 256, 256, 0.5)
    with Slide.open(make_slide(mpp=0.62)) as slide:
        assert slide.read(0, 0, 256, 256, 0.5).shape == (256, 256, 3)


def test_a_truncated_slide_is_refused(make_slide):
    path = make_slide()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"slide\.tif cannot be read .*copy the file again"):
        Slide.open(path)


def test_a_damaged_tile_names_the_slide_and_the_place(make_slide):
    path = make_slide()
    with tifffile.TiffFile(path) as tiff:
        offset, length = tiff.pages[0].dataoffsets[5], tiff.pages[0].databytecounts[5]
    data = bytearray(path.read_bytes())
    data[offset : offset + length] = bytes(length)
    path.write_bytes(data)
    with Slide.open(path) as slide:
        assert slide.read(0, 0, 256, 256, 0.5).shape == (256, 256, 3)
        with pytest.raises(InputError, match=r"slide\.tif is damaged at x=256 y=256"):
            slide.read(256, 256, 256, 256, 0.5)


def test_a_slide_larger_than_glass_is_refused_before_its_picture_takes_the_memory(make_slide, monkeypatch):
    with Slide.open(make_slide("a.tif")) as slide:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(InputError, match="correct its mpp"):
            slide.thumbnail(8.0)


def test_what_the_disk_refuses_is_told_as_an_unreadable_slide(tmp_path):
    with pytest.raises(InputError, match="too long"):
        Slide.open(tmp_path / ("x" * 300))


def test_a_slide_of_any_size_is_looked_at_in_a_picture_of_bounded_size(make_slide):
    with Slide.open(make_slide(size=1024, mpp=0.5)) as slide:
        assert slide.view_mpp() == 1.0 and slide.view_mpp(finest=0) == 0.5
        assert slide.view_mpp(256) == 2.0 and slide.thumbnail(slide.view_mpp(256)).shape == (256, 256, 3)
