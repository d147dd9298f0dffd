"""What training leaves on disk: a model a fold, and the state of a fold that is not finished. No pickle."""

import json
import platform
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning_fabric
import safetensors.torch
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

import hsa
from hsa.errors import InputError
from hsa.files import read_json, replacing, write_json
from hsa.models.model import STAINS, SlideModel
from hsa.study.records import Record, read_record
from hsa.study.settings import Model

Weights = dict[str, Tensor]


class Input(Record):
    """What a fold's model was made for: the arguments of `SlideModel` besides its sizes."""

    in_dim: Annotated[int, Field(ge=1)]
    encoder: Literal["longnet", "abmil", "mean", "colour"]
    classes: Annotated[int, Field(ge=0)] = 0
    tile_size: Annotated[int, Field(ge=1)] = 256


class _Settings(Record):
    input: Input
    model: Model


class _Fold(Record):
    fold: Annotated[int, Field(ge=0)]
    stamp: str
    settings: _Settings


def save_tensors(path: str | Path, tensors: Weights, notes: dict[str, Any]) -> None:
    """Write tensors by name as safetensors, with `notes` as JSON in its header: both whole, or neither."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"notes": json.dumps(notes)})


def load_tensors(path: str | Path, remedy: str = "Delete it and train again.") -> tuple[Weights, dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        InputError: not such a file; ends with the remedy.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads(file.metadata()["notes"])
            if not isinstance(notes, dict):
                raise ValueError("its notes are no keys and values")
            return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({error}). {remedy}") from error


def save_fold(folder: Path, fold: int, model: SlideModel, stamp: str, record: dict[str, Any]) -> None:
    """Write a finished fold: its weights, then its record, and remove the state it was resumed from.

    Args:
        folder: of the method; gets fold<k>.safetensors and fold<k>.json.
        fold: k.
        model: with the weights to keep.
        stamp: what they depend on.
        record: "settings", "history" and what else to tell. Best epoch, state embedded and versions are added.
    """
    history = record["history"]
    best = min(history, key=lambda row: row["val"]["total"])["epoch"] if history else None
    versions = {
        "hsa": hsa.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning_fabric": lightning_fabric.__version__,
    }
    record = record | {
        "fold": fold,
        "stamp": stamp,
        "best_epoch": best,
        "embedding": model.options,
        "versions": versions,
    }
    path = folder / f"fold{fold}.json"
    save_tensors(path.with_suffix(".safetensors"), model.state_dict(), {"stamp": stamp, "fold": fold})
    write_json(path, record)
    Resume(folder, fold, stamp).path.unlink(missing_ok=True)


def is_finished(folder: Path, fold: int, stamp: str) -> bool:
    """Tell whether a finished fold of this stamp is there."""
    path = folder / f"fold{fold}.json"
    weights = path.with_suffix(".safetensors")
    if not (path.is_file() and weights.is_file()):
        return False
    return bool(read_json(path).get("stamp") == stamp == load_tensors(weights)[1].get("stamp"))


def load_fold(folder: Path, fold: int) -> tuple[SlideModel, dict[str, Any]]:
    """Read a finished fold.

    Returns:
        The model in eval mode, on the CPU, and its record.

    Raises:
        InputError: it is not there, its two files are damaged or not of this fold and of one run, they do not fit each
            other, or a weight is not a finite number.
    """
    path = folder / f"fold{fold}.json"
    remedy = (
        f"Delete {path.name}, {path.stem}.safetensors, made.json and probe.json in that folder and run `hsa train` for "
        "its study, which trains this fold again; or copy the model's folder again."
    )
    told = read_record(path, _Fold, remedy, "Train it with `hsa train`.")
    weights, notes = load_tensors(path.with_suffix(".safetensors"), remedy)
    if notes.get("stamp") != told.stamp:
        raise InputError(f"{path} and its .safetensors are of two runs. {remedy}")
    if {told.fold, notes.get("fold", fold)} != {fold}:
        raise InputError(f"{path} and its .safetensors: one is of another fold. {remedy}")
    given, sizes = told.settings.input, told.settings.model
    try:
        if not _can_be(given, sizes, weights):
            raise ValueError("it tells of a larger model")
        with torch.random.fork_rng(devices=[]):  # the model starts on the CPU
            model = SlideModel(**given.model_dump(), model=sizes)
        model.load_state_dict(weights)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not the record of its weights ({error}). {remedy}") from error
    broken = _broken(model)
    if broken:
        raise InputError(f"{path.with_suffix('.safetensors')}: {broken}. {remedy}")
    return model.eval(), read_json(path)


def _can_be(given: Input, sizes: Model, weights: Weights) -> bool:
    """Whether the weights are as many as the settings say at least, before memory is taken for what these say."""
    largest = max((side for value in weights.values() for side in value.shape), default=0)
    wanted = [given.in_dim, given.classes, *[sizes.head_hidden] * bool(given.classes)]
    if given.encoder in ("longnet", "abmil"):
        wanted.append(sizes.dim)
    if given.encoder == "longnet":
        wanted.append(int(min(sizes.dim * sizes.mlp_ratio, 2**62)))
    return max(wanted) <= largest and (given.encoder != "longnet" or sizes.depth <= len(weights))


def _broken(model: SlideModel) -> str:
    """Say which weights are no numbers to reckon with; empty if all are."""
    odd = [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]
    if odd:
        return f"{odd[0]} holds NaN or infinity ({len(odd)} tensors do), expected finite numbers"
    flat = [name for name in (f"{stain}_deviation" for stain in STAINS) if getattr(model, name).min() <= 0]
    return f"{flat[0]} holds a number that is not above 0" if flat else ""


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> Weights:
    """State of an optimiser by name: parameter number, dot, entry."""
    state = optimiser.state_dict()["state"]
    return {f"{i}.{key}": value for i, entries in state.items() for key, value in entries.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Weights) -> None:
    """Put back what `optimiser_tensors` gave."""
    state: dict[int, Weights] = {}
    for name, value in tensors.items():
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


class Resume:
    """The state of an unfinished fold after its last finished epoch, as one file.

    Args:
        folder: of the method.
        fold: number.
        stamp: what the fold depends on; the state of another stamp is not there.
    """

    def __init__(self, folder: Path, fold: int, stamp: str):
        self.path, self.stamp = folder / f"fold{fold}.resume.safetensors", stamp

    def save(self, parts: dict[str, Weights], history: list[dict[str, Any]]) -> None:
        """Write groups of tensors, such as model, best and optimiser, and the epochs so far."""
        tensors = {f"{part}/{name}": value for part, group in parts.items() for name, value in group.items()}
        save_tensors(self.path, tensors, {"stamp": self.stamp, "history": history})

    def load(self) -> tuple[dict[str, Weights], list[dict[str, Any]]] | None:
        """Read what `save` wrote; None if there is nothing of this stamp."""
        if not self.path.is_file():
            return None
        tensors, notes = load_tensors(self.path)
        if notes["stamp"] != self.stamp:
            return None
        parts: dict[str, Weights] = {}
        for name, value in tensors.items():
            part, key = name.split("/", 1)
            parts.setdefault(part, {})[key] = value
        return parts, notes["history"]
