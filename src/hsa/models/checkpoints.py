"""What training leaves on disk: a model a fold, and the state of a fold that is not finished. No pickle."""

import json
import platform
from pathlib import Path
from typing import Any

import lightning_fabric
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import hsa
from hsa.errors import InputError
from hsa.files import read_json, replacing, write_json
from hsa.models.model import SlideModel
from hsa.study.settings import Model

Weights = dict[str, Tensor]


def save_tensors(path: str | Path, tensors: Weights, notes: dict[str, Any]) -> None:
    """Write tensors by name as safetensors, with `notes` as JSON in its header: both whole, or neither."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"notes": json.dumps(notes)})


def load_tensors(path: str | Path) -> tuple[Weights, dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        InputError: not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads(file.metadata()["notes"])
            return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({error}): delete it and train again") from error


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
    record = record | {"stamp": stamp, "best_epoch": best, "embedding": model.options, "versions": versions}
    path = folder / f"fold{fold}.json"
    save_tensors(path.with_suffix(".safetensors"), model.state_dict(), {"stamp": stamp})
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
        InputError: it is not there, or its two files are not of one run.
    """
    path = folder / f"fold{fold}.json"
    if not path.is_file():
        raise InputError(f"{path}: no such model: train it with `hsa train`")
    record = read_json(path)
    weights, notes = load_tensors(path.with_suffix(".safetensors"))
    if notes.get("stamp") != record.get("stamp"):
        raise InputError(f"{path} and its .safetensors are of two runs: delete both and train again")
    try:
        settings = record["settings"]
        with torch.random.fork_rng(devices=[]):  # the model starts on the CPU
            model = SlideModel(**settings["input"], model=Model(**settings["model"]))
        model.load_state_dict(weights)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not the record of its weights ({error}): delete both and train again") from error
    return model.eval(), record


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
