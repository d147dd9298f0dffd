import threading
from functools import partial

import numpy as np
import pytest
import torch

from hsa.bags.bag import Bag, write_bag
from hsa.bags.batches import Bags, ahead, collate, deal, draw_masked, sample
from hsa.errors import InputError

RNG = np.random.default_rng(0)


def put(folder, name, coords, features=None, **attrs):
    coords = np.asarray(coords)
    features = RNG.standard_normal((len(coords), 3)) if features is None else features
    attrs = {"tile_px": 256, "tile_px_level0": 512} | attrs
    write_bag(folder / f"{name}.h5", Bag(features.astype(np.float16), coords, attrs))


def test_tiles_come_in_raster_order_and_in_their_own_pixels(tmp_path):
    coords = np.array([[1536, 512], [0, 512], [512, 0]])
    features = np.array([[3.0, 0, 0], [2, 0, 0], [1, 0, 0]])
    put(tmp_path, "a", coords, features)
    got, xy = Bags(tmp_path)["a"]
    np.testing.assert_array_equal(got[:, 0], [1, 2, 3])
    np.testing.assert_array_equal(xy, [[256, 0], [0, 256], [768, 256]])


def test_scaling_never_moves_a_tile_to_the_cell_before(tmp_path):
    coords = np.stack([np.arange(300) * 507, np.zeros(300, int)], 1)
    put(tmp_path, "a", coords, tile_px_level0=507)
    np.testing.assert_array_equal(Bags(tmp_path)["a"][1][:, 0] // 256, np.arange(300))


def test_several_slides_lie_side_by_side_in_one_bag(tmp_path):
    put(tmp_path, "a", [[5120, 512], [5632, 512], [5120, 1024]])
    put(tmp_path, "b", [[512, 0], [512, 512]])
    bags = Bags(tmp_path)
    features, xy = bags["a+b"]
    np.testing.assert_array_equal(features, np.concatenate([bags["a"][0], bags["b"][0]]))
    np.testing.assert_array_equal(xy // 256, [[0, 0], [1, 0], [0, 1], [3, 0], [3, 1]])
    assert len(bags.origin(["a+b", "", "a"])) == 3
    both, one = bags.mean_and_deviation(["a+b", ""]), bags.mean_and_deviation(["a", "b"])
    assert all(torch.equal(x, y) for x, y in zip(both, one, strict=True))


def test_what_a_damaged_bag_was_made_from_is_asked_for_in_vain(tmp_path):
    put(tmp_path, "a", [[0, 0]])
    (tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"a\.h5 is damaged: delete it and run `hsa features` again"):
        Bags(tmp_path).origin(["a"])


def test_bags_of_two_encoders_are_not_mixed(tmp_path):
    put(tmp_path, "a", [[0, 0]], encoder="uni", encoder_weights="sha256:1")
    put(tmp_path, "b", [[0, 0]], encoder="uni", encoder_weights="sha256:2")
    with pytest.raises(InputError, match=r"b\.h5 is of encoder uni sha256:2, others of uni sha256:1"):
        Bags(tmp_path)["a+b"]


def test_a_missing_slide_is_one_tile_of_zeros(tmp_path):
    put(tmp_path, "a", [[0, 0], [512, 0]])
    bags = Bags(tmp_path)
    batch = collate([bags["a"], bags[""]])
    assert batch.mask.tolist() == [[True, True], [True, False]]
    assert (batch.features[1] == 0).all()


def test_bags_that_cannot_be_used_are_told(tmp_path):
    put(tmp_path, "microns", np.stack([np.arange(64) % 8, np.arange(64) // 8], 1) * 128)
    with pytest.raises(InputError, match=r"microns\.h5: 64 tiles fall into 4 grid cells"):
        Bags(tmp_path)["microns"]
    write_bag(tmp_path / "bare.h5", Bag(np.zeros((1, 3), np.float16), np.zeros((1, 2), int)))
    with pytest.raises(InputError, match=r"bare\.h5 has no attribute 'tile_px'"):
        Bags(tmp_path)["bare"]
    put(tmp_path, "empty", np.zeros((0, 2), int))
    with pytest.raises(InputError, match=r"empty\.h5 has no tile"):
        Bags(tmp_path)["empty"]


def test_memory_is_bounded_and_the_result_does_not_depend_on_it(tmp_path, monkeypatch):
    for name in "abc":
        put(tmp_path, name, np.arange(20).reshape(10, 2) * 512)
    small, large = Bags(tmp_path, limit=130), Bags(tmp_path)
    for bags in (small, large):
        for name in "abcabc":
            np.testing.assert_array_equal(bags[name][0], Bags(tmp_path)[name][0])
    assert sorted(small._kept) == ["a", "b"] and sorted(large._kept) == ["a", "b", "c"]


def test_mean_and_deviation_over_all_tiles(tmp_path):
    parts = [RNG.standard_normal((n, 3)).astype(np.float16) * np.float16([1, 5, 0]) + 2 for n in (4, 9)]
    for name, part in zip("ab", parts, strict=True):
        put(tmp_path, name, np.arange(2 * len(part)).reshape(-1, 2) * 512, part)
    mean, deviation = Bags(tmp_path).mean_and_deviation(["a", "b"])
    both = np.concatenate(parts).astype(float)
    np.testing.assert_allclose(mean, both.mean(0), rtol=1e-6)
    np.testing.assert_allclose(deviation[:2], both.std(0)[:2], rtol=1e-6)
    assert deviation[2] == 1  # constant: left as it is


def test_sample_has_no_tile_twice_and_keeps_the_order():
    tiles = np.arange(30)[:, None], np.stack([np.arange(30)] * 2, 1)
    features, coords = sample(tiles, 10, np.random.default_rng(0))
    assert len(features) == 10 and (np.diff(features[:, 0]) > 0).all()
    np.testing.assert_array_equal(features[:, 0], coords[:, 0])
    assert sample(tiles, 30, np.random.default_rng(0)) is tiles
    other, _ = sample(tiles, 10, np.random.default_rng(1))
    assert not np.array_equal(other, features)


def test_exactly_the_floor_of_half_the_tiles_is_masked():
    batch = collate([(np.ones((n, 2)), np.zeros((n, 2), int)) for n in (7, 1, 4, 10)])
    chosen = draw_masked(batch.mask, 0.5, [np.random.default_rng(i) for i in range(4)])
    assert chosen.sum(1).tolist() == [3, 0, 2, 5]
    assert not (chosen & ~batch.mask).any()
    assert draw_masked(batch.mask, 0.5, [np.random.default_rng(i) for i in range(4)]).equal(chosen)
    assert batch.features.sum((1, 2)).tolist() == [14, 2, 8, 20]


@pytest.mark.parametrize(
    ("cases", "size", "world", "sizes"),
    [
        (24, 12, 1, [12, 12]),
        (29, 12, 1, [12, 12, 5]),
        (25, 12, 1, [12, 13]),
        (1, 12, 1, [1]),
        (14, 12, 2, [12, 2]),
        (15, 12, 2, [12, 2]),
        (13, 12, 2, [12]),
        (15, 12, 4, [12]),
    ],
)
def test_batches_are_dealt_without_loss_of_the_last(cases, size, world, sizes):
    order = RNG.permutation(cases)
    batches = deal(order, size, world)
    assert [len(b) for b in batches] == sizes
    if world == 1:
        np.testing.assert_array_equal(np.concatenate(batches), order)
    assert len(set(np.concatenate(batches))) == sum(sizes)


def test_packed_keeps_order_and_bounds(tmp_path):
    lengths = {"a": 3, "b": 9, "c": 2, "d": 2, "e": 2, "f": 40}
    for name, n in lengths.items():
        put(tmp_path, name, np.arange(2 * n).reshape(n, 2) * 512)
    runs = list(Bags(tmp_path).packed("abcdef", 18))
    assert [[len(features) for features, _ in run] for run in runs] == [[3, 9], [2, 2, 2], [40]]
    assert torch.equal(collate(runs[0]).mask.sum(1), torch.tensor([3, 9]))


def test_what_is_used_next_is_made_meanwhile_and_in_order():
    made, seen, begun = [], [], [threading.Event() for _ in range(5)]

    def make(n):
        begun[n].set()
        made.append(n)
        return n

    begun[4].set()  # after the last
    for n in ahead(partial(make, n) for n in range(4)):
        assert begun[n + 1].wait(10)
        seen.append(n)
        assert set(made) <= set(range(n + 2))  # one ahead, no more
    assert seen == made == [0, 1, 2, 3]
    assert list(ahead([])) == []


def test_an_error_ahead_is_raised_where_its_batch_would_come():
    batches = ahead([lambda: 1, lambda: Bags("nowhere")["a"], lambda: 3])
    assert next(batches) == 1
    with pytest.raises(InputError, match="does not exist"):
        next(batches)
