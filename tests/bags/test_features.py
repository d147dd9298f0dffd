import json
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import typer

from hsa.bags import encoding
from hsa.bags.bag import Bag, read_bag, write_bag
from hsa.bags.encoding import encode_cohort
from hsa.bags.features import encode_slide, encode_slides, sample_tiles
from hsa.cli.common import told
from hsa.encoders.encoder import TileEncoder
from hsa.errors import InputError
from hsa.files import read_json
from hsa.slides import histolab_masks
from hsa.slides.slide import Slide
from hsa.study.settings import Encoder, Tiles

TILES = Tiles()


def colours(tiles):
    """Stand-in for a network: mean and deviation of each channel."""
    return np.concatenate([tiles.mean((1, 2)), tiles.std((1, 2))], axis=1).astype(np.float32)


@pytest.fixture
def stand_in(monkeypatch):
    encoder = TileEncoder("lite0-mid", dim=6, size_px=256, mpp=0.5, run=colours, weights="sha256:1")
    monkeypatch.setattr(encoding, "weights_of", lambda *_: "sha256:1")
    monkeypatch.setattr(encoding, "tile_encoder", lambda *_, **__: encoder)
    encoding._encoder.cache_clear()
    yield encoder
    encoding._encoder.cache_clear()


@pytest.fixture
def bag():
    rng = np.random.default_rng(0)
    coords = np.stack([np.arange(20) % 5, np.arange(20) // 5], axis=1) * 256
    features, colours = rng.standard_normal((20, 8)).astype(np.float16), rng.random((20, 6)).astype(np.float32)
    return Bag(features, coords, {"slide_id": "a", "mpp": 0.5, "n": 3}, colours)


def cohort(**paths):
    rows = [{"slide_id": name, "path": str(path), "mpp": np.nan} for name, path in paths.items()]
    return pd.DataFrame(rows)


def files(folder):
    # What is remembered of slides is written where they have been left alone for seconds.
    return sorted(path.name for path in folder.iterdir() if path.name != "known.json") if folder.exists() else []


def test_a_bag_comes_back_as_written(tmp_path, bag):
    write_bag(tmp_path / "a.h5", bag)
    back = read_bag(tmp_path / "a.h5")
    assert np.array_equal(back.features, bag.features)
    assert np.array_equal(back.coords, bag.coords)
    assert np.array_equal(back.colours, bag.colours)
    assert (back.features.dtype, back.coords.dtype) == (np.float16, np.int64)
    assert back.attrs == bag.attrs
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["features"].chunks is None
        assert file["features"].dtype == np.float16
    write_bag(tmp_path / "b.h5", bag)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_encode_slide_streams_tiles_in_order_with_their_provenance(make_slide, stand_in):
    path = make_slide("s1.tif", covered=0.5)
    bag = encode_slide(path, stand_in, TILES, slide_id="S-1", batch=5, stamp="abc")
    assert bag.features.dtype == np.float16
    assert len(bag.features) == len(bag.coords) > 8
    order = bag.coords[:, 1] * 10_000 + bag.coords[:, 0]
    assert (np.diff(order) > 0).all()
    with Slide.open(path) as slide:
        tiles = np.stack([slide.read(x, y, 256, 256, 0.5) for x, y in bag.coords])
    np.testing.assert_allclose(bag.features, colours(tiles), rtol=1e-3)
    np.testing.assert_allclose(bag.colours, colours(tiles), rtol=1e-5)
    said = bag.attrs
    assert (said["slide_id"], said["source"], said["stamp"]) == ("S-1", "s1.tif", "abc")
    assert (said["mpp"], said["tile_px"], said["tile_px_level0"]) == (pytest.approx(0.5), 256, 256)
    assert (said["encoder"], said["encoder_dim"], said["mask"]) == ("lite0-mid", 6, "optical-density")
    assert said["source_bytes"] == path.stat().st_size
    assert said["tissue_fraction"] == pytest.approx(0.5, abs=0.06)
    again = encode_slide(path, stand_in, TILES, slide_id="S-1", batch=64, stamp="abc")
    assert np.array_equal(again.features, bag.features)


def test_a_slide_at_40x_gives_the_tiles_of_20x(make_slide, stand_in):
    bag = encode_slide(make_slide(mpp=0.25, covered=2.0), stand_in, TILES)
    assert (bag.attrs["tile_px_level0"], bag.attrs["tile_mpp"]) == (512, 0.5)
    assert bag.coords.tolist() == [[0, 0], [512, 0], [0, 512], [512, 512]]
    assert "of the slide is tissue" in bag.attrs["mask_warning"]


def test_a_bag_holds_the_tiles_that_the_study_asks_for(make_slide, stand_in, monkeypatch):
    path = make_slide(covered=0.5)
    every = encode_slide(path, stand_in, TILES).coords.tolist()
    most = encode_slide(path, stand_in, Tiles(max_tiles=3)).coords.tolist()
    assert len(most) == 3 < len(every) and all(corner in every for corner in most)
    assert len(encode_slide(path, stand_in, Tiles(min_tissue=0.95)).coords) < len(every)
    monkeypatch.setattr(histolab_masks, "BinaryMask", object)
    with pytest.raises(InputError, match="histolab is not installed"):
        encode_slide(path, stand_in, Tiles(mask="histolab"))


def test_a_bag_is_made_again_when_the_mark_of_its_resolution_changes(make_slide, stand_in, tmp_path):
    plain = cohort(a=make_slide(mpp=0.5)).assign(mpp=0.505)
    marked, found = plain.assign(mpp_override=True), []
    for slides in (plain, plain, marked, marked, plain):
        report = encode_cohort(slides, tmp_path / "bags", Encoder(), TILES, stamp="1", progress=False)
        attrs = read_bag(tmp_path / "bags" / "a.h5").attrs
        found.append((report["status"][0], attrs["mpp"], attrs["mpp_from"]))
    first, second = ("encoded", 0.5, "file"), ("encoded", 0.505, "override")
    assert found == [first, ("kept", *first[1:]), second, ("kept", *second[1:]), first]


def test_done_slides_are_kept_until_what_they_depend_on_changes(make_slide, stand_in, tmp_path, monkeypatch):
    slides = cohort(a=make_slide("a.tif", seed=1), b=make_slide("b.tif", seed=2))
    out = tmp_path / "bags"

    def run(stamp="1"):
        return encode_cohort(slides, out, Encoder(), TILES, stamp=stamp, progress=False)["status"].tolist()

    assert run() == ["encoded", "encoded"]
    before = (out / "a.h5").stat().st_mtime_ns
    assert run() == ["kept", "kept"]
    assert (out / "a.h5").stat().st_mtime_ns == before
    assert run("2") == ["encoded", "encoded"]
    make_slide("a.tif", seed=3)
    assert run("2") == ["encoded", "kept"]
    (tmp_path / "b.tif").unlink()  # slides may go once their bags are made
    assert run("2") == ["kept", "kept"]
    (out / "a.h5").write_bytes(b"cut")
    assert run("2") == ["encoded", "kept"]
    with h5py.File(out / "a.h5", "w") as file:  # an HDF5 file, and no bag
        file["other"] = 1
    assert run("2") == ["encoded", "kept"]
    slides["mpp"] = [0.51, np.nan]
    assert run("2") == ["encoded", "kept"]
    monkeypatch.setattr(encoding, "weights_of", lambda *_: "sha256:2")  # other weights in the same file
    with pytest.raises(InputError, match=r"b: slide .* does not exist"):
        run("2")


def test_one_bad_slide_does_not_stop_the_others(make_slide, stand_in, tmp_path):
    slides = cohort(
        missing=tmp_path / "none.tif",
        nompp=make_slide("nompp.tif", mpp=None),
        empty=make_slide("empty.tif", covered=0.0),
        good=make_slide("good.tif"),
    )
    cut = make_slide("cut.tif")
    cut.write_bytes(cut.read_bytes()[:100_000])
    slides = pd.concat([cohort(cut=cut), slides], ignore_index=True)
    out = tmp_path / "bags"
    with pytest.raises(InputError) as error:
        encode_cohort(slides, out, Encoder(), TILES, stamp="1", progress=False)
    message = str(error.value)
    assert "4 of 5 slides could not be encoded" in message
    assert "missing: slide" in message
    assert "nompp: slide" in message and "fill the manifest's `mpp`" in message
    assert "empty: slide" in message and "has no tissue" in message
    assert "cut: slide" in message and "copy the file again" in message
    assert files(out) == ["good.h5"]
    slides.loc[slides.slide_id == "nompp", "mpp"] = 0.5
    report = encode_cohort(slides[slides.slide_id.isin(["nompp", "good"])], out, Encoder(), TILES, stamp="1")
    assert dict(zip(report.slide_id, report.status, strict=True)) == {"nompp": "encoded", "good": "kept"}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("CUDA error: odd"),
        MemoryError(),
        MemoryError("Unable to allocate 20 GiB"),
        KeyError("x" * 10_000),
        AssertionError(),
        70_000.0,
        np.nan,
    ],
    ids=lambda raised: repr(raised)[:20],
)
def test_whatever_an_encoder_raises_is_of_one_slide(make_slide, stand_in, tmp_path, monkeypatch, raised, workers):
    paths = [make_slide(f"{name}.tif", seed=k) for k, name in enumerate("abcd")]
    second = encode_slide(paths[1], stand_in, TILES).colours[0]

    def odd(tiles):
        found = colours(tiles)
        if any(np.allclose(row, second, atol=1e-3) for row in found):
            if isinstance(raised, Exception):
                raise raised
            found[0, 0] = raised
        return found

    encoder = replace(stand_in, run=odd)
    monkeypatch.setattr(encoding, "tile_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr(encoding, "device_of", lambda *_: "cuda")  # whose workers are threads
    slides = cohort(**dict(zip("abcd", paths, strict=True)))
    with pytest.raises(InputError, match="1 of 4 slides could not be encoded, the others are done:\n  b: ") as error:
        encode_cohort(slides, tmp_path / "bags", Encoder(), TILES, stamp="1", workers=workers, progress=False)
    assert len(str(error.value)) < 1000
    if isinstance(raised, Exception):
        assert f"b.tif could not be encoded ({type(raised).__name__}" in str(error.value)
        assert "test_features.py, line" in str(error.value)
    assert files(tmp_path / "bags") == ["a.h5", "c.h5", "d.h5"]


def test_damage_in_the_middle_leaves_nothing_half_written(make_slide, stand_in, tmp_path):
    path = make_slide(covered=2.0)
    data = bytearray(path.read_bytes())
    data[60_000:160_000] = bytes(100_000)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"slide\.tif is damaged at x=\d+ y=\d+"):
        encode_cohort(cohort(a=path), tmp_path / "bags", Encoder(), TILES, stamp="1", progress=False)
    assert files(tmp_path / "bags") == []


def test_an_interrupted_run_goes_on_where_it_stopped(make_slide, stand_in, tmp_path, monkeypatch):
    slides = cohort(**{name: make_slide(f"{name}.tif", seed=i) for i, name in enumerate("abc")})
    out = tmp_path / "bags"
    create, calls = h5py.File.create_dataset, iter(range(99))

    def interrupted(*args, **options):
        if next(calls) == 3:  # in the middle of the second bag
            raise KeyboardInterrupt
        return create(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(h5py.File, "create_dataset", interrupted)
        with pytest.raises(KeyboardInterrupt):
            encode_cohort(slides, out, Encoder(), TILES, stamp="1", progress=False)
    assert files(out) == ["a.h5"]
    report = encode_cohort(slides, out, Encoder(), TILES, stamp="1", progress=False)
    assert report.status.tolist() == ["kept", "encoded", "encoded"]


@pytest.mark.slow
def test_bags_do_not_depend_on_the_number_of_workers(make_slide, tmp_path, monkeypatch):
    slides = cohort(**{name: make_slide(f"{name}.tif", size=512, seed=i) for i, name in enumerate("abc")})
    for folder, workers, threads in (("one", 1, 2), ("threads", 3, 3), ("processes", 4, 2)):
        monkeypatch.setattr(encoding, "THREADS", threads)
        report = encode_cohort(slides, tmp_path / folder, Encoder(), Tiles(min_tissue=0.3), stamp="1", workers=workers)
        assert report.slide_id.tolist() == ["a", "b", "c"]
        assert files(tmp_path / folder) == ["a.h5", "b.h5", "c.h5"]
        for name in files(tmp_path / folder):
            assert (tmp_path / folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_on_a_gpu_workers_are_threads_of_one_process(make_slide, stand_in, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(encoding, "device_of", lambda *_: "cuda")
    monkeypatch.setattr(encoding, "encode_slides", lambda *a, **k: seen.append(k) or encode_slides(*a, **k))
    slides = cohort(a=make_slide("a.tif", seed=1), b=make_slide("b.tif", seed=2))
    encode_cohort(slides, tmp_path / "bags", Encoder(batch=7), TILES, stamp="1", workers=3, progress=False)
    assert [(how["threads"], how["batch"]) for how in seen] == [(3, 7)]  # recorded here, in this process
    assert encoding._encoder.cache_info().currsize == 0  # training has the GPU to itself


def test_a_tile_encoder_is_made_as_the_study_says():
    how = {"runtime": "torch", "weights": "w.bin", "device": "cpu", "precision": "bfloat16"}
    options = encoding.encoder_options(Encoder(name="uni", **how), Tiles(size_px=224, mpp=0.25), "int8", threads=3)
    assert vars(options) == how | {"size_px": 224, "mpp": 0.25, "int8": "int8", "threads": 3}


def test_tiles_are_drawn_from_many_slides_and_the_draw_is_repeatable(make_slide, tmp_path):
    (tmp_path / "bad.tif").write_bytes(b"no slide")
    made = {f"s{n}": make_slide(f"s{n}.tif", seed=n, mpp=None if n == 0 else 0.5) for n in range(3)}
    slides = cohort(**made, bad=tmp_path / "bad.tif").assign(mpp=[0.5, np.nan, np.nan, np.nan])
    drawn = sample_tiles(slides, TILES, count=6)
    assert (drawn.shape, drawn.dtype) == ((6, 256, 256, 3), np.uint8)
    assert len({tile.tobytes() for tile in drawn}) == 6
    own = {n: {tile.tobytes() for tile in sample_tiles(slides.iloc[[n]], TILES, count=99)} for n in range(3)}

    def origins(tiles):
        return [n for tile in tiles for n, mine in own.items() if tile.tobytes() in mine]

    assert [origins(drawn)[i] for i in (0, 2, 4)] == [origins(drawn)[i] for i in (1, 3, 5)]  # slide by slide
    assert set(origins(drawn)) == {0, 1, 2}
    assert len({tuple(origins(sample_tiles(slides, TILES, count=3, seed=seed))) for seed in range(4)}) > 1
    assert np.array_equal(drawn, sample_tiles(slides, TILES, count=6))
    assert not np.array_equal(drawn, sample_tiles(slides, TILES, count=6, seed=1))
    with pytest.raises(InputError, match="none of the 1 slides gives a tile"):
        sample_tiles(slides[slides["slide_id"] == "bad"], TILES)


@pytest.mark.slow
def test_an_int8_study_makes_its_model_once_and_its_bags_stay_near_float32(make_slide, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    slides = cohort(**{f"s{n}": make_slide(f"s{n}.tif", size=1024, covered=0.9, seed=n) for n in range(4)})

    def run(stamp="1", runtime="openvino-int8"):
        settings = Encoder(runtime=runtime)
        made = encode_cohort(slides, tmp_path / runtime, settings, TILES, stamp=stamp, progress=False)
        return made["status"].tolist()

    assert run() == ["encoded"] * 4
    record = read_json(tmp_path / "openvino-int8/int8/int8.json")
    assert (record["tiles_calibration"], record["tiles_held_out"]) == (42, 22)
    assert run() == ["kept"] * 4
    assert read_json(tmp_path / "openvino-int8/int8/int8.json") == record

    run(runtime="onnx")
    near, exact = (read_bag(tmp_path / runtime / "s0.h5") for runtime in ("openvino-int8", "onnx"))
    assert near.attrs["encoder_how"].startswith("openvino int8")
    assert near.attrs["encoder_weights"] != exact.attrs["encoder_weights"]
    left, right = near.features.astype(float), exact.features.astype(float)
    cosine = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    assert 0.99 < cosine.min() < 1 - 1e-6

    # A model of other tiles or of other weights is made again.
    made = []
    for other in ("stamp", "weights"):
        (tmp_path / "openvino-int8/int8/int8.json").write_text(json.dumps(record | {other: "0"}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(encoding, "quantise", lambda *a, **k: made.append(k["runtime"]) or record)
            run()
    assert made == ["torch", "torch"]


@pytest.mark.parametrize("value", [np.inf, np.nan, 70_000.0])  # float16 ends at 65,504
def test_features_that_are_not_finite_are_never_written(tmp_path, bag, value):
    features = bag.features.astype(np.float32)
    features[3, 2] = value
    with pytest.raises(InputError, match="not finite"):
        write_bag(tmp_path / "a.h5", replace(bag, features=features))
    assert files(tmp_path) == []
    with h5py.File(tmp_path / "b.h5", "w") as file:  # as another tool may have written it
        file["features"], file["coords"] = features, bag.coords
    with pytest.raises(InputError, match="not finite"):
        read_bag(tmp_path / "b.h5")


def broken(path, kind):
    """Write a bag file that a tolerant reader would swallow."""
    ones = np.ones((4, 2), np.float16)
    with h5py.File(path, "w") as file:
        if kind != "no coords":
            file["coords"] = np.zeros((3 if kind == "numbers" else 4, 2), float if kind == "floats" else int)
        if kind == "external storage":
            secret = path.with_name("secret.bin")
            secret.write_bytes(bytes(16))
            file.create_dataset("features", (4, 2), np.float16, external=[(str(secret), 0, 16)])
        elif kind in ("external link", "soft link"):
            with h5py.File(path.with_name("other.h5"), "w") as other:
                other["features"] = ones
            file["here"] = ones
            link = h5py.ExternalLink("other.h5", "features") if kind == "external link" else h5py.SoftLink("/here")
            file["features"] = link
        elif kind == "virtual":
            with h5py.File(path.with_name("other.h5"), "w") as other:
                other["features"] = ones
            layout = h5py.VirtualLayout((4, 2), np.float16)
            layout[:] = h5py.VirtualSource(path.with_name("other.h5"), "features", (4, 2))
            file.create_virtual_dataset("features", layout)
        elif kind == "object":
            file.create_dataset("features", (4, 2), h5py.string_dtype())
        elif kind == "huge":
            file.create_dataset("features", (4_000_000, 8_000), np.float16)
        elif kind == "not finite":
            file["features"] = np.full((4, 2), np.nan, np.float16)
        elif kind == "slide embedding":
            file["features"] = ones[0]
        elif kind == "group":
            file.create_group("features")
        else:
            file["features"] = ones


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("external storage", "points at other files"),
        ("external link", "a link elsewhere"),
        ("soft link", "a link elsewhere"),
        ("virtual", "points at other files"),
        ("object", "not a dataset of numbers"),
        ("group", "not a dataset of numbers"),
        ("huge", "claims 64000000000 bytes"),
        ("not finite", "not finite"),
        ("numbers", "with the same N"),
        ("floats", "integer"),
        ("slide embedding", "do not fit"),
        ("no coords", "no dataset 'coords'"),
    ],
)
def test_a_bag_that_is_not_plain_is_refused(tmp_path, kind, message):
    broken(tmp_path / "b.h5", kind)
    with pytest.raises(InputError, match=message) as error:
        read_bag(tmp_path / "b.h5")
    assert "b.h5" in str(error.value)


def test_a_missing_or_cut_bag_says_what_to_do(tmp_path, bag):
    with pytest.raises(InputError, match="does not exist: make it with `hsa features`"):
        read_bag(tmp_path / "a.h5")
    write_bag(tmp_path / "a.h5", bag)
    data = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a\.h5 is not a readable HDF5 file"):
        read_bag(tmp_path / "a.h5")


def test_tiles_of_another_size_than_the_encoders_are_refused(make_slide, stand_in):
    small = TILES.model_construct(**TILES.model_dump() | {"size_px": 224})
    with pytest.raises(InputError, match="takes tiles of 256 px, the study says 224"):
        encode_slide(make_slide(), stand_in, small)


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("no space left")])
def test_a_full_disk_is_told_in_a_line_and_leaves_no_half_bag(tmp_path, bag, monkeypatch, error):
    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(h5py.File, "create_dataset", full)
    with pytest.raises(typer.Exit) as caught:
        told(write_bag)(tmp_path / "a.h5", bag)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []
