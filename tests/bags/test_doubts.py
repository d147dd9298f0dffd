"""Features of other tools that look wrong, and the forms in which files are met."""

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from test_foreign import CELLS, FEATURES, TRIDENT, D, N, clam, manifest, slide2vec, trident

from hsa.bags import hdf5
from hsa.bags.bag import read_bag
from hsa.bags.foreign import import_bags, read_foreign
from hsa.errors import InputError

MANY = np.random.default_rng(1).standard_normal((20, D)).astype(np.float32)
PLACES = np.stack([np.arange(20) % 5, np.arange(20) // 5], axis=1) * 512


def of(folder, features):
    path, given = trident(folder, features=features, coords=PLACES)
    return read_foreign(path, **given)


@pytest.mark.parametrize("length", [3, 12])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_text_of_a_fixed_length_is_read(tmp_path, length, shape):
    path, given = trident(tmp_path)
    with h5py.File(path, "a") as file:
        del file["features"].attrs["encoder"]
        filled = np.full(shape, b"uni".ljust(length), f"S{length}")  # Fortran and R fill up with spaces
        file["features"].attrs.create("encoder", filled)
    assert read_foreign(path, **given).attrs["encoder"] == "uni"


def test_text_that_is_not_utf8_is_told(tmp_path):
    path, given = trident(tmp_path)
    with h5py.File(path, "a") as file:
        file["features"].attrs["encoder"] = np.bytes_("größe".encode("latin-1"))
    with pytest.raises(InputError, match="attribute 'encoder' is text that is not UTF-8"):
        read_foreign(path, **given)


@pytest.mark.parametrize("how", [{"compression": "gzip"}, {"compression": "lzf", "shuffle": True}])
def test_features_that_are_mostly_zero_may_be_compressed(tmp_path, how, monkeypatch):
    monkeypatch.setattr(hdf5, "SMALL", 0)
    count, rng = 6000, np.random.default_rng(0)
    features = rng.standard_normal((count, 768)).astype(np.float32) * (rng.random((count, 768)) > 0.985)
    coords = np.stack([np.arange(count) % 80, np.arange(count) // 80], axis=1) * 512
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("features", data=features, chunks=(256, 768), **how)
        file["coords"] = coords
        file["coords"].attrs.update(TRIDENT)
        file["features"].attrs["encoder"] = "uni"
    assert features.nbytes > 5 * (tmp_path / "s.h5").stat().st_size
    assert np.array_equal(read_foreign(tmp_path / "s.h5", mpp=0.25).features, features.astype(np.float16))


def test_a_compressed_file_that_claims_too_much_is_refused(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        zeros = np.zeros((20, 2**20), np.float32)
        file.create_dataset("features", data=zeros, chunks=(1, 2**20), compression="gzip")
        file["coords"] = CELLS
    with pytest.raises(InputError, match="claims 83886080 bytes that are not in the file"):
        read_foreign(tmp_path / "s.h5", tool="clam")


def test_parts_that_were_never_written_are_told(tmp_path):
    path, given = trident(tmp_path)
    with h5py.File(path, "a") as file:
        del file["features"]
        file.create_dataset("features", (N, D), "f4", chunks=(1, D))[: N - 3] = FEATURES[: N - 3]
        file["features"].attrs["encoder"] = "uni"
    with pytest.raises(InputError, match=f"3 of {N} parts of 'features' were never written.*make the bag again"):
        read_foreign(path, **given)


@pytest.mark.parametrize("ending", [".H5", ".hdf5", ".HDF5"])
def test_the_ending_of_a_file_may_be_in_capitals(tmp_path, ending):
    source = tmp_path / "features"
    source.mkdir()
    path, given = trident(source)
    path = path.rename(path.with_suffix(ending))
    assert len(read_foreign(path, **given).coords) == N
    import_bags(source, tmp_path / "bags", manifest("s"), progress=False)
    assert len(read_bag(tmp_path / "bags/s.h5").coords) == N
    trident(source)
    with pytest.raises(InputError, match=r"s\.\w+ and s\.\w+ in .*: one file a slide is needed"):
        import_bags(source, tmp_path / "bags", manifest("s"), progress=False)


def test_files_of_coordinates_may_end_in_capitals_too(tmp_path):
    (tmp_path / "features").mkdir()
    path, given = clam(tmp_path / "features")
    (tmp_path / "patches").mkdir()
    given["coords"].rename(tmp_path / "patches/s_patches.H5")
    path.rename(path.with_suffix(".H5"))
    how = {"coords": tmp_path / "patches", "encoder": "uni", "progress": False}
    import_bags(tmp_path / "features", tmp_path / "bags", manifest("s"), **how)
    assert read_bag(tmp_path / "bags/s.h5").attrs["source_tool"] == "clam"


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (
            {"features": torch.ones(N, D), "coords": torch.zeros(N, 2), "name": "s"},
            r"found dict with 'features' \(12, 5\), 'coords' \(12, 2\): save the features alone, .*\['features'\]",
        ),
        ([torch.zeros(N, 2), torch.ones(N, D)], r"found list with 0 \(12, 2\), 1 \(12, 5\): .*\[1\]"),
        ({"slide": "s"}, "found dict without a tensor: it is no bag"),
        ("text", "found str without a tensor"),
    ],
)
def test_a_pt_file_with_more_than_the_features_says_how_to_take_them_out(tmp_path, held, message):
    torch.save(held, tmp_path / "s.pt")
    with pytest.raises(InputError, match=message):
        read_foreign(tmp_path / "s.pt", tool="clam", mpp=0.25)


def sized(folder):
    """TRIDENT, which tells the size of the slide: 4 tiles wide, 3 high."""
    return trident(folder, attrs=TRIDENT | {"level0_width": 4 * 512 + 9, "level0_height": 3 * 512})


def sized_clam(folder):
    path, given = clam(folder)
    with h5py.File(given["coords"], "a") as file:
        file["coords"].attrs["level_dim"] = (4 * 256, 3 * 256 - 9)
    return path, given


def sized_slide2vec(folder):
    path, given = slide2vec(folder)
    meta = folder / "s.coordinates.meta.json"
    meta.write_text(meta.read_text().replace("[4096, 4096]", "[2100, 1500]"))
    return path, given


def exchange(folder):
    """Write y before x, in whichever file holds the coordinates."""
    for path in folder.glob("*.h5"):
        with h5py.File(path, "a") as file:
            if "coords" in file:
                file["coords"][:] = file["coords"][:][:, ::-1]
    for path in folder.glob("*.coordinates.npz"):
        with np.load(path) as held:
            held = dict(held)
        np.savez(path, **held | {"x": held["y"], "y": held["x"]})


@pytest.mark.parametrize("write", [sized, sized_clam, sized_slide2vec])
def test_x_and_y_exchanged_are_told_where_the_file_says_the_size_of_the_slide(tmp_path, write):
    path, given = write(tmp_path)
    assert len(read_foreign(path, **given).coords) == N
    exchange(tmp_path)
    with pytest.raises(InputError, match=r"lie beyond the slide .* on it if x and y are exchanged.*with x first"):
        read_foreign(path, **given)


def test_x_and_y_exchanged_are_told_where_the_slide_is_there(tmp_path, make_slide):
    source = tmp_path / "features"
    source.mkdir()
    trident(source, coords=CELLS[:, ::-1] * 512)
    slide = make_slide("s.tif", picture=np.full((1500, 2100, 3), 255, np.uint8), mpp=0.25, levels=1)
    with pytest.raises(InputError, match="on it if x and y are exchanged"):
        import_bags(source, tmp_path / "bags", manifest("s", path=slide), progress=False)


def test_tiles_beyond_the_size_that_the_file_says_are_told_and_beyond_the_slide_itself_refused(tmp_path, make_slide):
    source = tmp_path / "features"
    source.mkdir()
    path, given = trident(source, attrs=TRIDENT | {"level0_width": 1000, "level0_height": 1000})
    said = "tiles up to [1536, 1024] lie beyond the slide (1000 x 1000 px)"
    assert read_foreign(path, **given).attrs["extent_warning"] == said
    assert import_bags(source, tmp_path / "bags", manifest("s"), progress=False)["warning"].tolist() == [said]
    slide = make_slide("s.tif", picture=np.full((1000, 1000, 3), 255, np.uint8), mpp=0.25, levels=1)
    with pytest.raises(InputError, match=r"lie beyond the slide .*: coordinates in another unit"):
        import_bags(source, tmp_path / "bags", manifest("s", path=slide), progress=False)


def rows(change, count):
    features = MANY.copy()
    features[:count] = change
    return features


@pytest.mark.parametrize(
    ("features", "warning"),
    [
        (MANY, None),
        (rows(0, 1), "5% of the tiles have features that are all zero"),
        (rows(0, 18), "90% of the tiles have features that are all zero"),
        (rows(MANY[19], 1), None),  # two tiles of bare glass
        (rows(MANY[19], 12), "60% of the tiles have the features of another one"),
        (np.concatenate([rows(0, 5)[:10], rows(MANY[19], 20)[:10]]), "25% .* all zero; 45% .* of another one"),
        (MANY * [1, 1, 1, 1, 1e-9] + [0, 0, 0, 0, 1], "1 of 5 features differ too little"),
        (MANY * [1e-12, 1, 1, 1, 1], "1 of 5 features differ too little"),
        (MANY * [0, 1, 1, 1, 1] + [0.1, 0, 0, 0, 0], None),  # constant, and rounded like any number
        (MANY * 200 + 20000, None),
    ],
)
def test_odd_features_are_told(tmp_path, features, warning):
    said = of(tmp_path, features).attrs.get("features_warning")
    assert (said is None) == (warning is None)
    if warning:
        (tmp_path / "in").mkdir()
        trident(tmp_path / "in", features=features, coords=PLACES)
        told = import_bags(tmp_path / "in", tmp_path / "bags", manifest("s"), progress=False)["warning"][0]
        assert pd.Series([told]).str.match(warning).all() and said == told
        assert read_bag(tmp_path / "bags/s.h5").attrs["features_warning"] == said


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (MANY * 0, "of all 20 tiles are all zero"),
        (MANY * 0 + 3, "of all 20 tiles are the same"),
        (MANY * 1e-9, "5 of 5 features differ too little .*multiply them by one number"),
        (MANY + 1e4, "5 of 5 features differ too little .*subtract one vector"),
        (MANY * 1e5, "16-bit floats hold up to 65504: divide the features of all slides by one number"),
        (MANY.astype(np.float64) * 1e300, "divide the features of all slides"),
    ],
)
def test_features_that_tell_no_tile_from_another_are_refused(tmp_path, features, message):
    with pytest.raises(InputError, match=message):
        of(tmp_path, features)
