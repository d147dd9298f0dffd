"""From the slides an importer found to a manifest CSV; several manifests joined into one."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hsa.cohorts.cells import tidy
from hsa.cohorts.identity import alike
from hsa.cohorts.paths import Places
from hsa.cohorts.public.registry import PublicCohort
from hsa.errors import InputError
from hsa.files import read_rows, write_frame

COLUMNS = ["patient_id", "case_id", "slide_id", "stain", "path", "mpp"]
MARKERS = ["ER", "PR", "HER2", "Ki-67"]
_SHOWN = 20


def check_source(cohort: PublicCohort, source: str | Path) -> Path:
    """Give the source folder as an absolute path.

    Raises:
        InputError: there is no such folder.
    """
    source = Path(source)
    if not source.is_dir():
        raise refused(cohort, source, ["no such folder"])
    return source.resolve()


def files(source: Path, *suffixes: str) -> list[Path]:
    """List the files below a folder that have one of these suffixes, sorted, without hidden ones."""
    found = (p for p in source.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith("."))
    return sorted(p for p in found if p.is_file())


def refused(cohort: PublicCohort, source: Path, problems: list[str]) -> InputError:
    """Phrase all problems of a source folder as one error that says what was expected and where to ask."""
    shown = [f"  {problem}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        shown.append(f"  and {len(problems) - _SHOWN} more")
    layout = [f"  {line}" for line in cohort.layout.splitlines()]
    return InputError(
        "\n".join(
            [
                f"{source}: {len(problems)} problem{'s' * (len(problems) > 1)} with the data of {cohort.name}:",
                *shown,
                "Expected below that folder:",
                *layout,
                f"To get the data: {cohort.access}; {cohort.url} (licence: {cohort.licence}).",
            ]
        )
    )


def write(rows: list[dict[str, str]], out: str | Path, root: str | Path | None) -> Path:
    """Write the manifest of one cohort.

    Args:
        rows: a slide each, with the columns of `COLUMNS` (path absolute) and labels `label_<marker>`.
        out: folder for `manifest.csv`; made if missing.
        root: folder that paths are relative to, for a study that sets `cohort.root`; by default `out`.

    Returns:
        The manifest's path.

    Raises:
        InputError: a slide lies outside of that folder.
    """
    empty = dict.fromkeys([*COLUMNS, *(f"label_{m}" for m in MARKERS)], "")
    frame = pd.DataFrame([empty | row for row in rows])
    path = Path(out).resolve() / "manifest.csv"
    _write(frame, path, Path(root or out).resolve())
    return path


def join_manifests(manifests: Sequence[str | Path], out: str | Path, root: str | Path | None = None) -> Path:
    """Join manifests into one, such as ACROBAT's pairs and BCNB's labels.

    The importers prefix ids by their cohort, so that they do not meet.

    Args:
        manifests: CSV files.
        out: the joined CSV.
        root: folder that the paths of all of them are relative to; by default each file's own folder.

    Returns:
        `out`.

    Raises:
        InputError: lists what is missing, slides included, and ids that stand in two manifests; nothing is written.
    """
    out, frames = Path(out).resolve(), []
    given = [Path(path) for path in manifests]
    problems = [] if given else ["no manifests given. Name two or more."]
    for number, path in enumerate(given):
        if path.resolve() in [other.resolve() for other in given[:number]]:
            problems.append(f"{path}: given twice. Name each manifest once.")
        elif path.resolve() == out:
            problems.append(f"{path}: to be joined, and to be written (`--out`). Give another name to write to.")
        else:
            frame, told = _part(path, Path(root or path.parent).resolve())
            frames.append(frame)
            problems += told
    if not problems:
        whole = pd.concat(frames).fillna("")
        problems = _meeting(whole)
    if problems:
        lines = [f"  {problem}" for problem in problems[:_SHOWN]]
        lines += [f"  and {len(problems) - _SHOWN} more"] * (len(problems) > _SHOWN)
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise InputError("\n".join([f"cannot join manifests, {count}:", *lines]))
    labels = [c for c in whole.columns if c.startswith("label_")]
    others = [c for c in whole.columns if c not in [*COLUMNS, *labels, "_from"]]
    _write(whole[[*COLUMNS, *labels, *others]], out, Path(root or out.parent).resolve())
    return out


def _part(path: Path, base: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read a manifest that is to be joined: with absolute paths, its rows counted with its name; and its problems."""
    if not path.is_file():
        return pd.DataFrame(), [f"{path}: no such manifest. Make it with `hsa cohort import` or `hsa cohort init`."]
    frame = read_rows(path)
    missing = [column for column in COLUMNS if column not in frame and column != "mpp"]
    if missing:
        remedy = "Add it, or import the cohort again."
        return frame, [f"{path}: column {', '.join(missing)} is missing. {remedy}"]
    if frame.empty:
        return frame, [f"{path}: no rows. Leave it out, or give one row a slide."]
    problems = []
    if "fold" in frame:
        problems.append(f"{path}: gives folds, which joined manifests cannot share. Remove the column.")
    places = Places(base)
    frame = tidy(frame, places)
    for row, name in frame["path"].items():
        if not name or not places.look(name).there:
            problems.append(f"{path}, row {row}: no file {name!r} below {base}{places.why_absent(name)}")
    frame = frame.assign(path=[str(base / name) for name in frame["path"]], _from=str(path))
    frame = frame.assign(mpp=frame.get("mpp", ""))
    return frame.set_axis([f"{row} of {path}" for row in frame.index]), problems


def _meeting(whole: pd.DataFrame) -> list[str]:
    """List ids that stand in two manifests, spelt alike or nearly."""
    problems = []
    for column in ("patient_id", "case_id", "slide_id"):
        owners = whole.groupby(column, sort=True)["_from"].unique()
        problems += [
            f"{column} {value!r} stands in {' and '.join(names)}. Prefix the ids of one."
            for value, names in owners[owners.str.len() > 1].items()
        ]
    return problems + alike(whole)


def summary(manifest: str | Path) -> str:
    """Say in a few lines what a manifest holds: patients, cases, slides a stain, labels and their range."""
    frame = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    lines = [
        f"{frame['patient_id'].nunique()} patients, {frame['case_id'].nunique()} cases, {len(frame)} slides: "
        + ", ".join(f"{n} {stain}" for stain, n in frame["stain"].value_counts().items())
    ]
    for column in (c for c in frame.columns if c.startswith("label_")):
        known = frame.loc[frame[column] != "", ["case_id", column]].drop_duplicates()[column]
        if known.empty:
            continue
        if known.nunique() <= 4:
            what = ", ".join(f"{n} x {value}" for value, n in known.value_counts().sort_index().items())
        else:
            numbers = pd.to_numeric(known)
            what = f"{numbers.min():g} to {numbers.max():g}, median {numbers.median():g}"
        lines.append(f"{column.removeprefix('label_')}: {len(known)} labels, {what}")
    return "\n".join(lines)


def _write(frame: pd.DataFrame, path: Path, base: Path) -> None:
    outside = [name for name in frame["path"] if not Path(name).is_relative_to(base)]
    if outside:
        raise InputError(
            f"{outside[0]} lies outside {base}: a manifest names slides below its folder. Write it to a folder that "
            "holds the slides, or give `root`, and the same folder as `cohort.root` in the study."
        )
    relative = [Path(os.path.relpath(name, base)).as_posix() for name in frame["path"]]
    write_frame(path, frame.assign(path=relative))
