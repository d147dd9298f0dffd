"""Dilated attention (LongNet, Ding et al., 2023): cost linear in the number of tokens.

Each branch cuts a slide into segments and lets each head visit every r-th token of a segment only. The
published rules are kept to the letter, in batches of slides of different length too, in plain PyTorch.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

UNVISITED = -1e8  # log-sum-exp of a token that a head does not visit in a branch
PLAIN_SCORES = 2**20  # up to this many scores are held at once (4 MB in float32, a core's cache)
LOOP_SCORES = 2**28  # and up to this many off the CPU (1 GB): a GPU waits for thousands of steps, not for its cache
# Private to torch, hence optional: the one fused kernel of the CPU that tells its log-sum-exp. Twice as
# fast on 10,000 tiles as the public one, after which the log-sum-exp is computed again.
CPU_KERNEL = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


def attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax attention and the log-sum-exp of its scores, in bounded memory.

    Args:
        q: (B, H, L, d).
        k: (B, H, L, d).
        v: (B, H, L, d).
        allowed: (B, 1, 1, L) bool, True where a key may be seen; None if all may.

    Returns:
        Output (B, H, L, d), and log-sum-exp (B, H, L) in float32, without gradient.
    """

    def scores(queries: Tensor) -> Tensor:
        logits: Tensor = (queries * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return (logits if allowed is None else logits.masked_fill(~allowed, -torch.inf)).float()

    rows, length = q.shape[0] * q.shape[1], q.shape[2]
    if rows * length * length <= PLAIN_SCORES:
        logits = scores(q)
        return logits.softmax(-1).to(v.dtype) @ v, logits.detach().logsumexp(-1)
    if q.is_cpu and CPU_KERNEL is not None:
        bias = None if allowed is None else torch.where(allowed, 0.0, -torch.inf).to(q.dtype)
        output, lse = CPU_KERNEL(q, k, v, attn_mask=bias)
        return output, lse.detach()
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    with torch.no_grad():
        step = max(1, (PLAIN_SCORES if q.is_cpu else LOOP_SCORES) // (rows * length))
        lse = torch.cat([scores(part).logsumexp(-1) for part in q.split(step, dim=2)], dim=2)
    return output, lse


def visited(tokens: int, heads: int, segment: int, ratio: int, device: torch.device | None = None) -> Tensor:
    """Tokens that each head visits in each segment.

    The heads fall into `ratio` contiguous groups; group j visits the tokens at j modulo `ratio` of a segment.

    Args:
        tokens: N, tokens of a slide.
        heads: H.
        segment: tokens of a segment.
        ratio: dilation.
        device: where to make them: on a GPU, each layer would wait for megabytes from the CPU.

    Returns:
        (segments, H, visits) rows of a table of H * N tokens, sorted by head; H * N stands for a zero
        token, which fills up the last segment to full length and every segment to a multiple of `ratio`.
    """
    head = torch.arange(heads, device=device)[:, None]
    place = head // math.ceil(heads / ratio) + ratio * torch.arange(math.ceil(segment / ratio), device=device)
    token = segment * torch.arange(math.ceil(tokens / segment), device=device)[:, None, None] + place
    return torch.where((place < segment) & (token < tokens), head * tokens + token, heads * tokens)


def rows_of(qkv: Tensor) -> Tensor:
    """Queries, keys and values (3, B, H, N, d) as rows (3, B, H * N + 1, d), the last of which is the zero token."""
    return F.pad(qkv.flatten(2, 3), (0, 0, 0, 1))


def branch(rows: Tensor, heads: int, lengths: list[int], segment: int, ratio: int) -> tuple[Tensor, Tensor]:
    """One branch of dilated attention.

    A slide of n tokens is cut into segments of g = min(segment, n) tokens. As published, the zeros that
    fill up a segment are keys like any other (score 0, value 0). What only pads a slide to its batch is
    not seen: a slide in one segment sees its first ceil(n / ratio) keys.

    Args:
        rows: of `rows_of`, zero where a token only pads its slide.
        heads: H.
        lengths: tokens of each of the B slides.
        segment: longest segment, in tokens.
        ratio: dilation.

    Returns:
        Output (B, H, N, d) and log-sum-exp (B, H, N): 0 and `UNVISITED` where a head does not visit.
    """
    _, batch, count, width = rows.shape
    tokens = (count - 1) // heads
    index = visited(tokens, heads, min(segment, tokens), ratio, rows.device)
    segments, _, visits = index.shape
    q, k, v = rows.index_select(2, index.flatten()).view(3, batch * segments, heads, visits, width)

    visible = [math.ceil(n / ratio) for n in lengths]
    allowed = None
    if min(visible) < visits:
        seen = torch.tensor(visible, device=q.device).repeat_interleave(segments)
        allowed = (torch.arange(visits, device=q.device) < seen[:, None])[:, None, None]
    output, lse = attend(q, k, v, allowed)

    table = output.new_zeros(batch, heads * tokens + 1, width)
    output = table.index_copy(1, index.flatten(), output.reshape(batch, -1, width))
    table = lse.new_full((batch, heads * tokens + 1), UNVISITED)
    lse = table.index_copy(1, index.flatten(), lse.reshape(batch, -1))
    return output[:, :-1].unflatten(1, (heads, tokens)), lse[:, :-1].unflatten(1, (heads, tokens))


def dilated_attention(qkv: Tensor, lengths: list[int], segments: Sequence[int], ratios: Sequence[int]) -> Tensor:
    """Dilated attention: branches mixed, per token and head, by the softmax of their log-sum-exp.

    No gradient flows through the mixing weights, as published.

    Args:
        qkv: queries, keys and values (3, B, H, N, d), zero where a token only pads its slide.
        lengths: tokens of each of the B slides.
        segments: longest segment of each branch.
        ratios: dilation of each branch.

    Returns:
        (B, H, N, d); what stands on padding means nothing.
    """
    rows = rows_of(qkv)  # once for all branches: a copy of everything
    branches = [branch(rows, qkv.shape[2], lengths, s, r) for s, r in zip(segments, ratios, strict=True)]
    weights = torch.stack([lse for _, lse in branches]).softmax(0).to(qkv.dtype)
    mixed: Tensor = sum(weight[..., None] * output for weight, (output, _) in zip(weights, branches, strict=True))
    return mixed
