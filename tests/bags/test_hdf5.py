"""What is read of an HDF5 file, and what is not."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from hsa.bags import hdf5
from hsa.errors import InputError

PLAIN = {
    "text": "größe",
    "empty": "",
    "fixed": np.bytes_(b"uni"),
    "filled": np.bytes_(b"uni  "),
    "whole": 7,
    "big-endian": np.array(7, ">i4"),
    "half": np.float16(0.5),
    "real": 0.25,
    "yes": True,
    "of one": np.array([3]),
}
READ = PLAIN | {"fixed": "uni", "filled": "uni", "big-endian": 7, "half": 0.5, "of one": 3}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def attributes(path, held, names=None):
    with h5py.File(path, "w") as file:
        for key, value in held.items():
            file.attrs[key] = value
    with hdf5.opened(path) as file:
        return hdf5.attributes(path, file, names)


def test_attributes_of_every_plain_kind_are_read(path):
    found = attributes(path, PLAIN)
    assert found == READ and list(map(type, found.values())) == [type(READ[key]) for key in found]
    assert attributes(path, PLAIN, ("real", "none", "text")) == {"real": 0.25, "text": "größe"}


@pytest.mark.parametrize("value", [h5py.Empty("i4"), np.arange(2), np.zeros((3, 0))])
def test_attributes_of_none_or_several_values_are_refused(path, value):
    with pytest.raises(ValueError, match="'odd' is more than one value"):
        attributes(path, {"odd": value})


def test_a_list_a_reference_and_a_record_are_no_value(path):
    with h5py.File(path, "w") as file:
        listed = np.empty((), object)
        listed[()] = np.arange(3, dtype=np.int32)
        file.attrs.create("list", listed, (), h5py.vlen_dtype(np.int32))
        file.attrs["reference"] = file.ref
        file.attrs["record"] = np.array((1, 2.0), [("a", "i4"), ("b", "f4")])
        file.attrs["latin"] = np.bytes_("größe".encode("latin-1"))
    with hdf5.opened(path) as file:
        for name in ("list", "reference", "record"):
            with pytest.raises(InputError, match=f"attribute '{name}' is neither text nor a number"):
                hdf5.attributes(path, file, [name])
        with pytest.raises(InputError, match="attribute 'latin' is text that is not UTF-8"):
            hdf5.attributes(path, file)


def test_a_few_values_of_one_attribute(path):
    with h5py.File(path, "w") as file:
        file.attrs["pair"] = (2.0, 2.0)
    with hdf5.opened(path) as file:
        assert hdf5.values(path, file, "pair", most=2) == [2.0, 2.0]
        assert hdf5.values(path, file, "none", most=2) is None
        with pytest.raises(InputError, match="'pair' has none or more than 1 values"):
            hdf5.values(path, file, "pair", most=1)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i2", "u8", ">f4", ">i8"])
@pytest.mark.parametrize("how", [{}, {"chunks": (2, 3)}, {"chunks": (2, 3), "compression": "gzip"}])
def test_numbers_of_every_kind_and_layout_are_read(path, kind, how):
    held = np.arange(35).reshape(5, 7).astype(kind)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=held, **how)
        file["none"] = held[:0]
    with hdf5.opened(path) as file:
        found = hdf5.numbers(path, file, "x")
        assert found.dtype == held.dtype and np.array_equal(found, held)
        assert hdf5.numbers(path, file, "none").shape == (0, 7)
        assert hdf5.has(file, "x") and not hdf5.has(file, "y")


def test_nothing_of_a_file_stays_open(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
    with hdf5.opened(path) as file:
        found = hdf5.dataset(path, file, "x")
        assert found.valid
    assert not found.valid
    with h5py.File(path, "a") as file:  # which a file that is open to read would refuse
        file["y"] = 1


def test_a_filter_that_is_not_there_is_told(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.arange(100.0), compression="lzf")
    code = (
        "import sys, h5py; from hsa.bags import hdf5\n"
        "h5py.h5z.unregister_filter(h5py.h5z.FILTER_LZF)\n"
        "with hdf5.opened(sys.argv[1]) as file: hdf5.numbers(sys.argv[1], file, 'x')"
    )
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True).stderr
    assert "'x' is compressed by lzf (32000), which h5py has not" in told and "write it again with gzip" in told
