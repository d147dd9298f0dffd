"""A study run again from nothing, and what is kept of it to compare with: `hsa verify --rerun`.

`book/reference/<study>/` keeps summary.json, the summary of a run, summary.run.json, how it was made, and
tolerances.json, how far its numbers move from machine to machine (`benchmarks/drift.py`).
"""

import math
from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat

from hsa import files
from hsa.errors import InputError
from hsa.pipeline.agreement import leaves
from hsa.study.records import Record, read_record
from hsa.study.settings import VirtualCohort
from hsa.study.study import Study

# Where the file of a study that runs again would lie, so that its results lie beside it.
FILE = Path("studies", "again.yml")


class Tolerances(Record):
    """tolerances.json: how far apart runs were that were meant to be equal.

    Attributes:
        study: name of the study.
        largest: family of numbers (`hsa.pipeline.agreement.family`) -> the largest deviation that was seen.
    """

    study: str
    largest: dict[str, NonNegativeFloat]


def run(study: Study, folder: Path, workers: int = 1, progress: bool = True) -> dict[str, Any]:
    """Run a study from nothing to its summary, in a folder of its own.

    Args:
        study: on virtual tissue.
        folder: where its slides, bags and results go. The study's own stay as they are.
        workers: slides that are rendered or encoded at a time.
        progress: show bars.

    Returns:
        What summary.json holds.

    Raises:
        InputError: the study reads slides or weights from files, which another machine may not have.
    """
    from hsa.pipeline import steps

    if not isinstance(study.cohort, VirtualCohort) or study.encoder.weights or study.model.weights:
        raise InputError(
            f"{study.file}: cohort, encoder or model reads files; only a study whose cohort is of `kind: virtual` and "
            "that names no `weights`, such as smoke, can be run again from nothing."
        )
    fresh = study.model_copy(update={"file": folder / FILE, "bags": None})
    steps.make_features(fresh, workers, progress)
    return steps.summarise(fresh, progress)


def keep(study: Study, folder: Path) -> Path:
    """Keep the summary that `run` made in a folder, with the record of its making, and give its path."""
    made = study.model_copy(update={"file": folder / FILE}).paths.summary
    for name in ("summary.run.json", "summary.json"):
        files.write_json(study.paths.kept / name, files.read_json(made.with_name(name)))
    return study.paths.kept / "summary.json"


def read_kept(study: Study) -> tuple[dict[str, Any], Tolerances]:
    """Read what is kept of a study: its summary, and how far numbers move.

    Raises:
        InputError: a file is not there, damaged, or of another study; names the file, the key and the remedy.
    """
    path = study.paths.kept / "summary.json"
    remedy = f"Restore it with `git checkout`, or make it anew: `hsa verify --rerun {study.name} --keep`."
    if not path.is_file():
        raise InputError(f"{path}: no such file. {remedy}")
    try:
        summary = files.read_json(path)
    except InputError as error:
        raise InputError(f"{path}: not JSON ({error.__cause__}). {remedy}") from None
    made_of = summary.get("provenance") if isinstance(summary, dict) else None
    _require_study(path, "provenance.study", made_of.get("study") if isinstance(made_of, dict) else None, study, remedy)
    for place, value in leaves(summary):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{path}: {place}: {value}; expected a finite number. {remedy}")
    path, remedy = path.with_name("tolerances.json"), remedy.partition("hsa")[0] + "python benchmarks/drift.py`."
    tolerances = read_record(path, Tolerances, remedy)
    _require_study(path, "study", tolerances.study, study, remedy)
    return summary, tolerances


def _require_study(path: Path, key: str, found: Any, study: Study, remedy: str) -> None:
    if found != study.name:
        told = "missing" if found is None else f"found {str(found)[:40]!r}"
        raise InputError(f"{path}: {key}: {told}; expected the results of {study.name!r}. {remedy}")
