"""A slide encoder with its input scaling and classification head: all that a fold learns."""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hsa.models.longnet import LongNet
from hsa.models.pooling import GatedABMIL, MeanPool
from hsa.study.settings import Model

if TYPE_CHECKING:  # a model knows tensors; what reads bags from files knows it
    from hsa.bags.batches import Batch

STAINS = ("he", "ihc")


class SlideModel(nn.Module):
    """One slide encoder for H&E, masked H&E and IHC bags.

    Tile features are standardised first, each stain by the tiles of the fold's training slides (`set_scale`). The
    published model takes GigaPath features as they are (`model.standardise: false`: no scale is set); those of
    other tile encoders come in any scale, and what sets the two stains apart in every tile would be the first
    thing that InfoNCE spends itself on. A masked tile is zero after standardisation: the average tile.

    Published weights are no business of this class (see `hsa.models.published.start`), so that a trained model is read
    back without them.

    Args:
        in_dim: width of a tile feature.
        encoder: "longnet", "abmil", "mean" or "colour" (a mean, too; its bags hold colours).
        model: sizes, dropout, which state is the embedding, and whether the head has a pass of its own.
        classes: number of classes of the classification head; 0: no head.
        tile_size: side of a grid cell, px.
    """

    he_mean: Tensor
    he_deviation: Tensor
    ihc_mean: Tensor
    ihc_deviation: Tensor

    def __init__(self, in_dim: int, encoder: str, model: Model, classes: int = 0, tile_size: int = 256):
        super().__init__()
        self.options: dict[str, Any] = {}
        self.encoder: LongNet | GatedABMIL | MeanPool
        if encoder == "longnet":
            sizes = ("dim", "depth", "heads", "mlp_ratio", "segment_lengths", "dilated_ratios")
            settings = model.model_dump(include={*sizes, "dropout", "drop_path", "norm_eps", "checkpoint_activations"})
            self.encoder = LongNet(in_dim, **settings, tile_size=tile_size)
            self.options = model.model_dump(include={"layer", "final_norm", "pool"})
        elif encoder == "abmil":
            self.encoder = GatedABMIL(in_dim, model.dim, model.dim // 2, model.dropout)
        else:
            self.encoder = MeanPool(in_dim)
        for stain in STAINS:
            self.register_buffer(f"{stain}_mean", torch.zeros(in_dim))
            self.register_buffer(f"{stain}_deviation", torch.ones(in_dim))
        self._freeze_unused(in_dim)
        if encoder == "longnet":
            self.options["layer"] %= model.depth + 1  # as it is recorded: counted from the first state
        self.own_pass = model.as_published
        self.head: nn.Sequential | None = None
        if classes:
            self.head = nn.Sequential(
                nn.Linear(model.dim, model.head_hidden),
                nn.ReLU(),
                nn.Dropout(model.head_dropout),
                nn.Linear(model.head_hidden, classes),
            )

    def _freeze_unused(self, in_dim: int) -> None:
        """Freeze what the embedding does not depend on; distributed training waits for its gradient for ever."""
        self.eval()
        z = self.encoder(torch.zeros(1, 2, in_dim), torch.zeros(1, 2, 2), **self.options)
        if z.requires_grad:
            z.sum().backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        self.train()

    def set_scale(self, stain: str, mean: Tensor, deviation: Tensor) -> None:
        """Standardise the features of a stain by these (D,)."""
        getattr(self, f"{stain}_mean").copy_(mean)
        getattr(self, f"{stain}_deviation").copy_(deviation)

    def standardise(self, batch: "Batch", stain: str) -> Tensor:
        """Scaled features (B, N, D); padding is zero."""
        scaled: Tensor = batch.features - getattr(self, f"{stain}_mean")
        scaled /= getattr(self, f"{stain}_deviation")  # in place, as below: each copy is as large as the batch
        return scaled if batch.mask.all() else scaled.mul_(batch.mask[..., None])

    def embed(self, batch: "Batch", stain: str, masked: Tensor | None = None) -> Tensor:
        """Embed slides (B, dim) of one stain, with the tiles `masked` (B, N) set to zero."""
        features = self.standardise(batch, stain)
        if masked is not None:
            features = features.masked_fill(masked[..., None], 0)
        z: Tensor = self.encoder(features, batch.coords, batch.mask, **self.options)
        return z

    def _project(self, features: Tensor) -> Tensor:
        """Narrow features at once where the encoder begins so: what is joined afterwards is smaller by the factor."""
        return self.encoder.project(features) if isinstance(self.encoder, LongNet) else features

    def forward(self, he: "Batch", masked: Tensor | None = None, ihc: "Batch | None" = None) -> dict[str, Tensor]:
        """Embed what the losses need, in one call of the encoder.

        Args:
            he: H&E bags.
            masked: (B, N) bool, the tiles to set to zero in the masked pass; None for no such pass.
            ihc: IHC bags of the same cases; None for no such pass.

        Returns:
            "z" (B, dim) of H&E; "z_masked" and "y" (B, dim) if asked for; "logits" (B, classes) if there is a head.
        """
        tokens = self._project(self.standardise(he, "he"))
        parts = {"z": (tokens, he.coords, he.mask)}
        if masked is not None:  # a tile of zeros is projected once for all
            nothing = self._project(he.features.new_zeros(1, 1, he.features.shape[2]))
            parts["z_masked"] = (torch.where(masked[..., None], nothing, tokens), he.coords, he.mask)
        if ihc is not None:
            parts["y"] = (self._project(self.standardise(ihc, "ihc")), ihc.coords, ihc.mask)
        if self.own_pass and self.head is not None and self.training:
            parts["z_head"] = parts["z"]
        joined = (_join(tensors) for tensors in zip(*parts.values(), strict=True))
        options = self.options | ({"projected": True} if isinstance(self.encoder, LongNet) else {})
        embeddings = self.encoder(*joined, **options).split(len(tokens))
        output = dict(zip(parts, embeddings, strict=True))
        if self.head is not None:
            output["logits"] = self.head(output.pop("z_head", output["z"]))
        return output


def _join(tensors: tuple[Tensor, ...]) -> Tensor:
    """Concatenate batches, padded with zeros to one length."""
    longest = max(tensor.shape[1] for tensor in tensors)
    return torch.cat([F.pad(t, (*[0, 0] * (t.ndim - 2), 0, longest - t.shape[1])) for t in tensors])
