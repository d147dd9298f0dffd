"""What bags say of themselves, remembered beside them, so that those of a cohort need not be opened one by one."""

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from hsa import files
from hsa.bags.bag import attributes
from hsa.errors import InputError

# A file that was written so many seconds ago may be written again without a change of its time: some file systems
# count in twos.
SETTLED = 2.0


class Known:
    """Attributes of the bags in a folder, of each as long as its size, its time and its inode are those remembered.

    They stand in `known.json` beside the bags, which may be deleted: the bags are opened then.

    Args:
        folder: of the bags.
        names: of the attributes.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self._folder, self._names, self._file = folder, tuple(names), folder / "known.json"
        self._record: dict[str, Any] = {}
        with suppress(OSError, InputError, KeyError, TypeError):  # damaged or not there: the bags themselves tell
            kept = files.read_json(self._file)
            if kept["names"] == list(self._names):
                self._record = kept["bags"]
        self._new: dict[str, Any] = {}

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

    def write(self) -> None:
        """Note what was found out; where that cannot be written, the bags are opened again."""
        if self._new:
            with suppress(OSError):
                files.write_json(self._file, {"names": list(self._names), "bags": self._record | self._new})
