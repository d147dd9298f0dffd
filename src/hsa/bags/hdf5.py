"""HDF5 files, read fast and without trusting them: numbers that lie in the file itself, and attributes of one value.

An HDF5 file can point at any file of this machine and claim any size. h5py's own classes look up an attribute or a
dataset ten times as slowly as the library below them, which is used here: a cohort has thousands of bags.
"""

import math
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5l, h5p, h5s, h5t, h5z

from hsa.errors import InputError

# What h5py raises for a file with damage.
BROKEN = (OSError, LookupError, RuntimeError, TypeError, ValueError)
# Features of which most are zero take a tenth of their size when compressed; a file that claims far more is a trap.
EXPANSION = 100
SMALL = 2**26  # bytes that may be claimed whatever the file holds
# A file is closed with all that was opened in it, as by h5py.
_ACCESS = h5p.create(h5p.FILE_ACCESS)
_ACCESS.set_fclose_degree(h5f.CLOSE_STRONG)
# Text of any length, as NumPy and as HDF5 have it.
TEXT = h5py.string_dtype()
TEXT_TYPE = h5t.py_create(TEXT)

Plain = str | int | float | bool


@contextmanager
def opened(path: str | Path) -> Iterator[h5f.FileID]:
    """Open a file to read.

    Raises:
        OSError: it is not there, or no HDF5.
    """
    file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, _ACCESS)
    try:
        yield file
    finally:
        file.close()


def has(file: h5f.FileID, name: str) -> bool:
    """Tell whether a file has a dataset, a group or a link of this name."""
    return name.encode() in file


def dataset(path: str | Path, file: h5f.FileID, name: str) -> h5d.DatasetID:
    """Find a dataset of numbers that lies inside the file.

    Args:
        path: of the file, for messages.
        file: the open file.
        name: of the dataset.

    Raises:
        InputError: it is missing, a link, no numbers, in part never written, compressed in a way that is not there,
            or claims more than the file holds.
    """
    key = name.encode()
    if key not in file or file.links.get_info(key).type != h5l.TYPE_HARD:
        raise InputError(
            f"bag {path} has no dataset {name!r} of its own (missing, or a link elsewhere): a bag holds "
            "`features` (N, D) and `coords` (N, 2)"
        )
    found = h5py.h5o.open(file, key)
    if not isinstance(found, h5d.DatasetID) or found.dtype.kind not in "fiu":
        raise InputError(f"bag {path}: {name!r} is not a dataset of numbers; make the bag again with `hsa features`")
    made = found.get_create_plist()
    layout, size, held = made.get_layout(), math.prod(found.shape) * found.dtype.itemsize, os.path.getsize(path)
    # Plain numbers take their size, and compressed ones that of what was stored of them.
    filtered = layout == h5d.CHUNKED and made.get_nfilters() > 0
    limit = max(SMALL, EXPANSION * min(found.get_storage_size(), held)) if filtered else held
    if layout == h5d.VIRTUAL or made.get_external_count() or size > limit:
        raise InputError(
            f"bag {path}: {name!r} claims {size} bytes that are not in the file ({held} bytes): "
            "it is cut, or points at other files; do not use it"
        )
    filters = [made.get_filter(number) for number in range(made.get_nfilters())]
    if missing := [f"{title.decode()} ({code})" for code, _, _, title in filters if not h5z.filter_avail(code)]:
        raise InputError(
            f"bag {path}: {name!r} is compressed by {', '.join(missing)}, which h5py has not: write it again with "
            "gzip, or without compression"
        )
    if layout == h5d.CHUNKED:
        chunks = math.prod(-(-side // part) for side, part in zip(found.shape, made.get_chunk(), strict=True))
        if found.get_num_chunks() < chunks:
            raise InputError(
                f"bag {path}: {chunks - found.get_num_chunks()} of {chunks} parts of {name!r} were never written, so "
                "that their numbers would read as zero: its writer was interrupted; make the bag again"
            )
    return found


def numbers(path: str | Path, file: h5f.FileID, name: str) -> np.ndarray:
    """Read a dataset of numbers.

    Raises:
        InputError: as `dataset`.
    """
    found = dataset(path, file, name)
    values = np.empty(found.shape, found.dtype)
    if values.size:
        found.read(h5s.ALL, h5s.ALL, values)
    return values


def attributes(
    path: str | Path, holder: h5f.FileID | h5d.DatasetID, names: Collection[str] | None = None
) -> dict[str, Plain]:
    """Read attributes of one value each.

    Args:
        path: of the file, for messages.
        holder: whose attributes.
        names: which, where they are there; None: all.

    Returns:
        Text, numbers and truth values by name.

    Raises:
        InputError: one is neither text nor a number.
        ValueError: one has more than one value; a damaged file can claim one of any length.
    """
    if names is None:
        keys: list[bytes] = []
        h5a.iterate(holder, lambda key: keys.append(key))  # goes on while it is given None
    else:
        keys = [name.encode() for name in names]
    told = {}
    for key in keys:
        try:
            attribute = h5a.open(holder, key)
        except KeyError:  # to ask first takes as long as to open
            continue
        name, found = key.decode(), _read(attribute, most=1)
        if found is None:
            raise ValueError(f"attribute {name!r} is more than one value")
        told[name] = plain(path, name, found[0])
    return told


def values(path: str | Path, holder: h5f.FileID | h5d.DatasetID, name: str, most: int) -> list[Plain] | None:
    """Read an attribute of a few values; None if it is not there.

    Raises:
        InputError: it has none or more than `most`, or they are neither text nor numbers.
    """
    if not h5a.exists(holder, name.encode()):
        return None
    found = _read(h5a.open(holder, name.encode()), most)
    if found is None:
        raise InputError(f"bag {path}: attribute {name!r} has none or more than {most} values, expected one")
    return [plain(path, name, one) for one in found]


def _read(attribute: h5a.AttrID, most: int) -> list[object] | None:
    """The values of an attribute, None if there are none or more than `most`."""
    space, kind = attribute.get_space(), attribute.get_type()
    shape = () if space.get_simple_extent_type() == h5s.SCALAR else attribute.shape
    if shape is None or not 1 <= math.prod(shape) <= most:
        return None
    # h5py would look for the type in memory anew for each attribute; the one in the file serves, but for text.
    if kind.get_class() == h5t.STRING and kind.is_variable_str():
        dtype, kind = TEXT, TEXT_TYPE
    elif (dtype := kind.dtype).hasobject:
        return [object()]  # lists and references, which are no value
    value = np.empty(shape, dtype)
    attribute.read(value, mtype=kind)
    return value.reshape(-1).tolist()


def plain(path: str | Path, key: str, value: object) -> Plain:
    """Give an attribute as text or number; text of a fixed length (R, MATLAB, Fortran) loses what fills it up.

    Raises:
        InputError: it is neither.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        try:
            value = value.decode().rstrip("\0 ") if value else ""
        except UnicodeDecodeError as error:
            raise InputError(f"bag {path}: attribute {key!r} is text that is not UTF-8: write it anew") from error
    if not isinstance(value, str | int | float | bool):
        raise InputError(f"bag {path}: attribute {key!r} is neither text nor a number")
    return value
