"""Exported networks that are kept between runs."""

import subprocess
import sys

import numpy as np
import pytest

from hsa.encoders import exported, lite0
from hsa.encoders.encoder import tile_encoder

TILES = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)


@pytest.fixture
def exports(tmp_path, monkeypatch):
    """A cache of its own, and what is exported: a made-up model, told by its number."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = []
    monkeypatch.setattr(
        exported, "_export", lambda network, size_px: made.append(size_px) or f"model {len(made)}".encode()
    )
    return made


def model(weights="sha256:1", size_px=256):
    return exported.onnx("lite0-mid", weights, lite0.__name__, lambda: None, size_px)


def test_a_model_is_exported_once_for_its_weights_code_and_versions(exports, monkeypatch):
    assert [model(), model()] == [b"model 1"] * 2
    assert model(weights="sha256:2") == b"model 2"
    assert model(size_px=224) == b"model 3"
    with monkeypatch.context() as patch:
        patch.setattr(exported, "version", lambda package: "other")
        assert model() == b"model 4"
    with monkeypatch.context() as patch:
        code = exported.fingerprint
        patch.setattr(exported, "fingerprint", lambda values, *modules: code([values, "other code"], *modules))
        assert model() == b"model 5"
    assert model() == b"model 1"
    assert len(list(exported.folder().iterdir())) == len(exports) == 5


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda data: b""])
def test_a_damaged_file_is_made_again(exports, damage):
    model()
    [path] = exported.folder().iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert model() == b"model 2" == model()


def test_a_cache_that_cannot_be_written_costs_an_export_each_time(exports, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert [model(), model()] == [b"model 1", b"model 2"]


def test_a_kept_model_makes_the_same_features(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = tile_encoder("lite0-mid", "onnx")(TILES)
    monkeypatch.setattr(exported, "_export", lambda *a: pytest.fail("exported again"))
    assert np.array_equal(tile_encoder("lite0-mid", "onnx")(TILES), first)


def test_a_worker_that_finds_a_kept_model_loads_no_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tile_encoder("lite0-mid", "onnx")
    code = (
        "import sys, hsa.bags.encoding as e; from hsa.study.settings import Encoder, Tiles\n"
        "e._encoder('lite0-mid', e.encoder_options(Encoder(), Tiles()))\n"
        "print(sorted({'torch', 'pandas', 'sklearn', 'matplotlib', 'onnx'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
