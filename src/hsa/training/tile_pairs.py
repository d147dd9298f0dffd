"""Contrastive training on registered tiles: a linear map a stain, on top of a frozen tile encoder.

Small enough for a handful of images. Both maps begin as the identity, so that what is trained begins as the frozen
encoder, and weight decay pulls back to it. A batch holds tiles that do not overlap; the negatives of a tile are the
other tiles of its image, as they are where its partner is looked for.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hsa.errors import InputError
from hsa.models.losses import info_nce

Grid = tuple[np.ndarray, np.ndarray]  # H&E and IHC features (n, D) of the same n places of an image


@dataclass(frozen=True)
class Settings:
    """How the maps are trained.

    Attributes:
        temperature: of the contrastive loss.
        epochs: passes over all grids of all images.
        lr: learning rate of AdamW, the same throughout.
        weight_decay: pulls the maps to the identity.
        dropout: share of the features set to zero in training, drawn anew for each tile.
    """

    temperature: float = 0.1
    epochs: int = 20
    lr: float = 3e-4
    weight_decay: float = 0.1
    dropout: float = 0.2


class StainMaps(nn.Module):
    """A linear map of features (n, D) for each stain: the identity and a change that begins at zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.he, self.ihc = (nn.Parameter(torch.zeros(dim, dim)) for _ in range(2))

    def forward(self, he: Tensor, ihc: Tensor) -> tuple[Tensor, Tensor]:
        """Map the features of both stains."""
        return he + he @ self.he, ihc + ihc @ self.ihc

    @torch.inference_mode()
    def mapped(self, he: np.ndarray, ihc: np.ndarray) -> Grid:
        """Map features (n, D) of both stains, as arrays."""
        both = self(_tensor(he), _tensor(ihc))
        return both[0].numpy(), both[1].numpy()


def offsets(side: int, tile: int) -> list[list[tuple[int, int]]]:
    """Cut a square into grids of tiles that do not overlap: from its corner, and shifted by half a tile either way.

    Args:
        side: of the square, px.
        tile: side of a tile, px.

    Returns:
        Up to four grids, the one from the corner first, each a list of (x, y) in reading order; those of a single tile
        are left out.

    Raises:
        InputError: fewer than two tiles fit.
    """
    made = []
    for shift_y in (0, tile // 2):
        for shift_x in (0, tile // 2):
            ys, xs = (range(shift, side - tile + 1, tile) for shift in (shift_y, shift_x))
            made.append([(x, y) for y in ys for x in xs])
    if len(made[0]) < 2:
        raise InputError(f"a picture of {side} px holds {len(made[0])} tiles of {tile} px: give one of {2 * tile} px")
    return [grid for grid in made if len(grid) > 1]


def shuffled(images: Sequence[Sequence[Grid]], seed: int) -> list[list[Grid]]:
    """Deal the IHC tiles of every grid anew among its places.

    A tile keeps its own as often as chance has it. Were that forbidden, the loss would push own partners apart, and the
    control would end below chance.
    """
    rng = np.random.default_rng([seed, 1])
    return [[(he, ihc[rng.permutation(len(ihc))]) for he, ihc in grids] for grids in images]


def fit(
    images: Sequence[Sequence[Grid]], settings: Settings, seed: int, at: Collection[int] = ()
) -> Iterator[tuple[int, StainMaps]]:
    """Train the maps; a step takes one grid of every image, in an order of its own, and averages their losses.

    Args:
        images: the grids of each training image, two places or more in each.
        settings: how to train.
        seed: of dropout and of the order of grids.
        at: epochs at which to give the maps; by default the last only.

    Yields:
        Epoch, and the maps after it: one object that goes on being trained.

    Raises:
        InputError: no images, or an epoch asked for that is not trained.
    """
    wanted = set(at) or {settings.epochs}
    if not images or not wanted <= set(range(1, settings.epochs + 1)):
        raise InputError(f"tile pairs: {len(images)} images, epochs {sorted(wanted)} of {settings.epochs}")
    rng, generator = np.random.default_rng([seed, 0]), torch.Generator().manual_seed(seed)
    maps = StainMaps(images[0][0][0].shape[1])
    tensors = [[(_tensor(he), _tensor(ihc)) for he, ihc in grids] for grids in images]
    optimiser = torch.optim.AdamW(maps.parameters(), settings.lr, weight_decay=settings.weight_decay, fused=True)
    for epoch in range(1, settings.epochs + 1):
        orders = [rng.permutation(len(grids)) for grids in tensors]
        for step in range(max(map(len, orders))):
            drawn = [grids[order[step % len(order)]] for grids, order in zip(tensors, orders, strict=True)]
            sides = [_dropped(torch.cat(side), settings.dropout, generator) for side in zip(*drawn, strict=True)]
            sizes = [len(he) for he, _ in drawn]
            parts = zip(*(side.split(sizes) for side in maps(*sides)), strict=True)
            loss = torch.stack([info_nce(he, ihc, settings.temperature) for he, ihc in parts]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if epoch in wanted:
            yield epoch, maps


def _dropped(features: Tensor, share: float, generator: torch.Generator) -> Tensor:
    kept = torch.rand(features.shape, generator=generator) >= share
    return features * kept / (1 - share)


def _tensor(features: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(features, np.float32))
