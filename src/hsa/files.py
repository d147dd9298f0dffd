"""Files that are either whole or absent, and a stamp that says what made them."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # half a second, which `hsa --help` need not wait for
    import pandas as pd

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parents[1]  # of an editable install: holds notebooks/, book/, studies/


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` if the block succeeds, else remove it.

    A reader therefore never sees a half-written file, whenever the writer dies.

    Args:
        path: the file to write. Missing parent folders are made.

    Yields:
        The temporary path, with the suffix of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON with sorted keys, whole or not at all, so that equal data give equal bytes."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def write_frame(path: str | Path, frame: "pd.DataFrame") -> None:
    """Write a frame as CSV or Parquet, by the suffix of `path`, whole or not at all."""
    with replacing(path) as temporary:
        if temporary.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, index=False)


def stamp(settings: Any, *modules: str) -> str:
    """Fingerprint what a result depends on: its settings and the source of the modules that make it.

    A file that carries another stamp than today's is out of date and is made again.

    Args:
        settings: anything that JSON can hold.
        modules: files of this package, such as `"tiling.py"` or `"virtual/render.py"`.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for module in modules:
        digest.update((PACKAGE / module).read_bytes())
    return digest.hexdigest()[:16]
