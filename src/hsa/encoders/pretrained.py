"""Pretrained networks, built and filled: from the registry of foundation models, from timm, or from transformers."""

import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsa.encoders import hub, registry
from hsa.encoders.registry import Foundation
from hsa.errors import InputError

if TYPE_CHECKING:
    import torch

WITH_CLS = ("vit", "deit", "beit", "dinov2", "dinov2_with_registers")


@dataclass(frozen=True)
class Loaded:
    """A model that is ready.

    Attributes:
        prepare: (B, S, S, 3) uint8 -> (B, 3, input, input) float32: scaled, cropped, normalised.
        network: its output -> (B, D).
        dim: D.
        weights: `sha256:` and 16 hexadecimal digits, of the file of weights.
    """

    prepare: "torch.nn.Module"
    network: "torch.nn.Module"
    dim: int
    weights: str


def load(name: str, weights: str | Path | None, size_px: int, mpp: float) -> Loaded:
    """Load a model, strictly: every parameter comes from the file.

    Args:
        name: of the registry, or `timm:NAME` (hub repository timm/NAME), or `hf:OWNER/NAME`; `@REVISION` behind it
            pins a commit of the hub.
        weights: a file (safetensors, or torch without code) or a folder laid out as on the hub. None: from the hub,
            or its cache on this machine.
        size_px: side of the study's tiles, px.
        mpp: their resolution, um/px.

    Raises:
        InputError: a package, licence, token, file or network that is missing; weights that do not fit; a model whose
            code would have to be downloaded; tiles of another field of view than those of training.
    """
    known, _, revision = name.partition("@")
    model = registry.REGISTRY.get(known)
    repo = registry.repository(name)
    if model:
        registry.check_tiles(known, model, size_px, mpp)
        if model.library == "custom":
            raise InputError(
                f"encoder {name} needs code of its repository, which would run here unread: hsa does not load it. Read "
                f"the code at https://huggingface.co/{repo}, then give the model as an encoder of your own, pinned to "
                "the commit that you read (the book, Tile encoders), or use features that another tool made"
            )
    file = hub.on_disk(name, weights, repo) if weights else hub.from_hub(name, repo, revision or None, hub.WEIGHTS)
    if not weights and not (model and model.library == "timm"):
        for files in (("config.json",), hub.DESCRIPTIONS):
            hub.from_hub(name, repo, revision or None, files)
    model = model or _described(name, repo, file.parent)
    network = (_timm_network if model.library == "timm" else _transformers_network)(name, model, file)
    return Loaded(_prepare(model), network, model.dim, hub.fingerprint(file))


def _described(name: str, repo: str, folder: Path) -> Foundation:
    """What the files of a model outside the registry say of it."""
    settings = hub.description(folder)
    unknown: dict[str, Any] = {
        "repo": repo,
        "licence": "see its page",
        "gated": False,
        "tile_px": 0,
        "mpp": (),
        "reference": repo,
    }
    try:
        if "architecture" in settings:  # written by timm
            data = settings.get("pretrained_cfg", settings)
            side = data["input_size"][-1]
            return Foundation(
                **unknown,
                library="timm",
                architecture=settings["architecture"],
                arguments=settings.get("model_args", {}),
                resize=int(side / data.get("crop_pct", 1.0)),
                input_px=side,
                interpolation=data["interpolation"],
                normalisation=(tuple(data["mean"]), tuple(data["std"])),
                dim=settings["num_features"],
            )
        if settings["model_type"] not in WITH_CLS:
            raise InputError(
                f"encoder {name} is a {settings['model_type']}, whose class token hsa does not know (it knows "
                f"{', '.join(WITH_CLS)}): give it as an encoder of your own"
            )
        size = settings["size"]
        resize = size.get("shortest_edge") or size["height"]
        return Foundation(
            **unknown,
            library="transformers",
            architecture="AutoModel",
            resize=resize,
            input_px=settings["crop_size"]["height"] if settings.get("do_center_crop") else resize,
            interpolation={2: "bilinear", 3: "bicubic"}[settings["resample"]],
            normalisation=(tuple(settings["image_mean"]), tuple(settings["image_std"])),
            features="cls",
            dim=settings["hidden_size"],
        )
    except InputError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"encoder {name}: config.json or preprocessor_config.json in {folder} does not say {error}: without it "
            "hsa would have to guess how its pixels are prepared; give it as an encoder of your own"
        ) from error


def _prepare(model: Foundation) -> "torch.nn.Module":
    import torch

    class Prepare(torch.nn.Module):
        mean: torch.Tensor
        deviation: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            for key, values in zip(("mean", "deviation"), model.normalisation, strict=True):
                self.register_buffer(key, torch.tensor(values).view(3, 1, 1))

        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            maps = tiles.permute(0, 3, 1, 2).float() / 255
            if maps.shape[-1] != model.resize:
                size = (model.resize, model.resize)
                maps = torch.nn.functional.interpolate(maps, size, mode=model.interpolation, antialias=True).clamp(0, 1)
            edge = (model.resize - model.input_px) // 2
            maps = maps[..., edge : edge + model.input_px, edge : edge + model.input_px]
            return (maps - self.mean) / self.deviation

    return Prepare().eval()


@cache
def _torchvision() -> object:
    """Make torchvision, which timm and transformers import, importable beside a CPU torch.

    torchvision from PyPI is built for CUDA. Beside a CPU torch its compiled operators do not load, and its import fails
    where it describes two of them. Declared beforehand they can be described; nothing here calls them.
    """
    import torch

    try:
        importlib.import_module("torchvision")
    except ImportError:
        return None  # transformers does without; timm says itself that it is missing
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
        return library  # kept in the cache: the declarations live as long as it does
    return None


def _timm_trunk(name: str, model: Foundation) -> "torch.nn.Module":
    import torch

    _torchvision()
    timm = hub.package("timm")
    parts = {"SwiGLUPacked": timm.layers.SwiGLUPacked, "SiLU": torch.nn.SiLU}
    arguments = {key: parts.get(str(value), value) for key, value in model.arguments.items()}
    try:
        return timm.create_model(model.architecture, pretrained=False, **arguments | {"num_classes": 0})
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"encoder {name}: timm {timm.__version__} cannot build {model.architecture}: {error}"
        ) from error


def _timm_network(name: str, model: Foundation, file: Path) -> "torch.nn.Module":
    import torch

    trunk = _timm_trunk(name, model)
    said: Any = trunk.pretrained_cfg
    heads = said.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    weights = hub.read_weights(name, file)
    weights = {key: value for key, value in weights.items() if key.rpartition(".")[0] not in heads}
    try:
        trunk.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise InputError(f"encoder {name}: {file} does not fit {model.architecture}: {error}") from error

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            found = self.trunk(pixels)
            if model.features == "pooled":
                return found
            return torch.cat([found[:, 0], found[:, self.trunk.num_prefix_tokens :].mean(1)], dim=1)

    return Features().eval()


def _transformers_network(name: str, model: Foundation, file: Path) -> "torch.nn.Module":
    import torch

    if file.name not in hub.WEIGHTS or not (file.parent / "config.json").is_file():
        raise InputError(f"encoder {name}: {file} must be named {' or '.join(hub.WEIGHTS)}, with config.json beside it")
    _torchvision()
    transformers = hub.package("transformers")
    try:
        trunk, info = getattr(transformers, model.architecture).from_pretrained(
            file.parent,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=file.suffix == ".safetensors",
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"encoder {name}: transformers cannot load {file.parent}: {error}") from error
    # Without them transformers would go on with random numbers. The pooler is not used.
    lost = sorted(str(key) for part in ("missing_keys", "mismatched_keys") for key in info[part])
    lost = [key for key in lost if not key.startswith("pooler.")]
    if lost:
        raise InputError(
            f"encoder {name}: {file} lacks {len(lost)} parameters ({', '.join(lost[:3])}); is it the file?"
        )

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.trunk(pixel_values=pixels).last_hidden_state[:, 0]

    return Features().eval()
