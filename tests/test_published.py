import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from hsa.errors import InputError
from hsa.longnet import LongNet
from hsa.published import GIGAPATH, load_published, segment_lengths

SMALL = GIGAPATH | {"in_dim": 24, "dim": 32, "depth": 2}


def weights(seed=1):
    torch.manual_seed(seed)
    return {k: torch.randn_like(v) for k, v in LongNet(**SMALL).state_dict().items()}


def with_head(prefix):
    named = {f"{prefix}slide_encoder.{k}": v for k, v in weights().items()}
    for name, shape in {"0.weight": (8, 32), "0.bias": (8,), "3.weight": (2, 8), "3.bias": (2,)}.items():
        named[f"{prefix}classification_head.{name}"] = torch.ones(shape)
    return named


def test_published_configuration():
    assert segment_lengths() == [1024, 5792, 32768, 185363, 1048576]
    assert segment_lengths(16384) == [1024, 1448, 2048, 2896, 4096]
    with torch.device("meta"):
        model = LongNet(**GIGAPATH)
    assert len(model.state_dict()) == len(list(model.parameters())) == 247
    assert sum(p.numel() for p in model.parameters()) == 86_330_880
    assert model.norm.eps == 1e-6


def test_names_are_those_of_the_published_checkpoint():
    golden = np.load(Path(__file__).parent / "data" / "longnet.npz")
    meta = json.loads(str(golden["a_meta"]))
    with torch.device("meta"):
        model = LongNet(**GIGAPATH | {"in_dim": 48, "dim": 256, "depth": 8})
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == meta["keys"]


@pytest.mark.parametrize(
    "content",
    [
        {"model": weights()},
        weights(),
        with_head("module."),
        with_head(""),  # single GPU: the official code loads 0 of 247 tensors from it, without a word
        {"model_state_dict": with_head("module."), "epoch": 3},
    ],
    ids=["gigapath", "plain", "several-gpus", "one-gpu", "wrapped"],
)
def test_every_published_layout_loads_in_full(content, tmp_path):
    torch.save(content, tmp_path / "slide_encoder.pth")
    for source in (content, tmp_path / "slide_encoder.pth"):
        model = LongNet(**SMALL)
        head = load_published(model, source)
        for name, value in weights().items():
            assert torch.equal(model.state_dict()[name], value)
        has_head = any("classification_head" in key for key in content.get("model_state_dict", content))
        assert sorted(head) == (["0.bias", "0.weight", "3.bias", "3.weight"] if has_head else [])


def test_safetensors(tmp_path):
    safetensors.torch.save_file(weights(), tmp_path / "w.safetensors")
    model = LongNet(**SMALL)
    assert load_published(model, tmp_path / "w.safetensors") == {}
    assert torch.equal(model.state_dict()["norm.bias"], weights()["norm.bias"])


def test_nothing_loads_unless_all_of_it_fits(tmp_path):
    model, name = LongNet(**SMALL), "encoder.layers.1.ffn.fc1.weight"
    before = {k: v.clone() for k, v in model.state_dict().items()}
    missing = {k: v for k, v in weights().items() if k != name}
    for content, message in [
        (missing, f"{name} is missing"),
        (weights() | {name: torch.zeros(3, 2)}, r"fc1.weight is \(3, 2\), expected \(128, 32\)"),
        (weights() | {"mask_token": torch.zeros(1)}, "mask_token is unknown"),
        ({f"net.{k}": v for k, v in weights().items()}, "cls_token is missing"),
    ]:
        with pytest.raises(InputError, match=message):
            load_published(model, {"model": content})
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    for file, message in [
        ("text.pth", "not a readable"),
        ("text.safetensors", "not a readable"),
        ("no", "no such"),
    ]:
        with pytest.raises(InputError, match=message):
            load_published(model, tmp_path / file)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
