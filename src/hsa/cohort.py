"""A cohort: patients, cases, slides, stains and labels, read from a manifest CSV and checked; its folds."""

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from hsa.errors import InputError
from hsa.study import ManifestCohort, Study

HE = "HE"
REQUIRED = ["patient_id", "case_id", "slide_id", "stain", "path"]
OPTIONAL = ["mpp", "fold"]
_IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class Cohort:
    """The slides and labels of a study.

    Attributes:
        slides: one row a slide: patient_id, case_id, slide_id, stain, path (absolute), mpp (um/px or NaN).
        labels: one row a case (index case_id), one column a marker: 0, 1 or NaN (not known).
        given_folds: test fold of each case (index case_id), where the manifest has a `fold` column.
    """

    slides: pd.DataFrame
    labels: pd.DataFrame
    given_folds: pd.Series | None = None

    def first(self, cases: int | None) -> "Cohort":
        """Keep the first so many cases, in the order of the manifest; all of them if None."""
        kept = self.slides["case_id"].unique()[:cases]
        return replace(self, slides=self.slides[self.slides["case_id"].isin(kept)].reset_index(drop=True))

    def cases(self, marker: str) -> pd.DataFrame:
        """List the cases with an H&E slide, an IHC slide and a label for `marker`, sorted by case_id.

        Returns:
            Columns case_id, patient_id, he and ihc (slide ids), label (0 or 1).
        """
        wide = self.slides.pivot(index="case_id", columns="stain", values="slide_id").sort_index()
        label = self.labels[marker].reindex(wide.index)
        use = label.notna() & wide[HE].notna() & wide[marker].notna()
        patient = self.slides.groupby("case_id")["patient_id"].first().reindex(wide.index)
        return pd.DataFrame(
            {
                "case_id": wide.index[use],
                "patient_id": patient[use].to_numpy(),
                "he": wide.loc[use, HE].to_numpy(),
                "ihc": wide.loc[use, marker].to_numpy(),
                "label": label[use].astype(int).to_numpy(),
            }
        )

    def folds(self, marker: str, n: int, seed: int) -> pd.DataFrame:
        """Deal the cases into `n` folds, disjoint by patient and stratified by label.

        The cases are dealt into n parts. In fold k, part k is the test set, part k + 1 (modulo n) the
        validation set, the others the training set: each case is tested exactly once.

        Args:
            marker: whose labels to stratify by.
            n: number of folds.
            seed: of the deal. Not used if the manifest gives the folds.

        Returns:
            Columns case_id, fold, split (train, val or test); n rows a case.

        Raises:
            InputError: a class has fewer than n cases.
        """
        cases = self.cases(marker)
        counts = cases["label"].value_counts().reindex([0, 1], fill_value=0)
        if counts.min() < n:
            raise InputError(
                f"{marker}: {counts[0]} negative and {counts[1]} positive cases are too few for {n} folds: "
                f"each class needs {n}. Add cases, or lower `evaluation.folds`."
            )
        part = np.empty(len(cases), dtype=int)
        if self.given_folds is not None:
            part[:] = self.given_folds.reindex(cases["case_id"]).to_numpy()
            if set(part) != set(range(n)):
                raise InputError(
                    f"{marker}: the manifest's folds are {sorted(map(int, set(part)))}, `evaluation.folds` is {n}: "
                    f"number them 0 to {n - 1}, each with a case of this marker, or leave the column out."
                )
        else:
            dealer = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
            for k, (_, test) in enumerate(dealer.split(cases, cases["label"], cases["patient_id"])):
                part[test] = k
        tables = []
        for k in range(n):
            split = np.select([part == k, part == (k + 1) % n], ["test", "val"], "train")
            tables.append(pd.DataFrame({"case_id": cases["case_id"], "fold": k, "split": split}))
        return pd.concat(tables, ignore_index=True)


def fold_table(study: Study, cohort: Cohort, marker: str) -> pd.DataFrame:
    """Deal the cases of a marker into folds as the study's `design` has it.

    Returns:
        A row a case and fold, sorted by both: case_id, patient_id, he, ihc (slide ids), label, fold, split: train,
        val, test, or pairs: a training case whose label the study does not know, but whose pair it has.
    """
    cohort, design = cohort.first(study.design.cases), study.design
    folds = cohort.folds(marker, study.evaluation.folds, study.evaluation.fold_seed)
    cases = cohort.cases(marker)
    if design.pairs == "shuffled":
        part = folds[folds["split"] == "test"].set_index("case_id")["fold"]
        cases["ihc"] = _shuffled(cases, part[cases["case_id"]].to_numpy(), study.evaluation.fold_seed)
    table = folds.merge(cases, on="case_id", validate="many_to_one")
    table = table.sort_values(["fold", "case_id"], ignore_index=True)
    if design.labelled < 1:
        for fold, rows in table[table["split"] == "train"].groupby("fold"):
            rng = np.random.default_rng([study.evaluation.fold_seed, int(fold)])
            for _, same in rows.iloc[rng.permutation(len(rows))].groupby("label"):
                known = max(2, round(design.labelled * len(same)))
                table.loc[same.index[known:], "split"] = "pairs"
    return table


def _shuffled(cases: pd.DataFrame, part: np.ndarray, seed: int) -> pd.Series:
    """Give each case the IHC slide of another patient's case in the same part of the folds."""
    rng, ihc = np.random.default_rng(seed), cases["ihc"].copy()
    for k in np.unique(part):
        rows = cases[part == k]
        patients = rng.permutation(rows["patient_id"].unique())
        order = rows.set_index("patient_id").loc[patients, "ihc"].to_numpy()
        index = rows.reset_index().set_index("patient_id").loc[patients, "index"].to_numpy()
        ihc[index] = np.roll(order, rows["patient_id"].value_counts().max())
    return ihc


def manifest_path(study: Study) -> Path:
    """Give the manifest of a study: its own file, or the one that `hsa.virtual` writes."""
    if isinstance(study.cohort, ManifestCohort):
        return (study.file.resolve().parent / study.cohort.manifest).resolve()
    return study.paths.cohort / "manifest.csv"


def load(study: Study) -> Cohort:
    """Read and check the cohort of a study.

    Raises:
        InputError: lists the problems of the manifest, each with its row and remedy.
    """
    path = manifest_path(study)
    root = path.parent
    if isinstance(study.cohort, ManifestCohort) and study.cohort.root is not None:
        root = (study.file.resolve().parent / study.cohort.root).resolve()
    return read_manifest(path, list(study.markers), root)


def read_manifest(path: str | Path, markers: list[str], root: str | Path | None = None) -> Cohort:
    """Read a manifest CSV and check all of it.

    One row a slide: patient_id, case_id, slide_id, stain (HE or a marker), path, optionally mpp and fold, and
    a column `label_<marker>` for each marker: 0, 1 or empty. The label belongs to the case: rows of a case
    must agree or be empty.

    Args:
        path: the CSV.
        markers: the markers of the study. Others may be in the manifest if they have a label column.
        root: folder below which every slide must lie; by default that of the CSV.

    Raises:
        InputError: lists every problem found, each with its row and remedy.
    """
    path = Path(path)
    root = Path(root or path.parent).resolve()
    frame = _read_csv(path, markers)
    problems = _check_rows(frame, markers, root)
    problems += _check_cases(frame, markers)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:_PROBLEMS_SHOWN])
        more = len(problems) - _PROBLEMS_SHOWN
        raise InputError(
            f"{path}: {len(problems)} problem{'s' * (len(problems) > 1)}:\n{shown}"
            + (f"\n  and {more} more" if more > 0 else "")
        )
    slides = frame[["patient_id", "case_id", "slide_id", "stain"]].copy()
    slides["path"] = [str((root / name).resolve()) for name in frame["path"]]
    slides["mpp"] = pd.to_numeric(frame["mpp"]) if "mpp" in frame else np.nan
    labels = pd.DataFrame({m: pd.to_numeric(frame[f"label_{m}"]) for m in markers})
    labels = labels.groupby(frame["case_id"]).first()
    folds = None
    if "fold" in frame:
        folds = pd.to_numeric(frame["fold"]).groupby(frame["case_id"]).first()
    keep = slides["stain"].isin([HE, *markers])
    return Cohort(slides[keep].reset_index(drop=True), labels, folds)


def _read_csv(path: Path, markers: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: no such manifest. Make the cohort first (`hsa cohort`), or mend `cohort.manifest`.")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable CSV: {error}. Save it as comma-separated UTF-8.") from error
    wanted = [*REQUIRED, *(f"label_{m}" for m in markers)]
    known = [*wanted, *OPTIONAL]
    missing = [column for column in wanted if column not in frame]
    odd = [c for c in frame if c not in known and not c.startswith("label_")]
    lines = [f"column {c!r} is missing. Add it." for c in missing]
    for column in odd:
        close = difflib.get_close_matches(column, known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        lines.append(f"column {column!r} is unknown{hint}. Rename or remove it.")
    if lines:
        raise InputError("\n".join(f"{path}: {line}" for line in lines))
    if frame.empty:
        raise InputError(f"{path}: no rows. Give one row a slide.")
    return frame.map(str.strip)


def _check_rows(frame: pd.DataFrame, markers: list[str], root: Path) -> list[str]:
    """Check what one row can tell. Row numbers are those of a spreadsheet: the header is row 1."""
    problems = []
    stains = [HE, *(column.removeprefix("label_") for column in frame if column.startswith("label_"))]
    first_row: dict[str, int] = {}
    for number, row in zip(range(2, len(frame) + 2), frame.to_dict("records"), strict=True):
        where = f"row {number}"
        for column in ("patient_id", "case_id", "slide_id"):
            if not _IDENTIFIER.fullmatch(row[column]):
                problems.append(f"{where}: {column} {row[column]!r}: use 1 to 128 letters, digits, '.', '_' or '-'.")
        if row["slide_id"] in first_row:
            problems.append(
                f"{where}: slide_id {row['slide_id']!r} stands in row {first_row[row['slide_id']]} too. "
                "Make ids unique."
            )
        first_row.setdefault(row["slide_id"], number)
        if row["stain"] not in stains:
            close = difflib.get_close_matches(row["stain"], stains, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            problems.append(f"{where}: unknown stain {row['stain']!r}{hint}. Known: {', '.join(stains)}.")
        slide = (root / row["path"]).resolve()
        if not slide.is_relative_to(root):
            problems.append(f"{where}: path {row['path']!r} lies outside {root}. Move it, or set `cohort.root`.")
        elif not row["path"] or not slide.exists():
            problems.append(f"{where}: no file {row['path']!r} below {root}. Mend the path, or set `cohort.root`.")
        if row.get("mpp") and not _in_range(row["mpp"], 0.05, 20):
            problems.append(f"{where}: mpp {row['mpp']!r}: give microns per pixel (0.05 to 20), or leave it empty.")
        if "fold" in row and not row["fold"].isdigit():
            problems.append(f"{where}: fold {row['fold']!r}: give 0, 1, 2, ..., or leave the column out.")
        for marker in markers:
            if row[f"label_{marker}"] not in ("", "0", "1"):
                problems.append(f"{where}: label_{marker} {row[f'label_{marker}']!r}: give 0, 1 or nothing.")
    return problems


def _in_range(text: str, low: float, high: float) -> bool:
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def _check_cases(frame: pd.DataFrame, markers: list[str]) -> list[str]:
    """Check what the rows of a case, or of a patient, say together."""
    problems = []
    for case, rows in frame.groupby("case_id"):
        where = f"case {case!r} (rows {', '.join(str(i + 2) for i in rows.index)})"
        if rows["patient_id"].nunique() > 1:
            problems.append(f"{where}: belongs to {rows['patient_id'].nunique()} patients. Give it one patient_id.")
        for stain in rows["stain"][rows["stain"].duplicated()].unique():
            problems.append(f"{where}: more than one {stain} slide. Keep one row a case and stain.")
        stains = set(rows["stain"])
        if HE not in stains:
            problems.append(f"{where}: no {HE} slide. Add its row, or remove the case.")
        for marker in markers:
            given = {value for value in rows[f"label_{marker}"] if value}
            if len(given) > 1:
                problems.append(f"{where}: label_{marker} differs between its rows. Keep one value.")
            if given and marker not in stains:
                problems.append(
                    f"{where}: has label_{marker} but no {marker} slide. Add the slide, or empty the label."
                )
            if not given and marker in stains:
                problems.append(f"{where}: has a {marker} slide but no label_{marker}. Add it, or remove the slide.")
        if HE in stains and not stains.intersection(markers):
            problems.append(f"{where}: H&E without IHC: no slide of {', '.join(markers)}. Add one, or remove the case.")
    if "fold" in frame:
        for patient, rows in frame.groupby("patient_id"):
            if rows["fold"].nunique() > 1:
                folds = ", ".join(sorted(rows["fold"].unique()))
                problems.append(
                    f"patient {patient!r}: stands in folds {folds}. Put all slides of a patient in one fold."
                )
    return problems
