"""Another slide in the place of one, and another bit in a bag: what is kept is held against its content."""

import os
import shutil
import time

import h5py
import numpy as np
import pandas as pd
import pytest

from hsa.bags import encoding
from hsa.bags.bag import Bag, read_bag, write_bag
from hsa.bags.content import content, is_intact
from hsa.bags.encoding import encode_cohort
from hsa.encoders.encoder import TileEncoder
from hsa.study.settings import Encoder, Tiles

NAMES = ("a", "b", "c")


def means(tiles):
    return np.concatenate([tiles.mean((1, 2)), tiles.std((1, 2))], axis=1).astype(np.float32)


@pytest.fixture
def read(monkeypatch):
    """Names of the slides whose checksum was asked for to compare it."""
    encoder = TileEncoder("lite0-mid", dim=6, size_px=256, mpp=0.5, run=means, weights="sha256:1")
    monkeypatch.setattr(encoding, "weights_of", lambda *_: "sha256:1")
    monkeypatch.setattr(encoding, "tile_encoder", lambda *_, **__: encoder)
    encoding._encoder.cache_clear()
    seen, digest = [], encoding.sha256
    monkeypatch.setattr(encoding, "sha256", lambda path: seen.append(path.stem) or digest(path))
    yield seen
    encoding._encoder.cache_clear()


@pytest.fixture
def slides(make_slide):
    """Three slides of one size in bytes, an hour old."""
    paths = [make_slide(f"slides/{name}.tif", size=512, covered=0.9, seed=k) for k, name in enumerate(NAMES)]
    most = max(path.stat().st_size for path in paths)
    for path in paths:
        path.write_bytes(path.read_bytes().ljust(most, b"\0"))
        age(path)
    return dict(zip(NAMES, paths, strict=True))


def age(path, seconds=3600):
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def run(slides, folder, **how):
    rows = [{"slide_id": name, "path": str(path), "mpp": np.nan} for name, path in slides.items()]
    made = encode_cohort(pd.DataFrame(rows), folder, Encoder(), Tiles(), stamp="1", progress=False, **how)
    return dict(zip(made.slide_id, made.status, strict=True))


def in_place(path, other):
    path.write_bytes(other.read_bytes())


def moved_over(path, other):
    """Another file of the same time: nothing but its inode tells."""
    moment = path.stat().st_mtime_ns
    shutil.copyfile(other, path.with_name("new"))
    os.utime(path.with_name("new"), ns=(moment, moment))
    os.replace(path.with_name("new"), path)


def folder_swapped(path, other):
    """The folder that holds the slides is another one now; each file is as it was."""
    moment, there = path.stat().st_mtime_ns, path.parent
    shutil.copytree(there, there.with_name("others"))
    shutil.copyfile(other, there.with_name("others") / path.name)
    os.utime(there.with_name("others") / path.name, ns=(moment, moment))
    os.rename(there, there.with_name("before"))
    os.rename(there.with_name("others"), there)


@pytest.mark.parametrize("how", [in_place, moved_over, folder_swapped])
@pytest.mark.parametrize("remembered", [True, False])
def test_another_slide_of_the_same_size_is_noticed(slides, read, tmp_path, how, remembered):
    bags = tmp_path / "bags"
    assert set(run(slides, bags).values()) == {"encoded"}
    first = read_bag(bags / "b.h5").features.copy()
    if not remembered:  # bags of an older version, or copied without it
        (bags / "known.json").unlink()
    how(slides["b"], slides["c"])
    assert run(slides, bags) == {"a": "kept", "b": "encoded", "c": "kept"}
    assert not np.array_equal(read_bag(bags / "b.h5").features, first)
    assert run(slides, bags) == dict.fromkeys(NAMES, "kept")


def test_a_slide_that_is_as_it_was_is_read_no_second_time(slides, read, tmp_path):
    run(slides, tmp_path / "bags")
    assert run(slides, tmp_path / "bags") == dict.fromkeys(NAMES, "kept") and read == []
    age(slides["b"], 1800)  # touched, or copied back from a backup
    assert run(slides, tmp_path / "bags") == dict.fromkeys(NAMES, "kept") and read == ["b"]
    assert run(slides, tmp_path / "bags") == dict.fromkeys(NAMES, "kept") and read == ["b"]
    slides["c"].unlink()
    assert run(slides, tmp_path / "bags") == dict.fromkeys(NAMES, "kept"), "a slide that is gone leaves its bag"


def test_verify_believes_neither_time_nor_bag(slides, read, tmp_path):
    bags = tmp_path / "bags"
    run(slides, bags)
    moment = slides["a"].stat().st_mtime_ns
    in_place(slides["a"], slides["c"])
    os.utime(slides["a"], ns=(moment, moment))
    with h5py.File(bags / "b.h5", "r+") as file:
        bits = file["features"][:].view(np.uint16)
        bits[0, 0] ^= 1
        file["features"][:] = bits.view(np.float16)
    assert run(slides, bags) == dict.fromkeys(NAMES, "kept")
    assert run(slides, bags, verify=True) == {"a": "encoded", "b": "encoded", "c": "kept"}
    assert is_intact(bags / "b.h5")
    assert run(slides, bags, verify=True) == dict.fromkeys(NAMES, "kept")


@pytest.mark.parametrize("shape", [(1, 1), (3, 6), (700, 16), (5000, 8)])
def test_a_flipped_bit_anywhere_is_told(tmp_path, shape):
    rng = np.random.default_rng(0)
    coords, painted = rng.integers(0, 9999, (shape[0], 2)), rng.random((shape[0], 6)).astype(np.float32)
    bag = Bag(rng.random(shape).astype(np.float16), coords, {}, painted)
    bag = Bag(bag.features, coords, {"content": content(bag)}, painted)
    write_bag(tmp_path / "a.h5", bag)
    assert is_intact(tmp_path / "a.h5")
    for name in ("features", "coords", "colours"):
        for _ in range(20):
            changed = {key: getattr(bag, key).copy() for key in ("features", "coords", "colours")}
            data = changed[name].reshape(-1).view(np.uint8)
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            assert content(Bag(changed["features"], changed["coords"], {}, changed["colours"])) != bag.attrs["content"]


def test_parts_that_changed_places_are_told_and_a_bag_of_before_is_not_refused(tmp_path):
    rng = np.random.default_rng(1)
    features, coords = rng.random((4096, 16)).astype(np.float16), rng.integers(0, 9999, (4096, 2))
    bag = Bag(features, coords)
    other = Bag(np.roll(features, 512, axis=0), coords)  # 512 rows are two blocks
    assert content(bag) != content(other) != content(Bag(features[:-1], coords[:-1]))
    write_bag(tmp_path / "a.h5", bag)
    assert is_intact(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:-9])
    assert not is_intact(tmp_path / "a.h5")
