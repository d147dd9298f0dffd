"""The sections of a study file: what may be said, of which type, with which default."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]  # of a folder: neither .. nor hidden
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and scikit-learn take
Loss = Literal["intra_modality", "info_nce", "classification"]
Pairs = Literal["own", "shuffled", "same-label"]


class Section(BaseModel):
    """A part of a study: frozen, strictly typed, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class VirtualCohort(Section):
    """A simulated cohort, made by `hsa.virtual`."""

    kind: Literal["virtual"]
    cases: Annotated[int, Field(ge=20)] = Field(description="number of cases")
    slide_px: Annotated[int, Field(ge=384)] = Field(description="slide side, px at 0.5 um/px")
    strength: Annotated[float, Field(ge=0)] = Field(description="imprint of a marker on H&E morphology")
    seed: Seed = Field(description="seed of the cohort; the training seed is another one")


class FocalCohort(Section):
    """A simulated cohort whose marker shows in foci only: bags composed from a bank of rendered tiles."""

    kind: Literal["focal"]
    cases: Annotated[int, Field(ge=20)] = Field(description="number of cases; half of them are positive")
    share: Annotated[float, Field(gt=0, le=0.5)] = Field(description="share of a case's tiles that lie in its focus")
    shift: Annotated[float, Field(ge=0)] = Field(
        default=2.0, description="by how many SDs a focus raises the H&E morphology that the marker imprints"
    )
    tiles: Annotated[int, Field(ge=16)] = Field(default=200, description="tiles of a bag")
    regions: Annotated[int, Field(ge=1)] = Field(default=6, description="specimens that the tiles of a case come from")
    specimen_px: Annotated[int, Field(ge=512)] = Field(default=2048, description="side of a specimen, px at 0.5 um/px")
    labs: Annotated[int, Field(ge=1)] = Field(default=5, description="laboratories, each with stains of its own")
    specimens: Annotated[int, Field(ge=1)] = Field(default=12, description="of each part of the folds and laboratory")
    seed: Seed = Field(description="seed of the cohort; the training seed is another one")


class ManifestCohort(Section):
    """A cohort of slides on disk, listed in a manifest CSV."""

    kind: Literal["manifest"]
    manifest: str = Field(description="path of the CSV, relative to the study file")
    root: str | None = Field(default=None, description="folder that holds every slide; default: the CSV's")


class Marker(Section):
    """An IHC marker: how the manifest says its status, and the names of its classes.

    Without more, the manifest's `label_<marker>` is 0 or 1, or the name of one of the two classes.
    """

    negative: str = "negative"
    positive: str = "positive"
    classes: list[str] | None = Field(default=None, description="more than two classes, lowest first")
    positive_from: str | None = Field(
        default=None, description="lowest class that counts as positive where two are asked for; default: the highest"
    )
    cutoff: float | list[float] | None = Field(
        default=None, description="the manifest holds numbers; a class begins at its cut-off (several: one for each)"
    )
    published_f1: tuple[float, float, float] | None = Field(default=None, description="value, low, high")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        data = {} if data is None else data
        if isinstance(data, dict) and isinstance(data.get("published_f1"), list):
            data = {**data, "published_f1": tuple(data["published_f1"])}
        if isinstance(data, dict) and isinstance(data.get("classes"), list) and data["classes"]:
            last = data["classes"][-1]
            first = data.get("positive_from") or last
            positive = first if first == last else f"{first} and above"
            data = {"negative": f"below {first}", "positive": positive, "positive_from": first, **data}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names, cutoffs = self.names, self.cutoffs
        if self.classes is not None and len(self.classes) < 3:
            raise ValueError("classes: give three or more, lowest first; two are named by `negative` and `positive`")
        if any(not name or name != name.strip() for name in names):
            raise ValueError("a class needs a name that neither begins nor ends with a space")
        if len(set(names)) < len(names):
            raise ValueError("two classes have one name")
        if self.positive_from is not None and self.positive_from not in names[1:]:
            raise ValueError(f"positive_from: give one of {', '.join(names[1:])}")
        if cutoffs and (len(cutoffs) != len(names) - 1 or sorted(set(cutoffs)) != cutoffs):
            raise ValueError(f"cutoff: {len(names)} classes need {len(names) - 1} cut-offs, ascending")
        return self

    @property
    def names(self) -> list[str]:
        """Names of the classes, lowest first."""
        return self.classes or [self.negative, self.positive]

    @property
    def first_positive(self) -> int:
        """Number of the lowest class that counts as positive."""
        return self.names.index(self.positive_from) if self.positive_from else len(self.names) - 1

    @property
    def meaning(self) -> str:
        """Say what the classes are and which of them count as positive."""
        return f"classes {', '.join(self.names)}; positive: {', '.join(self.names[self.first_positive :])}"

    @property
    def cutoffs(self) -> list[float]:
        """Where each class but the lowest begins, if the manifest holds numbers."""
        return [self.cutoff] if isinstance(self.cutoff, float | int) else self.cutoff or []


class Tiles(Section):
    """How a slide is cut into tiles."""

    size_px: Annotated[int, Field(ge=32, le=2048)] = 256
    mpp: Annotated[float, Field(gt=0, le=4)] = 0.5
    mask: Literal["optical-density", "histolab"] = "optical-density"
    min_tissue: Fraction = 0.5
    max_tiles: Annotated[int, Field(ge=1)] | None = None
    reduction: Literal["mean", "dct"] = Field(
        default="mean",
        description="how finer pixels become one of `mpp`: by exact means, or dct: by the JPEG decoder, twice as fast",
    )


class Encoder(Section):
    """The frozen tile encoder."""

    name: str = Field(default="lite0-mid", description="imported: the bags come from elsewhere, by `hsa bags import`")
    runtime: Literal["auto", "onnx", "torch", "openvino-int8"] = "auto"
    weights: str | None = Field(default=None, description="file or folder of weights, relative to the study file")
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch: Annotated[int, Field(ge=1)] = 32


class Model(Section):
    """The slide encoder and the classification head."""

    weights: str | None = Field(
        default=None, description="published LongNet weights to start from: a path, relative to the study file"
    )
    standardise: bool = Field(
        default=True, description="scale tile features by stain; false: take them as they are, as published weights do"
    )
    dim: Annotated[int, Field(ge=8, multiple_of=4)]
    depth: Annotated[int, Field(ge=1)]
    heads: Annotated[int, Field(ge=1)]
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    segment_lengths: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    dilated_ratios: list[Annotated[int, Field(ge=1)]]
    dropout: Fraction = 0.25
    drop_path: Fraction = 0.1
    layer: int = -1
    final_norm: bool = False
    pool: Literal["mean", "cls"] = "mean"
    norm_eps: Annotated[float, Field(gt=0)] = Field(
        default=1e-5, description="of the LayerNorm after pooling; 1e-6 in Prov-GigaPath"
    )
    head_hidden: Annotated[int, Field(ge=1)] = 256
    head_dropout: Fraction = 0.5
    as_published: bool = Field(
        default=False, description="embed H&E once more for the head, so that its dropout is another, as published"
    )
    checkpoint_activations: bool = Field(
        default=False, description="compute each layer again in the backward pass: less memory, a third more time"
    )

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
    pairs: Pairs = Field(
        default="own",
        description="whose IHC slide an H&E slide is trained with, its own or, as a control, another patient's: any "
        "(shuffled), or one of the same label",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.encoder in ("mean", "colour") and self.losses:
            raise ValueError("a mean has no parameters to train: give `losses: []`")
        if self.pairs != "own" and "info_nce" not in self.losses:
            raise ValueError(f"pairs: {self.pairs} changes nothing where `losses` lacks info_nce; remove one of them")
        return self


class Contrast(Section):
    """A question to two methods that differ in one thing: what `of` has more than `minus`."""

    of: str
    minus: str
    asks: str = Field(description="the question, as the book puts it")


class Design(Section):
    """Which cases and labels of the cohort the study uses: all, unless a control or a sweep says less."""

    cases: Annotated[int, Field(ge=20)] | None = Field(default=None, description="the first so many cases")
    labelled: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="share of the training and validation cases whose label is known; the others are pairs only",
    )
    permuted: bool = Field(
        default=False,
        description="each training seed deals the labels anew among the cases, so that none tells anything",
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
    batch: Annotated[int, Field(ge=2)] | None = None


class Tuning(Section):
    """The choice of hyper-parameters: the same candidates for every trained method, judged on validation cases."""

    seed: Seed = Field(description="training seed of the trials; another one than those of the study")
    candidates: Annotated[list[Candidate], Field(min_length=2)]


class Evaluation(Section):
    """The evaluation protocol."""

    folds: Annotated[int, Field(ge=3, le=20)] = 5
    fold_seed: Seed = 0
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    recall_at: list[Annotated[int, Field(ge=1)]] = [1, 5, 10]
