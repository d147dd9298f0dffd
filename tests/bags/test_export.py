import h5py
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hsa.bags import export
from hsa.bags.bag import Bag, write_bag
from hsa.bags.export import embeddings_to_trident, to_h5ad, to_trident
from hsa.bags.foreign import read_foreign
from hsa.cli import app
from hsa.errors import InputError

CELLS = np.stack([np.arange(12) % 4, np.arange(12) // 4], axis=1)
ATTRS = {"mpp": 0.2527, "tile_px": 256, "tile_px_level0": 507, "encoder": "lite0-mid", "stamp": "x"}


def bags(folder, **attrs):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        bag = Bag(rng.standard_normal((12, 5)).astype(np.float16), CELLS * 507, ATTRS | attrs.get(name, {}))
        write_bag(folder / f"{name}.h5", bag)
    return folder


def frame(folds=2):
    rows = []
    for fold in range(folds):
        for i, split in enumerate(["test", "train"] if fold == 0 else ["train", "test"]):
            named = {"slide_id": f"s{i}", "case_id": f"c{i}", "patient_id": "p", "stain": "HE"}
            rows.append(named | {"fold": fold, "split": split, "label": i, "v0": fold + i, "v1": 0.5, "v10": -1.0})
    return pd.DataFrame(rows)


def test_bags_come_back_from_tridents_layout(tmp_path):
    folder = to_trident(bags(tmp_path / "bags"), tmp_path / "job")
    assert folder == tmp_path / "job/20x_256px_0px_overlap/features_lite0-mid"
    with h5py.File(folder / "a.h5") as file, h5py.File(folder.parent / "patches/a_patches.h5") as patches:
        assert (file["features"].shape, file["coords"].shape) == ((12, 5), (12, 2))
        assert np.array_equal(patches["coords"], file["coords"])
        said = dict(patches["coords"].attrs)
    assert (said["patch_size"], said["patch_size_level0"], said["overlap"], said["name"]) == (256, 507, 0, "a")
    assert (said["level0_magnification"], said["target_magnification"]) == (40, 20)
    for name in ("a", "b"):
        back = read_foreign(folder / f"{name}.h5")
        ours = export.read_bag(tmp_path / f"bags/{name}.h5")
        assert np.array_equal(back.features, ours.features)
        assert np.array_equal(back.coords, ours.coords)
        kept = {key: back.attrs[key] for key in ("mpp", "tile_px", "tile_px_level0", "encoder")}
        assert kept == {key: ATTRS[key] for key in kept}
        assert back.attrs["source_tool"] == "trident"


@pytest.mark.parametrize(
    ("attrs", "message"),
    [({"b": {"encoder": "uni"}}, "several kinds"), ({"b": {"tile_px": 507}}, "several kinds")],
)
def test_bags_of_two_kinds_are_refused(tmp_path, attrs, message):
    with pytest.raises(InputError, match=message):
        to_trident(bags(tmp_path / "bags", **attrs), tmp_path / "job")
    assert not (tmp_path / "job").exists()
    to_trident(tmp_path / "bags", tmp_path / "job", ["a"])
    assert len(list((tmp_path / "job").rglob("a.h5"))) == 1


def test_what_a_killed_run_left_is_no_bag(tmp_path):
    folder = bags(tmp_path)
    (folder / ".a.0123abcd.tmp.h5").write_bytes(b"half")
    written = to_trident(folder, tmp_path / "job")
    assert sorted(path.name for path in written.glob("*.h5")) == ["a.h5", "b.h5"]


def test_a_folder_without_bags_is_refused(tmp_path):
    with pytest.raises(InputError, match="no bags"):
        to_trident(tmp_path, tmp_path / "job")


@pytest.mark.parametrize(("mpp", "zoom"), [(0.25, 40), (0.2527, 40), (0.499, 20), (1.0, 10), (0.17, 60), (0.73, 13.7)])
def test_magnifications_are_nominal(mpp, zoom):
    assert export._magnification(mpp) == zoom


def test_held_out_embeddings_become_one_vector_a_slide(tmp_path):
    folder = embeddings_to_trident(frame(), tmp_path, "full")
    assert folder == tmp_path / "slide_features_full"
    vectors = {}
    for path in folder.iterdir():
        with h5py.File(path) as file:
            vectors[path.stem] = file["features"][:].tolist()
    assert vectors == {"s0": [0.0, 0.5, -1.0], "s1": [2.0, 0.5, -1.0]}
    with pytest.raises(InputError, match="slide embedding"):
        read_foreign(folder / "s0.h5", tool="trident")
    with pytest.raises(InputError, match="slide s0 stands in several rows"):
        embeddings_to_trident(frame().drop(columns="split"), tmp_path, "full")


def test_embeddings_become_anndata(tmp_path):
    anndata = pytest.importorskip("anndata")
    given = frame()
    given.loc[0, "label"] = np.nan
    back = anndata.read_h5ad(to_h5ad(given, tmp_path / "e.h5ad", {"study": "virtual", "marker": "P53", "seed": 0}))
    assert back.X.dtype == np.float32
    assert back.X.tolist() == given[["v0", "v1", "v10"]].to_numpy().tolist()
    assert list(back.var_names) == ["v0", "v1", "v10"]
    assert list(back.obs_names) == ["s0-fold0", "s1-fold0", "s0-fold1", "s1-fold1"]
    assert list(back.obs.columns) == ["slide_id", "case_id", "patient_id", "stain", "fold", "split", "label"]
    assert back.obs["split"].tolist() == given["split"].tolist()
    assert isinstance(back.obs["split"].dtype, pd.CategoricalDtype)
    assert back.obs["fold"].dtype.kind == "i"
    assert np.isnan(back.obs["label"].iloc[0])
    said = back.uns["hsa"]
    assert (said["study"], int(said["seed"]), said["hsa_version"]) == ("virtual", 0, export.hsa.__version__)
    once = anndata.read_h5ad(to_h5ad(given[given["fold"] == 0][::-1], tmp_path / "one.h5ad"))
    assert list(once.obs_names) == ["s1", "s0"]
    assert list(once.obs["split"].cat.categories) == ["test", "train"]
    with pytest.raises(InputError, match="s0-fold0 stands twice"):
        to_h5ad(pd.concat([given, given]), tmp_path / "two.h5ad")
    assert not (tmp_path / "two.h5ad").exists()
    with pytest.raises(InputError, match="v0, v1"):
        to_h5ad(given.assign(v0=np.inf), tmp_path / "inf.h5ad")


@pytest.mark.parametrize("half", [("--stain", "P53"), ("--method", "full")])
def test_slide_embeddings_need_a_stain_and_a_method(tmp_path, half):
    result = CliRunner().invoke(app, ["bags", "export", str(tmp_path / "x"), "--study", "smoke", *half])
    assert result.exit_code == 2 and "need `--stain` and `--method`" in result.stderr


def test_without_anndata_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    with pytest.raises(InputError, match=r'pip install "hsa\[export\]"'):
        to_h5ad(frame(), tmp_path / "e.h5ad")
