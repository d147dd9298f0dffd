"""Which files the marker of a step vouches for, and whether these are there and as they were written.

A marker that carries today's fingerprint says that the step ran. A copy that was cut short, or a disk that lost a file,
does not touch the marker; so it lists the files beside it, each with its size and checksum.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

# Step -> names of its files, in the folder of its marker.
PATTERNS = {
    "cohort": ("manifest.csv", "truth.csv"),
    "tuning": ("trials.csv",),
    "fit": ("fold[0-9]*.json", "fold[0-9]*.safetensors", "embeddings_*.parquet", "seen.json"),
    "probe": ("predictions.csv", "study.json"),
    "evaluation": ("predictions.csv", "alignment.csv", "recall.csv", "geometry.csv", "umap.csv", "maps.csv"),
}
PASSING = (".resume.", ".run.")  # states of a run, and records of how one went


def listed(step: str, folder: Path) -> dict[str, list[int | str]]:
    """List the files of a step: name -> size in bytes and SHA-256."""
    found = {path for pattern in PATTERNS.get(step, ()) for path in folder.glob(pattern)}
    kept = sorted(path for path in found if not any(mark in path.name for mark in PASSING))
    return {path.name: [path.stat().st_size, _digest(path)] for path in kept}


def unsound(marker: Path, told: Mapping[str, Any]) -> list[Path]:
    """Find the files that a marker lists and that are missing or not as they were written.

    Args:
        marker: the marker's file.
        told: what it holds. One of an older version lists nothing.
    """
    listed = told.get("files", {})
    # Names of other folders were put there by somebody else: nothing there is looked at, or removed.
    if not isinstance(listed, Mapping) or any(Path(name).name != name or not name for name in listed):
        return [marker]
    return [marker.parent / name for name, kept in listed.items() if not _is_sound(marker.parent / name, kept)]


def _is_sound(path: Path, kept: Any) -> bool:
    try:
        return bool(kept == [path.stat().st_size, _digest(path)])
    except OSError:
        return False


def _digest(path: Path) -> str:
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(10_000)
def _sha256(path: Path, *state: int) -> str:
    """The checksum of a file, read once for each state of it: a door is passed many times."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
