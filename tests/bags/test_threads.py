"""Slides to bags by several threads and processes."""

import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hsa.bags import encoding
from hsa.bags.bag import Bag
from hsa.bags.features import Order, encode_slide, encode_slides
from hsa.bags.opened import colours
from hsa.encoders.encoder import TileEncoder
from hsa.errors import InputError
from hsa.slides.slide import Slide
from hsa.study.settings import Encoder, Tiles

TILES = Tiles()


@pytest.fixture
def stand_in():
    """In place of a network: mean and deviation of each channel."""
    return TileEncoder("lite0-mid", dim=6, size_px=256, mpp=0.5, run=colours, weights="sha256:1")


@pytest.fixture
def handles(monkeypatch):
    """How often slides are opened and closed, by name of the file."""
    seen = SimpleNamespace(opened=Counter(), closed=Counter())
    make, close = Slide.__init__, Slide.close

    def opened(self, reader, path, *more):
        seen.opened[path.name, id(self)] += 1
        make(self, reader, path, *more)

    def closed(self):
        seen.closed[self.path.name, id(self)] += 1
        close(self)

    monkeypatch.setattr(Slide, "__init__", opened)
    monkeypatch.setattr(Slide, "close", closed)
    return seen


@pytest.mark.parametrize(
    ("workers", "slides", "name", "runtime", "shares"),
    [
        (1, 9, "lite0-mid", "auto", (1, 1)),
        (2, 1, "lite0-mid", "auto", (1, 2)),
        (8, 99, "lite0-mid", "onnx", (4, 2)),
        (5, 99, "lite0-mid", "auto", (3, 2)),
        (20, 2, "lite0-mid", "auto", (2, 10)),
        (4, 99, "lite0-mid", "openvino-int8", (4, 2)),
        (4, 3, "uni", "auto", (3, 2)),
    ],
)
def test_how_workers_are_shared_out(workers, slides, name, runtime, shares):
    options = encoding.encoder_options(
        Encoder(name=name, runtime=runtime, device="auto" if name != "uni" else "cpu"), TILES
    )
    assert encoding._shares(workers, slides, name, options) == shares


def test_where_processes_share_a_cohort_the_largest_slides_go_first(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(encoding, "run", lambda jobs, processes: asked.append((jobs, processes)) or [])
    pending = [(size, Order(str(size), tmp_path)) for size in (3, 99, 40, 7, *range(100, 140))]
    options = encoding.encoder_options(Encoder(runtime="openvino-int8"), TILES)
    list(encoding._encode_all(pending, 2, tmp_path, "lite0-mid", options, TILES, {}))
    [(jobs, processes)] = asked
    shares = [[int(order.slide_id) for order in job.args[0]] for job in jobs]
    assert processes == 2 and len(shares[0]) == 5
    assert [size for share in shares for size in share] == sorted((size for size, _ in pending), reverse=True)


@pytest.mark.parametrize("concurrent", [True, False])
def test_threads_change_no_bag_and_leave_no_slide_open(make_slide, stand_in, handles, concurrent):
    path, encoder = make_slide("a.tif", covered=0.6, mpp=None), replace(stand_in, concurrent=concurrent)
    one = encode_slide(path, encoder, TILES, mpp=0.5, batch=2)
    assert len(handles.opened) == 1
    many = encode_slide(path, encoder, TILES, mpp=0.5, batch=2, threads=3)
    assert len(one.coords) > 8
    assert np.array_equal(one.features, many.features) and np.array_equal(one.coords, many.coords)
    assert np.array_equal(one.colours, many.colours)
    assert one.attrs == many.attrs
    assert 1 < len(handles.opened) <= 4 and handles.opened == handles.closed


def test_slides_come_in_order_and_none_is_left_open_whatever_happens(make_slide, stand_in, handles, tmp_path):
    (tmp_path / "no.tif").write_bytes(b"no slide")
    orders = [Order(f"s{k}", make_slide(f"{k}.tif", size=512, covered=0.9, seed=k)) for k in range(4)]
    orders.insert(2, Order("no", tmp_path / "no.tif"))
    made = list(encode_slides(orders, stand_in, TILES, threads=2, batch=1))
    assert [order.slide_id for order, _ in made] == ["s0", "s1", "no", "s2", "s3"]
    assert [bag.attrs["slide_id"] for _, bag in made if isinstance(bag, Bag)] == ["s0", "s1", "s2", "s3"]
    assert isinstance(made[2][1], InputError)
    assert len(handles.opened) >= 4 and handles.opened == handles.closed

    handles.opened.clear(), handles.closed.clear()
    bags = encode_slides(orders, stand_in, TILES, threads=2, batch=1)
    next(bags)
    bags.close()  # whoever asked has had enough
    assert handles.opened and handles.opened == handles.closed

    handles.opened.clear(), handles.closed.clear()
    broken = replace(stand_in, run=lambda tiles: 1 / 0)
    made = [one for _, one in encode_slides(orders, broken, TILES, threads=2)]
    assert [type(one.__cause__) for one in made if "ZeroDivisionError" in str(one)] == [ZeroDivisionError] * 4
    assert all(isinstance(one, InputError) for one in made)
    assert handles.opened and handles.opened == handles.closed


def test_the_next_slide_is_opened_while_one_is_encoded(make_slide, stand_in, handles):
    orders = [Order(name, make_slide(f"{name}.tif", size=512, covered=0.9, mpp=0.5)) for name in "abc"]
    seen = []
    slow = replace(stand_in, run=lambda tiles: seen.append(len(handles.opened)) or colours(tiles))
    for order, _ in encode_slides(orders, slow, TILES, threads=1):
        seen.append(order.slide_id)
    assert seen[0] == 2  # of two slides, when the first tiles of the first are encoded
    assert [one for one in seen if isinstance(one, str)] == ["a", "b", "c"]


def test_one_thread_at_a_time_calls_an_encoder_that_is_made_for_no_more(make_slide, stand_in):
    path, within, most = make_slide(covered=0.9), [], []

    def slow(tiles):
        within.append(1)
        most.append(len(within))
        time.sleep(0.02)
        within.pop()
        return colours(tiles)

    for concurrent in (False, True):
        most.clear()
        encode_slide(path, replace(stand_in, run=slow, concurrent=concurrent), TILES, batch=2, threads=3)
        assert (max(most) > 1) == concurrent


def test_a_feature_too_large_for_a_bag_names_the_encoder_and_stops_one_slide(make_slide, stand_in):
    large = replace(stand_in, run=lambda tiles: colours(tiles) * 1000)
    with pytest.raises(InputError, match=r"encoder lite0-mid .* gave a feature of .*, up to 65504"):
        encode_slide(make_slide(), large, TILES)


@pytest.mark.parametrize("shape", [(3, 256, 256, 3), (1, 40, 40, 3), (2, 300, 300, 3)])
@pytest.mark.parametrize("kind", ["noise", "white", "ramp"])
def test_colours_are_those_of_float64(shape, kind):
    rng = np.random.default_rng(0)
    pixels = {"noise": rng.integers(0, 256, shape), "white": np.full(shape, 255), "ramp": np.arange(np.prod(shape))}
    tiles = (pixels[kind] % 256).astype(np.uint8).reshape(shape)
    expected = np.concatenate([tiles.mean((1, 2)), tiles.std((1, 2))], axis=1).astype(np.float32)
    assert np.array_equal(colours(tiles), expected)
    assert np.array_equal(colours(np.ascontiguousarray(tiles[:, ::-1])), expected)
