"""How finer pixels become coarser ones: exact means, or the JPEG decoder's half."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from hsa.bags.features import encode_slide
from hsa.encoders.encoder import TileEncoder
from hsa.errors import InputError
from hsa.slides.readers.reduction import means
from hsa.slides.slide import Slide
from hsa.study.settings import Tiles
from slide_files import tissue_picture, write_tiff

KINDS = {
    "tiled jpeg": ({"compression": "jpeg", "tile": (256, 256)}, "direct"),
    "tiles of 240": ({"compression": "jpeg", "tile": (240, 240)}, "direct"),
    "deflate": ({"compression": "adobe_deflate", "tile": (256, 256)}, "openslide"),
    "ome jpeg": ({"compression": "jpeg", "tile": (256, 256), "metadata": {"axes": "YXS"}}, "direct"),
    "ome lzw": ({"compression": "lzw", "tile": (256, 256), "metadata": {"axes": "YXS"}}, "tifffile"),
    "png": (None, "pillow"),
}


@pytest.fixture(scope="module")
def picture():
    return tissue_picture(1200, 2.0, 4)[:1003, :1150]


def write(path, picture, kind):
    options = KINDS[kind][0]
    if options is None:
        Image.fromarray(picture).save(path, "PNG")
    else:
        tifffile.imwrite(path, picture, ome=kind.startswith("ome"), photometric="rgb", **{"metadata": None} | options)
    return path


@pytest.mark.parametrize("factor", [2, 3, 4, 7, 16, 17, 32])
def test_a_mean_is_the_mean(factor):
    pixels = np.random.default_rng(factor).integers(0, 256, (3 * factor, 5 * factor, 3), np.uint8)
    pixels[:factor, :factor] = 255
    squares = pixels.reshape(3, factor, 5, factor, 3)
    np.testing.assert_array_equal(means(pixels, factor), np.floor(squares.mean(axis=(1, 3)) + 0.5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [2, 4, 3])
def test_whole_factors_are_averaged(tmp_path, picture, kind, factor):
    with Slide.open(write(tmp_path / "a", picture, kind), 0.25) as slide:
        mpp = factor * 0.25
        assert (slide.via, slide.reduced_by(mpp), slide.reduced_by(0.25)) == (KINDS[kind][1], "mean", "none")
        for x, y, size in [(0, 0, 128), (512, 256, 128), (333, 77, 100), (900, 800, 90), (-40, -24, 50), (1148, 0, 9)]:
            region = slide.read(x, y, size, size, mpp).astype(int)
            whole = slide.read(x, y, size * factor, size * factor, 0.25)
            boxed = Image.fromarray(whole).resize((size, size), Image.Resampling.BOX)
            assert np.abs(region - np.asarray(boxed)).max() <= 1
            np.testing.assert_array_equal(region, means(whole, factor))


@pytest.mark.parametrize(("mpp", "how"), [(0.6, "box"), (0.49, "lanczos"), (0.2505, "none"), (0.75, "mean")])
def test_what_was_done_is_told(tmp_path, picture, mpp, how):
    with Slide.open(write(tmp_path / "a", picture, "tiled jpeg"), 0.25) as slide:
        assert slide.reduced_by(mpp) == how


def likeness(one, other):
    """Peak signal-to-noise ratio, dB."""
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


@pytest.mark.parametrize("kind", ["tiled jpeg", "tiles of 240", "ome jpeg"])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_decoder_can_reduce(tmp_path, picture, kind, factor):
    path, mpp = write(tmp_path / "a", picture, kind), factor * 0.25
    with Slide.open(path, 0.25, "dct") as fast, Slide.open(path, 0.25) as exact:
        assert (fast.reduced_by(mpp), exact.reduced_by(mpp)) == ("dct", "mean")
        assert fast.extent(100, mpp) == exact.extent(100, mpp)
        for x, y in ((0, 0), (200, 136), (1000, 904)):
            one, other = fast.read(x, y, 24, 24, mpp), exact.read(x, y, 24, 24, mpp)
            inside = (one != 255).any(axis=2) & (other != 255).any(axis=2)
            assert not np.array_equal(one, other)
            assert likeness(one[inside], other[inside]) > 30
            # Moved by a pixel it would be less alike.
            if x == 200:
                assert likeness(one, other) > likeness(one[1:, 1:], other[:-1, :-1]) + 3
        # The mask is the same, however tiles are read.
        np.testing.assert_array_equal(fast.thumbnail(mpp), exact.thumbnail(mpp))


@pytest.mark.parametrize(("mpp", "how"), [(0.253, "lanczos"), (0.2512, "dct"), (0.2487, "dct+lanczos")])
def test_near_a_half_the_decoder_still_halves(tmp_path, picture, mpp, how):
    path = write(tmp_path / "a", picture, "tiled jpeg")
    with Slide.open(path, mpp, "dct") as slide:
        assert slide.reduced_by(0.5) == how
    with Slide.open(path, 0.2495, "dct") as slide:
        assert (slide.reduced_by(0.5), slide.extent(256, 0.5)) == ("dct", 512)
        assert slide.read(0, 0, 64, 64, 0.5).shape == (64, 64, 3)


@pytest.mark.parametrize("kind", ["deflate", "ome lzw", "png"])
def test_where_no_jpeg_is_decoded_the_decoder_reduces_nothing(tmp_path, picture, kind):
    path = write(tmp_path / "a", picture, kind)
    with Slide.open(path, 0.25, "dct") as slide, Slide.open(path, 0.25) as exact:
        assert slide.reduced_by(0.5) == "mean"
        np.testing.assert_array_equal(slide.read(30, 40, 50, 60, 0.5), exact.read(30, 40, 50, 60, 0.5))


def test_an_unknown_reduction_is_an_error(tmp_path, picture):
    with pytest.raises(InputError, match="unknown reduction 'half': use one of mean, dct"):
        Slide.open(write(tmp_path / "a", picture, "png"), 0.25, "half")
    with pytest.raises(ValueError, match="'mean' or 'dct'"):
        Tiles(reduction="half")


def stand_in():
    return TileEncoder("lite0-mid", 3, 256, 0.5, lambda tiles: tiles.mean((1, 2), dtype=np.float32))


def test_a_bag_tells_the_reader_and_the_reduction(tmp_path):
    path = write_tiff(tmp_path / "a.tif", tissue_picture(2048, 0.6, 0), 0.25, levels=1)
    exact, fast = (encode_slide(path, stand_in(), Tiles(reduction=how)) for how in ("mean", "dct"))
    assert [(bag.attrs["reader"], bag.attrs["reduction"]) for bag in (exact, fast)] == [
        ("direct", "mean"),
        ("direct", "dct"),
    ]
    np.testing.assert_array_equal(exact.coords, fast.coords)
    gap = np.abs(exact.features.astype(float) - fast.features)
    assert 0 < gap.max() < 3


def test_readers_look_at_the_levels_once(tmp_path, monkeypatch):
    from hsa.slides import slide as room

    path, looked = write_tiff(tmp_path / "a.tif", tissue_picture(1536, 0.6, 0), 0.25), []
    sound = room.sound_levels
    monkeypatch.setattr(room, "sound_levels", lambda reader: (looked.append(1), sound(reader))[1])
    bags = [encode_slide(path, stand_in(), Tiles(), threads=threads, batch=1) for threads in (1, 4)]
    assert len(looked) == 2
    np.testing.assert_array_equal(bags[0].features, bags[1].features)
