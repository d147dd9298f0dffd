import hashlib
import math
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from hsa.bags.features import encode_slide, sha256
from hsa.encoders.encoder import TileEncoder
from hsa.errors import InputError
from hsa.slides.readers import open_reader, slide_files
from hsa.slides.slide import Slide
from hsa.study.settings import Tiles
from slide_files import tissue_picture, write_dicom, write_sparse_slide


@pytest.fixture(scope="module")
def picture():
    """Values that tell their place, (700, 900, 3)."""
    y, x = np.mgrid[:700, :900]
    return np.stack([x // 4, y // 4, (x + y) // 8], axis=-1).astype(np.uint8)


def halves(picture):
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    return picture[:height, :width].reshape(height // 2, 2, width // 2, 2, -1).mean(axis=(1, 3)).astype(np.uint8)


def write_ome(
    path, picture, *, layout="interleaved", levels=3, mpp=0.25, unit="µm", tile=(256, 256), big=False, **options
):
    """An OME-TIFF with its levels in SubIFDs."""
    metadata = {"axes": {"interleaved": "YXS"}.get(layout, "CYX"), **options.pop("metadata", {})}
    if mpp is not None:
        sizes = {f"PhysicalSize{axis}": mpp for axis in "XY"}
        metadata |= sizes | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    photometric = "minisblack" if layout == "pages" else "rgb"
    written = {"photometric": photometric, "compression": "adobe_deflate", "tile": tile} | options
    if layout == "planes":
        written["planarconfig"] = "separate"
    with tifffile.TiffWriter(path, ome=True, bigtiff=big) as tiff:
        for level in range(levels):
            pixels = picture if layout == "interleaved" else np.moveaxis(picture, -1, 0)
            first = {"subifds": levels - 1, "metadata": metadata} if level == 0 else {"subfiletype": 1}
            tiff.write(pixels, **first, **written)
            picture = halves(picture)
    return path


@pytest.mark.parametrize("layout", ["interleaved", "planes", "pages"])
@pytest.mark.parametrize("tile", [(256, 256), None], ids=["tiles", "strips"])
def test_an_ome_tiff_keeps_its_pyramid_and_its_resolution(tmp_path, picture, layout, tile):
    path = write_ome(tmp_path / "a.tif", picture, layout=layout, tile=tile, big=layout == "planes")
    with Slide.open(path) as slide:
        assert (slide.format, slide.mpp, slide.mpp_from, slide.size) == ("ome-tiff", 0.25, "file", (900, 700))
        np.testing.assert_array_equal(slide.read(130, 200, 300, 280, 0.25), picture[200:480, 130:430])
        np.testing.assert_array_equal(slide.read(130, 200, 100, 90, 0.5), halves(picture)[100:190, 65:165])
        np.testing.assert_array_equal(slide.thumbnail(1.0), halves(halves(picture)))
        edge = slide.read(-50, 600, 200, 200, 0.25)
    expected = np.full((200, 200, 3), 255)
    expected[:100, 50:] = picture[600:, :150]
    np.testing.assert_array_equal(edge, expected)


@pytest.mark.parametrize(("number", "unit"), [(250.0, "nm"), (2.5e-4, "mm"), (0.25, "µm"), (0.25, "μm")])
def test_units_of_ome_become_microns(tmp_path, picture, number, unit):
    with Slide.open(write_ome(tmp_path / "a.ome.tif", picture, mpp=number, unit=unit)) as slide:
        assert slide.mpp == pytest.approx(0.25)
    assert slide._reader._tiff.filehandle.closed


def test_pixels_of_ome_must_be_square(tmp_path, picture):
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.3}
    with pytest.raises(InputError, match=r"not square \(0\.25 x 0\.3 um\)"):
        Slide.open(write_ome(tmp_path / "a.tif", picture, mpp=None, metadata=sizes))


@pytest.mark.parametrize("known", [{"mpp": None}, {"mpp": 0.25, "unit": "pixel"}])
def test_an_ome_tiff_without_a_length_asks_the_manifest(tmp_path, picture, known):
    path = write_ome(tmp_path / "a.ome.tif", picture, **known)
    with pytest.raises(InputError, match="does not say its resolution"):
        Slide.open(path)
    with Slide.open(path, 0.5) as slide:
        assert (slide.mpp, slide.mpp_from) == (0.5, "manifest")


@pytest.mark.parametrize("compression", ["jpeg2000", "lzw"])
def test_only_the_tiles_of_the_region_are_decoded(tmp_path, picture, monkeypatch, compression):
    reader = open_reader(write_ome(tmp_path / "a.ome.tif", picture, compression=compression))
    seen, decoded = [], reader._decoded
    monkeypatch.setattr(reader, "_decoded", lambda *place: (seen.append(place), decoded(*place))[1])
    reader.read(300, 10, 0, 200, 200)
    reader.read(300, 520, 0, 200, 100)
    assert seen == [(0, 0, 1), (0, 0, 9)]
    region = reader.read(300, 10, 0, 300, 250).astype(int)
    assert [index for _, _, index in seen] == [1, 9, 1, 2, 5, 6]
    assert decoded.cache_info().hits == 1
    assert np.abs(region - picture[10:260, 300:600]).max() <= (0 if compression == "lzw" else 12)
    monkeypatch.undo()
    reader.close()


def test_alpha_is_laid_on_white(tmp_path, picture):
    faded = np.dstack([picture, np.full(picture.shape[:2], 51, np.uint8)])
    faded[:300, :, 3] = 255
    Image.fromarray(faded).save(tmp_path / "a.png")
    write_ome(tmp_path / "b.tif", faded, levels=1, extrasamples=["unassalpha"])
    for name in ("a.png", "b.tif"):
        with Slide.open(tmp_path / name, 0.25) as slide:
            region = slide.read(0, 250, 100, 100, 0.25).astype(int)
        np.testing.assert_array_equal(region[:50], picture[250:300, :100])
        assert np.abs(region[50:] - (0.2 * picture[300:350, :100] + 0.8 * 255)).max() <= 1, name
    Image.fromarray(picture).save(tmp_path / "c.png", transparency=tuple(picture[4, 8].tolist()))
    with Slide.open(tmp_path / "c.png", 0.25) as slide:
        region = slide.read(0, 0, 100, 100, 0.25)
    assert (region[4, 8] == 255).all() and (region[40, 80] == picture[40, 80]).all()


def png_of_16_bits(path, picture):
    """Pillow writes none."""
    deep = picture.astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in deep)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def pages(path, pictures, **options):
    with tifffile.TiffWriter(path, ome=options.pop("ome", False)) as tiff:
        for each in pictures:
            tiff.write(each, **{"photometric": "rgb", "metadata": None} | options)


REFUSED = {
    "OME, 16 bits": (lambda f, p: write_ome(f, p.astype(np.uint16)), "pixels of type uint16"),
    "OME, two channels": (lambda f, p: write_ome(f, p[..., :2], layout="pages"), "2 channels"),
    "OME, five channels": (lambda f, p: write_ome(f, np.dstack([p, p[..., :2]]), layout="pages"), "5 channels"),
    "OME, three fluorophores": (
        lambda f, p: write_ome(f, p, layout="pages", metadata={"Channel": {"Name": ["DAPI", "FITC", "TRITC"]}}),
        r"3 channels \(DAPI, FITC, TRITC\) that are not red, green and blue",
    ),
    "OME, three emissions": (
        lambda f, p: write_ome(f, p, layout="pages", metadata={"Channel": {"EmissionWavelength": [460, 520, 600]}}),
        "not red, green and blue",
    ),
    "OME, focal planes": (
        lambda f, p: tifffile.imwrite(f, np.stack([p, p]), ome=True, photometric="rgb", metadata={"axes": "ZYXS"}),
        "stack .2 focal planes, 1 times",
    ),
    "OME, times": (
        lambda f, p: tifffile.imwrite(f, np.stack([p, p]), ome=True, photometric="rgb", metadata={"axes": "TYXS"}),
        "stack .1 focal planes, 2 times",
    ),
    "TIFF, 16 bits": (lambda f, p: pages(f, [p.astype(np.uint16)], tile=(256, 256)), "has 16 bits a channel"),
    "TIFF, grey": (lambda f, p: pages(f, [p[..., 0]], tile=(256, 256), photometric="minisblack"), "is not in RGB"),
    "TIFF, five channels": (
        lambda f, p: pages(f, [np.dstack([p, p[..., :2]])], tile=(256, 256)),
        r"is not in RGB \(channels: 5\)",
    ),
    "TIFF, signed": (lambda f, p: pages(f, [(p // 2).astype(np.int8)], tile=(256, 256)), "signed"),
    "TIFF, stack": (lambda f, p: pages(f, [p, p], tile=(256, 256)), "stack of pictures of one size"),
    "TIFF, untiled stack": (lambda f, p: pages(f, [p, p]), "stack of pictures of one size"),
    "PNG, grey": (lambda f, p: Image.fromarray(p[..., 0]).save(f, "PNG"), r"not in RGB .*mode L\)"),
    "PNG, 16 bits": (png_of_16_bits, "16 bits a channel"),
    "PNG, animated": (
        lambda f, p: Image.fromarray(p).save(f, "PNG", save_all=True, append_images=[Image.fromarray(p[::-1])]),
        "holds 2 pictures",
    ),
    "GIF": (lambda f, p: Image.fromarray(p).save(f, "GIF"), "cannot be read"),
}


def test_a_tile_larger_than_memory_is_refused(tmp_path, picture, monkeypatch):
    pages(tmp_path / "a.tif", [picture], tile=(512, 512))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 512 * 512 - 1)
    with pytest.raises(InputError, match="tiles of 512 x 512 px"):
        Slide.open(tmp_path / "a.tif", 0.25)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_one_rgb_picture_is_refused(tmp_path, picture, kind):
    write, problem = REFUSED[kind]
    write(tmp_path / "a.xyz", picture)
    with pytest.raises(InputError, match=rf"a\.xyz .*{problem}.*(export|copy)"):
        Slide.open(tmp_path / "a.xyz", 0.25)


def test_the_largest_image_is_the_slide_and_not_its_label(tmp_path, picture):
    pages(tmp_path / "a.ome.tif", [picture[:99, :99], picture], ome=True, metadata={"axes": "YXS"})
    with Slide.open(tmp_path / "a.ome.tif", 0.25) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 900, 700, 0.25), picture)


@pytest.mark.parametrize("damage", ["zeroed", "cut"])
def test_a_damaged_tile_of_an_ome_tiff_is_an_error_and_not_grey(tmp_path, picture, damage):
    path = write_ome(tmp_path / "a.ome.tif", picture, levels=1, compression="jpeg")
    with tifffile.TiffFile(path) as tiff:
        offset, length = tiff.pages.first.dataoffsets[5], tiff.pages.first.databytecounts[5]
    data = bytearray(path.read_bytes())
    start = offset if damage == "zeroed" else offset + length // 2
    data[start : offset + length] = bytes(offset + length - start)
    path.write_bytes(data)
    with Slide.open(path) as slide:
        assert slide.read(0, 0, 256, 256, 0.25).shape == (256, 256, 3)
        with pytest.raises(InputError, match=r"a\.ome\.tif is damaged at x=256 y=256"):
            slide.read(256, 256, 256, 256, 0.25)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_a_picture_is_a_slide_with_the_mpp_of_the_manifest(tmp_path, picture, kind):
    # 25,400 dpi would be 1 um/px: that is how to print it.
    path = tmp_path / f"patch.{kind.lower()}"
    Image.fromarray(picture).save(path, **{"quality": 95} if kind == "JPEG" else {}, dpi=(25400, 25400))
    with pytest.raises(InputError, match=r"patch\.\w+ does not say its resolution: .*column"):
        Slide.open(path)
    with Slide.open(path, 0.5) as slide:
        assert (slide.format, slide.mpp, slide.mpp_from) == (kind.lower(), 0.5, "manifest")
        assert (slide.size, slide.extent(256, 1.0)) == ((900, 700), 512)
        region = slide.read(-10, 600, 100, 150, 0.5).astype(int)
        assert (region[100:] == 255).all() and (region[:, :10] == 255).all()
        assert np.abs(region[:100, 10:] - picture[600:, :90]).max() <= (8 if kind == "JPEG" else 0)
        assert slide.thumbnail(1.0).shape == (350, 450, 3)


def test_a_cut_picture_is_damaged(tmp_path, picture):
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Slide.open(path, 0.5) as slide, pytest.raises(InputError, match=r"a\.png is damaged at x=0 y=0"):
        slide.read(0, 0, 10, 10, 0.5)


@pytest.mark.parametrize("ceiling", [400_000, 200_000], ids=["Pillow warns", "Pillow raises"])
def test_pillows_ceiling_of_pixels_stays(tmp_path, picture, monkeypatch, ceiling):
    Image.fromarray(picture).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", ceiling)
    with pytest.raises(InputError, match=r"bomb\.png has more pixels .*tiled pyramidal TIFF"):
        Slide.open(tmp_path / "bomb.png", 0.5)
    with pytest.raises(InputError, match="too large for a file without tiles"):
        Slide.open(write_ome(tmp_path / "bomb.tif", picture, tile=None, levels=1, rowsperstrip=700))


@pytest.fixture
def dicom(tmp_path):
    """A folder with the two levels of a slide, 1024 px at 0.5 um/px."""
    picture = tissue_picture(1024, 2.0, 0)
    write_dicom(tmp_path / "case 1" / "a.dcm", halves(picture), 1.0, number=2)
    write_dicom(tmp_path / "case 1" / "b.dcm", picture, 0.5)
    return tmp_path / "case 1", picture


@pytest.mark.parametrize("name", ["", "a.dcm", "b.dcm"])
def test_dicom_is_opened_by_its_folder_or_by_any_of_its_files(dicom, name):
    folder, picture = dicom
    with Slide.open(folder / name) as slide:
        assert (slide.format, slide.mpp, slide.mpp_from, slide.size) == ("dicom", 0.5, "file", (1024, 1024))
        np.testing.assert_array_equal(slide.read(256, 300, 200, 300, 0.5), picture[300:600, 256:456])
        np.testing.assert_array_equal(slide.read(256, 300, 100, 150, 1.0), halves(picture)[150:300, 128:228])


def test_a_folder_of_two_dicom_slides_or_of_none_is_refused(dicom, tmp_path):
    folder, picture = dicom
    write_dicom(folder / "c.dcm", picture, 0.5, series="1.2.4")
    with pytest.raises(InputError, match=r"case 1 holds more than one DICOM series: give one file"):
        Slide.open(folder)
    with Slide.open(folder / "c.dcm") as slide:
        assert slide.size == (1024, 1024)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty is a folder without a DICOM slide"):
        Slide.open(tmp_path / "empty")


def stand_in():
    return TileEncoder("lite0-mid", 3, 256, 0.5, lambda tiles: tiles.mean((1, 2), dtype=np.float32))


def test_a_bag_records_the_format_and_where_the_mpp_came_from(dicom, tmp_path):
    folder, picture = dicom
    Image.fromarray(picture).save(tmp_path / "patch.png")
    write_ome(tmp_path / "slide.ome.tif", picture, mpp=0.5)
    bags = {
        "dicom": encode_slide(folder, stand_in(), Tiles()),
        "png": encode_slide(tmp_path / "patch.png", stand_in(), Tiles(), mpp=0.5),
        "ome-tiff": encode_slide(tmp_path / "slide.ome.tif", stand_in(), Tiles()),
    }
    for name, bag in bags.items():
        assert (bag.attrs["format"], bag.attrs["mpp"]) == (name, 0.5)
        assert bag.attrs["mpp_from"] == ("manifest" if name == "png" else "file")
        # The same pixels, whatever holds them.
        np.testing.assert_array_equal(bag.features, bags["dicom"].features)
        np.testing.assert_array_equal(bag.coords, bags["dicom"].coords)
    assert len(bags["dicom"].coords) == 16
    assert bags["dicom"].attrs["source_bytes"] == sum(file.stat().st_size for file in slide_files(folder))
    before = bags["dicom"].attrs["source_sha256"]
    write_dicom(folder / "a.dcm", halves(picture), 1.0, number=3)
    assert encode_slide(folder, stand_in(), Tiles()).attrs["source_sha256"] != before


def test_an_mrxs_file_counts_with_its_folder(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a.mrxs", "a/Slidedat.ini", "a/Data0000.dat", "b.svs"):
        (tmp_path / name).write_text(name)
    names = [file.relative_to(tmp_path).as_posix() for file in slide_files(tmp_path / "a.mrxs")]
    assert names == ["a.mrxs", "a/Data0000.dat", "a/Slidedat.ini"]
    assert slide_files(tmp_path / "b.svs") == [tmp_path / "b.svs"]
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    listed = f"{digests[0]}  a.mrxs\n{digests[1]}  Data0000.dat\n{digests[2]}  Slidedat.ini\n"  # as of sha256sum
    assert sha256(tmp_path / "a.mrxs") == hashlib.sha256(listed.encode()).hexdigest()
    assert sha256(tmp_path / "b.svs") == hashlib.sha256(b"b.svs").hexdigest()


HUGE = """
import sys
from hsa.slides.slide import Slide
from hsa.workers import peak_mb
from PIL import Image
with Slide.open(sys.argv[1]) as slide:
    slide.read(0, 0, 8, 8, slide.mpp)
    before = peak_mb()
    picture = slide.thumbnail(8.0)
    tiles = [slide.read(40_000 + 512 * (i % 8), 40_000 + 512 * (i // 8), 256, 256, 0.5).mean() for i in range(32)]
    after = peak_mb()
print(*slide.size, *picture.shape[:2], (after - before) * 2**20, max(tiles), picture[0, 0].mean())
"""


def test_a_slide_of_100_000_px_is_read_in_bounded_memory(tmp_path):
    pytest.importorskip("resource")
    path = write_sparse_slide(tmp_path / "huge.tif", 100_000, 0.25, [(42_000, 42_000, 5_000), (80_000, 20_000, 3_000)])
    assert path.stat().st_size < 50e6
    told = subprocess.run([sys.executable, "-c", HUGE, path], check=True, capture_output=True, text=True).stdout.split()
    assert told[:4] == ["100000", "100000", "3125", "3125"]
    added, tissue, glass = map(float, told[4:])
    # The thumbnail itself takes 29 MB, OpenSlide's cache up to 32 MB.
    assert added < 110e6
    assert tissue < 200 < 235 < glass


def test_without_a_pyramid_a_thumbnail_reads_small_blocks(tmp_path, monkeypatch):
    path = write_sparse_slide(tmp_path / "flat.tif", 3_200, 0.25, [(1_600, 1_600, 1_000)], pyramid=False)
    with Slide.open(path) as slide:
        assert slide._reader.downsamples == (1.0,)
        asked, reduced = [], slide._reader.reduced
        monkeypatch.setattr(
            slide._reader,
            "reduced",
            lambda *region: (asked.append(math.prod(region[3:5]) * region[5] ** 2), reduced(*region))[1],
        )
        thumbnail = slide.thumbnail(8.0).astype(int)
        assert max(asked) <= 2048**2
        whole = np.asarray(
            Image.fromarray(slide.read(0, 0, 3_200, 3_200, 0.25)).resize((100, 100), Image.Resampling.BOX)
        )
    assert thumbnail.shape == (100, 100, 3)
    np.testing.assert_allclose(thumbnail, whole, atol=1)


def test_an_empty_tile_is_white(tmp_path, picture):
    path = write_ome(tmp_path / "a.ome.tif", picture, levels=1)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages.first.tags["TileByteCounts"]
        tag.overwrite([0, *tag.value[1:]])
    reader = open_reader(path)
    region = reader.read(200, 0, 0, 100, 100)
    assert (region[:, :56] == 255).all()
    np.testing.assert_array_equal(region[:, 56:], picture[:100, 256:300])
    reader.close()
