"""Bags and embeddings for other tools: TRIDENT's folders, and AnnData for scanpy."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

import hsa
from hsa.bags.bag import Bag, attributes, read_bag
from hsa.errors import InputError
from hsa.files import replacing

NOMINAL = (1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0)  # objectives


def to_trident(bags: str | Path, target: str | Path, slide_ids: list[str] | None = None) -> Path:
    """Write bags in the layout of TRIDENT, so that what reads its output reads ours.

    `<target>/20x_256px_0px_overlap/` receives `patches/<slide_id>_patches.h5` and
    `features_<encoder>/<slide_id>.h5`. Magnifications are nominal (20x for 0.5 um/px), as TRIDENT has them; the
    exact `mpp` is added to the attributes.

    Args:
        bags: folder of `<slide_id>.h5`.
        target: TRIDENT's job folder.
        slide_ids: which; by default all.

    Returns:
        The folder with the features.

    Raises:
        InputError: no bags, or bags of more than one encoder or tile size; nothing is written then.
    """
    names = sorted(path.stem for path in Path(bags).glob("[!.]*.h5")) if slide_ids is None else list(slide_ids)
    if not names:
        raise InputError(f"{bags}: no bags; make them with `hsa features`")
    folders = {_folders(Path(bags) / f"{name}.h5") for name in names}
    if len(folders) > 1:
        found = ", ".join(sorted("/".join(pair) for pair in folders))
        raise InputError(f"{bags}: bags of several kinds ({found}): name the slides of one")
    tiles, encoder = folders.pop()
    for name in names:
        bag = read_bag(Path(bags) / f"{name}.h5")
        attrs = _coords_attrs(name, bag, tiles)
        _write(Path(target) / tiles / "patches" / f"{name}_patches.h5", {"coords": bag.coords}, attrs)
        arrays = {"features": bag.features, "coords": bag.coords}
        _write(Path(target) / tiles / encoder / f"{name}.h5", arrays, attrs, str(bag.attrs["encoder"]))
    return Path(target) / tiles / encoder


def embeddings_to_trident(embeddings: pd.DataFrame, target: str | Path, name: str) -> Path:
    """Write held-out slide embeddings as TRIDENT does: `<target>/slide_features_<name>/<slide_id>.h5`, `features` (D,).

    Of a frame with folds the rows of the test split are taken: there each slide stands once, embedded by a model that
    has not seen it.

    Args:
        embeddings: columns slide_id, v0, v1, ..., and split, if folds.
        target: TRIDENT's folder of one tile size, such as `20x_256px_0px_overlap`.
        name: of the slide encoder.

    Raises:
        InputError: a slide stands twice.
    """
    rows = embeddings[embeddings["split"] == "test"] if "split" in embeddings else embeddings
    twice = rows["slide_id"][rows["slide_id"].duplicated()]
    if len(twice) or rows.empty:
        found = f"slide {twice.iloc[0]} stands in several rows" if len(twice) else "no row of the test split"
        raise InputError(f"embeddings: {found}; give those of one method, marker and seed")
    folder = Path(target) / f"slide_features_{name}"
    vectors = _vectors(rows)
    for slide_id, vector in zip(rows["slide_id"], vectors.to_numpy(np.float32), strict=True):
        _write(folder / f"{slide_id}.h5", {"features": vector}, {}, name)
    return folder


def to_h5ad(embeddings: pd.DataFrame, path: str | Path, about: dict[str, Any] | None = None) -> Path:
    """Write embeddings as AnnData, for scanpy.

    X (n, D) float32; `obs` holds the other columns, text as categories; rows are named by slide, and by fold where a
    slide stands in several; `uns["hsa"]` tells the version and `about`.

    Args:
        embeddings: as `hsa.pipeline.steps.embeddings` gives them: slide_id, case_id, ..., v0, v1, ...
        path: `.h5ad`.
        about: where they come from, such as study, marker, method. Text and numbers.

    Raises:
        InputError: anndata is not installed, no vectors, or two rows of one slide and fold.
    """
    try:
        import anndata
    except ImportError as error:
        raise InputError('anndata is not installed. Type: pip install "hsa[export]"') from error
    vectors = _vectors(embeddings)
    obs = embeddings.drop(columns=vectors.columns).reset_index(drop=True)
    names = obs["slide_id"].astype(str)
    if names.duplicated().any() and "fold" in obs:
        names = names + "-fold" + obs["fold"].astype(str)
    if names.duplicated().any():
        raise InputError(f"embeddings: {names[names.duplicated()].iloc[0]} stands twice; give those of one stain")
    for column in obs:
        if not pd.api.types.is_numeric_dtype(obs[column]):
            # anndata before 0.13 cannot write the text type of pandas 3.
            text = obs[column].astype(object)
            obs[column] = pd.Categorical(text, categories=pd.Index(sorted(text.dropna().unique()), dtype=object))
    obs.index = pd.Index(names.to_list(), dtype=object)
    data = anndata.AnnData(
        X=vectors.to_numpy(np.float32),
        obs=obs,
        var=pd.DataFrame(index=pd.Index(list(vectors.columns), dtype=object)),
        uns={"hsa": {"hsa_version": hsa.__version__, **(about or {})}},
    )
    with replacing(path) as temporary:
        data.write_h5ad(temporary)
    return Path(path)


def _vectors(embeddings: pd.DataFrame) -> pd.DataFrame:
    vectors = embeddings.filter(regex=r"^v\d+$")
    if vectors.empty or not np.isfinite(vectors.to_numpy(float)).all():
        raise InputError("embeddings: expected rows with finite numbers in the columns v0, v1, ...")
    return vectors


def _folders(path: Path) -> tuple[str, str]:
    """Names of the two folders that TRIDENT would put a bag into."""
    attrs = attributes(path)
    if attrs is None or not {"mpp", "tile_px", "tile_px_level0", "encoder"} <= set(attrs):
        raise InputError(f"bag {path} is missing, or says no mpp, tile size or encoder: make it with `hsa features`")
    zoom = _magnification(attrs["mpp"] * attrs["tile_px_level0"] / attrs["tile_px"])
    encoder = "".join(c if c.isalnum() or c in "._-" else "-" for c in str(attrs["encoder"]))
    return f"{zoom:g}x_{attrs['tile_px']}px_0px_overlap", f"features_{encoder}"


def _magnification(mpp: float) -> float:
    """Nominal magnification of a resolution: that of the nearest objective, if one is near."""
    exact = 10 / mpp
    nearest = min(NOMINAL, key=lambda zoom: abs(np.log(zoom / exact)))
    return nearest if abs(np.log(nearest / exact)) < np.log(1.2) else round(exact, 2)


def _coords_attrs(name: str, bag: Bag, folder: str) -> dict[str, Any]:
    tile_px, level0 = bag.attrs["tile_px"], bag.attrs["tile_px_level0"]
    return {
        "patch_size": tile_px,
        "patch_size_level0": level0,
        "level0_magnification": _magnification(bag.attrs["mpp"]),
        "target_magnification": _magnification(bag.attrs["mpp"] * level0 / tile_px),
        "overlap": 0,
        "name": name,
        "savetodir": folder,
        "mpp": bag.attrs["mpp"],
    }


def _write(path: Path, arrays: dict[str, np.ndarray], attrs: dict[str, Any], encoder: str = "") -> None:
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for key, array in arrays.items():
            file[key] = array
        if "features" in arrays:
            file["features"].attrs.update({"name": path.stem, "encoder": encoder})
        if "coords" in arrays:
            file["coords"].attrs.update(attrs)
