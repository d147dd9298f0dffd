"""When does the full method gain? The same study at several points, one axis varied at a time."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hsa.errors import InputError
from hsa.files import write_frame
from hsa.pipeline import steps
from hsa.study.study import Study, load
from hsa.workers import bar
from hsa.workers import run as in_processes


def points(study: Study) -> list[tuple[str, float, Study]]:
    """Give axis, value and study of each point; a point that changes nothing is the study itself.

    Raises:
        InputError: the study has no sweep, or a point is no valid study.
    """
    if not study.sweep:
        raise InputError(f"{study.file}: no `sweep`. Add one: axis -> value -> what it changes.")
    found = []
    for axis, values in study.sweep.items():
        for value, changes in values.items():
            name = f"{study.name}-{axis.replace(' ', '-')}-{value:g}"
            found.append((axis, value, load(study.file, changes={**changes, "name": name}) if changes else study))
    return found


def run(study: Study, workers: int = 1, progress: bool = True) -> Path:
    """Evaluate every point, the slides and bags first, then one marker of one point in each process.

    What is done is kept, so an interrupted sweep goes on where it stopped.

    Args:
        study: with a sweep.
        workers: processes.
        progress: show bars.

    Returns:
        The path of sweep.csv: a row a point and marker: axis, value, marker, n, positive; for each method its ROC
        AUC; gain (full minus baseline), low, high, p (DeLong); alignment and recall_1 of the full method.
    """
    todo = points(study)
    for _, _, point in todo:
        steps.make_features(point, workers, progress)
    jobs = {(point.name, marker): partial(_evaluate, point, marker) for _, _, point in todo for marker in point.markers}
    results = in_processes(list(jobs.values()), workers)
    done = dict(bar(results, total=len(jobs), desc="points x stains", progress=progress))
    rows = [
        {"axis": axis, "value": value, "marker": marker, **_row(point, done[point.name, marker])}
        for axis, value, point in todo
        for marker in point.markers
    ]
    path = study.paths.root / "sweep.csv"
    write_frame(path, pd.DataFrame(rows))
    return path


def _evaluate(point: Study, marker: str) -> tuple[tuple[str, str], dict[str, Any]]:
    return (point.name, marker), steps.evaluate(point, marker, progress=False)


def _row(study: Study, found: dict[str, Any]) -> dict[str, float]:
    gain, aligned = found["difference"]["metrics"]["roc_auc"], found["alignment"][study.full]
    auc = {f"auc_{name}": found["prediction"][name]["roc_auc"]["value"] for name in study.methods}
    return {
        **found["cases"],
        **auc,
        **{"gain": gain["value"], "low": gain["low"], "high": gain["high"]},
        "p": found["difference"]["delong"]["p"],
        "alignment": aligned["alignment"]["value"],
        "recall_1": aligned["recall_1"]["value"],
    }
