"""Exported networks, kept between runs: exporting one loads torch, which takes longer than the slides of a worker."""

import hashlib
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from hsa import files
from hsa.fingerprint import fingerprint

if TYPE_CHECKING:
    import torch

# What decides the bytes of a model, beside its weights and the code that builds it.
_PACKAGES = ("torch", "onnx", "efficientnet-lite-pytorch")


def folder() -> Path:
    """Give the folder that models are kept in: `hsa` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hsa"


def onnx(name: str, weights: str, module: str, network: Callable[[], "torch.nn.Module"], size_px: int) -> bytes:
    """Give a network as an ONNX model: the one that is kept, if it is of these weights, code and versions.

    A file that was damaged, and a folder that cannot be read or written, cost the time of an export and no more.

    Args:
        name: of the encoder.
        weights: what tells its weights.
        module: whose code builds the network.
        network: builds it: pixels (B, S, S, 3) uint8 to features (B, D).
        size_px: S.
    """
    key = fingerprint([weights, size_px, [_version(package) for package in _PACKAGES]], module, __name__)
    path = folder() / f"{name}-{key}.onnx"
    with suppress(OSError):
        kept = path.read_bytes()
        model, digest = kept[:-32], kept[-32:]
        if hashlib.sha256(model).digest() == digest:
            return model
    model = _export(network(), size_px)
    with suppress(OSError), files.replacing(path) as temporary:
        temporary.write_bytes(model + hashlib.sha256(model).digest())
    return model


def _export(network: "torch.nn.Module", size_px: int) -> bytes:
    import io

    import torch

    model = io.BytesIO()
    with warnings.catch_warnings():
        # dynamo=False needs no onnxscript; torch warns that it is the older of its two exporters.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8),),
            model,  # type: ignore[arg-type]  # the older exporter writes to a buffer
            input_names=["tiles"],
            output_names=["features"],
            dynamic_axes={"tiles": {0: "batch"}, "features": {0: "batch"}},
            dynamo=False,
        )
    return model.getvalue()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
