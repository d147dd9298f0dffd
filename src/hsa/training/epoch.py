"""One pass over the training cases.

A step makes one call of the slide encoder: on the H&E bags and, where a loss asks for them, on the same
bags masked and on the IHC bags. The loop is Lightning Fabric's: it reads the same on one CPU core and on
several GPUs.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hsa.bags.batches import Batch, ahead, collate, deal, draw_masked, sample
from hsa.study.settings import Training
from hsa.training.terms import Run, Terms, add, loss_terms, means


def learning_rate(step: int, steps_per_epoch: int, training: Training) -> float:
    """Learning rate of a step: linear warm-up from `warmup_factor` of `lr`, then a cosine down to `min_lr`."""
    warmup, total = training.warmup_epochs * steps_per_epoch, training.epochs * steps_per_epoch
    if step < warmup:
        return training.lr * (training.warmup_factor + (1 - training.warmup_factor) * step / warmup)
    done = (step - warmup) / max(1, total - 1 - warmup)
    return training.min_lr + (training.lr - training.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1, done)))


def has_pair(cases: pd.DataFrame) -> np.ndarray:
    """Tell which cases have an IHC slide (n,), bool."""
    return (cases["ihc"] != "").to_numpy()


def classes(cases: pd.DataFrame) -> np.ndarray:
    """Class numbers (n,) of cases; -1 where not known, or not to be known: a case of split `pairs`."""
    known = cases["category" if "category" in cases else "label"]
    return known.where(cases["split"] != "pairs", -1).to_numpy()


def draw(
    run: Run, cases: pd.DataFrame, numbers: np.ndarray, seed: Sequence[int]
) -> tuple[Batch, Tensor | None, Batch | None, Tensor, Tensor]:
    """Read the bags of a batch and draw their tiles and masks; all on the CPU.

    Args:
        run: the run; which parts are needed depends on its losses.
        cases: as for `train_epoch`.
        numbers: of the cases of this batch (B,).
        seed: of the draws, to which the number of the case is added.

    Returns:
        The H&E bags, their mask (B, N), the IHC bags, class numbers (B,), and whether a case has an IHC slide (B,).
    """
    rows, rngs = cases.iloc[numbers], [np.random.default_rng([*seed, int(case)]) for case in numbers]

    def tiles(slide_ids: pd.Series) -> Batch:
        pairs = zip(slide_ids, rngs, strict=True)
        return collate([sample(run.bags[slide], run.training.tiles_per_slide, rng) for slide, rng in pairs])

    he, masked, ihc = tiles(rows["he"]), None, None
    if "intra_modality" in run.losses:
        masked = draw_masked(he.mask, run.training.mask_fraction, rngs)
    if "info_nce" in run.losses:
        ihc = tiles(rows["ihc"])
    return he, masked, ihc, torch.tensor(classes(rows)), torch.tensor(has_pair(rows))


def train_epoch(run: Run, model: nn.Module, optimiser: Optimizer, cases: pd.DataFrame, epoch: int) -> Terms:
    """Go once through the training cases.

    Every draw is seeded by the run, the epoch and, for the tiles, the case. So an epoch is the same whether
    or not others ran before it, and the tiles of a case do not depend on the number of processes.

    Args:
        run: the run.
        model: a `SlideModel`, set up by Fabric.
        optimiser: set up by Fabric.
        cases: he, ihc, label or category, split (pairs: the label is not used); a row a case.
        epoch: number, from 0.

    Returns:
        `means` of the losses as they were met, and "lr" of the last step.
    """
    fabric, training, seed = run.fabric, run.training, [*run.seed, 1 + epoch]
    seed_torch(*seed, fabric.global_rank)
    order = np.random.default_rng(seed).permutation(len(cases))
    batches = deal(order, training.batch, fabric.world_size)
    mine = [batch[fabric.global_rank :: fabric.world_size] for batch in batches]
    sums: dict[str, Tensor] = {}
    model.train()
    for step, drawn in enumerate(ahead(partial(draw, run, cases, numbers, seed) for numbers in mine)):
        lr = learning_rate(epoch * len(batches) + step, len(batches), training)
        for group in optimiser.param_groups:
            group["lr"] = lr
        he, masked, ihc, *known = drawn
        labels, paired = (part.to(fabric.device) for part in known)
        optional = (part if part is None else part.to(fabric.device) for part in (masked, ihc))
        output = model(he.to(fabric.device), *optional)
        terms = loss_terms(output, labels, paired, run, everywhere=True)
        optimiser.zero_grad()
        fabric.backward(terms["total"])
        optimiser.step()
        add(sums, {name: term.detach() for name, term in terms.items()}, labels, paired)
    return means(sums, fabric) | {"lr": lr}


def seed_torch(*numbers: int) -> None:
    """Seed torch's generators by several numbers; each combination gives a stream of its own."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1)))
