"""Bags that outlive an upgrade: which bags of other code count as of today."""

import logging
from pathlib import Path
from typing import Any

from hsa import files
from hsa.bags.features import VERSION

log = logging.getLogger(__name__)


class Adopted:
    """The stamps of bags that count as today's: today's own, and those of other code that makes the same features.

    The second kind stands in `adopted.json` beside the bags, today's stamp -> earlier stamps, so that the bags stay as
    they are.

    Args:
        folder: of the bags.
        stamp: today's.
        settings: today's fingerprint of the settings alone, to adopt bags from now on; None to adopt none.
    """

    def __init__(self, folder: Path, stamp: str, settings: str | None):
        self._file, self._stamp, self._settings = folder / "adopted.json", stamp, settings
        self._record: dict[str, list[str]] = files.read_json(self._file) if self._file.is_file() else {}
        self._taken = {stamp, *self._record.get(stamp, ())}
        self._new: set[str] = set()
        self._bags = 0

    def takes(self, attrs: dict[str, Any], bag: bool = True) -> bool:
        """Tell whether a bag counts as of today; adopt it, if that is asked for and it is of the same settings.

        Args:
            attrs: what the bag says of itself.
            bag: False for what is made beside the bags, which is not counted.
        """
        if attrs.get("stamp") in self._taken:
            return True
        wanted = {"settings": self._settings, "features_version": VERSION}
        if self._settings is None or not wanted.items() <= attrs.items():
            return False
        self._new.add(attrs["stamp"])
        self._bags += bag
        return True

    def write(self) -> None:
        """Note what was adopted, and say so."""
        if self._new:
            earlier = sorted((self._taken | self._new) - {self._stamp})
            files.write_json(self._file, self._record | {self._stamp: earlier})
            log.warning("%d bags of other code kept: same settings, same features (version %d)", self._bags, VERSION)
