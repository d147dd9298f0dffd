"""A draft of a manifest from a folder of slides, by the way their files are named."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from hsa.cohorts.manifest import HE
from hsa.errors import InputError
from hsa.files import read_rows, write_frame
from hsa.slides.slide import Slide

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".tif", ".tiff")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
PATTERNS = (
    *("{case}_{stain}", "{case}-{stain}", "{case}.{stain}", "{case} {stain}"),
    *("{stain}_{case}", "{stain}-{case}", "{stain}/{case}", "{case}/{stain}"),
)
# Spellings of the routine stain, without case, signs and spaces; a marker's own name is always one of its.
HE_NAMES = ("he", "hande", "hne", "haematoxylineosin", "hematoxylineosin")
_SIGNS = r"[ &._-]*"  # what may stand between the letters of a stain
_SERIAL = r"(?:[ ._-]\d{1,3}|(?<!\d)\d{1,3})?"  # slide 2 of a stain: HE_2, HE2, but not P532
_ENDING = re.compile(rf"(\.ome)?({'|'.join(map(re.escape, (*SLIDES, *IMAGES)))})$", re.IGNORECASE)
_SHOWN = 10


@dataclass(frozen=True)
class Draft:
    """A manifest to be looked through.

    Attributes:
        manifest: patient_id, case_id, slide_id, stain, path, mpp, label_<marker> ...; text, ready to be written.
        pattern: how the names were read.
        unread: file -> why it is not in the manifest.
        notes: what to look at.
    """

    manifest: pd.DataFrame
    pattern: str
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
) -> Draft:
    """Draft a manifest of the slides below a folder.

    Args:
        folder: holds the slides, in any depth; the manifest belongs into it.
        markers: names of the IHC markers, as in the study.
        pattern: how files are named, without ending: {patient}, {case}, {stain} and {any}, such as
            `{patient}_{case}_{stain}` or `{stain}/{case}`. A field takes as little as it can. A number after the stain
            (`_2`) counts slides. By default the one of `PATTERNS` that reads most files.
        aliases: spelling in the names -> HE or a marker, where they differ by more than case and signs.
        labels: CSV with `case_id`, a column a marker (its name, or label_<marker>) and perhaps `patient_id`.

    Raises:
        InputError: no slides, a pattern that reads none of them, or a CSV that does not fit.
    """
    root = Path(folder).resolve()
    if not root.is_dir():
        raise InputError(f"{folder}: no such folder")
    names, unread = _find(root)
    if not names:
        raise InputError(f"{folder}: no slides in it; looked for {', '.join([*SLIDES, *IMAGES, '.dcm'])}")
    spelled = _spellings(markers, aliases or {})
    chosen = pattern or max(PATTERNS, key=lambda p: sum(_read(p, spelled, name) is not None for name in names))
    read = {name: _read(chosen, spelled, name) for name in names}
    unread |= {name: f"does not fit {chosen}" for name, found in read.items() if found is None}
    rows = [{**found, "path": name} for name, found in read.items() if found is not None]
    if not rows:
        tried = f"pattern {pattern} fits" if pattern else f"patterns {', '.join(PATTERNS)} fit"
        raise InputError(
            f"{folder}: {tried} none of {len(names)} files such as {names[0]!r}; stains: "
            f"{', '.join([HE, *markers])}. Give `--pattern` with {{patient}}, {{case}}, {{stain}} and {{any}}, such as "
            f"'{{case}}_{{stain}}_{{any}}', or `--alias` where the files spell a stain otherwise, such as MIB1=Ki-67."
        )
    frame, notes = _ids(pd.DataFrame(rows).astype(object))
    frame["mpp"], silent = _resolutions(root, frame["path"])
    notes += [f"mpp is to be filled in for {len(silent)} slides: {silent[0]}"] if silent else []
    for marker in markers:
        frame[f"label_{marker}"] = ""
    if labels is not None:
        notes += _join(frame, Path(labels), markers)
    if (frame["patient_id"] == frame["case_id"]).all():
        notes.append(
            "patient_id is the case_id: correct it if a patient has several cases, or folds will share patients"
        )
    ends = Counter(
        re.split(r"[ ._/-]", _stem(name))[-1] for name, why in unread.items() if why.startswith("does not fit")
    )
    common = [f"{end} ({count})" for end, count in ends.most_common(5) if count > 1]
    if common:
        ask = f"another marker (`--marker`), or another spelling (`--alias {ends.most_common(1)[0][0]}={markers[0]}`)?"
        notes.append(f"names that were not read often end in {', '.join(common)}: {ask}")
    columns = ["patient_id", "case_id", "slide_id", "stain", "path", "mpp", *(f"label_{m}" for m in markers)]
    frame = frame.sort_values(["case_id", "stain", "slide_id"], key=lambda c: c.replace({HE: ""}), ignore_index=True)
    return Draft(frame[columns], chosen, dict(sorted(unread.items())), notes)


def write_draft(draft: Draft, path: str | Path, force: bool = False) -> None:
    """Write the manifest as CSV.

    Raises:
        InputError: the file exists and `force` is not set.
    """
    if Path(path).exists() and not force:
        raise InputError(
            f"{path} exists and may hold your corrections: give another name (`--out`), or replace it (`--force`)"
        )
    write_frame(path, draft.manifest)


def _find(root: Path) -> tuple[list[str], dict[str, str]]:
    """Slides below a folder as relative POSIX paths, and what is no slide although it is named like one."""
    names, unread = [], {}
    for where, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        here = Path(where)
        paths = sorted(here / f for f in files if not f.startswith("."))
        kinds = {path.suffix.lower() for path in paths}
        # The tiles of a MIRAX slide lie in a folder of its name.
        folders[:] = [f for f in folders if not (here / f"{f}.mrxs").is_file()]
        if ".dcm" in kinds and here != root:
            names.append(here.relative_to(root).as_posix())  # one DICOM slide: its levels are its files
            continue
        slides = {_stem(path.name) for path in paths if path.suffix.lower() in SLIDES}
        for path in paths:
            name, kind = path.relative_to(root).as_posix(), path.suffix.lower()
            if kind == ".dcm":
                unread[name] = "DICOM slides need a folder each"
            elif kind not in (*SLIDES, *IMAGES):
                continue
            elif not path.resolve().is_relative_to(root):
                unread[name] = f"a link to outside of {root.name}"
            elif kind in IMAGES and (_stem(path.name) in slides or kinds & {".vms", ".vmu"}):
                unread[name] = "an image beside a slide"
            else:
                names.append(name)
    return names, unread


def _stem(name: str) -> str:
    """Relative path without its ending."""
    return _ENDING.sub("", name)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _spellings(markers: Sequence[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """Plain spelling -> stain."""
    known = {_plain(name): HE for name in HE_NAMES} | {_plain(marker): marker for marker in markers}
    for alias, stain in aliases.items():
        if stain not in (HE, *markers):
            raise InputError(f"alias {alias!r}: {stain!r} is none of {', '.join([HE, *markers])}")
        known[_plain(alias)] = stain
    return known


def _read(pattern: str, spelled: Mapping[str, str], name: str) -> dict[str, str] | None:
    """Read patient, case and stain out of a name, None if it does not fit."""
    parts = re.split(r"\{(\w+)\}", _stem(pattern))
    fields = [part for part in parts[1::2] if part != "any"]
    if sorted(fields) not in (["case", "stain"], ["case", "patient", "stain"]):
        raise InputError(f"pattern {pattern!r}: needs {{case}} and {{stain}}, each once; may have {{patient}}, {{any}}")
    stains = "|".join(_SIGNS.join(map(re.escape, key)) for key in sorted(spelled, key=len, reverse=True))
    serial = _SERIAL if parts[-1] == "" and parts[-2] == "stain" else ""
    groups = {"stain": f"(?P<stain>{stains}){serial}", "any": "[^/]*?"}
    groups |= {key: rf"(?P<{key}>[^/]+?)" for key in ("patient", "case")}
    regex = "".join(groups[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))
    tail = "/".join(PurePosixPath(_stem(name)).parts[-1 - pattern.count("/") :])
    found = re.fullmatch(regex, tail, re.IGNORECASE)
    if found is None:
        return None
    named = found.groupdict()
    case, stain = named["case"], spelled[_plain(named["stain"])]
    return {"patient": named.get("patient", case), "case": case, "stain": stain}


def _ids(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Make ids that a manifest may hold. A slide has the name of its file or, where that is not unique, of its path."""
    stems = frame["path"].map(_stem)
    last = stems.str.rsplit("/", n=1).str[-1]
    frame["slide"] = last.where(~last.str.lower().duplicated(keep=False), stems.str.replace("/", "_"))
    notes = []
    for column in ("patient", "case", "slide"):
        valid: dict[str, str] = {}
        taken: set[str] = set()
        for text in frame[column].unique():
            plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-").rstrip("-")[:120] or "x"
            name, number = plain, 2
            while name.lower() in taken:
                name, number = f"{plain}-{number}", number + 1
            valid[text] = name
            taken.add(name.lower())
        changed = {text: name for text, name in valid.items() if text != name}
        if changed:
            old, new = next(iter(changed.items()))
            notes.append(f"{len(changed)} {column}_id were changed to be valid and unique, such as {old!r} to {new!r}")
        frame[f"{column}_id"] = frame[column].map(valid)
    return frame, notes


def _resolutions(root: Path, paths: pd.Series) -> tuple[list[str], list[str]]:
    """Um/px of each slide as text, empty where the file does not say it; and what was said of those."""
    values, silent = [], []
    for name in paths:
        try:
            with Slide.open(root / name) as slide:
                values.append(f"{slide.mpp:.6g}")
        except InputError as error:
            values.append("")
            silent.append(str(error))
    return values, silent


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
    columns = {_plain(column.removeprefix("label_")): column for column in sorted(table.columns, key=_is_label)}
    wanted = {f"label_{marker}": columns.get(_plain(marker)) for marker in markers}
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
