"""Make what an experiment still lacks: tune each method at the middle, then every unit of every point."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd

from hsa.errors import InputError
from hsa.fingerprint import fingerprint
from hsa.pipeline import steps
from hsa.pipeline.experiment import findings
from hsa.pipeline.experiment.kept import Kept, Unit
from hsa.pipeline.experiment.points import Point, points, twin, units
from hsa.study.provenance import Clock, run_record
from hsa.study.settings import Training
from hsa.study.study import Study
from hsa.workers import bar
from hsa.workers import run as in_processes

_MAKER = "hsa.training.trial"
_MANIFESTS = ("hsa.cohorts.cells", "hsa.cohorts.paths")  # how one is read decides nothing in a simulated cohort


def run(study: Study, workers: int = 1, progress: bool = True, only: Sequence[str] | None = None) -> Kept:
    """Run an experiment, or go on with it: a unit that is kept with today's fingerprint is not made again.

    Writes what is found then (`findings`).

    Args:
        study: with `tuning`, and with a `sweep` where it has several points.
        workers: processes, each at work on one unit with one thread.
        progress: show a bar.
        only: names of points; by default all.

    Returns:
        All that is kept.

    Raises:
        InputError: the study has no `tuning`, or no point of that name.
    """
    kept, every = Kept(study.paths.kept), points(study)
    unknown = set(only or ()) - {point.name for point in every}
    if unknown:
        raise InputError(
            f"{study.file}: no point {sorted(unknown)[0]!r}; there are {', '.join(p.name for p in every)}."
        )
    chosen = [point for point in every if only is None or point.name in only]
    _tune(study, kept, chosen, workers, progress)
    todo = [(point, missing) for point in chosen if (missing := _missing(study, point, kept))]
    with bar(total=sum(len(missing) for _, missing in todo), desc=study.name, unit="unit", progress=progress) as done:
        for point, missing in todo:
            steps.make_features(point.study, workers, progress)
            jobs = [partial(_unit, point.study, unit, *settings, current) for unit, settings, current in missing]
            for unit, cases, record in in_processes(jobs, workers):
                kept.add(unit, cases, record)
                done.update()
    if kept.units:
        findings.write(study, kept)
    return kept


def _missing(study: Study, point: Point, kept: Kept) -> list[tuple[Unit, tuple[Training, float], str]]:
    found = []
    for unit in units(point):
        settings = _settings(study, point, kept, unit)
        current = _fingerprint(
            point.study, unit.marker, unit.method, [settings[0].model_dump(), settings[1], unit.seed]
        )
        if not kept.has(unit, current):
            found.append((unit, settings, current))
    return found


def _settings(study: Study, point: Point, kept: Kept, unit: Unit) -> tuple[Training, float]:
    """Settings of the training and C of the probe: as tuned at the middle, but for what the point itself says."""
    tuned = kept.tuned[f"{unit.marker}/{twin(study, unit.method)}"]
    varied = {key: getattr(point.study.training, key) for key in point.varied}
    return study.training.model_copy(update={**tuned["settings"], **varied}), tuned["strength"]


def _tune(study: Study, kept: Kept, chosen: Sequence[Point], workers: int, progress: bool) -> None:
    if study.tuning is None:
        raise InputError(f"{study.file}: tuning: missing; an experiment tunes every method. Say candidates and a seed.")
    wanted = {twin(study, method): None for point in chosen for method in point.study.methods}
    jobs: list[Callable[[], tuple[str, str, dict[str, Any]]]] = []
    for marker in study.markers:
        for method in wanted:
            way = study.methods[method]
            tried = [c.model_dump(exclude_none=True) for c in study.tuning.candidates] if way.losses else [{}]
            current = _fingerprint(study, marker, method, [study.training.model_dump(), tried, study.tuning.seed])
            if kept.tuned.get(f"{marker}/{method}", {}).get("fingerprint") != current:
                jobs.append(partial(_tuned, study.at(study.tuning.seed), marker, method, tried, current))
    if jobs:
        steps.make_features(study, workers, progress)
    results = in_processes(jobs, workers)
    for marker, method, record in bar(results, total=len(jobs), desc=f"{study.name}: tuning", progress=progress):
        kept.tune(marker, method, record)


def _fingerprint(study: Study, marker: str, method: str, more: Any) -> str:
    """Of what decides the numbers: the tissue, the tiles, the folds, the method, and the code that trains and reads."""
    parts = study.model_dump(mode="json")
    way = {key: value for key, value in parts["methods"][method].items() if key != "title"}
    kind = {key: value for key, value in parts["markers"][marker].items() if key != "published_f1"}
    tissue = [parts["cohort"], sorted(study.markers), parts["tiles"], parts["encoder"]["name"]]
    deal = [study.evaluation.folds, study.evaluation.fold_seed, parts["design"]]
    apart = () if study.cohort.kind == "manifest" else _MANIFESTS
    return fingerprint([tissue, marker, kind, parts["model"], way, deal, more], _MAKER, stop=apart)


def _tuned(
    study: Study, marker: str, method: str, tried: list[dict[str, Any]], current: str
) -> tuple[str, str, dict[str, Any]]:
    from hsa.training import trial  # torch

    clock = Clock()
    train, folds = trial.trainer(study, steps.make_cohort(study, progress=False), marker, method)
    found = trial.tune(train, folds, [study.training.model_copy(update=update) for update in tried])
    record = {
        "fingerprint": current,
        "settings": tried[found.candidate],
        "candidate": found.candidate,
        "strength": found.strength,
        "validated": [[round(value, 4) for value in row] for row in found.validated],
    }
    return marker, method, record | _made(study, clock)


def _unit(
    study: Study, unit: Unit, training: Training, strength: float, current: str
) -> tuple[Unit, pd.DataFrame, dict[str, Any]]:
    from hsa.training import trial  # torch

    clock, one = Clock(), study.at(unit.seed)
    train, folds = trial.trainer(one, steps.make_cohort(one, progress=False), unit.marker, unit.method)
    found = trial.run(train, folds, training, strength)
    chosen = {key: getattr(training, key) for key in ("lr", "weight_decay", "temperature", "batch")}
    record = {
        "fingerprint": current,
        "settings": {**chosen, "strength": strength},
        "folds": found.folds.round(5).to_dict("records"),
    }
    return unit, found.cases, record | _made(one, clock)


def _made(study: Study, clock: Clock) -> dict[str, Any]:
    """How and where it was made: a run record without what the study and the unit say."""
    record = run_record(study, clock)
    told = ("commit", "clean", "date", "minutes", "cpu_minutes", "device", "hsa", "torch", "numpy")
    return {"made": {**{key: record[key] for key in told}, "peak_mb": round(record["peak_memory_mb"]["process"] or 0)}}
