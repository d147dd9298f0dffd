"""A trained method read back from its folder, whole and checked: what `hsa predict` and `hsa prescreen` start from.

The folder holds study.json (how slides are cut and encoded, what the method was made of), fold<k>.safetensors and
fold<k>.json, probe.json, and seen.json (the slides of its training).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hsa.bags.encoding import encoder_options
from hsa.encoders.encoder import TileEncoder, tile_encoder
from hsa.errors import InputError
from hsa.evaluation import scoring
from hsa.evaluation.scoring import Score, probe_score, read_probes
from hsa.models.checkpoints import load_fold
from hsa.study.records import Record, read_record
from hsa.study.settings import Encoder, Tiles
from hsa.training.seen import Seen, read_seen
from hsa.workers import cores

REMEDY = (
    "Delete probe.json beside it and run `hsa train` for its study, which writes both again; or copy the model's "
    "folder again."
)
ABSENT = "Give the folder of a trained and evaluated method, such as results/virtual/seed0/p53/full."


class Origin(Record):
    """The cohort that a method was made of: its kind, and how many of its cases were predicted in turn."""

    kind: Literal["virtual", "manifest"]
    cases: Annotated[int, Field(ge=1)]


class About(Record):
    """What study.json says of a method; `cohort` is None where an older version wrote it."""

    study: str
    marker: str
    method: str
    tiles: Tiles
    encoder: Encoder
    int8: str | None = None
    classes: tuple[str, str]
    all_classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    prevalence: Annotated[float, Field(ge=0, le=1)]
    cohort: Origin | None = None

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.all_classes and len(self.all_classes) == 2 and self.all_classes != self.classes:
            raise ValueError(f"classes {self.classes} and all_classes {self.all_classes} differ")
        return self


@dataclass(frozen=True)
class Predictor:
    """A trained method of one marker, ready for new slides. Read it with `load_predictor`.

    Attributes:
        folder: of the method.
        study, marker, method: their names.
        classes: names of the negative and the positive class.
        all_classes: names of all classes the probe tells apart, lowest first; the same two, or more.
        prevalence: share of positives in the study's cohort.
        tiles, encoder: how slides were cut and encoded.
        int8: folder of the encoder's int8 model; None if it has none.
        colours: whether the slide encoder takes the tiles' colours in place of features.
        scores: for each fold, Batch of B bags -> log odds (B,), finite.
        means: for each fold, the features of its average H&E tile (D,).
        origin: the cohort that it was made of; None if that is not recorded.
        seen: the slides of its training; None if these are not recorded.
    """

    folder: Path
    study: str
    marker: str
    method: str
    classes: tuple[str, str]
    all_classes: tuple[str, ...]
    prevalence: float
    tiles: Tiles
    encoder: Encoder
    int8: str | None
    colours: bool
    scores: tuple[Score, ...]
    means: tuple[np.ndarray, ...]
    origin: Origin | None
    seen: Seen | None

    def __str__(self) -> str:
        return f"{self.marker} from H&E, method {self.method} of study {self.study}"

    @cached_property
    def network(self) -> TileEncoder:
        """The tile encoder; making it takes seconds, so not before a slide needs it."""
        options = encoder_options(self.encoder, self.tiles, self.int8, cores())
        return tile_encoder(self.encoder.name, **vars(options))


def load_predictor(folder: str | Path) -> Predictor:
    """Read a trained method.

    Args:
        folder: of the method, such as results/virtual/seed0/p53/full.

    Raises:
        InputError: a file is missing or damaged, holds a number that is not finite, or does not fit the others.
    """
    folder = Path(folder)
    about = read_record(folder / "study.json", About, REMEDY, ABSENT)
    probes, seen = read_probes(folder), read_seen(folder)
    classes = about.all_classes or about.classes
    found = next(iter(probes.values())).classes
    if found != len(classes):
        raise InputError(
            f"{folder / scoring.FILE}: a probe of {found} classes, study.json names {len(classes)}. {scoring.REMEDY}"
        )
    if seen and seen.folds != len(probes):
        raise InputError(
            f"{folder / scoring.FILE}: probes of {len(probes)} folds, the method was trained on {seen.folds}. "
            f"{scoring.REMEDY}"
        )
    folds = [load_fold(folder, fold) for fold in probes]
    models = [model for model, _ in folds]
    kinds = {(record["settings"]["input"]["encoder"], len(model.he_mean)) for model, record in folds}
    if len(kinds) > 1:
        raise InputError(
            f"{folder}: its folds are of several slide encoders or widths of features, {sorted(kinds)}. Copy the "
            "model's folder again, or delete it and train again."
        )
    return Predictor(
        folder=folder,
        **about.model_dump(include={"study", "marker", "method", "classes", "prevalence", "int8"}),
        all_classes=classes,
        tiles=about.tiles,
        encoder=about.encoder,
        colours=kinds.pop()[0] == "colour",
        scores=tuple(probe_score(model, probe, folder) for model, probe in zip(models, probes.values(), strict=True)),
        means=tuple(model.he_mean.numpy() for model in models),
        origin=about.cohort,
        seen=seen,
    )
