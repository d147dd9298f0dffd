"""Two summaries of one study, number by number: which match, which have drifted, and which differ.

A number that is equal to the last bit is a match. One within the tolerance of its family has drifted: twice the largest
deviation that was seen between runs on other kernels of the CPU and other numbers of threads, and at least what float32
sums in another order are apart. Any other differs, and so does what is missing, new, or of another kind.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from hsa.errors import InputError

Verdict = Literal["match", "drift", "differ"]
VERDICTS: tuple[Verdict, ...] = ("match", "drift", "differ")
TIMES = 2.0  # a machine that was not tried may move a number further than those that were
FLOOR = 1e-6  # of the number, or of 1 where it is smaller
_OF_MAKING = ("provenance", "stamp")  # what made a summary, no result of it
_BY_METHOD = ("prediction", "ceiling", "alignment", "maps")  # parts: marker -> method -> what is told of it

_HALVES = ("positives", "negatives")  # of the cases, tested apart


@dataclass(frozen=True)
class Compared:
    """One number, name or verdict of a summary beside the one that is kept.

    Attributes:
        place: its keys in summary.json, such as `prediction/P53/full/roc_auc/value`.
        verdict: match, drift or differ.
        kept: what is kept; None where nothing is.
        again: what the other run gave; None where it gave nothing.
        apart: how far two finite numbers are apart, else None.
        tolerance: how far apart they may be; None where they are no two finite numbers.
        why: why it differs, where no two finite numbers are compared.
    """

    place: str
    verdict: Verdict
    kept: Any
    again: Any
    apart: float | None = None
    tolerance: float | None = None
    why: str = ""


def compare(kept: Mapping[str, Any], again: Mapping[str, Any], largest: Mapping[str, float]) -> list[Compared]:
    """Compare two summaries of one study.

    Args:
        kept: the one that is kept.
        again: the other.
        largest: family of numbers -> the largest deviation between runs that were meant to be equal.

    Returns:
        A row for each number, name and verdict in either, but not for what tells of their making.
    """
    names, one, other = names_of(kept), dict(leaves(kept)), dict(leaves(again))
    found = []
    for place in [*one, *(place for place in other if place not in one)]:
        if place in one and place in other:
            found.append(_judged(place, one[place], other[place], largest.get(family(place, names), 0.0)))
        else:
            why = "missing in this run" if place in one else "not kept"
            found.append(Compared(place, "differ", one.get(place), other.get(place), why=why))
    return found


def _judged(place: str, kept: Any, again: Any, largest: float) -> Compared:
    if _is_number(kept) and _is_number(again):
        apart, tolerance = abs(kept - again), max(TIMES * largest, FLOOR * max(1.0, abs(kept)))
        verdict: Verdict = "match" if not apart else "drift" if apart <= tolerance else "differ"
        return Compared(place, verdict, kept, again, apart, tolerance)
    if type(kept) is type(again) and kept == again:
        return Compared(place, "match", kept, again)
    both = isinstance(kept, str) and isinstance(again, str)
    return Compared(place, "differ", kept, again, why="another word" if both else "no two finite numbers")


def deviations(summaries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Find how far any two runs are apart in each family of numbers.

    Raises:
        InputError: two runs differ in more than numbers.
    """
    largest: dict[str, float] = {}
    names = names_of(summaries[0])
    for one, other in combinations(summaries, 2):
        for row in compare(one, other, {}):
            if row.apart is not None:
                key = family(row.place, names)
                largest[key] = max(largest.get(key, 0.0), row.apart)
            elif row.verdict == "differ":
                raise InputError(f"two runs differ in more than numbers: {row.place}: {row.kept}, {row.again}.")
    return dict(sorted(largest.items()))


def names_of(summary: Mapping[str, Any]) -> frozenset[str]:
    """Give the names that vary within a family: of markers, of methods and of what is predicted beside them."""
    names: set[str] = set()
    for part in _BY_METHOD:
        for marker, methods in _mapping(summary.get(part)).items():
            names |= {marker, *_mapping(methods)}
    return frozenset(names)


def family(place: str, names: frozenset[str]) -> str:
    """Name the family of a number: what it measures, in whatever part of the summary, of whatever marker and method.

    Where two scores that are all but equal change places, a test of ranks jumps; in which test that happens is chance.
    So all p-values are one family, corrected ones too, and all statistics of such tests are one.
    """
    part, *inner = place.split("/")
    keys = [part, *("*" if key.isdigit() else key for key in inner if key not in names and key not in _HALVES)]
    if keys[0] == "holm" or keys[-1] == "p":
        return "p"
    return "statistic" if keys[-1] == "statistic" else "/".join(keys[-2:])


def counts(rows: Sequence[Compared]) -> dict[str, Counter[Verdict]]:
    """Count the verdicts in each part of the summaries."""
    found: dict[str, Counter[Verdict]] = {}
    for row in rows:
        found.setdefault(row.place.partition("/")[0], Counter())[row.verdict] += 1
    return found


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Give every value of a summary with its place, but not what tells of its making. What is empty is a value."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if place or key not in _OF_MAKING:
                yield from leaves(inner, f"{place}/{key}" if place else str(key))
    else:
        yield place, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
