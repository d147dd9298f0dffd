"""The door of a step: is its result there, sound, and of today? If not, the step runs, and a record says how."""

import logging
from pathlib import Path
from typing import Any

from hsa import files
from hsa.errors import InputError
from hsa.pipeline.stamps import stamp
from hsa.pipeline.vouched import listed, unsound
from hsa.study.provenance import Clock, run_record
from hsa.study.study import Study

log = logging.getLogger(__name__)


class Job:
    """A step that has to run: what it is to be stamped with, and since when it runs.

    Attributes:
        stamp: the fingerprint, asked for before the step began.
    """

    def __init__(self, study: Study, step: str, path: Path, current: str):
        self.stamp, self._study, self._step, self._path = current, study, step, path
        self.start()

    def start(self) -> None:
        """Start the clock of the record: again, where a step first had to make what it needs."""
        self._clock = Clock()

    def finish(self, found: dict[str, Any] | None = None, **told: Any) -> None:
        """Write the file that vouches for the step and lists what it made; beside it `<name>.run.json`, how it ran.

        Args:
            found: what the file says besides the stamp.
            told: what the record says besides.
        """
        record = run_record(self._study, self._clock, step=self._step, stamp=self.stamp, **told)
        files.write_json(self._path.with_suffix(".run.json"), record)
        for folder in (self._path.parent, self._path.parent / "slides"):
            files.sweep(folder)
        made = listed(self._step, self._path.parent)
        files.write_json(self._path, {**(found or {}), **({"files": made} if made else {}), "stamp": self.stamp})


def begin(study: Study, step: str, path: Path, marker: str = "", method: str = "") -> Job | None:
    """Open a step's door: None if the file at `path` is of today and what it lists is sound, else the job of making it.

    A damaged file is removed, so that the step makes it again and does not meet it.

    Args:
        study: the study.
        step: see `hsa.pipeline.stamps.stamp`.
        path: the file that vouches for what the step makes.
        marker: of the step, where it has one.
        method: likewise.
    """
    current = stamp(study, step, marker, method)
    told = _told(path)
    if told.get("stamp") == current:
        broken = unsound(path, told)
        if not broken:
            return None
        for file in broken:
            log.warning("%s is missing or damaged, and is made again", file)
            if file.is_file():
                file.unlink()
    return Job(study, step, path, current)


def is_of(path: Path, current: str) -> bool:
    """Tell whether a file that vouches for a step is there, carries this fingerprint, and what it lists is sound."""
    told = _told(path)
    return bool(told.get("stamp") == current and not unsound(path, told))


def _told(path: Path) -> dict[str, Any]:
    """What a marker says; nothing where it is not there or damaged: the step then runs, and writes it again."""
    if not path.is_file():
        return {}
    try:
        told = files.read_json(path)
    except InputError:
        return {}
    return told if isinstance(told, dict) else {}
