"""Bags: the features and coordinates of one slide's tiles, and the HDF5 file that holds them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hsa.errors import InputError
from hsa.files import replacing

# What h5py raises for a file with damage.
BROKEN = (OSError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Bag:
    """The tiles of one slide.

    Attributes:
        features: (N, D) float16.
        coords: (N, 2) int64, x and y of each tile's upper left corner, level-0 px.
        colours: (N, 6) float32, mean and standard deviation of the tile's red, green and blue, 0-255; None in bags
            of other tools.
        attrs: where they come from: slide, file, mpp, tile size, mask, encoder, version. Text and numbers.
    """

    features: np.ndarray
    coords: np.ndarray
    attrs: dict[str, Any] = field(default_factory=dict)
    colours: np.ndarray | None = None


def write_bag(path: str | Path, bag: Bag) -> None:
    """Write a bag as HDF5, whole or not at all: contiguous `features` and `coords`, attributes.

    Raises:
        InputError: the arrays do not fit, or a feature is not finite as float16 (65504 is the largest).
        OSError: the disk is full.
    """
    features = _half(bag.features)
    check_arrays(path, features, bag.coords)
    try:
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file.create_dataset("features", data=features)
            file.create_dataset("coords", data=bag.coords.astype(np.int64))
            if bag.colours is not None:
                file.create_dataset("colours", data=bag.colours.astype(np.float32))
            for key in sorted(bag.attrs):
                file.attrs[key] = bag.attrs[key]
    except RuntimeError as error:  # h5py's name for a disk that is full when the file is closed
        raise OSError(f"bag {path} cannot be written: {error}") from error


def read_bag(path: str | Path) -> Bag:
    """Read a bag.

    An HDF5 file can point at any file of this machine and claim any size; only plain data inside the
    file is read.

    Raises:
        InputError: no such file, no HDF5, another layout, data outside the file, or values that are not
            finite.
    """
    if not Path(path).is_file():
        raise InputError(f"bag {path} does not exist: make it with `hsa features`")
    try:
        with h5py.File(path, "r") as file:
            limit = Path(path).stat().st_size
            features, coords = (plain_dataset(path, file, name, limit)[:] for name in ("features", "coords"))
            colours = plain_dataset(path, file, "colours", limit)[:] if "colours" in file else None
            attrs = {key: plain_attribute(path, key, value) for key, value in _attributes(file)}
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(
            f"bag {path} is not a readable HDF5 file ({error}): delete it and run `hsa features` again"
        ) from error
    features = _half(features)
    check_arrays(path, features, coords)
    return Bag(features, coords.astype(np.int64, copy=False), attrs, colours)


def attributes(path: Path) -> dict[str, Any] | None:
    """Attributes and number of tiles of a bag, None if there is no sound file."""
    try:
        with h5py.File(path, "r") as file:
            return dict(_attributes(file)) | {"tiles": len(file["features"])}
    except BROKEN:
        return None


def _attributes(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Attributes that are one value each; a damaged file can claim one of any length."""
    for key in file.attrs:
        if file.attrs.get_id(key).shape != ():
            raise ValueError(f"attribute {key!r} is more than one value")
        yield key, file.attrs[key]


def plain_dataset(path: str | Path, file: h5py.File, name: str, limit: int) -> h5py.Dataset:
    """A dataset of numbers that lies inside the file and is no larger than `limit` bytes.

    Raises:
        InputError: it is missing, a link, no numbers, or claims more than the file holds.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InputError(
            f"bag {path} has no dataset {name!r} of its own (missing, or a link elsewhere): a bag holds "
            "`features` (N, D) and `coords` (N, 2)"
        )
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise InputError(f"bag {path}: {name!r} is not a dataset of numbers; make the bag again with `hsa features`")
    if dataset.is_virtual or dataset.external is not None or dataset.nbytes > limit:
        raise InputError(
            f"bag {path}: {name!r} claims {dataset.nbytes} bytes that are not in the file ({limit} bytes): "
            "it is cut, or points at other files; do not use it"
        )
    return dataset


def plain_attribute(path: str | Path, key: str, value: Any) -> str | int | float | bool:
    """An attribute as text or number.

    Raises:
        InputError: it is neither.
    """
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, str | int | float | bool):
        raise InputError(f"bag {path}: attribute {key!r} is neither text nor a number")
    return plain


def _half(features: np.ndarray) -> np.ndarray:
    """Features as float16; one that is too large for it becomes infinite, which `check_arrays` then refuses."""
    with np.errstate(over="ignore"):
        return features.astype(np.float16, copy=False)


def check_arrays(path: str | Path, features: np.ndarray, coords: np.ndarray) -> None:
    """Check that the arrays of a bag fit each other: (N, D) finite, and integer (N, 2).

    Raises:
        InputError: they do not.
    """
    if features.ndim != 2 or coords.shape != (len(features), 2) or coords.dtype.kind not in "iu":
        raise InputError(
            f"bag {path}: features {features.shape} and coords {coords.shape} ({coords.dtype}) do not "
            "fit; expected (N, D) and integer (N, 2) with the same N"
        )
    if not np.isfinite(features).all():
        raise InputError(
            f"bag {path}: features that are not finite, or too large for float16 (65504); make the bag again with "
            "`hsa features`"
        )
