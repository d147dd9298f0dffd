"""Arithmetic and memory of the slide encoders: formulas from the architecture, and a step that checks them."""

import math
import os
import time

import torch

from hsa.bags.batches import Batch
from hsa.models import attention
from hsa.models.model import SlideModel
from hsa.study.settings import Model

# A CPU's own time does not depend on what else runs there; a GPU's is not the process's, so the wall's is taken.
clock = time.perf_counter if torch.cuda.is_available() else time.process_time
SAMPLE_TILES = 128
SAMPLE_FLOP = 2e11  # of the step that is timed, at most about so many on a CPU; a hundred times that on a GPU


def forward_flops(encoder: str, in_dim: int, model: Model, tiles: int) -> float:
    """FLOP to embed one bag, two for each multiplication of matrices' elements; the rest is left out."""
    dim, tokens = model.dim, tiles + 1
    if encoder == "abmil":
        return 2 * tiles * (in_dim * dim + 2 * dim * (dim // 2) + dim // 2 + dim)
    if encoder != "longnet":
        return 0.0
    linear = 2 * tokens * (4 * dim**2 + 2 * dim * int(dim * model.mlp_ratio))
    attended = 0
    for _, segments, visits in _branches(model, tokens):
        attended += 4 * segments * visits**2 * dim
    return 2 * tiles * in_dim * dim + model.depth * (linear + attended)


def _branches(model: Model, tokens: int) -> list[tuple[int, int, int]]:
    """Of each attention branch: ratio, segments, tokens that a head visits in a segment."""
    found = []
    for segment, ratio in zip(model.segment_lengths, model.dilated_ratios, strict=True):
        length = min(segment, tokens)
        found.append((ratio, math.ceil(tokens / length), math.ceil(length / ratio)))
    return found


def activation_bytes(
    encoder: str, in_dim: int, model: Model, bags: int, tiles: int, half: bool, gpu: bool = True
) -> tuple[int, int, int, int]:
    """Memory of a training step, by what each layer keeps for its gradient.

    Args:
        encoder: "longnet"; others are small, and only their parameters and input are told.
        in_dim: width of a tile feature.
        model: the architecture.
        bags: in the step, all passes together.
        tiles: of each.
        half: mixed precision: products of 2 bytes; GELU and the sum over layers stay at 4.
        gpu: there, autocast keeps LayerNorm at 4 bytes, and a mask of dropout is one byte; on a CPU, both are of the
            type of what they act on.

    Returns:
        Bytes kept from the forward pass; bytes of one layer that is computed again (0 without
        `checkpoint_activations`); bytes of working copies, a guess; number of parameters.
    """
    width, dim, hidden = 2 if half else 4, model.dim, int(model.dim * model.mlp_ratio)
    parameters = in_dim * dim + dim * dim
    features = bags * tiles * in_dim * (4 + (width if half else 0))
    if encoder != "longnet":
        return features + 3 * bags * tiles * dim * width, 0, features, parameters
    tokens = bags * (tiles + 1)
    norm, mask = (4, 1) if gpu else (width, width)
    # Three LayerNorms keep their input and the three products behind them theirs; so do, in the wide part, GELU,
    # LayerNorm and the product behind it; then two masks of dropout.
    layer = tokens * ((8 + norm + 3 * width + 2 * mask) * dim + (4 + norm + width) * hidden)
    for _, segments, visits in _branches(model, tiles + 1):
        rows = bags * segments * model.heads
        layer += 3 * rows * visits * dim // model.heads * width  # queries, keys, values
        layer += segments * model.heads * visits * 8 + tokens * model.heads * 4  # their places, and the mixing weights
        if rows * visits**2 <= attention.PLAIN_SCORES:
            layer += rows * visits * (dim // model.heads * width + visits * (4 + (width if half else 0)))
        else:
            layer += rows * visits * (dim // model.heads * width + 4)  # output, log-sum-exp
    weights = 4 * dim**2 + 2 * dim * hidden
    layer += 2 * weights if half else 0  # cast, and kept with what they act on
    parameters = in_dim * dim + model.depth * weights
    kept = bags * tiles * in_dim * width + tokens * dim * (1 if gpu else 4) + (2 * in_dim * dim if half else 0)
    working = 3 * tokens * hidden * 4
    if model.checkpoint_activations:
        return kept + model.depth * tokens * dim * 4, layer, working, parameters
    return kept + model.depth * layer, 0, working, parameters


def saved_bytes(step: torch.nn.Module, *inputs: object) -> tuple[torch.Tensor, int]:
    """Run a module; tell what it gives, and the bytes that it keeps for its gradient, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in step.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = step(*inputs)
    return output, sum(sizes.values())


def measure_step(
    encoder: str, in_dim: int, model: Model, bags: int, tiles: int, half: bool
) -> tuple[float, int, int, str, str, int]:
    """Train one step of a small batch on this machine, as `hsa train` would: its GPU, or one thread of its CPU.

    Returns:
        FLOP/s; bytes of activations found, and by the formula; what was run; the device; its bytes of memory.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.model_copy(update={"checkpoint_activations": False})
    tiles = min(tiles, SAMPLE_TILES)
    flops = 3 * forward_flops(encoder, in_dim, model, tiles)
    bags = max(1, min(bags, int(SAMPLE_FLOP * (100 if device.type == "cuda" else 1) / flops)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):  # the model starts on the CPU
            network = SlideModel(in_dim, encoder, model).to(device).train().encoder
        side = math.ceil(math.sqrt(tiles))
        coords = torch.stack([torch.arange(tiles) % side, torch.arange(tiles) // side], 1).expand(bags, -1, -1) * 256
        mask = torch.ones(bags, tiles, dtype=torch.bool)
        batch = Batch(torch.zeros(bags, tiles, in_dim), coords, mask).to(device)
        optimiser = torch.optim.AdamW(network.parameters(), fused=True)
        spent = []
        for _ in range(3):  # the first warms up
            start = clock()
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                z, found = saved_bytes(network, *batch)
            optimiser.zero_grad()
            z.square().sum().backward()
            optimiser.step()
            z.sum().item()  # waits for the GPU
            spent.append(clock() - start)
    finally:
        torch.set_num_threads(threads)
    expected = sum(activation_bytes(encoder, in_dim, model, bags, tiles, half, device.type == "cuda")[:2])
    if device.type == "cuda":
        name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    else:
        name, memory = "a core of this CPU", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return flops * bags / min(spent), found, expected, f"{bags} bags of {tiles} tiles", name, memory
