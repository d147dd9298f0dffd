"""The published slide encoder: its settings, and its weights in the layouts they are found in."""

import math
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hsa.errors import InputError
from hsa.longnet import LongNet


def segment_lengths(max_wsi_size: int = 262144, tile_size: int = 256, count: int = 5) -> list[int]:
    """Give the published segment lengths: geometric, from 1024 to the tiles of the largest slide.

    Args:
        max_wsi_size: side of the largest slide, px.
        tile_size: side of a tile, px.
        count: number of branches.

    Returns:
        `int(2 ** e)`, e evenly spaced from 10 to `int(log2((max_wsi_size // tile_size) ** 2))`.
    """
    top = int(math.log2((max_wsi_size // tile_size) ** 2))
    return [int(2 ** (10 + (top - 10) * i / (count - 1))) for i in range(count)]


# The Prov-GigaPath slide encoder; `LongNet(**GIGAPATH)` has its 86,330,880 parameters in 247 tensors.
GIGAPATH = {
    "in_dim": 1536,
    "dim": 768,
    "depth": 12,
    "heads": 16,
    "mlp_ratio": 4.0,
    "segment_lengths": segment_lengths(),
    "dilated_ratios": [1, 2, 4, 8, 16],
    "norm_eps": 1e-6,
}


def load_published(model: LongNet, source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """Load published weights into `model`, all of them or none.

    Reads the Prov-GigaPath file (`{"model": ...}`), HistoStainAlign checkpoints (bare or in
    `{"model_state_dict": ...}`; names that begin with `slide_encoder.`, after `module.` where several
    GPUs trained it) and a plain state dict.

    Args:
        model: of the architecture of the weights; heads and segments are not stored in them.
        source: a `.safetensors` file, a file of `torch.save`, or what it holds.

    Returns:
        The weights of the classification head by their names in it (`"0.weight"`, ...), where there is one.

    Raises:
        InputError: names the first tensors that are missing, unknown or of another shape.
    """
    name = "the state dict" if isinstance(source, Mapping) else str(source)
    if not isinstance(source, Mapping):
        source = _read(Path(source))
    for key in ("model", "model_state_dict"):
        if isinstance(source.get(key), Mapping):
            source = source[key]
    weights = {key.removeprefix("module."): value for key, value in source.items()}
    head = {k.split(".", 1)[1]: v for k, v in weights.items() if k.startswith("classification_head.")}
    weights = {k: v for k, v in weights.items() if not k.startswith("classification_head.")}
    if any(key.startswith("slide_encoder.") for key in weights):
        weights = {key.removeprefix("slide_encoder."): value for key, value in weights.items()}

    expected = model.state_dict()
    problems = [f"{key} is missing" for key in expected if key not in weights]
    problems += [f"{key} is unknown" for key in weights if key not in expected]
    problems += [
        f"{key} is {tuple(weights[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        raise InputError(
            f"{name} does not fit this slide encoder: {'; '.join(problems[:5])}; {len(problems)} problems in "
            "all. Set in_dim, dim, depth and mlp_ratio to those of the weights, or take another file."
        )
    model.load_state_dict(weights)
    return head


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"{path}: not a readable file of weights: {error}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected tensors by name, found {type(content).__name__}")
    return content
