"""Train one fold and keep the embeddings of every few epochs, so that rules of selection can be laid side by side.

A rule that stops methods by their own loss treats them unequally: a total of several losses falls for other reasons
than a single one. What is kept here serves three rules: the epoch whose embeddings predict the validation cases best,
the last one, and the published one (lowest total validation loss).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch.optim import AdamW

from hsa.errors import InputError
from hsa.models.model import SlideModel
from hsa.training.epoch import train_epoch
from hsa.training.fold import weights_of
from hsa.training.terms import Run
from hsa.training.validation import embed_slides, validate

EVERY = 5


@dataclass(frozen=True)
class Snapshot:
    """What a fold's encoder makes of the slides after an epoch.

    Attributes:
        he: embeddings of the H&E slides (cases, D), in the order of the fold's rows.
        ihc: embeddings of the IHC slides of the test cases that have one (pairs, D), in the same order.
    """

    he: np.ndarray
    ihc: np.ndarray


@dataclass(frozen=True)
class Course:
    """How the training of a fold went.

    Attributes:
        history: a row an epoch: "epoch", "lr", "train" and "val": each loss, and "total".
        kept: number of finished epochs -> its snapshot; 0 where nothing is trained.
        published: the number of finished epochs at which the total validation loss was lowest; it is in `kept`.
    """

    history: list[dict[str, Any]]
    kept: Mapping[int, Snapshot]
    published: int

    @property
    def regular(self) -> list[int]:
        """The numbers of finished epochs that every method keeps, ascending: what a rule may choose among."""
        last = max(self.kept)
        return [done for done in sorted(self.kept) if done % EVERY == 0 or done == last]


def follow(run: Run, model: SlideModel, cases: pd.DataFrame, after_epoch: Callable[[], Any] = lambda: None) -> Course:
    """Train a model for all its epochs and embed the slides after every fifth, the last, and the published choice.

    Args:
        run: the run; without losses nothing is trained.
        model: as it starts; it ends as after the last epoch.
        cases: he, ihc, label, split (train, pairs, val, test); a row a case. In test rows `ihc` is the case's own.
        after_epoch: called after each epoch.

    Raises:
        InputError: a loss is not a finite number.
    """
    train = cases[cases["split"].isin(["train", "pairs"])].reset_index(drop=True)
    val = cases[cases["split"] == "val"].reset_index(drop=True)
    if not run.losses:
        return Course([], {0: _embed(run, model, cases)}, 0)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = run.training
    adamw = AdamW(learned, training.lr, weight_decay=training.weight_decay, fused=True)
    wrapped, optimiser = run.fabric.setup(model, adamw)
    history: list[dict[str, Any]] = []
    kept, published, best = {}, 0, weights_of(model)
    for epoch in range(training.epochs):
        terms = train_epoch(run, wrapped, optimiser, train, epoch)
        row: dict[str, Any] = {"epoch": epoch, "lr": terms.pop("lr"), "train": terms, "val": validate(run, model, val)}
        if not math.isfinite(row["train"]["total"] + row["val"]["total"]):
            raise InputError(f"the loss is not a finite number in epoch {epoch}: lower training.lr.")
        if all(row["val"]["total"] < past["val"]["total"] for past in history):
            published, best = epoch + 1, weights_of(model)
        history.append(row)
        if (epoch + 1) % EVERY == 0 or epoch + 1 == training.epochs:
            kept[epoch + 1] = _embed(run, model, cases)
        after_epoch()
    if published not in kept:
        last = weights_of(model)
        model.load_state_dict(best)
        kept[published] = _embed(run, model, cases)
        model.load_state_dict(last)
    return Course(history, kept, published)


def _embed(run: Run, model: SlideModel, cases: pd.DataFrame) -> Snapshot:
    pairs = cases[(cases["split"] == "test") & (cases["ihc"] != "")]
    he = embed_slides(run.fabric, model, run.bags, cases["he"], "he", run.training)
    ihc = embed_slides(run.fabric, model, run.bags, pairs["ihc"], "ihc", run.training)
    return Snapshot(he.numpy(), ihc.numpy())
