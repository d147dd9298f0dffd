"""Files that hold more than one picture, or one that is not a bright-field slide."""

import numpy as np
import pytest
import tifffile

from hsa.bags.features import encode_slide, sha256
from hsa.encoders.encoder import TileEncoder
from hsa.errors import InputError
from hsa.slides.readers import slide_files
from hsa.slides.slide import Slide
from hsa.slides.tiling import tissue_mask
from hsa.study.settings import Tiles
from slide_files import tissue_picture


def ome(path, *images):
    """Images as (picture, name, um per px)."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for picture, name, mpp in images:
            sizes = {} if mpp is None else {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
            metadata = {"axes": "YXS", "Name": name, **sizes}
            file.write(picture, tile=(128, 128), photometric="rgb", compression="adobe_deflate", metadata=metadata)
    return path


def plain(path, *pictures, **options):
    with tifffile.TiffWriter(path) as file:
        for picture, flag in pictures:
            options = {"tile": (128, 128), "photometric": "rgb", "compression": "jpeg"} | options
            file.write(picture, subfiletype=flag, metadata=None, **options)
    return path


@pytest.fixture(scope="module")
def pictures():
    return [tissue_picture(size, 0.5, size) for size in (1024, 900, 400, 1024)]


def test_scans_of_like_size_are_refused_with_their_names_and_one_can_be_chosen(tmp_path, pictures):
    path = ome(tmp_path / "two.ome.tif", (pictures[0], "Region A", 0.5), (pictures[1], "Region B", 0.5))
    told = r"holds 2 scans: #1 'Region A' \(1024 x 1024 px\), #2 'Region B' \(900 x 900 px\)\. .* two\.ome\.tif#2"
    with pytest.raises(InputError, match=told):
        Slide.open(path)
    for number in (1, 2):
        with Slide.open(f"{path}#{number}") as slide:
            expected = pictures[number - 1]
            assert slide.size == expected.shape[1::-1]
            np.testing.assert_array_equal(slide.read(300, 300, 400, 400, 0.5), expected[300:700, 300:700])
    for number in (0, 3):
        with pytest.raises(InputError, match=rf"has no image #{number}: choose one of #1"):
            Slide.open(f"{path}#{number}")


@pytest.mark.parametrize("mpp", [0.5, None])
def test_of_scans_of_one_size_each_can_be_chosen(tmp_path, pictures, mpp):
    path = ome(tmp_path / "a.tif", (pictures[0], "A", mpp), (pictures[3][::-1], "B", mpp))
    with pytest.raises(InputError, match="holds 2 scans"):
        Slide.open(path, 0.5)
    for number, expected in ((1, pictures[0]), (2, pictures[3][::-1])):
        with Slide.open(f"{path}#{number}", 0.5) as slide:
            np.testing.assert_array_equal(slide.read(0, 0, 1024, 1024, 0.5), expected)


def test_a_small_scan_at_the_resolution_of_the_large_one_is_a_scan_as_well(tmp_path, pictures):
    with pytest.raises(InputError, match="holds 2 scans"):
        Slide.open(ome(tmp_path / "a.tif", (pictures[0], "A", 0.5), (pictures[2], "B", 0.5)))


@pytest.mark.parametrize(
    ("name", "mpp"), [("macro image", 0.5), ("Label", 0.5), ("Series 2", 8.0), ("thumbnail", None)]
)
def test_a_picture_beside_the_slide_is_none(tmp_path, pictures, name, mpp):
    path = ome(tmp_path / "a.tif", (pictures[2], name, mpp), (pictures[0], "A", 0.5))
    with Slide.open(path) as slide:
        assert slide.size == (1024, 1024)


def test_a_file_whose_name_ends_in_a_number_is_that_file(tmp_path, pictures):
    path = ome(tmp_path / "case#2", (pictures[0], "A", 0.5))
    with Slide.open(path) as slide:
        assert slide.size == (1024, 1024)
    assert slide_files(path) == [path]
    with pytest.raises(InputError, match=r"case#9 does not exist|cannot be read"):
        Slide.open(tmp_path / "case#9")


def test_only_an_ome_tiff_has_images_to_choose_from(tmp_path, pictures):
    path = plain(tmp_path / "a.tif", (pictures[0], 0))
    with pytest.raises(InputError, match=r"`#2` chooses an image of an OME-TIFF, which this file is not"):
        Slide.open(f"{path}#2", 0.5)


def test_a_bag_of_a_chosen_scan_tells_which(tmp_path, pictures):
    path = ome(tmp_path / "two.tif", (pictures[0], "A", 0.5), (pictures[1], "B", 0.5))
    encoder = TileEncoder("lite0-mid", 3, 256, 0.5, lambda tiles: tiles.mean((1, 2), dtype=np.float32))
    bag = encode_slide(f"{path}#2", encoder, Tiles())
    assert (bag.attrs["source"], bag.attrs["source_bytes"]) == ("two.tif#2", path.stat().st_size)
    assert bag.attrs["source_sha256"] == sha256(path)


@pytest.mark.parametrize("tile", [(128, 128), None])
@pytest.mark.parametrize("flag", [0, 1])
def test_a_thumbnail_before_the_slide_does_not_win(tmp_path, pictures, tile, flag):
    path = plain(tmp_path / "a.tif", (pictures[2], 0), (pictures[0], flag), tile=tile)
    with pytest.raises(
        InputError, match="begins with a picture of 400 x 400 px, and the largest in it has 1024 x 1024"
    ):
        Slide.open(path, 0.5)


def test_pictures_of_like_size_in_a_plain_tiff_are_refused(tmp_path, pictures):
    with pytest.raises(InputError, match=r"several pictures of like size \(1024 x 1024, 900 x 900 px\)"):
        Slide.open(plain(tmp_path / "a.tif", (pictures[0], 0), (pictures[1], 0)), 0.5)
    # A pyramid whose levels are not flagged, and a macro, are none.
    path = plain(tmp_path / "b.tif", (pictures[0], 0), (pictures[0][::2, ::2], 0), (pictures[2][:100], 0))
    with Slide.open(path, 0.5) as slide:
        assert slide.size == (1024, 1024)


@pytest.mark.parametrize("tile", [(128, 128), None])
@pytest.mark.parametrize("kind", ["unspecified", "assocalpha", "unassalpha"])
def test_a_fourth_band_must_be_transparency(tmp_path, pictures, tile, kind):
    four = np.dstack([pictures[0], np.full(pictures[0].shape[:2], 255, np.uint8)])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, four, photometric="rgb", extrasamples=[kind], tile=tile, compression="adobe_deflate")
    if kind == "unspecified":
        with pytest.raises(InputError, match="a fourth channel that is not said to be transparency"):
            Slide.open(path, 0.5)
        return
    with Slide.open(path, 0.5) as slide:
        np.testing.assert_array_equal(slide.read(200, 200, 300, 300, 0.5), pictures[0][200:500, 200:500])


def test_a_dark_ground_is_told(tmp_path, pictures, make_slide):
    inverted = 255 - pictures[0]
    glow = np.zeros_like(pictures[0])
    glow[..., 2] = np.where(pictures[0][..., 0] < 150, 200, 8)
    # Bright field with a part that the scanner left black.
    partly = np.concatenate([pictures[0], np.zeros_like(pictures[0])])
    for number, (picture, dark) in enumerate([(inverted, True), (glow, True), (partly, False), (pictures[0], False)]):
        with Slide.open(plain(tmp_path / f"{number}.tif", (picture, 0)), 0.5) as slide:
            assert ("the ground is dark" in tissue_mask(slide).warning) is dark
