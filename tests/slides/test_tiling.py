import numpy as np
import pytest

from hsa.errors import InputError
from hsa.slides import histolab_masks
from hsa.slides.histolab_masks import OpticalDensityMask
from hsa.slides.slide import Slide
from hsa.slides.tiling import Mask, tile_grid, tissue_mask
from slide_files import tissue_picture


def test_tissue_mask_of_a_slide_covers_its_tissue(make_slide):
    with Slide.open(make_slide(covered=0.4)) as slide:
        mask = tissue_mask(slide)
    assert mask.array.shape == (64, 64)
    assert mask.fraction == pytest.approx(0.4, abs=0.06)
    assert mask.warning == ""


def test_a_slide_full_of_tissue_is_marked(make_slide):
    picture = tissue_picture(1024, 4.0, seed=1)
    with Slide.open(make_slide(picture=picture)) as slide:
        warning = tissue_mask(slide).warning
    assert warning.startswith("slide slide.tif: ")
    assert "of the slide is tissue" in warning and "leave the slide out" in warning


def test_a_slide_without_tissue_is_refused(make_slide):
    with (
        Slide.open(make_slide(covered=0.0)) as slide,
        pytest.raises(InputError, match=r"slide\.tif has no tissue"),
    ):
        tissue_mask(slide)


def test_unknown_mask_lists_the_known_ones(make_slide):
    with Slide.open(make_slide()) as slide, pytest.raises(InputError, match="optical-density, histolab"):
        tissue_mask(slide, "otsu")


def test_histolab_mask_is_the_named_alternative(make_slide):
    pytest.importorskip("histolab")
    with Slide.open(make_slide(covered=0.4)) as slide:
        mask = tissue_mask(slide, "histolab")
        assert mask.array.shape[1] * mask.mpp == pytest.approx(slide.size[0] * slide.mpp)
    assert mask.fraction == pytest.approx(0.4, abs=0.12)


def test_optical_density_mask_serves_histolabs_own_tilers(make_slide, tmp_path):
    pytest.importorskip("histolab")
    from histolab.masks import BinaryMask
    from histolab.slide import Slide as HistolabSlide
    from histolab.tiler import GridTiler

    slide = HistolabSlide(make_slide(covered=0.4), tmp_path / "tiles")
    mask = OpticalDensityMask()
    assert isinstance(mask, BinaryMask)
    assert mask(slide).mean() == pytest.approx(0.4, abs=0.06)
    assert slide.locate_mask(mask, scale_factor=8).size == (128, 128)
    GridTiler((128, 128), check_tissue=False).extract(slide, extraction_mask=mask)
    # 0.4 of 64 squares; histolab keeps those that are at least 80 % inside the mask.
    assert 10 <= len(list((tmp_path / "tiles").iterdir())) <= 30


def test_optical_density_mask_takes_the_resolution_of_slides_without_one(make_slide, tmp_path):
    pytest.importorskip("histolab")
    from histolab.slide import Slide as HistolabSlide

    path = make_slide(mpp=None, covered=0.4)
    slide = HistolabSlide(path, tmp_path / "tiles")
    with Slide.open(path, 0.5) as own:
        assert (OpticalDensityMask(mpp=0.5)(slide) == tissue_mask(own).array).all()
    with pytest.raises(InputError, match="mpp"):
        OpticalDensityMask()(slide)


def test_without_histolab_the_message_says_what_to_type(make_slide, monkeypatch):
    monkeypatch.setattr(histolab_masks, "BinaryMask", object)
    command = "pip install --no-deps --ignore-requires-python histolab==0.7.0"
    with pytest.raises(InputError, match=command):
        OpticalDensityMask()
    with Slide.open(make_slide()) as slide, pytest.raises(InputError, match=command):
        tissue_mask(slide, "histolab")


@pytest.fixture
def slide(make_slide):
    # 1000 x 1000 px at 0.5 um/px: neither tiles nor mask pixels divide it.
    with Slide.open(make_slide(picture=tissue_picture(1000, 0.5, 0), levels=1)) as slide:
        yield slide


def test_grid_counts_tissue_exactly(slide):
    # At one mask pixel a level-0 pixel the share of a tile is a plain mean.
    mask = Mask(np.random.default_rng(0).random((1000, 1000)) < 0.5, 0.5)
    grid = tile_grid(slide, mask, size_px=96, min_tissue=0.5)
    assert grid.size_level0 == 96
    shares = [[mask.array[y : y + 96, x : x + 96].mean() for x in range(0, 905, 96)] for y in range(0, 905, 96)]
    expected = [(x * 96, y * 96, s) for y, row in enumerate(shares) for x, s in enumerate(row) if s >= 0.5]
    assert 20 < len(expected) < 80
    assert grid.coords.tolist() == [[x, y] for x, y, _ in expected]
    assert grid.coords.dtype == np.int64
    np.testing.assert_allclose(grid.tissue, [share for *_, share in expected], atol=1e-6)


def test_grid_is_exact_between_mask_pixels(slide):
    small = np.random.default_rng(1).random((25, 40)) < 0.5
    fine = small.repeat(40, axis=0).repeat(25, axis=1)
    grid = tile_grid(slide, Mask(small, 12.5), size_px=96, min_tissue=0.0)
    assert len(grid.coords) == 100
    shares = [fine[y : y + 96, x : x + 96].mean() for x, y in grid.coords]
    np.testing.assert_allclose(grid.tissue, shares, atol=1e-6)


def test_tiles_lie_inside_the_slide_at_any_mpp(slide):
    everywhere = Mask(np.ones((62, 62), bool), 8.0)
    for mpp, count in ((0.5, 9), (1.0, 1), (0.45, 16)):
        grid = tile_grid(slide, everywhere, 256, mpp)
        assert len(grid.coords) == count
        assert grid.coords.max() + grid.size_level0 <= 1000


def test_a_slide_may_be_wide(make_slide):
    with Slide.open(make_slide(picture=tissue_picture(1000, 2.0, 0)[:600], levels=1)) as slide:
        grid = tile_grid(slide, Mask(np.ones((6, 10), bool), 50.0))
    assert grid.coords.tolist() == [[x, y] for y in (0, 256) for x in (0, 256, 512)]


def test_half_tissue_is_enough_for_half(slide):
    half = np.zeros((1000, 1000), bool)
    half[:, ::2] = True
    assert len(tile_grid(slide, Mask(half, 0.5), 100, 0.5, min_tissue=0.5).coords) == 100


def test_max_tiles_keeps_the_fullest_in_reading_order(slide):
    array = np.zeros((1000, 1000), bool)
    array[:300, :500] = np.indices((300, 500)).sum(0) % 3 > 0
    array[300:900] = True
    grid = tile_grid(slide, Mask(array, 0.5), 100, 0.5, min_tissue=0.1, max_tiles=62)
    # The 60 full tiles, and the two first of those that are two thirds tissue.
    full = [[x, y] for y in range(300, 900, 100) for x in range(0, 1000, 100)]
    assert grid.coords[2:].tolist() == full
    assert grid.tissue[:2].tolist() == pytest.approx([2 / 3, 2 / 3], abs=0.01)
    assert len(grid.coords) == 62
    everywhere = tile_grid(slide, Mask(np.ones((10, 10), bool), 50.0), 100, 0.5, max_tiles=3)
    assert everywhere.coords.tolist() == [[0, 0], [100, 0], [200, 0]]


def test_too_little_tissue_for_a_tile_is_refused(slide):
    corner = np.zeros((50, 50), bool)
    corner[:5, :5] = True
    with pytest.raises(InputError, match="no tile of 256 level-0 px with 50% tissue"):
        tile_grid(slide, Mask(corner, 10.0))
    with pytest.raises(InputError, match="no tile of 2048"):
        tile_grid(slide, Mask(~corner, 10.0), 1024, 1.0)
