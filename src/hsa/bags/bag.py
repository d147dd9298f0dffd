"""Bags: the features and coordinates of one slide's tiles, and the HDF5 file that holds them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d

from hsa.bags import hdf5
from hsa.errors import InputError
from hsa.files import replacing

# Bits of a float16's exponent: all of them are set in what is not finite. Rows are looked at so many at a time, which
# stay in the processor's cache.
EXPONENT = np.uint16(0x7C00)
ROWS = 256


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

    Raises:
        InputError: no such file, no HDF5, another layout, data outside the file, or values that are not
            finite.
    """
    if not Path(path).is_file():
        raise InputError(f"bag {path} does not exist: make it with `hsa features`")
    try:
        with hdf5.opened(path) as file:
            features, coords = hdf5.numbers(path, file, "features"), hdf5.numbers(path, file, "coords")
            colours = hdf5.numbers(path, file, "colours") if hdf5.has(file, "colours") else None
            attrs = hdf5.attributes(path, file)
    except InputError:
        raise
    except hdf5.BROKEN as error:
        raise InputError(
            f"bag {path} is not a readable HDF5 file ({error}): delete it and run `hsa features` again"
        ) from error
    features = _half(features)
    check_arrays(path, features, coords)
    return Bag(features, coords.astype(np.int64, copy=False), attrs, colours)


def attributes(path: Path, names: Collection[str] | None = None) -> dict[str, Any] | None:
    """Attributes of a bag, all or those named, and its number of `tiles`; None if there is no sound file."""
    try:
        with hdf5.opened(path) as file:
            tiles = h5d.open(file, b"features").shape[0]
            return hdf5.attributes(path, file, names) | {"tiles": tiles}
    except (*hdf5.BROKEN, InputError):
        return None


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
    if not _is_finite(features):
        raise InputError(
            f"bag {path}: features that are not finite, or too large for float16 (65504); make the bag again with "
            "`hsa features`"
        )


def _is_finite(features: np.ndarray) -> bool:
    """Whether all of (N, D) are finite. NumPy's own test converts each float16, at five times the cost."""
    if features.dtype != np.float16 or not features.dtype.isnative:
        return bool(np.isfinite(features).all())
    bits = features.view(np.uint16)
    return all(((part & EXPONENT) != EXPONENT).all() for part in np.split(bits, range(ROWS, len(bits), ROWS)))
