"""The losses of a batch, and their means over an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from hsa.bags.batches import Bags
from hsa.models import losses
from hsa.study.settings import Loss, Training

Terms = dict[str, float]


@dataclass(frozen=True)
class Run:
    """What stays the same while a fold is trained.

    Attributes:
        fabric: launched.
        bags: of the slides.
        training: settings.
        losses: names of the losses to sum.
        seed: numbers that every draw is seeded with, among others.
    """

    fabric: Fabric
    bags: Bags
    training: Training
    losses: Sequence[Loss]
    seed: tuple[int, ...]


def gather(fabric: Fabric, z: Tensor) -> Tensor:
    """Values (B, ...) of all processes, with gradient, so that each process sees the cases of all."""
    return z if fabric.world_size == 1 else _tensor(fabric.all_gather(z, sync_grads=True)).flatten(0, 1)


def loss_terms(
    output: dict[str, Tensor], labels: Tensor, paired: Tensor, run: Run, *, everywhere: bool
) -> dict[str, Tensor]:
    """Compute the losses of a run, and their plain sum as "total".

    Args:
        output: of `SlideModel`: z and, where a loss needs them, z_masked, y, logits.
        labels: (B,) class numbers; -1 where not known.
        paired: (B,) bool, the cases that have an IHC slide.
        run: which losses.
        everywhere: take the negatives of InfoNCE, and the labelled cases, from all processes. Processes have equal
            shares of a batch but not of its labels, and a mean of their means would weigh a label by its process.
    """

    def joint(*parts: Tensor) -> tuple[Tensor, ...]:
        return tuple(gather(run.fabric, part) for part in parts) if everywhere else parts

    terms: dict[str, Tensor] = {}
    if "intra_modality" in run.losses:
        terms["intra_modality"] = losses.intra_modality(output["z"], output["z_masked"])
    if "info_nce" in run.losses:
        z, y, there = joint(output["z"], output["y"], paired.float())
        terms["info_nce"] = losses.info_nce(z, y, run.training.temperature, there > 0)
    if "classification" in run.losses:
        terms["classification"] = losses.classification(*joint(output["logits"], labels))
    return terms | {"total": sum(terms.values(), torch.zeros(()))}


def add(sums: dict[str, Tensor], terms: dict[str, Tensor], labels: Tensor, paired: Tensor) -> None:
    """Add the losses of a batch to `sums`: name -> (loss times the cases that it concerns, their number)."""
    concerned = {"classification": (labels >= 0).sum(), "info_nce": paired.sum()}
    for name, term in terms.items():
        if name != "total":
            count = concerned.get(name, torch.tensor(len(labels))).to(term)
            found = torch.stack([term * count, count])
            sums[name] = sums[name] + found if name in sums else found


def means(sums: dict[str, Tensor], fabric: Fabric | None = None) -> Terms:
    """Mean of each loss over the cases that it concerns, 0 if there is none; "total" is their sum."""
    if fabric is not None:
        sums = {name: _tensor(fabric.all_reduce(value)) for name, value in sums.items()}
    found = {name: float(value[0] / value[1].clamp(min=1e-9)) for name, value in sums.items()}
    return found | {"total": sum(found.values())}


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor), "Fabric gives a tensor for a tensor"
    return value
