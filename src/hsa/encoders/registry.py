"""Foundation models that can be tile encoders: what is known of each, as data."""

import re
from dataclasses import dataclass, field
from typing import Any

from hsa.errors import InputError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
H_OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
TOLERANCE = 1.2  # of um a pixel: tiles of 256 px scaled to 224, as is usual, are 1.14 from the resolution of training


@dataclass(frozen=True)
class Foundation:
    """What is known of a model.

    Attributes:
        repo: its repository on the Hugging Face hub.
        licence: of the weights.
        gated: whether access has to be asked for on the repository's page.
        library: what builds the network: `timm`, `transformers`, or `custom` (code of the repository).
        architecture: name of the network in its library.
        arguments: what its constructor is given beyond the defaults.
        tile_px: side of the tiles it was trained on, px.
        mpp: resolutions it was trained at, um/px; empty: not a pathology model.
        resize: side that a tile is scaled to, px.
        input_px: side of the centre that the network then sees, px.
        interpolation: `bicubic` or `bilinear`, antialiased.
        normalisation: mean and standard deviation of red, green and blue, 0-1.
        features: `pooled` (what the network gives), `cls` (class token), `cls+mean` (with the mean patch token).
        dim: length of the feature vector.
        reference: where it was published.
        unconfirmed: what no source that we could read states, or where sources differ.
    """

    repo: str
    licence: str
    gated: bool
    library: str
    architecture: str
    dim: int
    reference: str
    arguments: dict[str, Any] = field(default_factory=dict)
    tile_px: int = 224
    mpp: tuple[float, ...] = (0.5,)
    resize: int = 224
    input_px: int = 224
    interpolation: str = "bicubic"
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    features: str = "pooled"
    unconfirmed: str = ""


VIT = {"img_size": 224, "init_values": 1e-5}
REGISTRY = {
    "prov-gigapath": Foundation(
        repo="prov-gigapath/prov-gigapath",
        licence="Apache-2.0",
        gated=True,
        library="timm",
        architecture="vit_giant_patch14_dinov2",
        arguments={"img_size": 224, "patch_size": 16, "mlp_ratio": 5.33334},
        tile_px=256,
        resize=256,
        dim=1536,
        reference="Xu et al., Nature 2024, doi:10.1038/s41586-024-07441-w",
    ),
    "uni": Foundation(
        repo="MahmoodLab/UNI",
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        library="timm",
        architecture="vit_large_patch16_224",
        arguments=VIT,
        tile_px=256,
        interpolation="bilinear",
        dim=1024,
        reference="Chen et al., Nature Medicine 2024, doi:10.1038/s41591-024-02857-3",
    ),
    "uni2-h": Foundation(
        repo="MahmoodLab/UNI2-h",
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        library="timm",
        architecture="vit_giant_patch14_224",
        arguments=VIT
        | {"embed_dim": 1536, "depth": 24, "num_heads": 24, "mlp_ratio": 2.66667 * 2, "reg_tokens": 8}
        | {"no_embed_class": True}
        | SWIGLU,
        tile_px=256,
        interpolation="bilinear",
        dim=1536,
        reference="Chen et al., Nature Medicine 2024, doi:10.1038/s41591-024-02857-3",
        unconfirmed="interpolation, resolution",
    ),
    "conch-v1.5": Foundation(
        repo="MahmoodLab/TITAN",
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        library="custom",
        architecture="return_conch() of the repository's own code",
        tile_px=512,
        resize=448,
        input_px=448,
        dim=768,
        reference="Ding et al. 2024, arXiv:2411.19666",
        unconfirmed="interpolation",
    ),
    "virchow2": Foundation(
        repo="paige-ai/Virchow2",
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        library="timm",
        architecture="vit_huge_patch14_224",
        arguments=VIT | {"reg_tokens": 4, "mlp_ratio": 5.3375, "global_pool": ""} | SWIGLU,
        mpp=(0.25, 0.5, 1.0, 2.0),
        features="cls+mean",
        dim=2560,
        reference="Zimmermann et al. 2024, arXiv:2408.00738",
    ),
    "h-optimus-0": Foundation(
        repo="bioptimus/H-optimus-0",
        licence="Apache-2.0",
        gated=False,
        library="timm",
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments=VIT,
        normalisation=H_OPTIMUS,
        dim=1536,
        reference="Saillard et al. 2024, github.com/bioptimus/releases",
        unconfirmed="interpolation (the card scales nothing), whether access is still open",
    ),
    "h-optimus-1": Foundation(
        repo="bioptimus/H-optimus-1",
        licence="CC-BY-NC-ND-4.0",
        gated=True,
        library="timm",
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments=VIT,
        normalisation=H_OPTIMUS,
        dim=1536,
        reference="Bioptimus 2025, huggingface.co/bioptimus/H-optimus-1",
        unconfirmed="interpolation (the card scales nothing)",
    ),
    "phikon-v2": Foundation(
        repo="owkin/phikon-v2",
        licence="Owkin non-commercial",
        gated=False,
        library="transformers",
        architecture="Dinov2Model",
        features="cls",
        dim=1024,
        reference="Filiot et al. 2024, arXiv:2409.09173",
        unconfirmed="interpolation, licence (its page says `other`)",
    ),
    "hibou-b": Foundation(
        repo="histai/hibou-b",
        licence="Apache-2.0",
        gated=True,
        library="transformers",
        architecture="Dinov2WithRegistersModel",
        normalisation=HIBOU,
        features="cls",
        dim=768,
        reference="Nechaev et al. 2024, arXiv:2406.05074",
        unconfirmed="access, resolution, that this class of transformers equals the repository's own code",
    ),
    "hibou-l": Foundation(
        repo="histai/hibou-L",
        licence="Apache-2.0",
        gated=True,
        library="transformers",
        architecture="Dinov2WithRegistersModel",
        normalisation=HIBOU,
        features="cls",
        dim=1024,
        reference="Nechaev et al. 2024, arXiv:2406.05074",
        unconfirmed="access, resolution, that this class of transformers equals the repository's own code",
    ),
    "resnet50": Foundation(
        repo="timm/resnet50.tv_in1k",
        licence="BSD-3-Clause",
        gated=False,
        library="timm",
        architecture="resnet50",
        mpp=(),
        interpolation="bilinear",
        dim=2048,
        reference="He et al., CVPR 2016, doi:10.1109/CVPR.2016.90",
    ),
}


def is_foundation(name: str) -> bool:
    """Tell whether a name is of this module: in the registry, or `timm:NAME`, or `hf:OWNER/NAME`."""
    return name.split("@")[0] in REGISTRY or name.startswith(("timm:", "hf:"))


def repository(name: str) -> str:
    """Give the repository of a foundation model on the hub, OWNER/NAME."""
    known = name.partition("@")[0]
    return REGISTRY[known].repo if known in REGISTRY else known.removeprefix("hf:").replace("timm:", "timm/")


def check_tiles(name: str, model: Foundation, size_px: int, mpp: float) -> None:
    """Refuse tiles that would show a model tissue at a scale far from that of its training.

    Args:
        name: of the model.
        model: from the registry.
        size_px: side of the study's tiles, px.
        mpp: their resolution, um/px.

    Raises:
        InputError: um a pixel, once scaled, is off by more than a factor of 1.2 from every resolution of training.
    """
    seen = mpp * size_px / model.resize
    if model.mpp and not any(1 / TOLERANCE <= seen / trained <= TOLERANCE for trained in model.mpp):
        known = " or ".join(map(str, model.mpp))
        raise InputError(
            f"encoder {name} was trained on tiles of {model.tile_px} px at {known} um/px; tiles of {size_px} px at "
            f"{mpp} um/px, scaled to {model.resize} px, would show it {seen:.2f} um a pixel. Set "
            f"`size_px: {model.tile_px}` and `mpp: {0.5 if 0.5 in model.mpp else model.mpp[0]}` under `tiles`"
        )


def table() -> str:
    """Write the registry as a table in Markdown."""
    rows = ["| name, reference | licence, access | trained on | network sees | features |", "|" + "---|" * 5]
    for name, model in REGISTRY.items():
        access = f"{model.licence}, [{'ask' if model.gated else 'open'}](https://huggingface.co/{model.repo})"
        trained = f"{model.tile_px} px at {', '.join(map(str, model.mpp))} µm/px" if model.mpp else "photographs"
        scaled = "" if model.resize == model.input_px else f" of {model.resize}"
        label = f"`{name}` {_linked(model.reference)}" + (" (not loaded)" if model.library == "custom" else "")
        network = f"{model.input_px} px{scaled}, {model.interpolation}"
        cells = [label, access, trained, network, f"{model.dim}, {model.features}"]
        rows.append("| " + " | ".join(cells) + " |")
    doubts = [f"`{name}`: {model.unconfirmed}" for name, model in REGISTRY.items() if model.unconfirmed]
    source = (
        "Read from model cards where these could be read, else from the papers and from two other projects that load "
        "these models (TRIDENT, LazySlide); no weights were at hand. Not confirmed even so: "
    )
    return "\n".join([*rows, "", source + "; ".join(doubts) + "."]) + "\n"


def _linked(reference: str) -> str:
    """A reference as a link: authors and year, leading to its DOI, preprint or page."""
    said, _, place = reference.rpartition(", ")
    pages = {"doi:": "https://doi.org/", "arXiv:": "https://arxiv.org/abs/"}
    prefix = next((known for known in pages if place.startswith(known)), "")
    year = "".join(re.findall(r"\d{4}", said)[:1])
    authors = said.split(",")[0].removesuffix(year).strip()
    return f"[{authors} {year}]({pages.get(prefix, 'https://')}{place.removeprefix(prefix)})"
