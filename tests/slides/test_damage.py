"""Files that lost a part of a picture: the place is told, whichever reader reads it."""

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from hsa.errors import InputError
from hsa.slides.slide import Slide
from slide_files import tissue_picture, write_dicom

APERIO = "Aperio Image Library v12.0.15\r\n1024x768 [0,0 1024x768] (256x256)|AppMag = 20|MPP = 0.4990"
KINDS = {
    "aperio jpeg": {"compression": "jpeg", "description": APERIO, "metadata": None},
    "aperio jpeg 2000": {"compression": "aperio_jp2000_rgb", "description": APERIO, "metadata": None},
    "jpeg": {"compression": "jpeg"},
    "deflate": {"compression": "adobe_deflate"},
    "lzw": {"compression": "lzw"},
    "ome jpeg": {"compression": "jpeg", "metadata": {"axes": "YXS"}},
    "ome jpeg 2000": {"compression": "jpeg2000", "metadata": {"axes": "YXS"}},
    "ome deflate": {"compression": "adobe_deflate", "metadata": {"axes": "YXS"}},
    "ome lzw": {"compression": "lzw", "metadata": {"axes": "YXS"}},
}


@pytest.fixture(scope="module")
def picture():
    return tissue_picture(1024, 2.0, 0)


def write(path, picture, kind, **more):
    with tifffile.TiffWriter(path, ome=kind.startswith("ome")) as file:
        file.write(picture, photometric="rgb", **{"tile": (256, 256)} | KINDS[kind] | more)
    return path


def spoil(path, index, how):
    """Change the bytes of a tile."""
    with tifffile.TiffFile(path) as file:
        place, length = file.pages[0].dataoffsets[index], file.pages[0].databytecounts[index]
    data = bytearray(path.read_bytes())
    spoilt = how(bytes(data[place : place + length]))
    assert len(spoilt) <= length
    data[place : place + length] = spoilt.ljust(length, b"\0")
    path.write_bytes(data)


LOST = {
    "the second half": lambda data: data[: len(data) // 2],
    "the last tenth": lambda data: data[: len(data) * 9 // 10],
    "all": lambda data: b"",
}


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_that_lost_its_end_is_damage(tmp_path, picture, kind, lost):
    path = write(tmp_path / "a.svs", picture, kind)
    spoil(path, 5, LOST[lost])
    with Slide.open(path, 0.5) as slide:
        mpp = slide.mpp
        with pytest.raises(InputError, match=r"a\.svs is damaged at x=256 y=256"):
            slide.read(256, 256, 256, 256, mpp)
        with pytest.raises(InputError, match=r"a\.svs is damaged at x=300 y=200"):
            slide.read(300, 200, 64, 64, mpp)
        # The tiles around it are read, before and after.
        for x, y in ((0, 0), (512, 256), (256, 512)):
            assert slide.read(x, y, 256, 256, mpp).std() > 5


@pytest.mark.parametrize("kind", KINDS)
def test_sound_tiles_are_read(tmp_path, picture, kind):
    with Slide.open(write(tmp_path / "a.svs", picture, kind), 0.5) as slide:
        region = slide.read(0, 0, 1024, 1024, slide.mpp).astype(int)
    assert np.abs(region - picture).mean() < 8


@pytest.mark.parametrize("kind", ["aperio jpeg", "jpeg", "ome jpeg"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("ends", [1, 1000])
def test_a_cut_jpeg_tile_that_has_an_end_is_damage(tmp_path, picture, kind, share, ends):
    path = write(tmp_path / "a.svs", picture, kind)
    spoil(path, 5, lambda data: (data[: int(len(data) * share)] + b"\xff\xd9" * ends)[: len(data)])
    with Slide.open(path, 0.5) as slide, pytest.raises(InputError, match=r"a\.svs is damaged at x=256 y=256"):
        slide.read(256, 256, 256, 256, slide.mpp)


@pytest.mark.parametrize("grey", [0, 127, 128, 129, 243, 255])
def test_a_flat_jpeg_is_whole(tmp_path, grey):
    flat = np.full((512, 512, 3), grey, np.uint8)
    with Slide.open(write(tmp_path / "a.svs", flat, "ome jpeg"), 0.5) as slide:
        assert np.abs(slide.read(0, 0, 512, 512, 0.5).astype(int) - grey).max() <= 2
    Image.fromarray(flat).save(tmp_path / "a.jpg")
    with Slide.open(tmp_path / "a.jpg", 0.5) as slide:
        assert np.abs(slide.read(0, 0, 512, 512, 0.5).astype(int) - grey).max() <= 2


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize(
    "more", [{}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_rows": 4}, {"comment": b"\xff\xd9" * 9}]
)
def test_sound_jpegs_of_all_sorts_are_read(tmp_path, picture, quality, more):
    Image.fromarray(picture[:501, :403]).save(tmp_path / "a.jpg", quality=quality, **more)
    with Slide.open(tmp_path / "a.jpg", 0.5) as slide:
        assert slide.read(0, 0, 403, 501, 0.5).std() > 5


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_cut_picture_is_damage(tmp_path, picture, end):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path)
    path.write_bytes(path.read_bytes()[:60_000] + end)
    with Slide.open(path, 0.5) as slide, pytest.raises(InputError, match=r"a\.jpg is damaged"):
        slide.read(0, 0, 64, 64, 0.5)


@pytest.mark.parametrize("kind", ["deflate", "lzw", "ome deflate", "ome lzw", "ome jpeg"])
def test_strips_are_held_to_it_as_well(tmp_path, picture, kind):
    path = write(tmp_path / "a.tif", picture, kind, tile=None, rowsperstrip=100)
    with Slide.open(path, 0.5) as slide:
        assert np.abs(slide.read(0, 0, 1024, 1024, 0.5).astype(int) - picture).mean() < 8
    spoil(path, 5, LOST["the second half"])
    with Slide.open(path, 0.5) as slide, pytest.raises(InputError, match=r"a\.tif is damaged"):
        slide.read(0, 500, 64, 64, 0.5)


@pytest.mark.parametrize("lost", ["the second half", "the last tenth"])
@pytest.mark.parametrize("coding", ["pixels", "jpeg"])
def test_openslide_tells_damage_in_dicom(tmp_path, picture, coding, lost):
    """Not checked by us: OpenSlide's own word, which this holds."""
    cut = [
        np.ascontiguousarray(picture[y : y + 256, x : x + 256]) for y in range(0, 1024, 256) for x in (0, 256, 512, 768)
    ]
    frames = [simplejpeg.encode_jpeg(tile, 85, "RGB", "420") for tile in cut]
    sound = write_dicom(tmp_path / "a" / "a.dcm", picture, 0.5, frames=frames if coding == "jpeg" else None)
    with Slide.open(sound) as slide:
        assert np.abs(slide.read(0, 0, 1024, 1024, 0.5).astype(int) - picture).mean() < 8
    if coding == "jpeg":
        frames[-1] = LOST[lost](frames[-1]).ljust(len(frames[-1]), b"\0")
        path = write_dicom(tmp_path / "b" / "a.dcm", picture, 0.5, frames=frames)
    else:
        path = tmp_path / "b.dcm"
        path.write_bytes(LOST[lost](sound.read_bytes()))
    with Slide.open(path) as slide, pytest.raises(InputError, match="is damaged at x=768 y=768"):
        slide.read(768, 768, 256, 256, 0.5)


def scn_image(side, directory, side_nm, corner_nm, power):
    """An image of Leica's SCN in XML."""
    light = "<illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings>"
    lens = f"<objectiveSettings><objective>{power}</objective></objectiveSettings>"
    size = f'sizeX="{side}" sizeY="{side}"'
    view = f'sizeX="{side_nm}" sizeY="{side_nm}" offsetX="{corner_nm[0]}" offsetY="{corner_nm[1]}"'
    pixels = f'<pixels {size}><dimension {size} r="0" ifd="{directory}"/></pixels>'
    settings = f"<scanSettings>{lens}{light}</scanSettings>"
    return f'<image><device model="x"/>{pixels}<view {view}/>{settings}</image>'


@pytest.mark.parametrize("lost", [None, *LOST])
def test_a_tile_of_scn_that_lost_its_end_is_damage(tmp_path, picture, lost):
    path, options = tmp_path / "a.scn", {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    images = scn_image(128, 0, 2_000_000, (0, 0), 1) + scn_image(1024, 1, 512_000, (500_000, 700_000), 20)
    area = f'<collection name="c" sizeX="2000000" sizeY="2000000">{images}</collection>'
    told = f'<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">{area}</scn>'
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(picture[:128, :128], tile=(128, 128), description=told, software=False, **options)
        tiff.write(picture, tile=(256, 256), **options)
    with tifffile.TiffFile(path) as tiff:
        place, length = tiff.pages[1].dataoffsets[5], tiff.pages[1].databytecounts[5]
    data = bytearray(path.read_bytes())
    if lost:
        data[place : place + length] = LOST[lost](bytes(data[place : place + length])).ljust(length, b"\0")
        path.write_bytes(data)
    # The area lies 1000 px to the right and 1400 px down.
    with Slide.open(path, 0.5) as slide:
        assert slide.format == "leica"
        if lost is None:
            assert np.abs(slide.read(1000, 1400, 1024, 1024, 0.5).astype(int) - picture).mean() < 8
            return
        with pytest.raises(InputError, match=r"is damaged .*tile 5 of picture 1: a JPEG tile has no end"):
            slide.read(1256, 1656, 64, 64, 0.5)
