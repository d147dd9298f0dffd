"""Files of other tools: arrays and what is said of them in HDF5, NPZ or PT, read without trusting them."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hsa.bags import hdf5
from hsa.errors import InputError

# Endings, in capitals or not, and what they mean.
ENDINGS = {".h5": ".h5", ".hdf5": ".h5", ".npz": ".npz", ".pt": ".pt"}
KINDS = tuple(dict.fromkeys(ENDINGS.values()))
STORED = 4  # a file that is not compressed and claims more than this many times its size is not what it says
TEXT = ("encoder", "unit", "extractor", "feat_type", "encoder_name", "coordinate_space", "hsa_version")
PAIRS = ("level_dim", "dimensions")  # width and height
KEYS = {
    *("patch_size", "patch_level", "downsample", "custom_downsample", "patch_size_level0", "level0_magnification"),
    *("target_magnification", "mpp", "encoder", "unit", "tile_size", "tile_size_um", "tile_size_px", "extractor"),
    *("feat_type", "hsa_version", "level0_width", "level0_height"),
}

Arrays = dict[str, np.ndarray]


def named(folder: Path) -> dict[str, list[Path]]:
    """List the files of a folder by name, their endings as `ENDINGS` has them; hidden ones left out."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        ending = ENDINGS.get(path.suffix.lower())
        if ending and not path.name.startswith(".") and path.is_file():
            found.setdefault(path.stem + ending, []).append(path)
    return found


def load(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read the arrays of a file, and all that it, or the JSON beside it, says in plain values.

    Raises:
        InputError: no such file, a damaged or unsafe one, or one of another kind.
    """
    readers = {".h5": _load_h5, ".npz": _load_npz, ".pt": _load_pt}
    ending = ENDINGS.get(path.suffix.lower())
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    if ending is None:
        raise InputError(f"{path}: no bag; expected a file in {', '.join(ENDINGS)}")
    try:
        arrays, facts = readers[ending](path)
        beside = path.with_suffix(".meta.json")
        if ending != ".h5" and beside.is_file():
            meta = json.loads(beside.read_text())
            inner = [part for part in meta.values() if isinstance(part, dict)]
            plain: dict[str, Any] = {key: value for part in [meta, *inner] for key, value in part.items()}
            facts |= {key: value for key, value in plain.items() if isinstance(value, str | int | float)}
            facts |= {key: pair for key in PAIRS if (pair := _pair(plain.get(key)))}
    except InputError:
        raise
    except Exception as error:  # what the readers of three formats raise for damage has no common name
        raise InputError(f"{path} cannot be read ({error}): copy it again, or make it again") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name!r} holds no numbers ({array.dtype})")
    for key in {*KEYS, "base_spacing_um", "requested_tile_size_px", "tile_size_lv0", *TEXT} & set(facts):
        value = facts[key]
        if key in TEXT:
            sound = isinstance(value, str) and bool(value.strip())
        else:
            sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**31
        if not sound:
            raise InputError(f"{path} says {key} {value!r}, no {'name' if key in TEXT else 'size'}: correct it")
    return arrays, facts


def _load_h5(path: Path) -> tuple[Arrays, dict[str, Any]]:
    arrays: Arrays = {}
    facts: dict[str, Any] = {}
    with hdf5.opened(path) as file:
        holders = [file]
        for name in ("features", "feats", "coords"):
            if hdf5.has(file, name):
                arrays[name] = hdf5.numbers(path, file, name)
                holders.append(hdf5.dataset(path, file, name))
        for holder in holders:
            for key in sorted(KEYS):
                # CLAM stores the downsample of x and of y.
                if (values := hdf5.values(path, holder, key, most=2)) is not None:
                    facts[key] = values[0]
            facts |= {key: pair for key in PAIRS if (pair := _pair(hdf5.values(path, holder, key, most=2)))}
    return arrays, facts


def _pair(value: Any) -> tuple[float, float] | None:
    """Width and height, where a value is that."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    if not all(type(side) in (int, float) and 0 < side < 2**31 for side in value):
        return None
    return float(value[0]), float(value[1])


def _load_npz(path: Path) -> tuple[Arrays, dict[str, Any]]:
    _check_zip(path)
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in ("features", "tile_index", "x", "y") if name in file.files}, {}


def _load_pt(path: Path) -> tuple[Arrays, dict[str, Any]]:
    import pickle

    import torch

    if zipfile.is_zipfile(path):
        _check_zip(path)
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} holds more than a tensor, which may run code: save it as .h5 or .npz") from error
    if not isinstance(tensor, torch.Tensor):
        raise InputError(f"{path}: expected one tensor (N, D), found {_told(tensor)}")
    if tensor.numel() * tensor.element_size() > STORED * path.stat().st_size + hdf5.SMALL:
        raise InputError(f"{path}: a tensor {tuple(tensor.shape)} is not in {path.stat().st_size} bytes; do not use it")
    return {"features": (tensor.float() if tensor.is_floating_point() else tensor).numpy()}, {}


def _told(held: Any) -> str:
    """What a file holds in place of a tensor, and how to take the features out of it."""
    import torch

    items = held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list | tuple) else ()
    tensors = {key: tuple(value.shape) for key, value in items if isinstance(value, torch.Tensor)}
    if not tensors:
        return f"{type(held).__name__} without a tensor: it is no bag"
    listed = ", ".join(f"{key!r} {shape}" for key, shape in list(tensors.items())[:6])
    widest = max(tensors, key=lambda key: math.prod(tensors[key]))
    return (
        f"{type(held).__name__} with {listed}: save the features alone, torch.save(torch.load(FILE)[{widest!r}], NEW)"
        ", and the coordinates as `coords` of an .h5 file; or both into one .h5"
    )


def _check_zip(path: Path) -> None:
    """Refuse an archive that claims to unpack to far more than it holds, or an array larger than its member."""
    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
        if claimed > max(hdf5.SMALL, hdf5.EXPANSION * path.stat().st_size):
            raise InputError(f"{path}: {path.stat().st_size} bytes claim to unpack to {claimed}; do not use it")
        for member in archive.infolist() if path.suffix.lower() == ".npz" else []:
            with archive.open(member) as data:
                version = np.lib.format.read_magic(data)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(data)
            if math.prod(shape) * dtype.itemsize > member.file_size:
                raise InputError(f"{path}: {member.filename} claims {shape} of {dtype}, which is not in the file")
