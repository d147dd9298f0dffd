"""What runs a tile encoder's network: torch on any device, or ONNX Runtime on the CPU."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Run = Callable[[np.ndarray], np.ndarray]  # pixels (B, S, S, 3) uint8 -> features (B, D) float32


def torch_runner(
    network: "torch.nn.Module", prepare: "torch.nn.Module | None", threads: int, device: str, precision: str
) -> Run:
    """Run a network by torch, eagerly.

    Args:
        network: (B, 3, S, S) as `prepare` gives it, to features (B, D).
        prepare: from pixels (B, S, S, 3) uint8 to what the network takes; None if it takes those.
        threads: that one call may use on a CPU.
        device: cpu, cuda or mps.
        precision: float32, bfloat16 or float16.
    """
    import torch

    network = torch.nn.Sequential(prepare or torch.nn.Identity(), network).to(device)
    dtype = getattr(torch, precision)

    def run(tiles: np.ndarray) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode(), torch.autocast(device, dtype, enabled=precision != "float32"):
                return network(torch.from_numpy(np.ascontiguousarray(tiles)).to(device)).float().cpu().numpy()
        finally:
            torch.set_num_threads(before)

    return run


def onnx_runner(model: bytes, threads: int) -> Run:
    """Run a network by ONNX Runtime on the CPU; several threads may call it at a time.

    Args:
        model: ONNX: pixels `tiles` (B, S, S, 3) uint8 to features (B, D).
        threads: that one call may use.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(tiles: np.ndarray) -> np.ndarray:
        # One tile's maps stay in the processor's cache, those of a batch do not: same numbers, in less time and memory.
        tiles = np.ascontiguousarray(tiles)
        return np.concatenate([session.run(None, {"tiles": tile[None]})[0] for tile in tiles])

    return run
