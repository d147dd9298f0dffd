"""What bags say of themselves, remembered beside them, so that those of a cohort need not be opened one by one.

Of the slides that they were made from, size, time and checksum are remembered, so that a replaced one is noticed.
"""

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from hsa import files
from hsa.bags.bag import attributes
from hsa.errors import InputError
from hsa.slides.readers import slide_files

# A file that was written so many seconds ago may be written again without a change of its time: some file systems
# count in twos.
SETTLED = 2.0


class Known:
    """Attributes of the bags in a folder, of each as long as its size, its time and its inode are those remembered.

    They stand in `known.json` beside the bags, which may be deleted: the bags are opened then, and the slides read.

    Args:
        folder: of the bags.
        names: of the attributes.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self._folder, self._names, self._file = folder, tuple(names), folder / "known.json"
        self._record, self._slides = self._read()
        self._new: dict[str, Any] = {}
        self._met: dict[str, Any] = {}

    def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        with suppress(OSError, InputError, KeyError, TypeError, AttributeError):  # damaged or not there
            kept = files.read_json(self._file)
            bags, slides = dict(kept["bags"]), dict(kept.get("slides", {}))
            return bags if kept["names"] == list(self._names) else {}, slides
        return {}, {}

    def attributes(self, name: str) -> dict[str, Any] | None:
        """Attributes of one bag, and its number of `tiles`; None if there is no sound file."""
        path = f"{self._folder}/{name}.h5"
        try:
            status = os.stat(path)
        except OSError:
            return None
        seen = [status.st_size, status.st_mtime_ns, status.st_ino]
        kept = self._record.get(name)
        if kept and kept[0] == seen:
            told: dict[str, Any] = kept[1]
            return told
        found = attributes(Path(path), self._names)
        if found is not None and time.time() - status.st_mtime > SETTLED:
            self._new[name] = [seen, found]
        return found

    def is_slide_of(self, name: str, state: list[int], digest: str) -> bool:
        """Tell whether a slide in this state (`state_of`) was found to have this checksum."""
        return self._slides.get(name) == [state, digest]

    def meet(self, name: str, state: list[int], digest: str) -> None:
        """Note the checksum of a slide that was in this state before it was read."""
        if time.time() - state[2] / 1e9 > SETTLED:
            self._met[name] = [state, digest]

    def write(self) -> None:
        """Note what was found out; where that cannot be written, bags are opened and slides read again."""
        if self._new or self._met:
            bags, slides = self._read()  # of other jobs, which work on other shares of the slides, too
            told = {"names": list(self._names), "bags": bags | self._new, "slides": slides | self._met}
            with suppress(OSError):
                files.write_json(self._file, told)


def state_of(path: Path) -> list[int]:
    """Number of a slide's files, their size in bytes, the latest change (ns) and the sum of their inodes."""
    looked = [file.stat() for file in slide_files(path)]
    latest = max((one.st_mtime_ns for one in looked), default=0)
    return [len(looked), sum(one.st_size for one in looked), latest, sum(one.st_ino for one in looked)]
