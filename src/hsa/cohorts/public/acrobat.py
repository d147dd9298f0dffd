"""ACROBAT (researchdata.se 2022-190-1): pairs of H&E and IHC slides of breast cancers, no labels."""

import re
from collections import defaultdict
from pathlib import Path

from hsa.cohorts.public import manifest, registry
from hsa.files import read_rows

STAINS = {"HE": "HE", "ER": "ER", "PGR": "PR", "HER2": "HER2", "KI67": "Ki-67"}
TABLE = "df_acrobat_meta.csv"
_NAME = re.compile(r"(\d+)_([A-Za-z0-9]+)_(train|val|test)")


def import_cohort(
    source: str | Path, out: str | Path, root: str | Path | None = None, mpp: float | None = None
) -> Path:
    """Write the manifest of ACROBAT as downloaded and unpacked.

    Patient numbers start again in each part (train, val, test), so an id names both: acrobat-train-0. A
    patient of whom no slide is there is left out, as one may have unpacked some archives only; a patient of
    whom some slides are there must be whole. The resolution of each slide is from the metadata table.

    Args:
        source: folder of the slides and of `df_acrobat_meta.csv`, at any depth.
        out: folder for manifest.csv.
        root: see `hsa.cohorts.public.manifest.write`.
        mpp: um/px for all slides in place of the table's.

    Returns:
        The manifest's path.

    Raises:
        InputError: lists all problems, the layout that was expected and where to get the data.
    """
    cohort = registry.get("acrobat")
    source = manifest.check_source(cohort, source)
    problems = registry.bad_checksums(cohort, source)
    slides, wrong = _slides(source)
    resolutions, missing = ({}, []) if mpp is not None else _resolutions(source)
    problems += wrong + missing
    if not slides:
        problems.append("no slides such as 0_HE_train.tif")
    if mpp is None and not missing:
        problems += _against_table(slides, resolutions)
    rows = []
    for (part, number), stains in sorted(slides.items(), key=lambda item: (item[0][0], int(item[0][1]))):
        case = f"acrobat-{part}-{number}"
        if "HE" not in stains:
            problems.append(f"{number}_HE_{part}.tif is missing, its {', '.join(sorted(stains))} slides are there")
        if set(stains) == {"HE"}:
            problems.append(f"{number}_HE_{part}.tif has no IHC slide")
        for token in (token for token in STAINS if token in stains):
            path = stains[token]
            rows.append(
                {
                    "patient_id": case,
                    "case_id": case,
                    "slide_id": f"{case}-{token}",
                    "stain": STAINS[token],
                    "path": str(path),
                    "mpp": f"{mpp:g}" if mpp is not None else resolutions.get(path.stem, ""),
                }
            )
    if problems:
        raise manifest.refused(cohort, source, problems)
    return manifest.write(rows, out, root)


def _slides(source: Path) -> tuple[dict[tuple[str, str], dict[str, Path]], list[str]]:
    """Find the slides: (part, number) -> stain token -> path; and what is wrong with their names."""
    slides: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    problems = []
    for path in manifest.files(source, ".tif", ".tiff"):
        where, match = path.relative_to(source), _NAME.fullmatch(path.stem)
        if not match:
            problems.append(f"{where}: the name is not NUMBER_STAIN_PART.tif")
            continue
        number, token, part = match.groups()
        if token not in STAINS:
            problems.append(f"{where}: unknown stain {token!r}. Known: {', '.join(STAINS)}.")
            continue
        case = slides[part, number]
        if token in case:
            problems.append(f"{where}: the same slide as {case[token].relative_to(source)}. Keep one.")
        case.setdefault(token, path)
    return dict(slides), problems


def _resolutions(source: Path) -> tuple[dict[str, str], list[str]]:
    """Read um/px at full resolution: file name without suffix -> mpp_lvl_0. The table may name .ndpi originals."""
    tables = sorted(source.rglob(TABLE))
    if not tables:
        return {}, [f"{TABLE} is missing: it holds the resolution of each slide"]
    frame = read_rows(tables[0])
    absent = [column for column in ("filename", "mpp_lvl_0") if column not in frame]
    if absent:
        return {}, [f"{TABLE}: column {column!r} is missing, found {', '.join(frame.columns)}" for column in absent]
    stems = [Path(name).stem for name in frame["filename"]]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    problems = [f"{TABLE}: {stem} stands in more than one row" for stem in twice]
    return dict(zip(stems, frame["mpp_lvl_0"], strict=True)), problems


def _against_table(slides: dict[tuple[str, str], dict[str, Path]], resolutions: dict[str, str]) -> list[str]:
    """Check the slides of the patients that are there against the table, both ways."""
    problems, found = [], set()
    for path in (path for stains in slides.values() for path in stains.values()):
        found.add(path.stem)
        if path.stem not in resolutions:
            problems.append(f"{path.name} is not in {TABLE}")
        elif not re.fullmatch(r"\d+(\.\d+)?([eE]-?\d+)?", resolutions[path.stem]):
            problems.append(f"{TABLE}: mpp_lvl_0 of {path.stem} is {resolutions[path.stem]!r}, not a number")
    for stem in resolutions:
        match = _NAME.fullmatch(stem)
        if match and (match[3], match[1]) in slides and stem not in found:
            problems.append(f"{stem}.tif is missing, {TABLE} lists it")
    return problems
