"""Embed whole bags, and measure the losses on the validation cases."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from hsa.bags.batches import Bags, collate, deal, draw_masked
from hsa.models.model import SlideModel
from hsa.study.settings import Training
from hsa.training.epoch import classes, has_pair
from hsa.training.terms import Run, Terms, add, loss_terms, means

CPU_TOKENS = 2**14  # a call on a CPU: what it works on stays near the cache; a GPU takes as many as it holds


def embed_slides(
    fabric: Fabric,
    model: SlideModel,
    bags: Bags,
    slide_ids: Iterable[str],
    stain: str,
    training: Training,
    mask_seed: Sequence[int] | None = None,
) -> Tensor:
    """Embed whole bags: no sampling of tiles, no dropout.

    One call of the encoder holds at most as many tiles as a training step (on a CPU `CPU_TOKENS`), or one slide.

    Args:
        fabric: gives device and precision.
        model: on that device.
        bags: of the slides.
        slide_ids: which.
        stain: "he" or "ihc": how features are standardised.
        training: batch, tiles_per_slide, mask_fraction.
        mask_seed: if given, mask tiles; the draw depends on it and on the slide's place in the list.

    Returns:
        (slides, dim) float32, on the CPU.
    """
    model.eval()
    tokens = training.batch * training.tiles_per_slide
    if fabric.device.type == "cpu":
        tokens = min(tokens, CPU_TOKENS)
    done: list[Tensor] = []
    with torch.inference_mode(), fabric.autocast():
        for slides in bags.packed(slide_ids, tokens):
            batch, masked, first = collate(slides), None, sum(map(len, done))
            if mask_seed is not None:
                rngs = [np.random.default_rng([*mask_seed, first + i]) for i in range(len(slides))]
                masked = draw_masked(batch.mask, training.mask_fraction, rngs).to(fabric.device)
            done.append(model.embed(batch.to(fabric.device), stain, masked).float().cpu())
    return torch.cat(done)


def validate(run: Run, model: SlideModel, cases: pd.DataFrame) -> Terms:
    """Mean of each loss over the validation cases that it concerns, from whole bags.

    Masks and batches are the same after every epoch, so that epochs can be compared.
    """
    fixed = run.fabric, model, run.bags
    output = {"z": embed_slides(*fixed, cases["he"], "he", run.training)}
    if "intra_modality" in run.losses:
        output["z_masked"] = embed_slides(*fixed, cases["he"], "he", run.training, [*run.seed, 0])
    if "info_nce" in run.losses:
        output["y"] = embed_slides(*fixed, cases["ihc"], "ihc", run.training)
    if "classification" in run.losses and model.head is not None:
        with torch.inference_mode():
            output["logits"] = model.head(output["z"].to(run.fabric.device)).cpu()
    labels, paired = (torch.tensor(values) for values in (classes(cases), has_pair(cases)))
    sums: dict[str, Tensor] = {}
    for batch in deal(np.arange(len(cases)), run.training.batch):
        part = {name: value[batch] for name, value in output.items()}
        add(sums, loss_terms(part, labels[batch], paired[batch], run, everywhere=False), labels[batch], paired[batch])
    return means(sums)
