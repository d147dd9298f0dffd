"""LongNet, the slide encoder: a bag of tile features and coordinates in, one slide embedding out.

The architecture of the Prov-GigaPath slide encoder (Xu et al., Nature 2024): a transformer with dilated
attention (LongNet, Ding et al., 2023) and sub-LayerNorm (Wang et al., "Foundation Transformers", 2022).
Parameter names are those of the published checkpoint. Attention is plain PyTorch, on any device.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hsa.errors import InputError
from hsa.models.attention import dilated_attention
from hsa.models.pooling import masked_mean

GRID = 1000  # cells a side of the published position table; beyond it, positions would wrap


class DilatedSelfAttention(nn.Module):
    """Multi-head dilated self-attention with a LayerNorm before its output projection."""

    def __init__(self, dim: int, heads: int, segments: Sequence[int], ratios: Sequence[int]):
        super().__init__()
        self.heads, self.segments, self.ratios = heads, segments, ratios
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.inner_attn_ln = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor, lengths: list[int]) -> Tensor:
        """(B, N, dim) to (B, N, dim); a slide has `lengths` tokens, on which `mask` (B, N) is True."""
        qkv = torch.stack([self.q_proj(x), self.k_proj(x), self.v_proj(x)])
        if min(lengths) < x.shape[1]:
            qkv = qkv * mask[..., None]
        qkv = qkv.unflatten(-1, (self.heads, -1)).transpose(2, 3)
        y: Tensor = dilated_attention(qkv, lengths, self.segments, self.ratios).transpose(1, 2).flatten(2)
        y = self.out_proj(self.inner_attn_ln(y))
        return y


class FeedForward(nn.Module):
    """Two linear layers, exact GELU in float32, LayerNorm before the second."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.ffn_layernorm = nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) to (B, N, dim)."""
        x = self.fc1(x)
        x = self.fc2(self.ffn_layernorm(F.gelu(x.float()).to(x.dtype)))
        return x


class Layer(nn.Module):
    """Pre-norm transformer layer; training drops a residual branch of a slide with chance `drop_path`."""

    def __init__(self, attention: DilatedSelfAttention, ffn: FeedForward, dim: int, dropout: float, drop_path: float):
        super().__init__()
        self.self_attn = attention
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.ffn = ffn
        self.final_layer_norm = nn.LayerNorm(dim)
        self.dropout, self.drop_path = nn.Dropout(dropout), drop_path

    def _residual(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        if self.training and self.drop_path > 0:
            x = x * F.dropout(x.new_ones(len(x), 1, 1), self.drop_path)
        return x

    def forward(self, x: Tensor, mask: Tensor, lengths: list[int]) -> Tensor:
        """(B, N, dim) to (B, N, dim)."""
        x = x + self._residual(self.self_attn(self.self_attn_layer_norm(x), mask, lengths))
        return x + self._residual(self.ffn(self.final_layer_norm(x)))


class PatchEmbedding(nn.Module):
    """Projection of tile features to the width of the slide embedding."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__()
        self.proj = nn.Linear(in_dim, dim)


class LayerStack(nn.Module):
    """The layers, and the LayerNorm that the published code applies after the last of them where asked to."""

    def __init__(self, layers: Iterable[Layer], dim: int):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.layer_norm = nn.LayerNorm(dim)


class LongNet(nn.Module):
    """LongNet slide encoder.

    Weights start as in "Foundation Transformers" (Xavier; value, output and feed-forward projections scaled
    by sqrt(log(2 depth))), from torch's global generator.

    Args:
        in_dim: width of a tile feature.
        dim: width D of the slide embedding, a multiple of 4 and of `heads`.
        depth: number of layers.
        heads: attention heads.
        mlp_ratio: hidden width of the feed-forward part, in units of `dim`.
        segment_lengths: longest segment of each attention branch, in tokens.
        dilated_ratios: dilation of each attention branch.
        tile_size: side of a grid cell, in the pixels of the coordinates.
        dropout: chance that an activation is dropped.
        drop_path: chance that a residual branch is dropped in the last layer; 0 in the first, linear between.
        norm_eps: of the LayerNorm after pooling. The published 12-layer configuration has 1e-6.
        checkpoint_activations: keep of each layer its input only, and compute the rest again in the backward pass.

    Raises:
        InputError: the numbers do not fit each other.
    """

    waves: Tensor

    def __init__(
        self,
        in_dim: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        segment_lengths: Sequence[int],
        dilated_ratios: Sequence[int],
        tile_size: int = 256,
        dropout: float = 0.25,
        drop_path: float = 0.1,
        norm_eps: float = 1e-5,
        checkpoint_activations: bool = False,
    ):
        super().__init__()
        if dim % 4 or dim % heads:
            raise InputError(f"model.dim is {dim}: it must be a multiple of 4 and of model.heads ({heads})")
        if not segment_lengths or len(segment_lengths) != len(dilated_ratios):
            raise InputError(
                f"model.segment_lengths has {len(segment_lengths)} numbers and model.dilated_ratios "
                f"{len(dilated_ratios)}: give one of each for every attention branch"
            )
        self.tile_size, self.depth, self.checkpoint_activations = tile_size, depth, checkpoint_activations
        self.patch_embed = PatchEmbedding(in_dim, dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.dropout = nn.Dropout(dropout)
        layers = (
            Layer(
                DilatedSelfAttention(dim, heads, tuple(segment_lengths), tuple(dilated_ratios)),
                FeedForward(dim, int(dim * mlp_ratio)),
                dim,
                dropout,
                drop_path * i / max(1, depth - 1),
            )
            for i in range(depth)
        )
        self.encoder = LayerStack(layers, dim)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        # Sine and cosine separate by axis: 1000 rows serve all 1000 x 1000 cells.
        wave = 10000 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
        angle = torch.arange(GRID, dtype=torch.float64)[:, None] * wave
        self.register_buffer("waves", torch.cat([angle.sin(), angle.cos()], 1).float(), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        gain = math.sqrt(math.log(2 * max(1, len(self.encoder.layers))))
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                scaled = name.endswith(("v_proj", "out_proj", "fc1", "fc2"))
                nn.init.xavier_uniform_(module.weight, gain if scaled else 1.0)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.cls_token, std=0.02)

    def positions(self, coords: Tensor, mask: Tensor | None = None) -> Tensor:
        """Sine-cosine code (B, N, dim) of the grid cells of tiles at `coords` (B, N, 2), in pixels.

        Raises:
            InputError: a tile lies outside the 1000 x 1000 grid.
        """
        cell = torch.div(coords, self.tile_size, rounding_mode="floor").long()
        if mask is not None:
            cell = cell * mask[..., None]
        low, high = (int(v) for v in cell.aminmax())
        if low < 0 or high >= GRID:
            raise InputError(
                f"a tile lies in grid cell {low if low < 0 else high}, expected 0 to {GRID - 1} (cells of "
                f"{self.tile_size} px): give coordinates in the pixels of the tiles, from the slide's corner"
            )
        return torch.cat([self.waves[cell[..., 1]], self.waves[cell[..., 0]]], -1)

    def project(self, features: Tensor) -> Tensor:
        """Project tile features (B, N, in_dim) to tokens (B, N, dim), as yet without their positions."""
        tokens: Tensor = self.patch_embed.proj(features)
        return tokens

    def states(
        self,
        features: Tensor,
        coords: Tensor,
        mask: Tensor | None = None,
        *,
        last: int | None = None,
        projected: bool = False,
    ) -> Iterator[Tensor]:
        """Token states after the embedding and after each layer, none with `encoder.layer_norm`.

        Args:
            features: (B, N, in_dim).
            coords: (B, N, 2), pixels.
            mask: (B, N) bool, True on real tiles, which come first; None if all are.
            last: stop after this layer.
            projected: the features have been through `project`, and are (B, N, dim).

        Yields:
            depth + 1 tensors (B, 1 + N, dim); token 0 is the CLS token.

        Raises:
            InputError: a bag is empty, its padding does not come last, or a tile lies outside the grid.
        """
        batch, tiles = features.shape[:2]
        if mask is None:
            mask = torch.ones(batch, tiles, dtype=torch.bool, device=features.device)
        lengths = mask.sum(1).tolist()
        if not tiles or min(lengths) == 0:
            raise InputError("a bag has no tile: leave its slide out, or loosen the tissue mask")
        if not torch.equal(mask, torch.arange(tiles, device=mask.device) < mask.sum(1, keepdim=True)):
            raise InputError("the mask of a batch must mark real tiles first, padding last")
        # Under autocast the projection is of half precision; the positions are not, nor is what is added up on them.
        x = (features if projected else self.project(features)) + self.positions(coords, mask)
        x = torch.cat([self.cls_token.to(x.dtype).expand(batch, -1, -1), x], 1)
        x = self.dropout(x)
        yield x
        mask, lengths = F.pad(mask, (1, 0), value=True), [n + 1 for n in lengths]
        for layer in self.encoder.layers[:last]:
            if self.checkpoint_activations and torch.is_grad_enabled():
                x = checkpoint(layer, x, mask, lengths, use_reentrant=False)
            else:
                x = layer(x, mask, lengths)
            yield x

    def pool(
        self, tokens: Tensor, mask: Tensor | None = None, *, final_norm: bool = False, pool: str = "mean"
    ) -> Tensor:
        """Embed slides (B, dim) from states (B, 1 + N, dim): mean of the tiles or CLS token, then `norm`."""
        x = self.encoder.layer_norm(tokens) if final_norm else tokens
        pooled: Tensor = self.norm(x[:, 0] if pool == "cls" else masked_mean(x[:, 1:], mask))
        return pooled

    def forward(
        self,
        features: Tensor,
        coords: Tensor,
        mask: Tensor | None = None,
        *,
        layer: int = -1,
        final_norm: bool = False,
        pool: str = "mean",
        projected: bool = False,
    ) -> Tensor:
        """Embed a batch of bags.

        An embedding does not depend on the other slides of its batch.

        Args:
            features: (B, N, in_dim).
            coords: (B, N, 2) [x, y] of the tiles' corners, pixels at the resolution of the tiles.
            mask: (B, N) bool, True on real tiles, which come first; None if all are.
            layer: state to embed, 0 (before the layers) to depth; negative counts from the end.
            final_norm: apply `encoder.layer_norm` before pooling.
            pool: "mean" of the tile tokens or "cls" token. HistoStainAlign uses -1, False, "mean".
            projected: as for `states`.

        Returns:
            (B, dim).

        Raises:
            InputError: an unknown layer or pooling, an empty bag, a tile outside the grid.
        """
        number = layer if layer >= 0 else self.depth + 1 + layer
        if not 0 <= number <= self.depth:
            raise InputError(f"model.layer is {layer}: this encoder has states 0 to {self.depth}")
        if pool not in ("mean", "cls"):
            raise InputError(f"model.pool is {pool!r}: expected 'mean' or 'cls'")
        *_, tokens = self.states(features, coords, mask, last=number, projected=projected)
        return self.pool(tokens, mask, final_norm=final_norm, pool=pool)
