"""What runs a tile encoder's network: torch on any device, or ONNX Runtime on the CPU."""

import io
import warnings
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


def onnx_runner(network: "torch.nn.Module", size_px: int, threads: int) -> Run:
    """Run a network by ONNX Runtime on the CPU.

    Args:
        network: pixels (B, S, S, 3) uint8 to features (B, D).
        size_px: S.
        threads: that one call may use.
    """
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
            model,  # type: ignore[arg-type]  # the older exporter writes to a buffer
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
