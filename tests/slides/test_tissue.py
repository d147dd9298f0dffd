"""Tissue and glass of pictures: stains, lights, ink, edges, fields without margin; and pictures too large to hold."""

import tracemalloc

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hsa.slides import canvas, glass, tissue
from hsa.slides.canvas import Canvas, picture_canvas
from hsa.slides.tissue import canvas_tissue, optical_density_tissue
from slide_files import GLASS, STAINS

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


@pytest.mark.parametrize("ink", [(200, 30, 40), (240, 130, 30), (240, 220, 40), (110, 40, 140), (40, 60, 160)])
@pytest.mark.parametrize(("haematoxylin", "dab"), [(0.5, 0.0), (0.2, 1.0)])
def test_ink_of_any_colour_is_not_tissue(haematoxylin, dab, ink):
    picture, disc = stained(haematoxylin, dab)
    y, x = np.ogrid[:200, :200]
    smooth = 0.85 * gaussian_filter((np.abs(y - 14 - 0.02 * x) < 11).astype(float), 0.8)[..., None]
    noise = np.random.default_rng(1).normal(0, 1, picture.shape)
    picture = ((1 - smooth) * picture + smooth * np.array(ink) + noise).clip(0, 255).astype(np.uint8)
    assert overlap(optical_density_tissue(picture, 8.0), disc) > 0.95


def test_a_brown_edge_that_fades_is_not_tissue():
    picture, disc = stained(0.4, 0.2)
    share = np.where(np.arange(200) < 25, 0.8 - 0.015 * np.arange(200), 0)
    share = gaussian_filter(share, 0.8)[:, None]
    picture = ((1 - share) * picture + share * np.array([150, 105, 65])).astype(np.uint8)
    disc = disc & (np.arange(200) >= 25)
    assert overlap(optical_density_tissue(picture, 8.0), disc) > 0.95


def test_smooth_tissue_inside_of_tissue_stays():
    # Colloid and clots are as smooth as ink.
    picture, _ = stained(0.5, 0.0)
    picture[90:110, 85:115] = GLASS * 10 ** -(0.4 * np.array([0.06, 0.40, 0.16]) / 0.4)
    assert optical_density_tissue(picture, 8.0)[90:110, 85:115].all()


def test_what_is_smooth_everywhere_is_the_stain_and_told():
    _, disc = stained(0.5, 0.0)
    picture = (GLASS * 10 ** -(disc[..., None] * 0.4 * HAEMATOXYLIN)).astype(np.uint8)
    mask, doubts = canvas_tissue(picture_canvas(picture, 8.0))
    assert overlap(mask, disc) > 0.95
    assert doubts == [tissue.SMOOTH_STAIN]


@pytest.mark.parametrize(("side", "told"), [(20, False), (60, True)])
def test_much_that_is_left_out_as_ink_is_told(side, told):
    picture, disc = stained(0.5, 0.0)
    place = slice(0, side), slice(0, side)
    picture[place] = GLASS * 10 ** -(0.6 * HAEMATOXYLIN / HAEMATOXYLIN.max())
    mask, doubts = canvas_tissue(picture_canvas(picture, 8.0))
    assert not mask[place][~disc[place]].any()
    assert [doubt.split(" ", 1)[1] for doubt in doubts] == [tissue.LEFT_OUT.split(" ", 1)[1]] * told


def test_light_that_falls_off_by_a_quarter_is_followed():
    picture, disc = stained(0.06, 0.0)
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    picture = (picture * (1 - 0.25 * (x**2 + y**2) / 2)[..., None]).round().astype(np.uint8)
    assert overlap(optical_density_tissue(picture, 8.0), disc) > 0.95
    whole = slice(0, 200), slice(0, 200)
    found = glass.find_glass([glass.sampled(picture, whole, 0, 0, 1)], (200, 200), 8.0)
    shade = found.shade_at(*whole, (200, 200))
    assert shade[[0, 0, -1, -1], [0, -1, 0, -1]].min() - shade[100, 100] > 0.07  # of 0.125, for its extremes are cut


def field(pale, stain, gaps, size=160):
    """A field without margin: nuclei in pale stroma of this density, and gaps; returns it and where the gaps are."""
    rng = np.random.default_rng(4)
    ground = gaussian_filter(rng.standard_normal((size, size)), 8)
    gap = ground > np.quantile(ground, 1 - gaps)
    nuclei = gaussian_filter(rng.standard_normal((size, size)), 0.5) > 0.6
    nuclei &= gaussian_filter(rng.standard_normal((size, size)), 4) > 0
    density = (pale * stain / stain.max() + 0.3 * nuclei[..., None] * HAEMATOXYLIN) * ~gap[..., None]
    picture = GLASS * 10**-density + rng.normal(0, 0.5, density.shape)
    return picture.round().clip(0, 255).astype(np.uint8), gap


@pytest.mark.parametrize("pale", [0.02, 0.03])
@pytest.mark.parametrize("stain", [HAEMATOXYLIN, STAINS[1], 0.6 * HAEMATOXYLIN + 0.4 * DAB])
@pytest.mark.parametrize("gaps", [0.05, 0.2])
def test_pale_stroma_of_a_field_without_margin_is_tissue_and_told(pale, stain, gaps):
    picture, gap = field(pale, stain, gaps)
    mask, doubts = canvas_tissue(picture_canvas(picture, 8.0))
    assert (mask & ~gap).sum() > 0.95 * (~gap).sum()
    assert (mask & gap).sum() < 0.4 * gap.sum()
    assert doubts == [glass.PALE]


def test_pale_stroma_without_gaps_cannot_be_told_and_is_told():
    picture, _ = field(0.03, HAEMATOXYLIN, 0.002)
    assert canvas_tissue(picture_canvas(picture, 8.0))[1]


def test_glass_with_a_margin_is_not_taken_for_pale_stroma():
    # Two lights on one slide: as beside the edge of a cover glass.
    picture, disc = stained(0.3, 0.0)
    picture[:, :50] = (picture[:, :50] * np.array([0.985, 0.95, 0.97])).astype(np.uint8)
    mask, doubts = canvas_tissue(picture_canvas(picture, 8.0))
    assert not doubts
    assert overlap(mask, disc) > 0.95


def test_a_large_picture_is_read_in_parts_with_nearly_the_same_mask(monkeypatch):
    picture = np.tile(stained(0.1, 0.5)[0], (7, 5, 1))
    picture = (picture * np.linspace(1, 0.94, len(picture))[:, None, None]).round().astype(np.uint8)
    whole = optical_density_tissue(picture, 8.0)
    monkeypatch.setattr(tissue, "LARGE", 100_000)
    monkeypatch.setattr(glass, "SAMPLE", 30_000)
    read = []

    def part(block):
        read.append(block)
        return picture[block]

    overview = picture.reshape(350, 4, 250, 4, 3).mean(axis=(1, 3)).astype(np.uint8)
    made = canvas_tissue(Canvas(whole.shape, 8.0, part, overview))[0]
    assert overlap(made, whole) > 0.99
    area = max((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in read)
    assert area <= 264**2
    tracemalloc.start()
    canvas_tissue(Canvas(whole.shape, 8.0, part, overview))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One byte a pixel, and what a block and a sample take.
    assert peak < whole.size + 12e6


def test_bare_glass_is_not_read_where_an_overview_shows_it(monkeypatch):
    picture = np.broadcast_to(GLASS.astype(np.uint8), (1024, 1024, 3)).copy()
    picture[100:180, 100:180] = stained(0.5, 0.0)[0][60:140, 60:140]
    monkeypatch.setattr(tissue, "LARGE", 10_000)  # the sample of glass comes from few squares
    read = []

    def part(block):
        read.append(block)
        return picture[block]

    overview = picture.reshape(256, 4, 256, 4, 3).mean(axis=(1, 3)).astype(np.uint8)
    made = canvas_tissue(Canvas((1024, 1024), 8.0, part, overview))[0]
    assert made[100:180, 100:180].all()
    assert len([rows for rows, _ in read if rows.stop - rows.start > 200]) == 1


def test_a_slide_gives_its_canvas_whole_if_small_and_in_parts_if_large(make_slide, monkeypatch):
    from hsa.slides.slide import Slide

    with Slide.open(make_slide(covered=0.4)) as slide:
        small = canvas.slide_canvas(slide, 4.0)
        assert small.overview is None
        monkeypatch.setattr(canvas, "LARGE", 1000)
        large = canvas.slide_canvas(slide, 1.0)
        assert large.shape == (512, 512)
        assert large.overview is not None and large.overview.shape == (256, 256, 3)
        block = slice(100, 140), slice(60, 110)
        assert np.abs(large.read(block).astype(int) - slide.thumbnail(1.0)[block]).mean() < 2
