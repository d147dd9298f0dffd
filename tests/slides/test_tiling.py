import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hsa.errors import InputError
from hsa.slides import canvas, glass, histolab_masks
from hsa.slides.histolab_masks import OpticalDensityMask
from hsa.slides.slide import Slide
from hsa.slides.tiling import Mask, tile_grid, tissue_mask
from hsa.slides.tissue import optical_density_tissue
from slide_files import GLASS, STAINS, tissue_picture

DAB = np.array([0.27, 0.57, 0.78])
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])


def stained(haematoxylin, dab, light=1.0, glass=GLASS, seed=0, size=200):
    """A 200 x 200 picture at 8 um/px: a disc of stained tissue on glass; returns it and the disc."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:size, :size]
    disc = np.hypot(y - size / 2, x - size / 2) < 0.35 * size
    texture = np.clip(1 + 0.35 * rng.standard_normal((size, size)), 0.2, None)
    positive = gaussian_filter(rng.standard_normal((size, size)), 4) > 0
    density = (haematoxylin * texture)[..., None] * HAEMATOXYLIN + (dab * positive * texture)[..., None] * DAB
    picture = light * glass * 10 ** -(density * disc[..., None])
    return np.clip(picture + rng.normal(0, 0.7, picture.shape), 0, 255).astype(np.uint8), disc


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("light", [1.0, 0.95, 0.8])
@pytest.mark.parametrize(("haematoxylin", "dab"), [(0.5, 0.0), (0.05, 0.0), (0.05, 1.5), (0.03, 0.3)])
def test_mask_finds_pale_and_strong_stain_in_any_light(haematoxylin, dab, light):
    picture, disc = stained(haematoxylin, dab, light)
    mask = optical_density_tissue(picture, 8.0)
    assert overlap(mask, disc) > 0.95


def test_mask_bears_uneven_light_and_unscanned_white():
    picture, disc = stained(0.04, 0.0)
    shade = np.linspace(1.0, 0.93, 200)[:, None, None]
    picture = (picture * shade).round().astype(np.uint8)
    picture[:, :60] = 255
    disc = disc.copy()
    disc[:, :60] = False
    assert overlap(optical_density_tissue(picture, 8.0), disc) > 0.99


@pytest.mark.parametrize(("paler", "variation"), [(0.0, 0.15), (0.4, 0.005)])
def test_tissue_without_glass_is_not_taken_for_glass(paler, variation):
    rng = np.random.default_rng(0)
    amounts = 0.6 - paler * np.linspace(0, 1, 60)[:, None] + variation * rng.standard_normal((60, 60, 2)).T
    picture = np.clip(GLASS * 10 ** -(amounts.T @ STAINS), 0, 255).astype(np.uint8)
    assert optical_density_tissue(picture, 8.0).mean() > 0.98


def test_bright_gaps_in_the_tissue_are_not_the_glass():
    # Sharpening scanners make gaps brighter than the glass, with a tint.
    picture, disc = stained(0.5, 0.0)
    rows, columns = np.nonzero(disc)
    few = np.random.default_rng(0).choice(len(rows), 400, replace=False)
    picture[rows[few], columns[few]] = (254, 243, 252)
    grain = np.random.default_rng(1).normal(0, 2.5, (40, 200, 3))  # here the glass is not flat
    picture[:40] = (picture[:40] + grain).clip(0, 255)
    assert overlap(optical_density_tissue(picture, 8.0), disc) > 0.95


def test_black_frame_dust_and_small_holes_are_as_if_they_were_not():
    picture, disc = stained(0.5, 0.0)
    picture[:20] = 30
    picture[190:193, 100:103] = (90, 40, 110)  # 24 um of stained dust
    picture[100:105, 100:105] = picture[22:27, 2:7]  # a hole of 40 um
    mask = optical_density_tissue(picture, 8.0)
    assert overlap(mask, disc) > 0.98  # no halo of the noise between tissue and glass
    assert mask[100:105, 100:105].all()
    assert not mask[:18].any()
    assert not mask[188:].any()


@pytest.mark.parametrize(("haematoxylin", "dab"), [(0.5, 0.0), (0.3, 1.0), (0.1, 0.2)])
@pytest.mark.parametrize("ink", [(40, 70, 160), (30, 120, 80)])
def test_pen_ink_and_bubble_rims_are_not_tissue(haematoxylin, dab, ink):
    picture, disc = stained(haematoxylin, dab)
    y, x = np.ogrid[:200, :200]
    stroke = (np.abs(y - 12 - 0.05 * x) < 4) & ~disc
    rim = np.abs(np.hypot(y - 178, x - 22) - 15) < 1.6
    for mark, share, colour in ((stroke, 0.85, ink), (rim, 0.6, (40, 40, 40))):
        smooth = share * gaussian_filter(mark.astype(float), 0.7)[..., None]
        picture = ((1 - smooth) * picture + smooth * np.array(colour)).astype(np.uint8)
    mask = optical_density_tissue(picture, 8.0)
    assert overlap(mask, disc) > 0.95
    assert not mask[:25, :60].any()
    assert not mask[165:, :35].any()


@pytest.mark.parametrize("colour", [(0.9, 0.5, 0.2), (0.5, 0.5, 0.5)])
def test_blue_or_grey_that_is_the_stain_itself_stays_tissue(colour):
    _, disc = stained(0.5, 0.0)
    grain = 0.4 + 0.1 * np.random.default_rng(0).random((200, 200, 1))
    for share in (200, 95):  # of the columns; the others are pink
        colours = np.where((np.arange(200) < share)[None, :, None], colour, (0.3, 0.6, 0.4))
        picture = (GLASS * 10 ** -(disc[..., None] * grain * colours)).astype(np.uint8)
        assert overlap(optical_density_tissue(picture, 8.0), disc) > 0.95


def test_very_pale_tissue_is_found_where_light_falls_off():
    picture, disc = stained(0.04, 0.0)
    y, x = np.mgrid[:200, :200] / 200
    picture = (picture * (1 - 0.12 * (0.9 * x + 0.1 * y))[..., None]).round().astype(np.uint8)
    mask = optical_density_tissue(picture, 8.0)
    assert overlap(mask, disc) > 0.95


def test_light_at_one_edge_says_little_of_the_light_elsewhere():
    rng, x = np.random.default_rng(0), np.arange(200)
    tissue = np.broadcast_to(x >= 40, (200, 200))
    amount = 0.15 * np.clip(1 + 0.35 * rng.standard_normal((200, 200)), 0.2, None) * tissue
    light = 1 - 0.05 * np.minimum(x / 40, 1) ** 2
    picture = light[:, None] * GLASS * 10 ** -(amount[..., None] * HAEMATOXYLIN)
    picture = (picture + rng.normal(0, 0.4, picture.shape)).round().astype(np.uint8)
    assert overlap(optical_density_tissue(picture, 8.0), tissue) > 0.95


def test_strips_change_nothing_and_bound_the_memory(monkeypatch):
    picture = np.tile(stained(0.1, 0.5)[0], (6, 5, 1))
    picture = (picture * np.linspace(1, 0.94, len(picture))[:, None, None]).round().astype(np.uint8)
    whole = optical_density_tissue(picture, 8.0)
    monkeypatch.setattr(tissue, "STRIP_ROWS", 37)
    assert (optical_density_tissue(picture, 8.0) == whole).all()
    monkeypatch.setattr(tissue, "GLASS_SAMPLE", 30_000)
    assert overlap(optical_density_tissue(picture, 8.0), whole) > 0.99
    tracemalloc.start()
    optical_density_tissue(picture, 8.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One float32 copy of the three channels would take 12 bytes a pixel, float copies all the way take 51.
    assert peak < 14 * whole.size


def test_tissue_mask_of_a_slide_covers_its_tissue(make_slide):
    with Slide.open(make_slide(covered=0.4)) as slide:
        mask = tissue_mask(slide)
    assert mask.array.shape == (64, 64)
    assert mask.fraction == pytest.approx(0.4, abs=0.06)
    assert mask.warning == ""


def test_a_slide_full_of_tissue_is_marked(make_slide):
    picture = tissue_picture(1024, 4.0, seed=1)
    with Slide.open(make_slide(picture=picture)) as slide:
        assert "of the slide is tissue" in tissue_mask(slide).warning


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
