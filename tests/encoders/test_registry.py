"""Registry, files of weights and loading: small networks with random weights, through the code that loads real ones."""

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from skimage.data import immunohistochemistry

from hsa.encoders import hub, openvino, pretrained, registry
from hsa.encoders.encoder import tile_encoder
from hsa.encoders.registry import REGISTRY
from hsa.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = {"img_size": 224, "patch_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2, "init_values": 1e-5}
PARAMETERS = {  # cards say 1.13e9 (GigaPath, H-optimus), 303, 681 and 631 million
    "prov-gigapath": 1_134_953_984,
    "uni": 303_350_784,
    "uni2-h": 681_394_176,
    "virchow2": 631_239_424,
    "h-optimus-0": 1_134_774_272,
    "h-optimus-1": 1_134_774_272,
    "resnet50": 23_508_032,
}


@pytest.fixture(scope="module")
def timm():
    pretrained._torchvision()
    return pytest.importorskip("timm")


@pytest.fixture(scope="module")
def transformers():
    pretrained._torchvision()
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tiles():
    field = immunohistochemistry()
    return np.stack([field[y : y + 256, x : x + 256] for y, x in ((0, 0), (0, 256), (200, 100))])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, and no network: a function that gives the folder of a repository's snapshot."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def snapshot(repo):
        folder = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs/main").write_text(COMMIT)
        (folder / "snapshots" / COMMIT).mkdir(parents=True)
        return folder / "snapshots" / COMMIT

    return snapshot


def pixels(tiles, model):
    """The preparation as the model cards write it, with Pillow: scale, crop, normalise."""
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    prepared = []
    for tile in tiles:
        image = Image.fromarray(tile).resize((model.resize, model.resize), filters[model.interpolation])
        edge = (model.resize - model.input_px) // 2
        image = image.crop((edge, edge, edge + model.input_px, edge + model.input_px))
        mean, deviation = (np.array(values) for values in model.normalisation)
        prepared.append(((np.asarray(image) / 255 - mean) / deviation).transpose(2, 0, 1))
    return torch.tensor(np.stack(prepared), dtype=torch.float32)


# The registry.


def test_the_registry_holds_the_models_of_the_field():
    wanted = {"prov-gigapath", "uni", "uni2-h", "conch-v1.5", "virchow2", "h-optimus-0", "h-optimus-1", "phikon-v2"}
    assert wanted | {"hibou-b", "hibou-l", "resnet50"} == set(REGISTRY)
    for name, model in REGISTRY.items():
        assert model.repo.count("/") == 1, name
        assert model.library in ("timm", "transformers", "custom"), name
        assert model.features in ("pooled", "cls", "cls+mean"), name
        assert 0 <= model.resize - model.input_px <= 32, name
        assert model.licence and model.reference, name


def test_the_table_of_the_book_is_the_registry():
    lines = registry.table().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(REGISTRY)
    assert all(row.count("|") == lines[0].count("|") for row in rows)
    assert " (not loaded) | CC-BY-NC-ND-4.0, [ask](https://huggingface.co/MahmoodLab/TITAN) |" in rows[3]
    assert "| `conch-v1.5` [Ding et al. 2024](https://arxiv.org/abs/2411.19666) (not" in rows[3]
    assert "| `prov-gigapath` [Xu et al. 2024](https://doi.org/10.1038/s41586-024-07441-w) |" in rows[0]
    assert "| `h-optimus-0` [Saillard et al. 2024](https://github.com/bioptimus/releases) |" in rows[5]
    assert "| 256 px at 0.5 µm/px | 224 px of 256, bicubic | 1536, pooled |" in rows[0]
    assert "`hibou-b`: access" in lines[-1]


@pytest.mark.parametrize(
    ("name", "size_px", "mpp", "fits"),
    [
        ("prov-gigapath", 256, 0.5, True),
        ("prov-gigapath", 224, 0.5, True),
        ("uni2-h", 256, 0.5, True),
        ("uni2-h", 512, 0.25, True),
        ("uni2-h", 512, 0.5, False),
        ("uni2-h", 256, 0.25, False),
        ("h-optimus-1", 224, 0.5, True),
        ("virchow2", 224, 0.25, True),
        ("virchow2", 224, 2.0, True),
        ("virchow2", 224, 4.0, False),
        ("conch-v1.5", 512, 0.5, True),
        ("conch-v1.5", 256, 0.5, False),
        ("resnet50", 100, 3.0, True),
    ],
)
def test_tiles_must_show_tissue_at_the_scale_of_training(name, size_px, mpp, fits):
    if fits:
        registry.check_tiles(name, REGISTRY[name], size_px, mpp)
    else:
        with pytest.raises(InputError, match=rf"Set `size_px: {REGISTRY[name].tile_px}` and `mpp: 0.5`"):
            registry.check_tiles(name, REGISTRY[name], size_px, mpp)


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_have_the_size_that_was_published(timm, name):
    model = REGISTRY[name]
    with torch.device("meta"):
        trunk = pretrained._timm_trunk(name, model)
        found = trunk(torch.zeros(2, 3, model.input_px, model.input_px))
    assert sum(parameter.numel() for parameter in trunk.parameters()) == PARAMETERS[name]
    if model.features == "cls+mean":
        assert found.shape == (2, 1 + 4 + 256, model.dim / 2)
        assert trunk.num_prefix_tokens == 5
    else:
        assert found.shape == (2, model.dim)


# Pixels.


@pytest.mark.parametrize("name", ["prov-gigapath", "uni", "conch-v1.5", "hibou-l"])
def test_pixels_are_prepared_as_pillow_does(name, tiles):
    model = REGISTRY[name]
    found = pretrained._prepare(model)(torch.from_numpy(tiles))
    difference = (found - pixels(tiles, model)).abs() * torch.tensor(model.normalisation[1]).view(3, 1, 1) * 255
    assert found.shape == (3, 3, model.input_px, model.input_px)
    assert difference.max() < 3  # Pillow rounds and cuts off after each of its two passes
    assert difference.mean() < 0.4


# Loading.


def test_a_timm_model_of_the_registry_loads_from_the_cache(timm, cache, tiles, monkeypatch):
    """Class token and mean patch token, registers left out, from the layout of the hub, without network."""
    arguments = SMALL | {"reg_tokens": 4, "global_pool": ""} | registry.SWIGLU
    small = replace(REGISTRY["virchow2"], arguments=arguments, dim=48)
    monkeypatch.setitem(REGISTRY, "virchow2", small)
    torch.manual_seed(0)
    trunk = pretrained._timm_trunk("virchow2", small).eval()
    torch.nn.init.normal_(trunk.reg_token, std=5)
    file = cache("paige-ai/Virchow2") / "model.safetensors"
    save_file(trunk.state_dict(), file)
    encoder = tile_encoder("virchow2", device="cpu")
    assert (encoder.dim, encoder.size_px, encoder.how) == (48, 256, "torch cpu float32")
    assert encoder.weights == hub.fingerprint(file)
    with torch.inference_mode():
        tokens = trunk(pixels(tiles, small))
    assert tokens.shape[1] == 1 + 4 + 49
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=1).numpy()
    np.testing.assert_allclose(encoder(tiles), expected, atol=0.02)
    pinned = tile_encoder(f"virchow2@{COMMIT}", device="cpu")
    np.testing.assert_array_equal(pinned(tiles), encoder(tiles))
    with pytest.raises(InputError, match="not on this machine"):
        tile_encoder(f"virchow2@{'f' * 40}", device="cpu")


@pytest.fixture
def tiny_uni(timm, monkeypatch):
    small = replace(REGISTRY["uni"], arguments=SMALL, dim=24)
    monkeypatch.setitem(REGISTRY, "uni", small)
    torch.manual_seed(1)
    return pretrained._timm_trunk("uni", small).eval()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "mine.pth"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_weights_load_from_a_folder_or_a_file(tiny_uni, tmp_path, tiles, name, as_folder):
    file = tmp_path / name
    (save_file if file.suffix == ".safetensors" else torch.save)(tiny_uni.state_dict(), file)
    if name == "model.safetensors":  # goes before what else may lie there
        for other in ("a.safetensors", "pytorch_model.bin"):
            (tmp_path / other).touch()
    encoder = tile_encoder("uni", weights=tmp_path if as_folder else file, device="cpu")
    with torch.inference_mode():
        expected = tiny_uni(pixels(tiles, REGISTRY["uni"])).numpy()
    np.testing.assert_allclose(encoder(tiles), expected, atol=0.02)
    assert encoder.weights == hub.fingerprint(file)


def test_lower_precision_is_close_and_not_the_default(tiny_uni, tmp_path, tiles):
    save_file(tiny_uni.state_dict(), tmp_path / "model.safetensors")
    full = tile_encoder("uni", weights=tmp_path, device="cpu")
    half = tile_encoder("uni", weights=tmp_path, device="cpu", precision="bfloat16")
    assert (full.how, half.how) == ("torch cpu float32", "torch cpu bfloat16")
    assert half(tiles).dtype == np.float32
    difference = np.abs(full(tiles) - half(tiles)).max()
    assert 0 < difference < 0.1


def test_weights_that_do_not_fit_are_refused(tiny_uni, tmp_path):
    state = tiny_uni.state_dict()
    file = tmp_path / "model.safetensors"
    for change in ({"blocks.1.mlp.fc1.weight": None}, {"extra": torch.zeros(1)}, {"norm.bias": torch.zeros(3)}):
        save_file({k: v for k, v in (state | change).items() if v is not None}, file)
        with pytest.raises(InputError, match=f"does not fit vit_large_patch16_224(.|\n)*{next(iter(change))}"):
            tile_encoder("uni", weights=file)
    save_file(state | {"head.weight": torch.zeros(1000, 24), "head.bias": torch.zeros(1000)}, file)
    tile_encoder("uni", weights=file, device="cpu")  # a classifier of other classes is no part of the encoder


class Evil:
    def __reduce__(self):
        return (os.system, ("touch was_run",))


def test_code_in_a_file_of_weights_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.bin").write_bytes(pickle.dumps({"a": Evil()}))
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "nested.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"abc")
    for name, problem in (("evil.bin", "not a readable"), ("evil.pth", "not a readable"), ("cut.safetensors", "not a")):
        with pytest.raises(InputError, match=problem):
            hub.read_weights("uni", tmp_path / name)
    with pytest.raises(InputError, match="plain dictionary of tensors"):
        hub.read_weights("uni", tmp_path / "nested.pth")
    assert not (tmp_path / "was_run").exists()


def test_any_timm_model_loads_as_its_files_say(timm, cache, tiles):
    torch.manual_seed(2)
    trunk = timm.create_model("resnet10t", num_classes=5).eval()
    folder = cache("timm/resnet10t.mine")
    timm.models.save_for_hf(trunk, folder, model_config={"num_classes": 5}, safe_serialization=True)
    encoder = tile_encoder("timm:resnet10t.mine", device="cpu")
    assert encoder.dim == trunk.num_features == 512
    config = timm.data.resolve_data_config({}, model=trunk)
    transform = timm.data.create_transform(**config)
    with torch.inference_mode():
        prepared = torch.stack([transform(Image.fromarray(tile)) for tile in tiles])
        expected = trunk.forward_head(trunk.forward_features(prepared), pre_logits=True).numpy()
    np.testing.assert_allclose(encoder(tiles), expected, atol=0.02)


@pytest.fixture
def tiny_dinov2(transformers, cache, monkeypatch):
    """Phikon-v2 in small, laid out like its snapshot."""
    torch.manual_seed(3)
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 224, "patch_size": 16}
    trunk = transformers.Dinov2Model(transformers.Dinov2Config(**size)).eval()
    folder = cache("owkin/phikon-v2")
    trunk.save_pretrained(folder)
    monkeypatch.setitem(REGISTRY, "phikon-v2", replace(REGISTRY["phikon-v2"], dim=24))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True}
            | {"resample": 3, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
        )
    )
    return trunk, folder


def test_a_transformers_model_loads_from_the_cache(tiny_dinov2, tiles):
    trunk, folder = tiny_dinov2
    with torch.inference_mode():
        expected = trunk(pixels(tiles, REGISTRY["phikon-v2"])).last_hidden_state[:, 0].numpy()
    for options in ({"name": "phikon-v2"}, {"name": "phikon-v2", "weights": folder}, {"name": "hf:owkin/phikon-v2"}):
        encoder = tile_encoder(**options, device="cpu")
        assert encoder.dim == 24
        np.testing.assert_allclose(encoder(tiles), expected, atol=0.02)


@pytest.mark.parametrize(
    ("said", "prepared"),
    [
        ({"size": {"shortest_edge": 30}, "do_center_crop": True, "resample": 3}, (30, 20, "bicubic")),
        ({"size": {"height": 30, "width": 30}, "do_center_crop": False, "resample": 2}, (30, 30, "bilinear")),
    ],
)
def test_pixels_are_prepared_as_the_files_of_a_model_say(tmp_path, said, prepared):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 8}))
    colours = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "crop_size": {"height": 20, "width": 20}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said | colours))
    model = pretrained._described("hf:a/b", "a/b", tmp_path)
    assert (model.resize, model.input_px, model.interpolation) == prepared
    assert (model.normalisation, model.dim) == (((0.5,) * 3, (0.25,) * 3), 8)


def test_a_transformers_model_that_lacks_parameters_is_refused(tiny_dinov2):
    trunk, folder = tiny_dinov2
    state = {key: value for key, value in trunk.state_dict().items() if "layer.1.mlp" not in key}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="lacks 4 parameters"):
        tile_encoder("phikon-v2")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model_type": "swinv2"}, "is a swinv2, whose class token"),
        ({"model_type": "mine", "auto_map": {"AutoModel": "code.Mine"}}, "is a mine, whose class token"),
        ({"resample": None}, "does not say None"),
    ],
)
def test_a_model_that_hsa_would_have_to_guess_at_is_refused(tiny_dinov2, change, problem):
    folder = tiny_dinov2[1]
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=problem):
        tile_encoder("hf:owkin/phikon-v2")


def test_hibou_loads_by_the_class_of_transformers_and_not_by_its_own_code(transformers, tmp_path, tiles, monkeypatch):
    monkeypatch.setitem(REGISTRY, "hibou-b", replace(REGISTRY["hibou-b"], dim=24))
    torch.manual_seed(4)
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 224}
    trunk = transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**size)).eval()
    trunk.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"auto_map": {"AutoModel": "evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('was run')")
    with torch.inference_mode():
        expected = trunk(pixels(tiles, REGISTRY["hibou-b"])).pooler_output.numpy()
    np.testing.assert_allclose(tile_encoder("hibou-b", weights=tmp_path, device="cpu")(tiles), expected, atol=0.02)


# What a user is told.


def test_code_of_a_repository_is_never_run():
    with pytest.raises(InputError, match=r"needs code of its repository(.|\n)*an encoder of your own"):
        tile_encoder("conch-v1.5", size_px=512)


def test_an_encoder_that_is_not_there_says_every_step(cache):
    with pytest.raises(InputError) as told:
        tile_encoder("uni2-h")
    for step in (
        "https://huggingface.co/MahmoodLab/UNI2-h",
        "hf auth login",
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "hf download MahmoodLab/UNI2-h",
        "HF_HOME",
        "weights: FILE_OR_FOLDER",
    ):
        assert step in str(told.value)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (
            "GatedRepoError",
            r"is gated: \(1\) ask for access .* at https://huggingface.co/MahmoodLab/UNI2-h; \(2\) log in",
        ),
        ("RepositoryNotFoundError", r"shows you no MahmoodLab/UNI2-h: \(1\) check the name"),
        ("RevisionNotFoundError", "no revision v9"),
        ("RemoteEntryNotFoundError", "has no model.safetensors or pytorch_model.bin"),
        ("HfHubHTTPError", "Try again later"),
        (None, "Try again later"),
    ],
)
def test_each_answer_of_the_hub_is_explained(monkeypatch, error, problem):
    library = pytest.importorskip("huggingface_hub")
    import httpx2

    response = httpx2.Response(403, request=httpx2.Request("GET", "https://huggingface.co"))

    def refuse(*args, **kwargs):
        raise getattr(library.errors, error)("no", response=response) if error else ConnectionError("no")

    monkeypatch.setattr(library, "hf_hub_download", refuse)
    with pytest.raises(InputError, match=problem):
        tile_encoder("uni2-h@v9")


def test_a_missing_package_names_its_extra(monkeypatch, tmp_path):
    import sys

    for name in ("huggingface_hub", "timm", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'huggingface_hub is missing .*pip install "hsa\[foundation\]"'):
        tile_encoder("uni")
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r'timm is missing .*pip install "hsa\[foundation\]"'):
        tile_encoder("uni", weights=tmp_path)
    with pytest.raises(InputError, match=r'pip install "hsa\[int8\]"'):
        openvino.quantise("toy", tmp_path, np.zeros((48, 8, 8, 3), np.uint8), torch.nn.Identity(), "w")


def test_local_weights_never_ask_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "from_hub", lambda *args: pytest.fail("asked the hub"))
    with pytest.raises(InputError, match="no file of weights at"):
        tile_encoder("uni", weights=tmp_path / "missing")
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="several files of weights at"):
        tile_encoder("uni", weights=tmp_path)


# Int8.


def test_int8_is_close_to_float32_or_refused(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    rng = np.random.default_rng(0)
    tiles = rng.uniform(60, 250, (48, 1, 1, 3)) * rng.uniform(0.8, 1, (48, 32, 32, 1))
    tiles = tiles.astype(np.uint8)
    torch.manual_seed(1)
    layers = [torch.nn.Conv2d(3, 32, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3, 2), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    prepare = pretrained._prepare(replace(REGISTRY["resnet50"], resize=24, input_px=24))
    monkeypatch.setattr(openvino, "COSINE", 0.9)  # a network of random weights loses more than a trained one
    record = openvino.quantise("toy", tmp_path, tiles, network, "sha256:1", prepare)
    assert (record["tiles_calibration"], record["tiles_held_out"]) == (32, 16)
    run, how, weights = openvino.runner("toy", tmp_path, "sha256:1", prepare, 1)
    with torch.inference_mode():
        expected = network(prepare(torch.from_numpy(tiles[32:]))).numpy()
    found = run(tiles[32:])
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert 0.9 < cosine.min() < 1 - 1e-6
    assert record["cosine_lowest"] == pytest.approx(cosine.min(), abs=1e-6)
    assert f"{cosine.min():.4f}" in how
    assert weights == hub.fingerprint(tmp_path / "int8.bin")
    with pytest.raises(InputError, match="is of toy sha256:1, the encoder has sha256:2"):
        openvino.runner("toy", tmp_path, "sha256:2", prepare, 1)
    with pytest.raises(InputError, match="47 tiles are too few"):
        openvino.quantise("toy", tmp_path / "refused", tiles[:47], network, "sha256:1", prepare)
    monkeypatch.setattr(openvino, "CENTRED", 0.9999999)
    with pytest.raises(InputError, match=r"mean centred cosine .* \(needed 0\.9999999\)"):
        openvino.quantise("toy", tmp_path / "refused", tiles, network, "sha256:1", prepare)
    monkeypatch.setattr(openvino, "CENTRED", 0.0)
    monkeypatch.setattr(openvino, "COSINE", 0.9999999)
    with pytest.raises(InputError, match="too far from float32 on 16 tiles held out"):
        openvino.quantise("toy", tmp_path / "refused", tiles, network, "sha256:1", prepare)
    assert not (tmp_path / "refused").exists()
    with pytest.raises(InputError, match=r"no int8 model \(int8.json\)"):
        openvino.runner("toy", tmp_path / "refused", "sha256:1", prepare, 1)
