"""What the kept cases of an experiment say: every contrast and level of every point, under every rule of selection.

`findings.json` beside the cases is what the pages of the book read. It is reckoned from the cases and nothing else, so
that anybody can reckon it again (`verify`).
"""

import math
from collections.abc import Iterator
from typing import Any

from hsa import files
from hsa.errors import InputError
from hsa.evaluation import contrasts
from hsa.pipeline.experiment import subgroups
from hsa.pipeline.experiment.kept import Kept
from hsa.pipeline.experiment.points import MIDDLE, points
from hsa.study.study import Study

RULES = ("validated", "last", "published")
CLOSE = 1e-6  # float32 scores give these numbers to more digits than that


def find(study: Study, kept: Kept) -> dict[str, Any]:
    """Reckon what is found at every point that has results.

    Returns:
        Name of a point -> "axis", "value", "units" (how many are kept and wanted), and for each rule of selection
        "contrasts" and "levels": lists of rows (`hsa.evaluation.contrasts`); at the middle "subgroups", too.
    """
    folds, found = kept.folds(), {}
    for point in points(study):
        cases = kept.cases(point.name)
        if cases.empty:
            continue
        here = folds[folds["point"] == point.name]
        wanted = len(point.study.seeds) * len(point.study.markers) * len(point.study.methods)
        row: dict[str, Any] = {"axis": point.axis, "value": point.value}
        row["units"] = {"kept": len(cases.groupby(["marker", "method", "seed"], observed=True)), "wanted": wanted}
        for rule in RULES:
            row[rule] = {
                "contrasts": contrasts.compare(cases, study.contrasts, rule).to_dict("records"),
                "levels": contrasts.levels(cases, here, rule).to_dict("records"),
            }
        if point.name == MIDDLE:
            row["subgroups"] = subgroups.rows(point.study, cases)
        found[point.name] = row
    return found


def write(study: Study, kept: Kept) -> None:
    """Write findings.json for what is kept now."""
    files.write_json(kept.folder / "findings.json", find(study, kept))


def verify(study: Study) -> list[tuple[str, float | str | None, float | str | None]]:
    """Reckon every finding again from the kept cases and compare it with the one that the book reads.

    Returns:
        Where a number or a verdict differs: its place, what is written, and what the cases say. Empty if all is equal.

    Raises:
        InputError: nothing is kept of this study.
    """
    kept = Kept(study.paths.kept)
    path = kept.folder / "findings.json"
    if not path.is_file():
        raise InputError(f"{path}: not there; `hsa experiment --study {study.name}` makes it.")
    written, again = dict(_leaves(files.read_json(path))), dict(_leaves(find(study, kept)))
    places = [*written, *(place for place in again if place not in written)]
    return [
        (place, written.get(place), again.get(place))
        for place in places
        if not _same(written.get(place), again.get(place))
    ]


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}/{key}" if place else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            name = "/".join(str(inner[key]) for key in ("contrast", "marker", "method") if key in inner) or str(i)
            yield from _leaves(inner, f"{place}/{name}")
    else:
        yield place, value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(one == other)
