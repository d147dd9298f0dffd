"""Training on one fold: a step, an epoch, validation, and the weights that validate best.

A step makes one call of the slide encoder: on the H&E bags and, where a loss asks for them, on the same
bags masked and on the IHC bags. The loop is Lightning Fabric's: it reads the same on one CPU core and on
several GPUs.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from hsa.bags.batches import Bags, Batch, ahead, collate, deal, draw_masked, sample
from hsa.errors import InputError
from hsa.models import losses
from hsa.models.checkpoints import Resume, optimiser_tensors, restore_optimiser
from hsa.models.model import SlideModel
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


def learning_rate(step: int, steps_per_epoch: int, training: Training) -> float:
    """Learning rate of a step: linear warm-up from `warmup_factor` of `lr`, then a cosine down to `min_lr`."""
    warmup, total = training.warmup_epochs * steps_per_epoch, training.epochs * steps_per_epoch
    if step < warmup:
        return training.lr * (training.warmup_factor + (1 - training.warmup_factor) * step / warmup)
    done = (step - warmup) / max(1, total - 1 - warmup)
    return training.min_lr + (training.lr - training.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1, done)))


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

    One call of the encoder holds at most as many tiles as a training step, or one slide.

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
    done: list[Tensor] = []
    with torch.inference_mode(), fabric.autocast():
        for slides in bags.packed(slide_ids, training.batch * training.tiles_per_slide):
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


def train_fold(
    run: Run, model: SlideModel, cases: pd.DataFrame, resume: Resume, after_epoch: Callable[[], Any]
) -> list[dict[str, Any]]:
    """Train a model; it ends with the weights of the lowest total validation loss.

    Args:
        run: the run.
        model: as it starts.
        cases: he, ihc, label or category, split (train, pairs, val, test); a row a case.
        resume: where the state lies after each epoch, and may lie already.
        after_epoch: called after each epoch, those that were done before included.

    Returns:
        A row an epoch: "epoch", "lr" of its last step, and "train" and "val": each loss, and "total".
    """
    parts = (cases["split"].isin(["train", "pairs"]), cases["split"] == "val")
    train, val = (cases[part].reset_index(drop=True) for part in parts)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = run.training
    adamw = AdamW(learned, training.lr, weight_decay=training.weight_decay, fused=True)
    wrapped, optimiser = run.fabric.setup(model, adamw)
    history: list[dict[str, Any]] = []
    best = _weights(model)
    if (found := resume.load()) is not None:
        state, history = found
        best = state["best"]
        model.load_state_dict(state["model"])
        restore_optimiser(adamw, state["optimiser"])
    for _ in history:
        after_epoch()
    for epoch in range(len(history), training.epochs):
        terms = train_epoch(run, wrapped, optimiser, train, epoch)
        row: dict[str, Any] = {"epoch": epoch, "lr": terms.pop("lr"), "train": terms, "val": validate(run, model, val)}
        if not math.isfinite(row["train"]["total"] + row["val"]["total"]):
            raise InputError(
                f"the loss is not a finite number in epoch {epoch}: lower training.lr, or set "
                "training.precision to 32-true"
            )
        if all(row["val"]["total"] < past["val"]["total"] for past in history):
            best = _weights(model)
        history.append(row)
        if run.fabric.is_global_zero:
            state = {"model": _weights(model), "best": best, "optimiser": optimiser_tensors(adamw)}
            resume.save(state, history)
        after_epoch()
    model.load_state_dict(best)
    return history


def seed_torch(*numbers: int) -> None:
    """Seed torch's generators by several numbers; each combination gives a stream of its own."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1)))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
