"""The three losses of HistoStainAlign, as functions of slide embeddings (paper, Methods).

Training minimises their plain sum. All are computed in float32, whatever the precision of the network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hsa.errors import InputError


def intra_modality(z: Tensor, z_masked: Tensor) -> Tensor:
    """Mean squared difference between a slide's embedding and that of its masked bag.

    Args:
        z: H&E embeddings (B, D), not normalised.
        z_masked: embeddings (B, D) of the same bags with part of the tile features set to zero.

    Returns:
        Scalar: mean of (z - z_masked)² over slides and dimensions.
    """
    return F.mse_loss(z.float(), z_masked.float())


def info_nce(z: Tensor, y: Tensor, temperature: float = 0.01, paired: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE: each H&E slide should find its IHC slide among those of the batch, and the reverse.

    With s_ij = cos(z_i, y_j) / temperature, the loss is half the cross-entropy of the rows of s plus half
    that of its columns, the diagonal being right (Oord et al., 2018; Radford et al., 2021).

    Args:
        z: H&E embeddings (B, D).
        y: IHC embeddings (B, D) of the same cases in the same order.
        temperature: divides the cosines.
        paired: (B,) bool, the cases that have an IHC slide; the others are left out. By default all have one.

    Returns:
        Scalar; log(B) where the embeddings tell nothing. 0 if `paired` leaves fewer than two.

    Raises:
        InputError: a batch of one pair, which has no negative, though no pair was left out.
    """
    if paired is not None and not paired.all():
        z, y = z[paired], y[paired]
        if len(z) < 2:
            return 0.0 * (z.float().sum() + y.float().sum())
    if len(z) < 2:
        raise InputError("info_nce needs two pairs or more in a batch: add cases, or lower evaluation.folds")
    with torch.autocast(z.device.type, enabled=False):
        similarity = F.normalize(z.float(), dim=1) @ F.normalize(y.float(), dim=1).T / temperature
        target = torch.arange(len(z), device=z.device)
        return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))


def classification(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the classification head.

    Args:
        logits: (B, classes).
        labels: (B,), class numbers; -1 where the label is not known.

    Returns:
        Scalar, mean over the slides with a label; 0 if there is none.
    """
    known = labels >= 0
    total = F.cross_entropy(logits.float(), labels, ignore_index=-1, reduction="sum")
    return total / known.sum().clamp(min=1)
