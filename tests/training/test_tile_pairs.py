import numpy as np
import pytest
import torch

from hsa.errors import InputError
from hsa.evaluation.partners import chance, partners
from hsa.training.tile_pairs import Settings, StainMaps, fit, offsets, shuffled

DIM, COMMON = 128, 12


@pytest.fixture(scope="module")
def images():
    """Ten images of made-up features: both stains mix what a place holds, each in its own way, with noise."""
    rng = np.random.default_rng(0)
    mixes = rng.standard_normal((2, COMMON, DIM)) / np.sqrt(COMMON)
    mixes[1] += 0.5 * mixes[0]

    def grid(places):
        holds = rng.standard_normal((places, COMMON))
        return tuple(holds @ mix + 1.5 * rng.standard_normal((places, DIM)) for mix in mixes)

    return [[grid(places) for places in (16, 12, 12, 9)] for _ in range(10)]


def top1(maps, images):
    found = [partners(*maps.mapped(*grids[0])) for grids in images]
    return np.mean([way["top1"] for one in found for way in one.values()])


def last(pairs, settings, seed=0):
    return list(fit(pairs, settings, seed))[-1][1]


def test_own_pairs_raise_retrieval_on_other_images_and_dealt_pairs_do_not(images):
    settings = Settings(lr=1e-3, epochs=30)
    training, other = images[:6], images[6:]
    frozen = top1(StainMaps(DIM), other)
    own = top1(last(training, settings), other)
    dealt = np.mean([top1(last(shuffled(training, seed), settings, seed), other) for seed in range(3)])
    assert frozen > 1.5 * chance(16)["top1"]
    assert own > frozen + 0.2
    assert 0.02 < dealt < frozen + 0.1


def test_training_begins_as_the_frozen_encoder(images):
    he, ihc = images[0][0]
    for got, given in zip(StainMaps(DIM).mapped(he, ihc), (he, ihc), strict=True):
        np.testing.assert_array_equal(got, given.astype(np.float32))
    barely = last(images[:3], Settings(lr=1e-9, epochs=1))
    assert top1(barely, images) == top1(StainMaps(DIM), images)


def test_a_seed_gives_the_same_maps_and_leaves_torch_as_it_was(images):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    short = Settings(epochs=2)
    first, again, other = (last(images[:3], short, seed).he for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_longer_run_passes_through_the_shorter_one(images):
    short = last(images[:2], Settings(epochs=2)).he
    passed = {epoch: maps.he.clone() for epoch, maps in fit(images[:2], Settings(epochs=4), 0, (2, 4))}
    assert torch.equal(passed[2], short) and not torch.equal(passed[4], short)


def test_an_epoch_that_is_not_trained_is_refused(images):
    with pytest.raises(InputError, match=r"epochs \[9\] of 4"):
        next(fit(images, Settings(epochs=4), 0, (9,)))


def test_dealt_tiles_stay_in_their_grid_and_keep_their_own_as_chance_has_it(images):
    kept = []
    for seed in range(200):
        for grids, dealt in zip(images[:2], shuffled(images[:2], seed), strict=True):
            for (he, ihc), (same, moved) in zip(grids, dealt, strict=True):
                assert same is he
                assert sorted(map(tuple, moved)) == sorted(map(tuple, ihc)) if seed == 0 else True
                kept.append((moved == ihc).all(axis=1).sum())
    assert np.mean(kept) == pytest.approx(1, abs=0.1)


def test_grids_hold_no_tiles_that_overlap():
    found = offsets(1024, 256)
    assert [len(grid) for grid in found] == [16, 12, 12, 9]
    assert found[0][:5] == [(0, 0), (256, 0), (512, 0), (768, 0), (0, 256)]
    assert [grid[0] for grid in found] == [(0, 0), (128, 0), (0, 128), (128, 128)]
    for grid in found:
        assert all(
            abs(ax - bx) >= 256 or abs(ay - by) >= 256 for ax, ay in grid for bx, by in grid if (ax, ay) != (bx, by)
        )
        assert all(0 <= x <= 768 and 0 <= y <= 768 for x, y in grid)
    assert [len(grid) for grid in offsets(512, 256)] == [4, 2, 2]
    with pytest.raises(InputError, match="holds 1 tiles of 256 px: give one of 512 px"):
        offsets(511, 256)
