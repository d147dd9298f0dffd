"""Everything that is wrong with a manifest and with the slides that it names, at once."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hsa.cohorts import cohort
from hsa.cohorts.identity import copies
from hsa.cohorts.manifest import examine, ignored, is_marked, read_text
from hsa.errors import InputError
from hsa.slides.readers import split_scene
from hsa.slides.resolution import Given
from hsa.slides.slide import Slide
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
    given = sorted({text.casefold(): text for text in labels if text.lower() not in UNKNOWN}.values())
    numbers = pd.to_numeric(pd.Series(given, dtype=object), errors="coerce")
    if numbers.notna().all():
        if set(numbers) <= {0, 1}:
            return Marker()
        return Marker(cutoff=float(pd.to_numeric(labels, errors="coerce").median()))
    if len(given) == 2:
        return Marker(negative=given[0], positive=given[1])
    return Marker(classes=given) if len(given) > 2 else Marker()


def check(
    path: str | Path,
    markers: Mapping[str, Marker],
    root: str | Path | None = None,
    checksums: Callable[[pd.DataFrame], Mapping[str, str]] | None = None,
    study: Study | None = None,
) -> Report:
    """Check a manifest row by row and open every slide that it names.

    Args:
        path: the CSV.
        markers: of the study.
        root: folder below which every slide must lie; by default that of the CSV.
        checksums: gives slide_id -> SHA-256 for slides (`slide_id`, `path`), as `hsa.bags.checksums` does, so that
            one picture under two patients is found; without it, nobody looks.
        study: whose folds the cases must fill; without it, folds are not dealt.

    Raises:
        InputError: no such file, no CSV, or a column that is missing or unknown: no row can be read then.
    """
    path = Path(path)
    root = Path(root or path.parent).resolve()
    frame, problems = examine(path, markers, root)
    formats: Counter = Counter()
    for number, row in zip(frame.index, frame.to_dict("records"), strict=True):
        slide = root / row["path"]
        if not row["path"] or not os.path.exists(split_scene(slide)[0]):
            continue  # told already
        given = pd.to_numeric(row.get("mpp") or "nan", errors="coerce")
        try:
            resolution = None if pd.isna(given) else Given(float(given), is_marked(row.get("mpp_override", "")))
            with Slide.open(slide, resolution) as opened:
                formats[f"{opened.format}, {opened.mpp:.3g} um/px"] += 1
        except InputError as error:
            problems.append(f"row {number}: {error}")
    notes = [f"{len(frame)} slides: " + ", ".join(f"{n} {kind}" for kind, n in formats.most_common())]
    notes += [unread] if (unread := ignored(frame, markers)) else []
    if checksums is not None:
        slides = frame.assign(path=[root / name for name in frame["path"]])
        twice, told = copies(frame, checksums(slides[frame["path"] != ""]))
        problems, notes = problems + twice, notes + told
    if not problems:
        found = cohort.read_manifest(path, markers, root)
        notes += [f"{marker}: {found.summary(marker)}" for marker in markers]
        if study is not None:
            try:
                cohort.check_folds(study, found)
            except InputError as error:
                problems += str(error).splitlines()
    return Report(problems, notes)
