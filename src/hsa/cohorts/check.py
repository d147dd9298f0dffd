"""Everything that is wrong with a manifest and with the slides that it names, at once."""

import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hsa.cohorts import cohort
from hsa.cohorts.cells import resolutions
from hsa.cohorts.identity import copies, dated
from hsa.cohorts.manifest import examine, ignored, read_text
from hsa.cohorts.opened import ask
from hsa.cohorts.outliers import odd_resolutions
from hsa.cohorts.paths import Places
from hsa.errors import InputError
from hsa.slides.resolution import Given, agreed
from hsa.study.settings import Marker
from hsa.study.study import Study

UNKNOWN = ("", "nan", "na", "n/a", "none", "null", "unknown", "?", "-")


@dataclass(frozen=True)
class Report:
    """What a look at a manifest and its slides gave.

    Attributes:
        problems: each with its row and remedy.
        notes: what was found.
    """

    problems: list[str]
    notes: list[str]


def markers_of(path: str | Path) -> dict[str, Marker]:
    """Take the markers from a manifest's `label_` columns; those whose labels are neither 0 nor 1 have classes of them.

    Raises:
        InputError: no such file, not a CSV, or no such column.
    """
    path = Path(path)
    frame = read_text(path)
    names = [column.removeprefix("label_") for column in frame.columns if column.startswith("label_")]
    if not names:
        raise InputError(f"{path}: no column label_<marker>. Add one for each marker, or give `--study`.")
    return {name: _guess(frame[f"label_{name}"]) for name in names}


def _guess(labels: pd.Series) -> Marker:
    # A spelling of "not known" is no class: left out here, it is told as a wrong label.
    # So is an error of a spreadsheet, such as #VALUE!.
    said = [text for text in labels if text.lower() not in UNKNOWN and not text.startswith("#")]
    given = sorted({text.casefold(): text for text in said}.values())
    numbers = pd.to_numeric(pd.Series(given, dtype=object), errors="coerce").astype(float)
    if numbers.notna().all():
        # The middle of the rows, as far as they can be numbers at all: the others are told.
        middle = pd.to_numeric(labels, errors="coerce").astype(float).replace([math.inf, -math.inf], math.nan).median()
        return Marker() if set(numbers) <= {0, 1} or math.isnan(middle) else Marker(cutoff=float(middle))
    if len(given) == 2:
        return Marker(negative=given[0], positive=given[1])
    return Marker(classes=given) if len(given) > 2 else Marker()


def check(
    path: str | Path,
    markers: Mapping[str, Marker],
    root: str | Path | None = None,
    checksums: Callable[[pd.DataFrame], Mapping[str, str]] | None = None,
    study: Study | None = None,
    memory: Path | None = None,
    workers: int = 1,
) -> Report:
    """Check a manifest row by row and open every slide that it names.

    Args:
        path: the CSV.
        markers: of the study.
        root: folder below which every slide must lie; by default that of the CSV.
        checksums: gives slide_id -> SHA-256 for slides (`slide_id`, `path`), as `hsa.bags.checksums` does, so that
            one picture under two patients is found; without it, nobody looks.
        study: whose folds the cases must fill; without it, folds are not dealt.
        memory: file of what slides said before, so that only new and changed ones are opened; see `opened.ask`.
        workers: processes that open slides.

    Raises:
        InputError: no such file, no CSV, or a column that is missing or unknown: no row can be read then.
    """
    path = Path(path)
    root = Path(root or path.parent).resolve()
    places = Places(root)
    frame, problems = examine(path, markers, places)
    slides, unread = _look(frame, places, memory, workers)
    odd, told = odd_resolutions(slides)
    problems += unread + odd
    formats = Counter(f"{kind}, {mpp:.3g} um/px" for kind, mpp in zip(slides["format"], slides["mpp"], strict=True))
    notes = [f"{len(frame)} slides: " + ", ".join(f"{n} {kind}" for kind, n in formats.most_common())]
    notes += told + dated(frame) + ([ours] if (ours := ignored(frame, markers)) else [])
    if checksums is not None:
        whole = frame.assign(path=[root / name for name in frame["path"]])
        twice, told = copies(frame, checksums(whole[frame["path"] != ""]))
        problems, notes = problems + twice, notes + told
    if not problems:
        found = cohort.from_frame(frame, markers, places)
        notes += [f"{marker}: {found.summary(marker)}" for marker in markers]
        if study is not None:
            try:
                cohort.check_folds(study, found)
            except InputError as error:
                problems += str(error).splitlines()
    return Report(problems, notes)


def _look(frame: pd.DataFrame, places: Places, memory: Path | None, workers: int) -> tuple[pd.DataFrame, list[str]]:
    """Open the slides that are there, and hold what they say against the manifest.

    Returns:
        The rows whose slides can be read, with format, mpp, mpp_from and confirmed; and what is wrong with the others.
    """
    paths = [os.path.join(places.root, name) for name in frame["path"]]
    there = [places.look(name).there for name in frame["path"]]  # the others are told already
    answers = ask([path for path, is_there in zip(paths, there, strict=True) if is_there], memory, workers)
    given, marked = resolutions(frame)
    problems: list[str] = []
    seen: dict[Hashable, tuple[str, float, str, bool]] = {}
    for number, path, mpp, mark in zip(frame.index, paths, given, marked, strict=True):
        facts = answers.get(path)
        if facts is None:
            continue
        try:
            if isinstance(facts, str):
                raise InputError(facts)
            found, where = agreed(path, facts, Given(mpp, mark))
        except InputError as error:
            problems.append(f"row {number}: {error}")
            continue
        confirmed = mark or (where == "file" and not math.isnan(mpp))
        seen[number] = (facts.format, found, where, confirmed)
        if facts.doubt and not confirmed:
            problems.append(
                f"row {number}: {facts.doubt}; or, if it is right, write its {found:.4g} into the column `mpp`"
            )
    table = pd.DataFrame.from_dict(seen, orient="index", columns=["format", "mpp", "mpp_from", "confirmed"])
    return table.astype({"mpp": float, "confirmed": bool}).join(frame[["slide_id", "stain"]]), problems
