"""Training on one fold: epochs, validation after each, and the weights that validate best."""

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
from torch import Tensor, nn
from torch.optim import AdamW

from hsa.errors import InputError
from hsa.models.checkpoints import Resume, optimiser_tensors, restore_optimiser
from hsa.models.model import SlideModel
from hsa.training.epoch import train_epoch
from hsa.training.terms import Run
from hsa.training.validation import validate


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
    best = weights_of(model)
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
            best = weights_of(model)
        history.append(row)
        if run.fabric.is_global_zero:
            state = {"model": weights_of(model), "best": best, "optimiser": optimiser_tensors(adamw)}
            resume.save(state, history)
        after_epoch()
    model.load_state_dict(best)
    return history


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copy the weights of a model, to the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
