"""The door of a step: is its result there and of today? If not, the step runs, and a record says how."""

from pathlib import Path
from typing import Any

from hsa import files
from hsa.pipeline.stamps import stamp
from hsa.study.provenance import Clock, run_record
from hsa.study.study import Study


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
        """Write the file that vouches for the step, last, and beside it how the step ran, `<name>.run.json`.

        Args:
            found: what the file says besides the stamp.
            told: what the record says besides.
        """
        record = run_record(self._study, self._clock, step=self._step, stamp=self.stamp, **told)
        files.write_json(self._path.with_suffix(".run.json"), record)
        files.write_json(self._path, {**(found or {}), "stamp": self.stamp})


def begin(study: Study, step: str, path: Path, marker: str = "", method: str = "") -> Job | None:
    """Open a step's door: None if the file at `path` is of today, else the job of making it.

    Args:
        study: the study.
        step: see `hsa.pipeline.stamps.stamp`.
        path: the file that vouches for what the step makes.
        marker: of the step, where it has one.
        method: likewise.
    """
    current = stamp(study, step, marker, method)
    return None if is_of(path, current) else Job(study, step, path, current)


def is_of(path: Path, current: str) -> bool:
    """Tell whether a file that vouches for a step is there and carries this fingerprint."""
    return path.is_file() and files.read_json(path).get("stamp") == current
