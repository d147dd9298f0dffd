"""What training starts from: a device that repeats itself, the bags, and a model with its first weights."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric

from hsa.bags.batches import Bags
from hsa.models import published
from hsa.models.longnet import GRID, LongNet
from hsa.models.model import STAINS, SlideModel
from hsa.study.settings import Training
from hsa.study.study import Study
from hsa.training.epoch import seed_torch


def one_device(training: Training) -> Fabric:
    """Launch Fabric on one device, a GPU if there is one."""
    fabric = Fabric(accelerator="auto", devices=1, precision=training.precision)
    fabric.launch()
    return fabric


@contextmanager
def repeatable(device: torch.device, threads: int) -> Iterator[None]:
    """Deterministic kernels where there are some, this many CPU threads; torch is left as it was found."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else products on a GPU differ from run to run
    before = torch.get_num_threads()
    strict, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(threads)
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would write NaN into all new memory, a quarter of the time of a small model; nothing here reads what is unset.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        # Of this process's GPU alone: to keep another's generator would take memory there.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict, warn_only=warn)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def open_bags(study: Study, encoder: str) -> Bags:
    """Open the bags of a study's slides as a slide encoder of this name reads them."""
    return Bags(study.paths.bags, colours=encoder == "colour", grid=GRID)


def first_weights(study: Study, method: str) -> Path | None:
    """Find the published weights that a method's slide encoder starts from; None where it starts from random ones."""
    return published.path_of(study.model, study.file) if study.methods[method].encoder == "longnet" else None


def model_input(study: Study, bags: Bags, slide: str, marker: str, method: str) -> dict[str, Any]:
    """Give the arguments of `SlideModel` that the study does not hold as they are.

    Args:
        study: the study.
        bags: of its slides.
        slide: any of them, whose features tell how wide features are.
        marker: whose classes the head tells apart.
        method: one of the study's.
    """
    way = study.methods[method]
    return {
        "in_dim": bags[slide][0].shape[1],
        "encoder": way.encoder,
        "classes": len(study.markers[marker].names) if "classification" in way.losses else 0,
        "tile_size": study.tiles.size_px,
    }


def start_model(
    study: Study, bags: Bags, cases: pd.DataFrame, given: dict[str, Any], weights: Path | None
) -> SlideModel:
    """Make the model of a fold as training starts it, and seed torch for what follows.

    Args:
        study: whose seed and model settings count.
        bags: of the slides.
        cases: of the fold: he, ihc, fold, split; features are standardised by its training cases.
        given: of `model_input`.
        weights: of `first_weights`.
    """
    seed_torch(study.seed, int(cases["fold"].iloc[0]))
    model = SlideModel(**given, model=study.model)
    if weights and isinstance(model.encoder, LongNet):
        published.start(model.encoder, study.model, weights)
    if study.model.standardise:
        train = cases[cases["split"].isin(["train", "pairs"])]
        for stain in STAINS:
            model.set_scale(stain, *bags.mean_and_deviation(train[stain]))
    return model
