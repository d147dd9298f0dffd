import io
import json
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from hsa.bags.bag import Bag, read_bag, write_bag
from hsa.bags.batches import Bags
from hsa.bags.foreign import check_bags, import_bags, read_foreign
from hsa.cli import app
from hsa.errors import InputError

N, D = 12, 5
CELLS = np.stack([np.arange(N) % 4, np.arange(N) // 4], axis=1)  # a grid of tiles, 4 wide
FEATURES = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
TRIDENT = {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20}
META = {
    "slide": {"base_spacing_um": 0.25, "dimensions": [4096, 4096]},
    "tiling": {"requested_tile_size_px": 256, "requested_spacing_um": 0.5, "tile_size_lv0": 512},
    "artifact": {"coordinate_space": "level0_px"},
}


def h5(path, attrs=None, coords_attrs=None, **arrays):
    """An HDF5 file with these datasets, attributes of the file and of `coords`."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs.update(attrs or {})
        if coords_attrs:
            file["coords"].attrs.update(coords_attrs)
    return path


def clam(folder, name="s", level=1, downsample=2.0):
    """CLAM: features and coordinates without attributes; they are on the patches file."""
    coords = (CELLS * 512).astype(np.int32)
    said = {"patch_size": 256, "patch_level": level, "downsample": (downsample, downsample), "name": name}
    h5(folder / f"{name}_patches.h5", coords_attrs=said, coords=coords)
    return h5(folder / f"{name}.h5", features=FEATURES, coords=coords), {
        "coords": folder / f"{name}_patches.h5",
        "mpp": 0.25,
        "encoder": "uni",
    }


def clam_pt(folder):
    _, given = clam(folder)
    torch.save(torch.from_numpy(FEATURES), folder / "s.pt")
    return folder / "s.pt", given


def trident(folder, name="s", attrs=TRIDENT, features=FEATURES, coords=CELLS * 512):
    path = h5(folder / f"{name}.h5", coords_attrs=attrs, features=features, coords=coords)
    with h5py.File(path, "a") as file:
        file["features"].attrs["encoder"] = "uni"
    return path, {"mpp": 0.25}


def trident_with_a_batch(folder):
    return trident(folder, features=FEATURES[None])


def stamp(folder):
    said = {"unit": "um", "tile_size_um": 128.0, "tile_size_px": 256, "extractor": "uni", "feat_type": "tile"}
    coords = (CELLS * 128.0).astype(np.float32)
    return h5(folder / "s.h5", said, feats=FEATURES.astype(np.float16), coords=coords), {"mpp": 0.25}


def stamp_2_0(folder):
    said = {"unit": "um", "tile_size": 128.0, "extractor": "uni"}
    return h5(folder / "s.h5", said, feats=FEATURES, coords=CELLS * 128.0), {"mpp": 0.25, "tile_px": 256}


def stamp_1(folder):
    given = {"mpp": 0.25, "tile_px": 256, "tile_mpp": 0.5, "unit": "tile", "encoder": "uni"}
    return h5(folder / "s.h5", feats=FEATURES, coords=CELLS * 256), given


def slide2vec(folder, suffix=".npz"):
    order = np.random.default_rng(1).permutation(N)
    if suffix == ".npz":
        np.savez_compressed(folder / "s.npz", features=FEATURES[order], tile_index=order)
    else:
        torch.save(torch.from_numpy(FEATURES), folder / "s.pt")
    (folder / "s.meta.json").write_text(json.dumps({"encoder_name": "uni", "artifact_type": "tile_embeddings"}))
    x, y = (CELLS * 512).T
    np.savez_compressed(folder / "s.coordinates.npz", x=x, y=y, tile_index=np.arange(N), tissue_fractions=x * 1.0)
    (folder / "s.coordinates.meta.json").write_text(json.dumps(META))
    return folder / f"s{suffix}", {"coords": folder / "s.coordinates.npz"}


def slide2vec_pt(folder):
    return slide2vec(folder, ".pt")


def histostainalign(folder, unit="level0", scale=512):
    given = {"tool": "histostainalign", "tile_px": 256, "tile_mpp": 0.5, "unit": unit, "mpp": 0.25, "encoder": "uni"}
    return h5(folder / "s.h5", features=FEATURES, coords=CELLS * scale), given


def histostainalign_at_20x(folder):
    return histostainalign(folder, "tile", 256)


LAYOUTS = {
    "clam": [clam, clam_pt],
    "trident": [trident, trident_with_a_batch],
    "stamp": [stamp, stamp_2_0, stamp_1],
    "slide2vec": [slide2vec, slide2vec_pt],
    "histostainalign": [histostainalign, histostainalign_at_20x],
}


@pytest.mark.parametrize(
    ("tool", "write"), [pytest.param(tool, w, id=w.__name__) for tool, ways in LAYOUTS.items() for w in ways]
)
def test_each_layout_becomes_the_same_bag(tmp_path, tool, write):
    path, given = write(tmp_path)
    bag = read_foreign(path, **given)
    order = np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))
    assert np.array_equal(bag.coords[order], CELLS * 512)
    assert np.array_equal(bag.features[order], FEATURES.astype(np.float16))
    said = bag.attrs
    assert (said["source_tool"], said["encoder"], said["encoder_dim"], said["slide_id"]) == (tool, "uni", D, "s")
    assert (said["mpp"], said["tile_px"], said["tile_px_level0"], said["tile_mpp"]) == (0.25, 256, 512, 0.5)
    assert (said["source"], len(said["source_sha256"])) == (path.name, 64)
    write_bag(tmp_path / "bags/s.h5", bag)
    features, coords = Bags(tmp_path / "bags")["s"]
    assert np.array_equal(coords, CELLS * 256)
    assert np.array_equal(features, FEATURES.astype(np.float16))
    assert read_bag(tmp_path / "bags/s.h5").attrs == said


@pytest.mark.parametrize("shape", [(0, D), (0,)])
def test_a_slide_without_tissue_is_an_empty_bag(tmp_path, shape):
    path, given = trident(tmp_path, features=np.empty(shape, np.float32), coords=np.empty((0, 2)))
    bag = read_foreign(path, **given)
    assert bag.features.shape == (0, shape[-1])
    assert bag.coords.shape == (0, 2)


def test_neighbours_keep_cells_of_their_own_where_a_tile_is_no_whole_number_of_pixels(tmp_path):
    cells = np.stack([np.arange(900) % 30, np.arange(900) // 30], axis=1)
    said = {"unit": "um", "tile_size_um": 256.0, "tile_size_px": 224, "extractor": "uni"}
    path = h5(
        tmp_path / "s.h5", said, feats=np.arange(900 * D).reshape(900, D), coords=(cells * 256.0).astype(np.float32)
    )
    bag = read_foreign(path, mpp=0.25281)  # 1012.6 px
    size = bag.attrs["tile_px_level0"]
    assert np.array_equal(bag.coords, np.rint(cells * 256 / 0.25281))
    assert len(np.unique(bag.coords // size, axis=0)) == 900
    assert "overlap_warning" not in bag.attrs


def test_overlap_is_noted(tmp_path):
    coords = CELLS * 512
    coords[-1] -= [100, 0]
    path, given = trident(tmp_path, coords=coords)
    assert read_foreign(path, **given).attrs["overlap_warning"] == "17% of the tiles overlap another one"


def without(key):
    return {k: v for k, v in TRIDENT.items() if k != key}


REFUSED = {
    "mpp": (trident, {}, {"mpp": None}, "does not say mpp"),
    "slide says other mpp": (slide2vec, {}, {"mpp": 0.5}, "says mpp 0.25, but 0.5"),
    "magnification": (trident, {}, {"mpp": 0.5}, "40x, about 0.25 um/px, but mpp is 0.5"),
    "magnification of less": (trident, {}, {"mpp": 0.1}, "40x, about 0.25 um/px, but mpp is 0.1"),
    "tile_px": (trident, {}, {"tile_px": 224}, "says tile_px 256, but 224"),
    "tile_mpp": (trident, {}, {"tile_mpp": 1.0}, "says tile_mpp 0.5, but 1.0"),
    "encoder": (trident, {}, {"encoder": "conch"}, "says encoder uni, but conch"),
    "no level": (clam, {"level": 1, "downsample": 3.0}, {"tile_mpp": 0.5}, "says tile_mpp 0.75"),
    "no unit": (stamp_1, {}, {"unit": None}, "does not say unit"),
    "odd unit": (stamp_1, {}, {"unit": "feet"}, "'feet' is none of"),
    "all that is missing": (
        histostainalign,
        {},
        {"tile_px": None, "tile_mpp": None, "unit": None, "mpp": None, "encoder": None},
        "mpp .*, tile_px .*, unit .*, encoder .*, tile_mpp",
    ),
    "no tool": (histostainalign, {}, {"tool": None}, "does not say which tool"),
    "no patches file": (clam, {}, {"coords": None}, "does not say which tool"),
    "wrong tool": (stamp, {}, {"tool": "clam"}, "written by stamp"),
    "unknown tool": (stamp, {}, {"tool": "qupath"}, "'qupath' is none of"),
    "microns as pixels": (histostainalign, {"scale": 127.5}, {}, "no whole pixels"),
    "tile numbers as pixels": (histostainalign, {"scale": 1}, {}, "12 tiles fall into 1 grid cells"),
    "fewer coordinates": (trident, {"coords": CELLS[1:] * 512}, {}, "12 feature vectors, but coordinates"),
    "same corner twice": (trident, {"coords": CELLS[[0, *range(11)]] * 512}, {}, "two tiles have one corner"),
    "negative": (trident, {"coords": CELLS * 512 - 1}, {}, "negative"),
    "slide embedding": (trident, {"features": FEATURES[0], "coords": CELLS}, {}, "slide embedding"),
    "too large": (trident, {"features": FEATURES * 1e6}, {}, "16-bit"),
    "not finite": (trident, {"features": FEATURES * np.nan}, {}, "not finite"),
    "no columns": (trident, {"features": FEATURES[:, :0]}, {}, r"expected \(N, D\)"),
    "beyond any slide": (trident, {"coords": CELLS.astype(np.uint64) * 512 + 2**63}, {}, "beyond any slide"),
    "endless tiles": (histostainalign, {}, {"tile_mpp": float("inf")}, "correct tile_px"),
    "nameless encoder": (histostainalign, {}, {"encoder": ""}, "does not say encoder"),
}


@pytest.mark.parametrize(
    ("key", "value"),
    [("patch_size", "256"), ("patch_size_level0", np.inf), ("level0_magnification", "40x"), ("encoder", 5)],
)
def test_what_is_no_size_or_name_is_refused(tmp_path, key, value):
    path, given = trident(tmp_path)
    with h5py.File(path, "a") as file:
        holder = next((one for one in (file["features"], file) if key in one.attrs), file["coords"])
        holder.attrs[key] = value
    with pytest.raises(InputError, match=f"says {key} .*, no"):
        read_foreign(path, **given)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_unclear_or_contradictory_is_refused(tmp_path, case):
    write, how, change, message = REFUSED[case]
    path, given = write(tmp_path, **how)
    with pytest.raises(InputError, match=message):
        read_foreign(path, **(given | change))


def test_what_the_file_does_not_say_can_be_given(tmp_path):
    path, given = trident(tmp_path, attrs=without("patch_size_level0"))
    assert read_foreign(path, **given).attrs["tile_px_level0"] == 512
    path, given = clam(tmp_path)
    bag = read_foreign(path, **(given | {"coords": None, "tool": "clam", "tile_px": 256, "tile_mpp": 0.5}))
    assert bag.attrs["tile_px_level0"] == 512
    with h5py.File(given["coords"], "a") as file:
        del file["coords"].attrs["downsample"]
    with pytest.raises(InputError, match="does not say tile_mpp"):
        read_foreign(path, **given)
    assert read_foreign(path, **given, tile_mpp=0.5).attrs["tile_px_level0"] == 512
    path, given = clam(tmp_path, level=0, downsample=1.0)
    with h5py.File(given["coords"], "a") as file:
        file["coords"].attrs["custom_downsample"] = 2
    assert read_foreign(path, **given).attrs["tile_px_level0"] == 512


def test_a_patches_file_of_another_slide_is_refused(tmp_path):
    path, given = clam(tmp_path)
    with h5py.File(given["coords"], "a") as file:
        file["coords"][0] = 512, 512
    with pytest.raises(InputError, match="differ from those of the patches file"):
        read_foreign(path, **given)
    path, given = slide2vec(tmp_path)
    np.savez(path, features=FEATURES, tile_index=np.arange(N) + 1)
    with pytest.raises(InputError, match="tile_index is not that"):
        read_foreign(path, **given)


def test_a_bag_of_ours_is_refused(tmp_path):
    write_bag(tmp_path / "s.h5", Bag(FEATURES, CELLS, {"hsa_version": "1"}))
    with pytest.raises(InputError, match="nothing to import"):
        read_foreign(tmp_path / "s.h5")


def external(folder):
    h5(folder / "elsewhere.h5", features=FEATURES)
    with h5py.File(folder / "s.h5", "w") as file:
        file["features"] = h5py.ExternalLink("elsewhere.h5", "/features")
        file["coords"] = CELLS
    return folder / "s.h5"


def huge(folder):
    with h5py.File(folder / "s.h5", "w") as file:
        file.create_dataset("features", (10**8, 1000), "f4", chunks=(1, 1000))
        file["coords"] = CELLS
    return folder / "s.h5"


def objects(folder):
    np.savez(folder / "s.npz", features=np.array([{}, {}], dtype=object))
    return folder / "s.npz"


def bomb(folder):
    np.savez_compressed(folder / "s.npz", features=np.zeros((4200, 4200), np.float32))
    return folder / "s.npz"


def claim(folder):
    """An array that claims more than its member holds."""
    held = io.BytesIO()
    np.save(held, FEATURES)
    with zipfile.ZipFile(folder / "s.npz", "w") as archive:
        archive.writestr("features.npy", held.getvalue().replace(b"(12, 5), }  ", b"(99999, 5)} "))
    return folder / "s.npz"


def pickled(folder):
    torch.save({"features": pd.DataFrame()}, folder / "s.pt")
    return folder / "s.pt"


def expanded(folder):
    torch.save(torch.zeros(1).expand(10**6, 1000), folder / "s.pt")
    return folder / "s.pt"


def empty(folder):
    (folder / "s.pt").write_bytes(b"")
    return folder / "s.pt"


def sparse(folder):
    torch.save(torch.ones(3, 2).to_sparse(), folder / "s.pt")
    return folder / "s.pt"


def cut(folder):
    path, _ = trident(folder)
    path.write_bytes(path.read_bytes()[:-500])
    return path


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (external, "link elsewhere"),
        (huge, "not in the file"),
        (objects, "cannot be read .*allow_pickle"),
        (bomb, "claim to unpack"),
        (claim, "claims"),
        (pickled, "more than a tensor"),
        (expanded, "is not in"),
        (cut, "cannot be read"),
        (empty, "cannot be read"),
        (sparse, "cannot be read"),
    ],
)
def test_unsafe_and_damaged_files_are_refused(tmp_path, write, message):
    with pytest.raises(InputError, match=message):
        read_foreign(write(tmp_path), tool="clam", mpp=0.25, tile_px=256, tile_mpp=0.5, encoder="uni")


def manifest(*names, path="gone.svs", mpp=0.25):
    return pd.DataFrame({"slide_id": names, "path": [str(path)] * len(names), "mpp": [mpp] * len(names)})


def test_import_keeps_the_good_and_lists_the_rest(tmp_path):
    source, bags = tmp_path / "features", tmp_path / "bags"
    source.mkdir()
    for name in ("a", "b"):
        trident(source, name)
    made = import_bags(source, bags, manifest("a", "b"), progress=False)
    assert made.to_dict("list") == {
        "slide_id": ["a", "b"],
        "tiles": [N, N],
        "source_tool": ["trident"] * 2,
        "encoder": ["uni"] * 2,
        "encoder_dim": [D] * 2,
        "warning": [""] * 2,
    }
    trident(source, "wide", features=FEATURES[:, :3])
    trident(source, "empty", features=np.empty((0, D)), coords=np.empty((0, 2)))
    trident(source, "large", attrs=TRIDENT | {"patch_size_level0": 1024}, coords=CELLS * 1024)
    trident(source, "twice")
    torch.save(torch.zeros(1, 1), source / "twice.pt")
    with pytest.raises(InputError) as told:
        import_bags(source, bags, manifest("c", "a", "wide", "empty", "large", "twice"), progress=False)
    lines = [line.strip() for line in str(told.value).splitlines()]
    assert lines[0].startswith("5 of 6 slides")
    reasons = ["c: no c with", "wide: encoder_dim is 3, that of a 5", "empty: empty.h5 holds no tile"]
    reasons += ["large: tile_mpp is 1.0, that of a 0.5", "twice: twice.h5 and twice.pt"]
    for line, reason in zip(lines[1:], reasons, strict=True):
        assert line.startswith(reason)
    assert sorted(path.name for path in bags.iterdir()) == ["a.h5", "b.h5", "imported.json"]
    record = json.loads((bags / "imported.json").read_text())
    assert record == {name: read_bag(bags / f"{name}.h5").attrs["stamp"] for name in ("a", "b")}
    import_bags(source, bags, manifest("a", mpp=0.26), progress=False)  # the same file, taken otherwise
    again = json.loads((bags / "imported.json").read_text())
    assert (again["a"] == record["a"], again["b"] == record["b"]) == (False, True)


def test_a_folder_without_any_of_the_bags_is_told_once(tmp_path):
    with pytest.raises(InputError, match=r"no bag of any of 2 slides, such as a\.h5 or a\.npz or a\.pt") as told:
        import_bags(tmp_path, tmp_path / "bags", manifest("a", "b"), progress=False)
    assert "\n" not in str(told.value) and not (tmp_path / "bags").exists()


def test_a_study_that_makes_its_bags_takes_no_others(tmp_path, smoke_file):
    result = CliRunner().invoke(app, ["bags", "import", str(tmp_path), "--study", str(smoke_file)])
    assert result.exit_code == 2
    assert "makes its bags itself, with lite0-mid: say `encoder: {name: imported}`" in result.output


def test_import_finds_the_coordinates_and_the_mpp_of_the_slide(tmp_path, make_slide):
    source = tmp_path / "features"
    source.mkdir()
    _, given = clam(source)
    (tmp_path / "patches").mkdir()
    given["coords"].rename(tmp_path / "patches" / "s.h5")
    options = {"coords": tmp_path / "patches", "encoder": "uni", "progress": False}
    slide = make_slide(picture=np.full((1100, 2048, 3), 255, np.uint8), mpp=0.25, levels=1)
    frame = manifest("s", path=slide, mpp=np.nan)
    import_bags(source, tmp_path / "bags", frame, **options)
    assert read_bag(tmp_path / "bags/s.h5").attrs["mpp"] == pytest.approx(0.25)
    small = make_slide("small.tif", picture=np.full((1024, 1024, 3), 255, np.uint8), mpp=0.25, levels=1)
    with pytest.raises(InputError, match="beyond the slide"):
        import_bags(source, tmp_path / "bags", manifest("s", path=small, mpp=np.nan), **options)
    silent = make_slide("silent.tif", picture=np.full((1024, 1024, 3), 255, np.uint8), mpp=None, levels=1)
    with pytest.raises(InputError, match="beyond the slide"):
        import_bags(source, tmp_path / "bags", manifest("s", path=silent), **options)
    with pytest.raises(InputError, match=r"slide\.tif says mpp 0\.25, but 0\.5"):
        import_bags(source, tmp_path / "bags", manifest("s", path=slide, mpp=0.5), **options)
    (tmp_path / "odd.czi").write_text("a format that only the other tool reads")
    import_bags(source, tmp_path / "bags", manifest("s", path=tmp_path / "odd.czi"), **options)
    with pytest.raises(InputError, match="does not say mpp"):
        import_bags(source, tmp_path / "bags", manifest("s", path=tmp_path / "odd.czi", mpp=np.nan), **options)


def test_a_study_takes_imported_bags_of_one_kind_only(tmp_path):
    for name in ("a", "b"):
        path, given = trident(tmp_path, name)
        write_bag(tmp_path / f"bags/{name}.h5", read_foreign(path, **given))
    check_bags(tmp_path / "bags", manifest("a", "b"), 256, 0.5)
    with pytest.raises(InputError, match=r"1 of 3 slides .*\n +c: no imported bag"):
        check_bags(tmp_path / "bags", manifest("a", "b", "c"), 256, 0.5)
    with pytest.raises(InputError, match="tile_px is 256, that of the study 224"):
        check_bags(tmp_path / "bags", manifest("a"), 224, 0.5)
    bag = read_bag(tmp_path / "bags/b.h5")
    write_bag(tmp_path / "bags/b.h5", Bag(bag.features, bag.coords, bag.attrs | {"encoder": "conch"}))
    with pytest.raises(InputError, match="b: encoder is conch, that of a uni"):
        check_bags(tmp_path / "bags", manifest("a", "b"), 256, 0.5)
