"""From a bag to the log odds of a positive: a fold's slide encoder, then its linear probe, as read back from disk.

`probe.json` is checked here, whoever reads it, and no score leaves that is not a finite number.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy.special import logsumexp

from hsa.bags.batches import Batch, collate
from hsa.errors import InputError
from hsa.models.checkpoints import load_fold
from hsa.models.model import SlideModel
from hsa.study.records import Record, read_record

Score = Callable[[Batch], np.ndarray]
FILE = "probe.json"
REMEDY = (
    "Delete this file and run `hsa train` for its study, which fits the probe again; or copy the model's folder again."
)

Vector = Annotated[list[float], Field(min_length=1)]


class Probe(Record):
    """The linear probe of one fold, in the terms of `hsa.evaluation.probe.probe_folds`.

    Attributes:
        fold: number.
        mean, scale: of the embeddings (D,); the scale is above 0.
        coef: a row a class (classes, D); one row where there are two classes.
        intercept: as many.
        first_positive: lowest class that counts as positive; None where there are two classes.
    """

    fold: Annotated[int, Field(ge=0)]
    mean: Vector
    scale: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    coef: Annotated[list[Vector], Field(min_length=1)]
    intercept: Vector
    first_positive: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _rows(cls, data: Any) -> Any:
        """Two classes have one row, and are written without it."""
        if isinstance(data, dict) and data.get("first_positive") is None:
            data = data | {key: [data[key]] for key in ("coef", "intercept") if key in data}
        return data

    @model_validator(mode="after")
    def _fit(self) -> Self:
        wide, rows = len(self.mean), len(self.coef)
        widths = [len(self.scale), *map(len, self.coef)]
        if set(widths) != {wide}:
            raise ValueError(f"mean has {wide} numbers, scale and coef {sorted(set(widths))}; expected as many in each")
        if len(self.intercept) != rows:
            raise ValueError(f"{rows} rows of coef and {len(self.intercept)} intercepts; expected as many")
        if self.first_positive is not None and not self.first_positive < rows > 2:
            raise ValueError(f"first_positive {self.first_positive} of {rows} classes; expected one of three or more")
        return self

    @property
    def classes(self) -> int:
        """Number of classes that it tells apart."""
        return max(2, len(self.coef))


class _File(Record):
    folds: Annotated[list[Probe], Field(min_length=1)]


def read_probes(folder: Path) -> dict[int, Probe]:
    """Read the linear probe of each fold of a trained method.

    Raises:
        InputError: the method has no probe yet; or its file is damaged, holds a number that is not finite, vectors
            that do not fit each other, or two probes of one fold.
    """
    path = folder / FILE
    probes = read_record(path, _File, REMEDY, "Train the method first, with `hsa train`.").folds
    numbers = [probe.fold for probe in probes]
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{path}: folds {numbers}; expected one probe a fold. {REMEDY}")
    if len({(probe.classes, probe.first_positive, len(probe.mean)) for probe in probes}) > 1:
        raise InputError(f"{path}: the folds' probes are of several widths or classes; expected one kind. {REMEDY}")
    return dict(sorted(zip(numbers, probes, strict=True)))


def probe_score(model: SlideModel, probe: Probe, folder: Path) -> Score:
    """Make a function from H&E bags to the log odds (B,) of a positive by the linear probe.

    It is tried on a slide of the average tile first, so that parts that do not belong together show before a slide.

    Args:
        model: slide encoder of the fold, in eval mode, on the CPU.
        probe: of the same fold.
        folder: where both come from, for messages.

    Raises:
        InputError: model and probe do not fit; later, for a bag of another tile encoder, or a score that is not finite.
    """
    mean, scale, coef, intercept = (np.array(part) for part in (probe.mean, probe.scale, probe.coef, probe.intercept))
    where, width = f"{folder}: fold {probe.fold}", len(model.he_mean)

    def score(batch: Batch) -> np.ndarray:
        if batch.features.shape[-1] != width:
            raise InputError(
                f"{where}: the model takes {width} features a tile, the bag holds {batch.features.shape[-1]}; "
                "make the bag with the model's tile encoder."
            )
        with torch.inference_mode():
            z = model.embed(batch, "he").double().numpy()
        if z.shape[1] != len(mean):
            raise InputError(
                f"{where}: {len(mean)} coefficients in {FILE}, embeddings of {z.shape[1]}. Delete {FILE} and "
                "made.json there and run `hsa train`, or copy the model's folder again."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            logits = (z - mean) / scale @ coef.T + intercept
            if probe.first_positive is None:
                found = np.asarray(logits[:, 0])
            else:
                above, below = logits[:, probe.first_positive :], logits[:, : probe.first_positive]
                found = np.asarray(logsumexp(above, axis=1) - logsumexp(below, axis=1))
        if not np.isfinite(found).all():
            raise InputError(
                f"{where}: the score is not a finite number, so it is no prediction. Numbers in fold{probe.fold}."
                f"safetensors, {FILE} or the bag are too large: copy the model's folder again, or train it again; if "
                "other slides get a score, delete this slide's bag, so that it is made again."
            )
        return found

    score(collate([(model.he_mean.numpy()[None], np.zeros((1, 2), np.int64))]))
    return score


def fold_score(folder: Path, fold: int) -> tuple[SlideModel, Score]:
    """Read model and probe of one fold of a trained method; give the model, and the score that both make.

    Raises:
        InputError: one is missing or damaged, or they do not fit.
    """
    probes = read_probes(folder)
    if fold not in probes:
        raise InputError(f"{folder / FILE}: no probe of fold {fold}. {REMEDY}")
    model, _ = load_fold(folder, fold)
    return model, probe_score(model, probes[fold], folder)
