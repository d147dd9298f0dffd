"""The points of an experiment: the study itself and, one axis at a time, what its `sweep` varies."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from hsa.errors import InputError
from hsa.pipeline.experiment.kept import Unit
from hsa.study.study import Study, load

MIDDLE = "middle"
_SLIDES = {"cohort", "tiles", "encoder"}  # sections that decide what lies in the bags


class Point(NamedTuple):
    """A place where methods are compared.

    Attributes:
        name: "middle", or axis and value.
        axis: what is varied; "" for the middle.
        value: of the axis; None for the middle.
        study: with the point's settings; its `methods` are those that run there.
        varied: settings of the training that the point names, whether or not the study has the same: they overrule what
            was tuned.
    """

    name: str
    axis: str
    value: float | None
    study: Study
    varied: frozenset[str] = frozenset()


def points(study: Study) -> list[Point]:
    """List the points of a study: the middle first, then those of `sweep`.

    A point shares the slides and bags of the study unless it changes the cohort, the tiles or the encoder. Its `only`
    names the methods that run there; a value whose changes are empty is the middle, which is made and counted once.

    Raises:
        InputError: a point is no valid study, or `only` names a method that the study lacks.
    """
    found = [Point(MIDDLE, "", None, study)]
    for axis, values in (study.sweep or {}).items():
        for value, changes in values.items():
            if changes:
                name = f"{axis.replace(' ', '-')}-{value:g}"
                found.append(Point(name, axis, value, _point(study, name, dict(changes)), _varied(changes)))
    return found


def middles(study: Study) -> dict[str, float]:
    """Give axis -> the value at which the middle stands on it, for the axes that say so."""
    axes = (study.sweep or {}).items()
    return {axis: value for axis, values in axes for value, changes in values.items() if not changes}


def units(point: Point) -> Iterator[Unit]:
    """List the units of a point: seed by seed, so that what is kept early is of all methods."""
    for seed in point.study.seeds:
        for marker in point.study.markers:
            for method in point.study.methods:
                yield Unit(point.name, marker, method, seed)


def twin(study: Study, method: str) -> str:
    """Name the method whose tuned settings a method uses: its own, or for a control of the pairs that with own pairs.

    A control changes one thing, so it is trained as the method that it stands beside.
    """
    way = study.methods[method]
    if way.pairs == "own":
        return method
    for name, other in study.methods.items():
        if (other.pairs, other.encoder, other.losses) == ("own", way.encoder, way.losses):
            return name
    raise InputError(
        f"{study.file}: methods.{method}: pairs: {way.pairs} is a control of a method with its own pairs, and there is "
        f"none with losses {', '.join(way.losses)}; add it."
    )


def _varied(changes: dict[str, Any]) -> frozenset[str]:
    named = {key.removeprefix("training.") for key in changes if key.startswith("training.")}
    return frozenset(named | set(changes.get("training") or {}))


def _point(study: Study, name: str, changes: dict[str, Any]) -> Study:
    only = changes.pop("only", None)
    if "bags" not in changes:
        other = any(key.split(".")[0] in _SLIDES for key in changes)
        changes["bags"] = None if other else study.bags or study.name
    point = load(study.file, changes={**changes, "name": f"{study.name}-{name}"})
    if only is None:
        return point
    if not isinstance(only, list) or not only:
        raise InputError(f"{study.file}: sweep: {name}: only: {only!r}; give a list of methods.")
    chosen = {method: point.methods[point.require_method(str(method))] for method in only}
    return point.model_copy(update={"methods": chosen})
