"""Files of weights: from a folder, a file, or the Hugging Face hub and its cache on this machine."""

import hashlib
import importlib
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hsa.errors import InputError
from hsa.files import read_json

if TYPE_CHECKING:
    import torch

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
DESCRIPTIONS = ("preprocessor_config.json", "config.json")


def package(name: str, extra: str = "foundation") -> ModuleType:
    """Import a package of one of the extras.

    Raises:
        InputError: it is not installed; says how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f'{name} is missing ({error}): install it with `pip install "hsa[{extra}]"`') from error


def on_disk(name: str, path: str | Path, repo: str) -> Path:
    """Find the file of weights.

    Args:
        name: of the encoder, for the message.
        path: a file, or a folder laid out as on the hub.
        repo: where the weights are published, for the message.

    Raises:
        InputError: there is none, or several that could be meant.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    named = [path / file for file in WEIGHTS if (path / file).is_file()]
    others = [file for suffix in ("safetensors", "bin", "pth") for file in sorted(path.glob(f"[!.]*.{suffix}"))]
    if not named and len(others) != 1:
        raise InputError(
            f"encoder {name}: {'several files' if others else 'no file'} of weights at {path}. `weights` under "
            f"`encoder` names a file (.safetensors, .bin, .pth) or a folder with {' or '.join(WEIGHTS)}, as published "
            f"at https://huggingface.co/{repo}"
        )
    return (named or others)[0]


def from_hub(name: str, repo: str, revision: str | None, files: tuple[str, ...]) -> Path:
    """Get the first of these files that a repository has. Asks nothing of the hub if HF_HUB_OFFLINE is set.

    Args:
        name: of the encoder, for the message.
        repo: OWNER/NAME on the hub.
        revision: commit, tag or branch; None: the newest, or what the cache has.
        files: names, best first.

    Raises:
        InputError: access, network, repository, revision or file is missing; says step by step what to do.
    """
    hub = package("huggingface_hub")
    errors = package("huggingface_hub.errors")
    page = f"https://huggingface.co/{repo}"
    local = f"Or get {' or '.join(files)} by other means and say `weights: FILE_OR_FOLDER` under `encoder`"
    login = "log in with `hf auth login`, or set HF_TOKEN to a token from https://huggingface.co/settings/tokens"
    try:
        for file in files[:-1]:
            with suppress(errors.EntryNotFoundError):
                return Path(hub.hf_hub_download(repo, file, revision=revision))
        return Path(hub.hf_hub_download(repo, files[-1], revision=revision))
    except errors.GatedRepoError as error:
        raise InputError(
            f"encoder {name} is gated: (1) ask for access and accept the licence at {page}; (2) {login}; (3) run "
            f"again. {local}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"encoder {name}: the hub shows you no {repo}: (1) check the name at {page}; (2) {login}. {local}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"encoder {name}: no revision {revision}; choose one of {page}/commits/main") from error
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"encoder {name} is not on this machine, and the hub cannot be reached or HF_HUB_OFFLINE is set. Where "
            f"there is a network: (1) open {page}, accept the licence if it asks; (2) {login}; (3) `hf download "
            f"{repo}`; (4) copy its cache here (the folder HF_HOME, by default ~/.cache/huggingface). {local}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise InputError(f"encoder {name}: {page} has no {' or '.join(files)}") from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise InputError(f"encoder {name}: the hub answered: {error}. Try again later. {local}") from error


def description(folder: Path) -> dict[str, Any]:
    """Read what a folder says of its model: preprocessor_config.json and config.json, in one dictionary."""
    found: dict[str, Any] = {}
    for file in DESCRIPTIONS:
        if (folder / file).is_file():
            said = read_json(folder / file)
            if not isinstance(said, dict):
                raise InputError(f"{folder / file}: expected keys and values; download it again")
            found |= said
    return found


def read_weights(name: str, file: Path) -> "dict[str, torch.Tensor]":
    """Read the tensors of a file; code in it is not run.

    Raises:
        InputError: the file is damaged, or holds more than tensors.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(f"encoder {name}: {file} is not a readable file of weights ({error}); get it again") from error
    items = state.items() if isinstance(state, dict) else ()
    if not items or not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in items):
        raise InputError(f"encoder {name}: {file} is not a plain dictionary of tensors; save the tile encoder's alone")
    return state


def fingerprint(file: str | Path) -> str:
    """Name the content of a file: `sha256:` and 16 hexadecimal digits."""
    with Path(file).open("rb") as handle:
        return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()[:16]}"
