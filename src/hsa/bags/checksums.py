"""What tells slides of one content: checksums that bags carry, and those of files that may be equal."""

from pathlib import Path

import pandas as pd

from hsa.bags.bag import attributes
from hsa.bags.features import sha256
from hsa.slides.readers import slide_files


def of_slides(slides: pd.DataFrame, folder: Path | None, read: bool) -> dict[str, str]:
    """Give the checksums of slides, from their bags where there are any, and from the files.

    Args:
        slides: `slide_id` and `path`.
        folder: of the bags, if there is one.
        read: read the slides that no bag tells of, see `of_files`.

    Returns:
        slide_id -> SHA-256; without what neither told.
    """
    return (of_files(slides) if read else {}) | (of_bags(slides, folder) if folder else {})


def of_bags(slides: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Take the checksums of slides from their bags, where these are there and of files of this size.

    Args:
        slides: `slide_id` and `path`.
        folder: of the bags.

    Returns:
        slide_id -> SHA-256 of the file that the bag was made from.
    """
    found = {}
    for name, path in zip(slides["slide_id"], map(Path, slides["path"]), strict=True):
        told = attributes(folder / f"{name}.h5", ("source_tool", "source_bytes", "source_sha256")) or {}
        if "source_sha256" in told and (
            "source_tool" in told or not path.exists() or told.get("source_bytes") == _size(path)
        ):
            found[name] = str(told["source_sha256"])
    return found


def of_files(slides: pd.DataFrame) -> dict[str, str]:
    """Read the slides that may be equal, which are those of equal size, and give their checksums.

    Args:
        slides: `slide_id` and `path`; files that are not there are left out.

    Returns:
        slide_id -> SHA-256.
    """
    there = slides[slides["path"].map(lambda path: Path(path).exists())]
    sizes = there["path"].map(lambda path: _size(Path(path)))
    equal = there[sizes.duplicated(keep=False) & (sizes > 0)]
    return {name: sha256(Path(path)) for name, path in zip(equal["slide_id"], equal["path"], strict=True)}


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in slide_files(path))
