"""The published slide encoder: its settings, and its weights in the layouts they are found in."""

import hashlib
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from hsa.errors import InputError
from hsa.models.longnet import LongNet
from hsa.study.settings import Model

WHERE = "https://huggingface.co/prov-gigapath/prov-gigapath"  # gated: one asks for access there


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


def path_of(settings: Model, study_file: str | Path) -> Path | None:
    """Give the file of weights that a model starts from, if it does; a path in a study is relative to its file."""
    if settings.weights is None:
        return None
    return (Path(study_file).resolve().parent / Path(settings.weights).expanduser()).resolve()


def fingerprint(path: Path | None) -> str | None:
    """SHA-256 of a file of weights, for a stamp; None where there is no file."""
    if path is None or not path.is_file():
        return None
    return _sha256(path, path.stat().st_size, path.stat().st_mtime_ns)


@cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file once a process, as long as it stays what it is: the published one has 345 MB."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def start(encoder: LongNet, settings: Model, path: Path) -> None:
    """Put published weights into a slide encoder that is about to be trained, or embedded with as it is.

    The head of a HistoStainAlign checkpoint is left aside: it belongs to the labels it was trained on.

    Args:
        encoder: made from `settings`.
        settings: the model's.
        path: of the weights, see `path_of`.

    Raises:
        InputError: no such file, not one of weights, or weights of another architecture.
    """
    if not path.is_file():
        raise InputError(
            f"model.weights: no file {path}. Ask for access to Prov-GigaPath at {WHERE} (a free account, one form), "
            "download slide_encoder.pth from its files, and put it there or set model.weights to where it is."
        )
    same_size = all(getattr(settings, key) == GIGAPATH[key] for key in ("dim", "depth", "mlp_ratio"))
    for key in ("heads", "norm_eps"):
        if same_size and getattr(settings, key) != GIGAPATH[key]:
            raise InputError(
                f"model.{key} is {getattr(settings, key):g}, the published encoder of this size has "
                f"{GIGAPATH[key]:g}: set it. The file of weights does not hold it, and would load without a word."
            )
    load_published(encoder, path)


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
    held = source if isinstance(source, Mapping) else _read(Path(source))
    for key in ("model", "model_state_dict"):
        if isinstance(held.get(key), Mapping):
            held = held[key]
    encoder = {key: value for key, value in held.items() if "classification_head." not in str(key)}
    odd = [key for key, value in encoder.items() if not (isinstance(key, str) and _is_sound(value))]
    if odd:
        raise InputError(f"{name}: {odd[0]!r} and {len(odd) - 1} more are no tensors of finite numbers: get it again")
    weights = {key.removeprefix("module."): value for key, value in held.items()}
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
            f"all. {_remedy(weights, model)}"
        )
    model.load_state_dict(weights)
    return head


def _is_sound(value: Any) -> bool:
    plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
    return plain and value.is_floating_point() and bool(value.isfinite().all())


def _remedy(weights: Mapping[str, Tensor], model: LongNet) -> str:
    """Say which keys of a study would make the model fit the weights."""
    found, own = _sizes(weights), _sizes(model.state_dict())
    other = [key for key in found if found[key] != own[key]]
    if not found or not other:
        return "Take another file: it is not (all of) a LongNet slide encoder under the published names."
    changes = [f"model.{key} to {found[key]:g} (it is {own[key]:g})" for key in other if key != "in_dim"]
    if "in_dim" in other:
        changes.append(
            f"encoder.name to a tile encoder of {found['in_dim']} features (yours gives {own['in_dim']}; "
            "Prov-GigaPath's has 1536)"
        )
    return f"Set {', '.join(changes)}, or take another file."


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Sizes of a slide encoder, by its weights; nothing if they are not of one."""
    try:
        dim, in_dim = weights["patch_embed.proj.weight"].shape
        hidden = len(weights["encoder.layers.0.ffn.fc1.weight"])
    except (KeyError, ValueError):
        return {}
    depth = 1 + max(int(key.split(".")[2]) for key in weights if re.match(r"encoder\.layers\.\d+\.", key))
    return {"in_dim": in_dim, "dim": dim, "depth": depth, "mlp_ratio": hidden / dim}


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(f"{path}: not a readable file of weights: {error}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected tensors by name, found {type(content).__name__}")
    return content
