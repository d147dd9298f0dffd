"""Slide encoders without context between tiles: mean pooling and gated attention."""

import torch
from torch import Tensor, nn


def masked_mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over tokens (B, D) of x (B, N, D), where `mask` (B, N) is True; over all if it is None."""
    if mask is None:
        return x.mean(1)
    weight = mask[..., None].to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1)


class MeanPool(nn.Module):
    """Mean of the tile features. It has nothing to train.

    Args:
        in_dim: width of a tile feature, and of the embedding.
    """

    def __init__(self, in_dim: int):
        super().__init__()
        self.dim = in_dim

    def forward(self, features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Embed bags (B, N, in_dim) as (B, in_dim); `mask` (B, N) is True on real tiles."""
        return masked_mean(features, mask)


class GatedABMIL(nn.Module):
    """Gated attention pooling (Ilse, Tomczak and Welling, ICML 2018, equation 9).

    h = ReLU(Linear(x)) is weighted by a = softmax over tiles of w' (tanh(V h) * sigmoid(U h)).

    Args:
        in_dim: width of a tile feature.
        dim: width of the embedding.
        hidden: width of the attention's hidden layer.
        dropout: chance that an entry of h is dropped.
    """

    def __init__(self, in_dim: int, dim: int, hidden: int, dropout: float = 0.25):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Dropout(dropout))
        self.tanh = nn.Linear(dim, hidden)
        self.gate = nn.Linear(dim, hidden)
        self.score = nn.Linear(hidden, 1)

    def attention(self, h: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights (B, N) of embedded tiles h (B, N, dim); each row sums to 1, padding has 0."""
        scores: Tensor = self.score(self.tanh(h).tanh() * self.gate(h).sigmoid()).squeeze(-1)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(-1)

    def forward(self, features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Embed bags (B, N, in_dim) as (B, dim); `mask` (B, N) is True on real tiles."""
        h: Tensor = self.embed(features)
        return (self.attention(h, mask)[:, None] @ h).squeeze(1)
