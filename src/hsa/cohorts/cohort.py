"""A cohort: patients, cases, slides, stains and labels, read from a manifest; its folds."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from hsa.cohorts.cells import resolutions
from hsa.cohorts.labels import HE, class_of
from hsa.cohorts.manifest import examine, told
from hsa.cohorts.paths import Places
from hsa.errors import InputError
from hsa.study.settings import ManifestCohort, Marker
from hsa.study.study import Study

PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class Cohort:
    """The slides and labels of a study.

    Attributes:
        slides: one row a slide: patient_id, case_id, slide_id, stain, path (absolute), mpp (um/px or NaN).
        labels: one row a case (index case_id), one column a marker: number of its class, or NaN (not known).
        given_folds: test fold of each case (index case_id), where the manifest has a `fold` column.
        markers: their classes; two, if a marker is not named.
    """

    slides: pd.DataFrame
    labels: pd.DataFrame
    given_folds: pd.Series | None = None
    markers: Mapping[str, Marker] = field(default_factory=dict)

    def first(self, cases: int | None) -> "Cohort":
        """Keep the first so many cases, in the order of the manifest; all of them if None."""
        kept = self.slides["case_id"].unique()[:cases]
        return replace(self, slides=self.slides[self.slides["case_id"].isin(kept)].reset_index(drop=True))

    def permuted(self, marker: str, seed: int) -> "Cohort":
        """Deal the known labels of a marker among the cases that have one: what a null distribution is made of."""
        labels, rows = self.labels.copy(), self.labels[marker].notna() & self.labels.index.isin(self.slides["case_id"])
        labels.loc[rows, marker] = np.random.default_rng(seed).permutation(labels.loc[rows, marker].to_numpy())
        return replace(self, labels=labels)

    def cases(self, marker: str) -> pd.DataFrame:
        """List the cases that serve a marker, sorted by case_id: with an H&E slide, and a label or an IHC slide.

        A case without a label serves the alignment only, one without IHC the classification and the probe only.

        Returns:
            Columns case_id, patient_id, he and ihc (slide ids; several of a stain joined by "+", none: ""), label (1:
            positive, 0, or -1: not known) and, where the marker has more than two classes, category (0, 1, ... or -1).
        """
        wide = (
            _joined(self.slides).unstack("stain").reindex(columns=[HE, marker]).astype(object).fillna("").sort_index()
        )
        category = self.labels[marker].reindex(wide.index).fillna(-1).astype(int).to_numpy()
        use = (wide[HE] != "") & ((category >= 0) | (wide[marker] != ""))
        patient = self.slides.groupby("case_id")["patient_id"].first().reindex(wide.index)
        kind = self.markers.get(marker, Marker())
        table = pd.DataFrame(
            {
                "case_id": wide.index[use],
                "patient_id": patient[use].to_numpy(),
                "he": wide.loc[use, HE].to_numpy(),
                "ihc": wide.loc[use, marker].to_numpy(),
                "label": np.where(category < 0, -1, category >= kind.first_positive).astype(int)[use],
            }
        )
        return table.assign(category=category[use]) if len(kind.names) > 2 else table

    def summary(self, marker: str) -> str:
        """Count the cases of a marker: all, by class, and those that lack a label or a partner."""
        cases, kind = self.cases(marker), self.markers.get(marker, Marker())
        number = cases["category" if "category" in cases else "label"]
        counts = [f"{(number == k).sum()} {name}" for k, name in enumerate(kind.names)]
        lacking = {"without label": (number < 0).sum(), f"without {marker} slide": (cases["ihc"] == "").sum()}
        more = [f"{count} {what}" for what, count in lacking.items() if count]
        unused = self.slides["case_id"].nunique() - len(cases)
        return f"{len(cases)} cases: {', '.join(counts + more)}" + (f"; {unused} not used" if unused else "")

    def folds(self, marker: str, n: int, seed: int) -> pd.DataFrame:
        """Deal the cases into `n` folds, disjoint by patient and stratified by class (not known: one more).

        The cases are dealt into n parts. In fold k, part k is the test set, part k + 1 (modulo n) the
        validation set, the others the training set: each case is tested exactly once.

        Args:
            marker: whose classes to stratify by.
            n: number of folds.
            seed: of the deal. Not used if the manifest gives the folds.

        Returns:
            Columns case_id, fold, split (train, val or test); n rows a case.

        Raises:
            InputError: a class has fewer than n cases.
        """
        cases = self.cases(marker)
        classes = cases["category" if "category" in cases else "label"]
        names = self.markers.get(marker, Marker()).names
        counts = classes.value_counts().reindex(range(len(names)), fill_value=0)
        if counts.min() < n:
            found = ", ".join(f"{count} {name}" for count, name in zip(counts, names, strict=True))
            raise InputError(
                f"{marker}: {found}: too few cases for {n} folds, each class needs {n}. "
                "Add cases, or lower `evaluation.folds`."
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
            with warnings.catch_warnings():  # of unlabelled cases there may be fewer than folds
                warnings.filterwarnings("ignore", "The least populated class", UserWarning)
                for k, (_, test) in enumerate(dealer.split(cases, classes, cases["patient_id"])):
                    part[test] = k
        tables = []
        for k in range(n):
            split = np.select([part == k, part == (k + 1) % n], ["test", "val"], "train")
            tables.append(pd.DataFrame({"case_id": cases["case_id"], "fold": k, "split": split}))
        return pd.concat(tables, ignore_index=True)


def fold_table(study: Study, cohort: Cohort, marker: str) -> pd.DataFrame:
    """Deal the cases of a marker into folds as the study's `design` has it.

    Returns:
        A row a case and fold, sorted by both: the columns of `Cohort.cases`, fold, split: train, val, test, or pairs: a
        training case whose label the study does not know, but whose pair it has. Where `design.labelled` is below 1
        the labels of validation cases are cut with those of training cases, in their own fold alone: there they are -1.

    Raises:
        InputError: as `Cohort.folds`; or a fold without two cases that have both stains.
    """
    cohort, design = cohort.first(study.design.cases), study.design
    if design.permuted:
        cohort = cohort.permuted(marker, study.seed)
    folds = cohort.folds(marker, study.evaluation.folds, study.evaluation.fold_seed)
    cases = cohort.cases(marker)
    part = folds[folds["split"] == "test"].set_index("case_id")["fold"][cases["case_id"]].to_numpy()
    paired = np.bincount(part[cases["ihc"] != ""], minlength=study.evaluation.folds)
    if paired.min() < 2:
        raise InputError(
            f"{marker}: {paired.sum()} cases have an H&E and a {marker} slide, so that a fold has {paired.min()}: "
            f"alignment needs 2 in each of {study.evaluation.folds} folds. Add pairs, or lower `evaluation.folds`."
        )
    table = folds.merge(cases, on="case_id", validate="many_to_one")
    table = table.sort_values(["fold", "case_id"], ignore_index=True)
    table.loc[(table["split"] == "train") & (table["label"] < 0), "split"] = "pairs"
    if design.labelled < 1:
        known = table[table["label"] >= 0]
        for (_, split), rows in known[known["split"] != "test"].groupby(["fold", "split"]):
            rng = np.random.default_rng(
                [study.evaluation.fold_seed, int(rows["fold"].iloc[0]), *[1] * (split == "val")]
            )
            for _, same in rows.iloc[rng.permutation(len(rows))].groupby("label"):
                hidden = same.index[max(2, round(design.labelled * len(same))) :]
                if split == "train":
                    table.loc[hidden, "split"] = "pairs"
                else:
                    table.loc[hidden, [name for name in ("label", "category") if name in table]] = -1
    return table


def check_folds(study: Study, cohort: Cohort) -> None:
    """Deal every marker's folds, so that what training would refuse is told before slides are encoded for days.

    A marker without a single label is passed over: slides are often encoded before their labels are known.

    Raises:
        InputError: as `fold_table`, of all markers.
    """
    problems = []
    for marker in study.markers:
        if cohort.labels[marker].isna().all():
            continue
        try:
            fold_table(study, cohort, marker)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))


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
    return read_manifest(path, study.markers, root)


def read_manifest(path: str | Path, markers: Mapping[str, Marker], root: str | Path | None = None) -> Cohort:
    """Read a manifest CSV and check all of it.

    One row a slide: patient_id, case_id, slide_id, stain (HE or a marker), path, optionally mpp and fold, and
    a column `label_<marker>` for each marker: 0 or 1, the name of a class, a number where the marker has a cut-off, or
    empty. The label belongs to the case: rows of a case must agree or be empty. A case may have several slides of a
    stain, no IHC slide or no label.

    Args:
        path: the CSV.
        markers: the markers of the study. Others may be in the manifest if they have a label column.
        root: folder below which every slide must lie; by default that of the CSV.

    Raises:
        InputError: lists every problem found, each with its row and remedy.
    """
    path = Path(path)
    root = Path(root or path.parent).resolve()
    places = Places(root)
    frame, problems = examine(path, markers, places)
    if problems:
        raise InputError(told(path, problems, PROBLEMS_SHOWN))
    return from_frame(frame, markers, places)


def from_frame(frame: pd.DataFrame, markers: Mapping[str, Marker], places: Places) -> Cohort:
    """Make a cohort of the rows of a manifest in which `hsa.cohorts.manifest.examine` found no problem."""
    slides = frame[["patient_id", "case_id", "slide_id", "stain"]].copy()
    slides["path"] = [places.look(name).real for name in frame["path"]]
    slides["mpp"], marked = resolutions(frame)
    if "mpp_override" in frame:
        slides["mpp_override"] = marked
    labels = pd.DataFrame({m: _classes(frame[f"label_{m}"], kind) for m, kind in markers.items()})
    labels = labels.set_axis(frame.index).astype(float).groupby(frame["case_id"]).first()
    folds = None
    if "fold" in frame:
        folds = pd.to_numeric(frame["fold"]).groupby(frame["case_id"]).first()
    keep = slides["stain"].isin([HE, *markers])
    return Cohort(slides[keep].reset_index(drop=True), labels, folds, dict(markers))


def _joined(slides: pd.DataFrame) -> pd.Series:
    """Slide ids by case_id and stain, several joined by "+"; most are one, and need no joining."""
    keys = ["case_id", "stain"]
    several = slides.duplicated(keys, keep=False)
    joined = slides[several].groupby(keys)["slide_id"].agg(lambda ids: "+".join(sorted(ids)))
    return pd.concat([slides[~several].set_index(keys)["slide_id"], joined])


def _classes(labels: pd.Series, kind: Marker) -> list[int | None]:
    known = {text: class_of(text, kind) for text in set(labels)}
    return [known[text] for text in labels]
