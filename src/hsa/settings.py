"""The sections of a study file: what may be said, of which type, with which default."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Loss = Literal["intra_modality", "info_nce", "classification"]


class Section(BaseModel):
    """A part of a study: frozen, strictly typed, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class VirtualCohort(Section):
    """A simulated cohort, made by `hsa.virtual`."""

    kind: Literal["virtual"]
    cases: Annotated[int, Field(ge=20)] = Field(description="number of cases")
    slide_px: Annotated[int, Field(ge=384)] = Field(description="slide side, px at 0.5 um/px")
    strength: Annotated[float, Field(ge=0)] = Field(description="imprint of a marker on H&E morphology")
    seed: int = Field(description="seed of the cohort; the training seed is another one")


class ManifestCohort(Section):
    """A cohort of slides on disk, listed in a manifest CSV."""

    kind: Literal["manifest"]
    manifest: str = Field(description="path of the CSV, relative to the study file")
    root: str | None = Field(default=None, description="folder that holds every slide; default: the CSV's")


class Marker(Section):
    """An IHC marker: the names of its two classes and, where known, the published result."""

    negative: str = "negative"
    positive: str = "positive"
    published_f1: tuple[float, float, float] | None = Field(default=None, description="value, low, high")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        data = {} if data is None else data
        if isinstance(data, dict) and isinstance(data.get("published_f1"), list):
            data = {**data, "published_f1": tuple(data["published_f1"])}
        return data


class Tiles(Section):
    """How a slide is cut into tiles."""

    size_px: Literal[256] = 256
    mpp: Annotated[float, Field(gt=0, le=4)] = 0.5
    mask: Literal["optical-density", "histolab"] = "optical-density"
    min_tissue: Fraction = 0.5
    max_tiles: Annotated[int, Field(ge=1)] | None = None


class Encoder(Section):
    """The frozen tile encoder."""

    name: str = "lite0-mid"
    runtime: Literal["onnx", "torch"] = "onnx"
    batch: Annotated[int, Field(ge=1)] = 32


class Model(Section):
    """The slide encoder and the classification head."""

    dim: Annotated[int, Field(ge=8, multiple_of=4)]
    depth: Annotated[int, Field(ge=1)]
    heads: Annotated[int, Field(ge=1)]
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    segment_lengths: list[Annotated[int, Field(ge=1)]]
    dilated_ratios: list[Annotated[int, Field(ge=1)]]
    dropout: Fraction = 0.25
    drop_path: Fraction = 0.1
    layer: int = -1
    final_norm: bool = False
    pool: Literal["mean", "cls"] = "mean"
    head_hidden: Annotated[int, Field(ge=1)] = 256
    head_dropout: Fraction = 0.5

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        if len(self.segment_lengths) != len(self.dilated_ratios):
            raise ValueError("segment_lengths and dilated_ratios must be of one length")
        return self


class Method(Section):
    """A way to embed a slide: a slide encoder and the losses that train it (none: untrained).

    `mean` averages tile features, `colour` the mean and deviation of each tile's colours.
    """

    title: str
    encoder: Literal["longnet", "abmil", "mean", "colour"] = "longnet"
    losses: list[Loss] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.encoder in ("mean", "colour") and self.losses:
            raise ValueError("a mean has no parameters to train: give `losses: []`")
        return self


class Design(Section):
    """Which cases, labels and pairs of the cohort the study uses: all, unless a control or a sweep says less."""

    cases: Annotated[int, Field(ge=20)] | None = Field(default=None, description="the first so many cases")
    labelled: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="share of the training cases whose label is known; the others are pairs only"
    )
    pairs: Literal["own", "shuffled"] = Field(
        default="own", description="shuffled: each H&E slide gets another case's IHC, the negative control"
    )


class Training(Section):
    """The optimisation, as published unless the study says otherwise (paper, Methods)."""

    epochs: Annotated[int, Field(ge=1)] = 25
    batch: Annotated[int, Field(ge=2)] = 12
    lr: Annotated[float, Field(gt=0)] = 5e-5
    min_lr: Annotated[float, Field(ge=0)] = 5e-7
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_epochs: Annotated[int, Field(ge=0)] = 2
    warmup_factor: Annotated[float, Field(gt=0, le=1)] = 1e-5
    tiles_per_slide: Annotated[int, Field(ge=1)] = 4096
    mask_fraction: Fraction = 0.5
    temperature: Annotated[float, Field(gt=0)] = 0.01
    precision: Literal["32-true", "bf16-mixed"] = "32-true"


class Candidate(Section):
    """One setting of the optimisation that every trained method tries; what is not named stays as in `training`."""

    lr: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None


class Tuning(Section):
    """The choice of hyper-parameters: the same candidates for every trained method, judged on validation cases."""

    seed: int = Field(description="training seed of the trials; another one than those of the study")
    candidates: Annotated[list[Candidate], Field(min_length=2)]


class Evaluation(Section):
    """The evaluation protocol."""

    folds: Annotated[int, Field(ge=3, le=20)] = 5
    fold_seed: int = 0
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    recall_at: list[Annotated[int, Field(ge=1)]] = [1, 5, 10]
