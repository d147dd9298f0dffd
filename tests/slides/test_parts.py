"""Parts of a mask by blocks against SciPy on the whole, and small filters against SciPy's."""

import numpy as np
import pytest
from scipy import ndimage

from hsa.slides import parts
from hsa.slides.filters import blurred, closed, dilated, over_square, unevenness
from hsa.slides.parts import Parts, blocks


@pytest.fixture(params=[0.2, 0.45, 0.6, 0.9])
def mask(request):
    rng = np.random.default_rng(0)
    made = ndimage.gaussian_filter(rng.standard_normal((101, 150)), 0.7)
    return made < np.quantile(made, request.param)


def test_blocks_cover_a_shape_once():
    count = np.zeros((101, 150), int)
    for block in blocks(count.shape, 32):
        count[block] += 1
    assert (count == 1).all()


def test_parts_are_those_of_the_whole(mask, monkeypatch):
    monkeypatch.setattr(parts, "BLOCK", 16)
    monkeypatch.setattr(parts.blocks, "__defaults__", (16,))
    other = np.random.default_rng(1).random(mask.shape) < 0.3
    found = Parts(mask.shape, lambda block: (mask[block], other[block]))
    labels, count = ndimage.label(mask)
    expected = np.stack([np.bincount(labels[chosen], minlength=count + 1)[1:] for chosen in (mask, mask & other)])
    assert sorted(map(tuple, found.sums.T)) == sorted(map(tuple, expected.T))
    small = mask.copy()
    for block, pixels in found.change(found.sums[0] < 9):
        small[block] &= ~pixels
    assert (small == np.r_[False, expected[0] >= 9][labels]).all()


@pytest.mark.parametrize("value", [False, True])
def test_an_empty_and_a_full_mask_have_no_part_and_one(value):
    found = Parts((600, 300), lambda block: (np.full((600, 300), value)[block],))
    assert found.sums.tolist() == ([[180_000]] if value else [[]])


@pytest.mark.parametrize("radius", [1, 1.5, 2, 3.7, 8])
def test_dilation_and_closing_are_scipys(mask, radius):
    reach = int(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disc = x**2 + y**2 <= radius**2
    assert (dilated(mask, radius) == ndimage.binary_dilation(mask, disc)).all()
    padded = np.pad(mask, reach + 1, mode="edge")
    inside = slice(reach + 1, -reach - 1)
    assert (closed(mask, radius) == ndimage.binary_closing(padded, disc)[inside, inside]).all()


def test_filters_are_scipys_inside():
    values = np.random.default_rng(2).random((40, 50)).astype(np.float32)
    np.testing.assert_array_equal(over_square(values, 2, np.maximum), ndimage.maximum_filter(values, 5)[2:-2, 2:-2])
    np.testing.assert_allclose(blurred(values), ndimage.gaussian_filter(values, 0.5)[2:-2, 2:-2], atol=1e-6)


def test_unevenness_is_the_deviation_from_a_plane():
    y, x = np.mgrid[:9, :12].astype(np.float32)
    mean, uneven = unevenness(1 + 0.1 * y - 0.2 * x)
    np.testing.assert_allclose(mean, (1 + 0.1 * y - 0.2 * x)[2:-2, 2:-2], atol=1e-5)
    assert uneven.max() < 2e-3
    square = np.random.default_rng(3).random((5, 5)).astype(np.float32)
    plane = np.stack([np.ones(25), *np.mgrid[:5, :5].reshape(2, 25)], axis=1)
    left = square.ravel() - plane @ np.linalg.lstsq(plane, square.ravel(), rcond=None)[0]
    np.testing.assert_allclose(unevenness(square)[1], [[np.sqrt((left**2).mean())]], rtol=1e-4)
