"""A draft of a manifest from a folder of slides, by the way their files are named."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from hsa.cohorts.folder import IMAGES, SLIDES, find, stem
from hsa.cohorts.manifest import HE
from hsa.cohorts.names import PATTERNS, plain, read_all, spellings
from hsa.errors import InputError
from hsa.files import read_rows, write_frame
from hsa.slides.resolution import is_plausible
from hsa.slides.slide import Slide

_SHOWN = 10


@dataclass(frozen=True)
class Draft:
    """A manifest to be looked through.

    Attributes:
        manifest: patient_id, case_id, slide_id, stain, path, mpp, label_<marker> ...; text, ready to be written.
        pattern: how the names were read; several where one read some of them only.
        root: the folder, which the paths are relative to.
        unread: file -> why it is not in the manifest.
        notes: what to look at.
    """

    manifest: pd.DataFrame
    pattern: str
    root: Path
    unread: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Say in a few lines what was understood and what was not."""
        stains = ", ".join(f"{count} {stain}" for stain, count in self.manifest["stain"].value_counts().items())
        cases, patients = self.manifest["case_id"].nunique(), self.manifest["patient_id"].nunique()
        lines = [f"read by {self.pattern}: {len(self.manifest)} slides ({stains}), {cases} cases, {patients} patients"]
        if self.unread:
            lines.append(f"{len(self.unread)} files are not in it:")
            lines += [f"  {name}: {why}" for name, why in list(self.unread.items())[:_SHOWN]]
            lines += [f"  and {len(self.unread) - _SHOWN} more"] * (len(self.unread) > _SHOWN)
        return "\n".join([*lines, *self.notes])


def draft_manifest(
    folder: str | Path,
    markers: Sequence[str],
    pattern: str | None = None,
    aliases: Mapping[str, str] | None = None,
    labels: str | Path | None = None,
    mpp: float | None = None,
) -> Draft:
    """Draft a manifest of the slides below a folder.

    Args:
        folder: holds the slides, in any depth.
        markers: names of the IHC markers, as in the study.
        pattern: how files are named, without ending: {patient}, {case}, {stain} and {any}, such as
            `{patient}_{case}_{stain}` or `{stain}/{case}`. A field takes as little as it can. A number after the stain
            (`_2`) counts slides. By default those of `hsa.cohorts.names.PATTERNS` that read most files.
        aliases: spelling in the names -> HE or a marker, where they differ by more than case and signs.
        labels: CSV with `case_id`, a column a marker (its name, or label_<marker>) and perhaps `patient_id`.
        mpp: um/px of the slides whose files do not say it.

    Raises:
        InputError: no slides, a pattern that reads none of them, or a CSV that does not fit.
    """
    root = Path(folder).resolve()
    if not root.is_dir():
        raise InputError(f"{folder}: no such folder")
    if mpp is not None and not is_plausible(mpp):
        raise InputError(f"--mpp {mpp:g}: give microns per pixel of the full-size image, such as 0.25")
    names, unread = find(root)
    if not names:
        told = "".join(f"\n  {name}: {why}" for name, why in list(unread.items())[:_SHOWN])
        raise InputError(f"{folder}: no slides in it; looked for {', '.join([*SLIDES, *IMAGES, '.dcm'])}{told}")
    spelled = spellings(markers, aliases or {})
    read, used = read_all(names, spelled, pattern)
    chosen = " and ".join(used)
    odd = [name for name in names if name not in read]
    unread |= dict.fromkeys(odd, f"does not fit {chosen}")
    rows = [{**found, "path": name} for name, found in read.items()]
    if not rows:
        tried = f"pattern {pattern} fits" if pattern else f"patterns {', '.join(PATTERNS)} fit"
        raise InputError(
            f"{folder}: {tried} none of {len(names)} files such as {names[0]!r}; stains: "
            f"{', '.join([HE, *markers])}. Give `--pattern` with {{patient}}, {{case}}, {{stain}} and {{any}}, such as "
            f"'{{case}}_{{stain}}_{{any}}', or `--alias` where the files spell a stain otherwise, such as MIB1=Ki-67."
        )
    frame, notes = _ids(pd.DataFrame(rows).astype(object))
    frame["mpp"], looked = _resolutions(root, frame["path"], mpp)
    notes += looked
    for marker in markers:
        frame[f"label_{marker}"] = ""
    if labels is not None:
        notes += _join(frame, Path(labels), markers)
    if (frame["patient_id"] == frame["case_id"]).all():
        notes.append(
            "patient_id is the case_id: correct it if a patient has several cases, or folds will share patients"
        )
    notes += _hints(odd, spelled, markers)
    columns = ["patient_id", "case_id", "slide_id", "stain", "path", "mpp", *(f"label_{m}" for m in markers)]
    frame = frame.sort_values(["case_id", "stain", "slide_id"], key=lambda c: c.replace({HE: ""}), ignore_index=True)
    return Draft(frame[columns], chosen, root, dict(sorted(unread.items())), notes)


def write_draft(draft: Draft, path: str | Path, force: bool = False) -> Path:
    """Write the manifest as CSV.

    Returns:
        The folder that its paths are relative to: its own where that holds the slides, else the drafted one.

    Raises:
        InputError: the file exists and `force` is not set.
    """
    if Path(path).exists() and not force:
        raise InputError(
            f"{path} exists and may hold your corrections: give another name (`--out`), or replace it (`--force`)"
        )
    own = Path(path).resolve().parent
    if not draft.root.is_relative_to(own):
        write_frame(path, draft.manifest)
        return draft.root
    below = draft.root.relative_to(own)
    write_frame(path, draft.manifest.assign(path=[(below / name).as_posix() for name in draft.manifest["path"]]))
    return own


def _hints(names: Sequence[str], spelled: Mapping[str, str], markers: Sequence[str]) -> list[str]:
    """Say what names that were not read often end in, and what to do where that tells the cause."""
    ends = Counter(re.split(r"[ ._/-]", stem(name))[-1] for name in names)
    common = [
        (end, f"{end} ({count})") for end, count in ends.most_common(5) if count > 1 and re.search("[A-Za-z]", end)
    ]
    known = [shown for end, shown in common if plain(end) in spelled]
    other = [(end, shown) for end, shown in common if plain(end) not in spelled]
    notes = []
    if known:
        notes.append(
            f"names that were not read often end in {', '.join(known)}: a stain that is known, so say how these files "
            "are named (`--pattern`)"
        )
    if other:
        notes.append(
            f"names that were not read often end in {', '.join(shown for _, shown in other)}: if that is a marker of "
            f"its own, add it (`--marker {other[0][0]}`); if it is another spelling of {', '.join([HE, *markers])}, "
            f"say of which (`--alias {other[0][0]}=...`)"
        )
    return notes


def _ids(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Make ids that a manifest may hold. A slide has the name of its file or, where that is not unique, of its path."""
    stems = frame["path"].map(stem)
    last = stems.str.rsplit("/", n=1).str[-1]
    names = last.where(~_twice(last), stems.str.replace("/", "_"))
    # One name with two endings: the ending tells them apart.
    frame["slide"] = names.where(~_twice(names), frame["path"].str.replace("/", "_"))
    notes = []
    for _, same in frame["path"].groupby(stems):
        if len(same) > 1:
            notes.append(f"{' and '.join(same)} differ in their ending only: if they are one slide, remove a row")
    for column in ("patient", "case", "slide"):
        keys = frame["path"] if column == "slide" else frame[column]
        valid: dict[str, str] = {}
        taken: set[str] = set()
        changed = []
        for key, text in dict(zip(keys, frame[column], strict=True)).items():
            start = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-").rstrip("-")[:120] or "x"
            name, number = start, 2
            while name.lower() in taken:
                name, number = f"{start}-{number}", number + 1
            valid[key] = name
            taken.add(name.lower())
            changed += [(text, name)] if text != name else []
        if changed:
            old, new = changed[0]
            notes.append(f"{len(changed)} {column}_id were changed to be valid and unique, such as {old!r} to {new!r}")
        frame[f"{column}_id"] = keys.map(valid)
    return frame, notes


def _twice(names: pd.Series) -> pd.Series:
    return names.str.lower().duplicated(keep=False)


def _resolutions(root: Path, paths: pd.Series, given: float | None) -> tuple[list[str], list[str]]:
    """Um/px of each slide as text, empty where neither file nor user says it; and what lacks it, or is damaged."""
    values, silent, damaged = [], [], []
    for name in paths:
        try:
            with Slide.open(root / name) as slide:
                values.append(f"{slide.mpp:.6g}")
            continue
        except InputError as error:
            told = str(error)
        try:
            with Slide.open(root / name, given or 0.5):  # is it sound, but for its resolution?
                values.append("" if given is None else f"{given:g}")
                silent.append(name)
        except InputError:
            values.append("")
            damaged.append(told)
    notes = [f"{len(silent)} slides do not say their resolution, such as {silent[0]}: "] if silent else []
    notes = [n + ("give `--mpp`, or fill in the column mpp" if given is None else f"taken as {given:g}") for n in notes]
    if damaged:
        notes.append(f"{len(damaged)} slides cannot be opened; copy them again, or remove their rows:")
        notes += [f"  {text}" for text in damaged[:_SHOWN]]
        notes += [f"  and {len(damaged) - _SHOWN} more"] * (len(damaged) > _SHOWN)
    return values, notes


def _is_label(column: str) -> bool:
    return column.startswith("label_")


def _join(frame: pd.DataFrame, path: Path, markers: Sequence[str]) -> list[str]:
    """Fill labels and patients from a CSV of cases; what did not fit."""
    table = read_rows(path)
    if "case_id" not in table:
        raise InputError(
            f"{path}: no column case_id; found {', '.join(table.columns)}. Rename the one that names the case."
        )
    twice = table["case_id"][table["case_id"].duplicated()]
    if len(twice):
        raise InputError(f"{path}: case {twice.iloc[0]!r} has several rows. Give one row a case.")
    table = table.set_index("case_id")
    columns = {plain(column.removeprefix("label_")): column for column in sorted(table.columns, key=_is_label)}
    wanted = {f"label_{marker}": columns.get(plain(marker)) for marker in markers}
    wanted["patient_id"] = columns.get("patientid")
    cases = frame["case"].where(frame["case"].isin(table.index), frame["case_id"])
    for target, column in wanted.items():
        if column is not None:
            frame[target] = cases.map(table[column]).fillna(frame[target])
    empty = [target for target, column in wanted.items() if column is None and _is_label(target)]
    notes = [f"{path.name} has no column for {', '.join(empty)}"] if empty else []
    lacking, unused = sorted(set(cases) - set(table.index)), sorted(set(table.index) - set(cases))
    notes += [f"{len(lacking)} cases are not in {path.name}, such as {lacking[0]}"] if lacking else []
    notes += [f"{len(unused)} cases of {path.name} have no slide, such as {unused[0]}"] if unused else []
    return notes
