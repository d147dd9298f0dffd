"""One method of a study with one seed: tuned alike, trained fold by fold, read out under three rules of selection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hsa.cohorts.cohort import Cohort, fold_table
from hsa.cohorts.pairing import pair
from hsa.evaluation.selection import STRENGTHS, best_epoch, choose, held_out, read_out, recalibrate
from hsa.study.settings import Training
from hsa.study.study import Study
from hsa.training.follow import Course, Snapshot, follow
from hsa.training.start import first_weights, model_input, one_device, open_bags, repeatable, start_model
from hsa.training.terms import Run

RULES = ("validated", "last", "published")
Train = Callable[[Training, int], Course]  # settings and fold -> how training went


@dataclass(frozen=True)
class Choice:
    """What was tuned, on validation cases, with training seeds of its own.

    Attributes:
        candidate: number of the setting.
        strength: C of the probe.
        validated: mean AUC of validation cases (settings, strengths), best epoch of each fold.
    """

    candidate: int
    strength: float
    validated: list[list[float]]


@dataclass(frozen=True)
class Outcome:
    """What one method and seed left.

    Attributes:
        cases: a row a test case: case_id, patient_id, fold, label (-1: not known, so no score), the log odds under each
            rule (`score_validated`, `score_last`, `score_published`), chance (of a positive, recalibrated on validation
            cases, first rule), and for cases with a pair the cosine to the own IHC section (paired), the mean cosine to
            others of the fold (shuffled), and whether the own is the nearest (hit; of equally near ones a share).
        folds: a row a fold: fold, the epoch of each rule, val_auc (first rule), pairs, and the mean cosine of different
            slides of a stain: cosine_he, cosine_ihc (1: the encoder collapsed).
        losses: a row a fold and epoch.
    """

    cases: pd.DataFrame
    folds: pd.DataFrame
    losses: pd.DataFrame


def trainer(study: Study, cohort: Cohort, marker: str, method: str, threads: int = 1) -> tuple[Train, pd.DataFrame]:
    """Make what trains a method on any fold of a marker with the study's seed, and the table of the folds.

    Args:
        study: its first seed counts; its bags have been made.
        cohort: its cohort.
        marker: whose labels and IHC slides.
        method: one of the study's methods.
        threads: of the CPU. Sums depend on their number in the last bits, so it is not the machine's.
    """
    way = study.methods[method]
    fabric, bags = one_device(study.training), open_bags(study, way.encoder)
    folds = pair(fold_table(study, cohort, marker), way.pairs, study.evaluation.fold_seed)
    given = model_input(study, bags, folds["he"].iloc[0], marker, method)
    weights = first_weights(study, method)

    def train(training: Training, fold: int) -> Course:
        cases = folds[folds["fold"] == fold].reset_index(drop=True)
        with repeatable(fabric.device, threads):
            model = start_model(study, bags, cases, given, weights).to(fabric.device)
            return follow(Run(fabric, bags, training, way.losses, (study.seed, fold)), model, cases)

    return train, folds


def tune(train: Train, folds: pd.DataFrame, settings: Sequence[Training]) -> Choice:
    """Try every setting on every fold and choose one, and one strength of the probe, by validation cases.

    Args:
        train: trains a fold.
        folds: of `cohort.fold_table`.
        settings: candidates.
    """
    rows = []
    for candidate in settings:
        by_fold = []
        for cases in _by_fold(folds):
            course = train(candidate, int(cases["fold"].iloc[0]))
            by_fold.append([read_out(course.kept[done].he, cases, STRENGTHS).auc for done in course.regular])
        rows.append(by_fold)
    validated = np.array(rows)
    best, strength = choose(validated)
    return Choice(best, float(STRENGTHS[strength]), validated.max(axis=2).mean(axis=1).tolist())


def run(train: Train, folds: pd.DataFrame, training: Training, strength: float) -> Outcome:
    """Train a method on every fold and read it out.

    Args:
        train: trains a fold.
        folds: of `cohort.fold_table`.
        training: settings.
        strength: C of the probe.
    """
    parts = [_fold(train(training, int(cases["fold"].iloc[0])), cases, strength) for cases in _by_fold(folds)]
    tables = [pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True)]
    return Outcome(*tables)


def _by_fold(folds: pd.DataFrame) -> list[pd.DataFrame]:
    return [cases.reset_index(drop=True) for _, cases in folds.groupby("fold")]


def _fold(course: Course, cases: pd.DataFrame, strength: float) -> tuple[pd.DataFrame, ...]:
    fold, read = int(cases["fold"].iloc[0]), held_out(cases)
    readings = {done: read_out(shot.he, cases, np.array([strength])) for done, shot in course.kept.items()}
    validated = {done: float(readings[done].auc[0]) for done in course.regular}
    epochs = {"validated": best_epoch(validated), "last": max(course.kept), "published": course.published}
    scored = cases.loc[read, ["fold", "split", "label"]].assign(score=readings[epochs[RULES[0]]].score[:, 0])
    table = cases[["case_id", "patient_id", "fold", "label"]].assign(chance=recalibrate(scored))
    for rule in RULES:
        table.loc[read, f"score_{rule}"] = readings[epochs[rule]].score[:, 0]
    pairs, alike = _pairs(course.kept[epochs["validated"]], cases)
    table = table[cases["split"] == "test"].join(pairs)
    row = {"fold": fold, **epochs, "val_auc": validated[epochs["validated"]], "pairs": len(pairs), **alike}
    losses = [{"fold": fold, "epoch": done["epoch"] + 1, **_flat(done)} for done in course.history]
    return table, pd.DataFrame([row]), pd.DataFrame(losses)


def _pairs(shot: Snapshot, cases: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measure each test case's own pair against the others, and how alike different slides of a stain are."""
    test = ((cases["split"] == "test") & (cases["ihc"] != "")).to_numpy()
    he, ihc = (_unit(part) for part in (shot.he[test], shot.ihc))
    cosine = he @ ihc.T
    n, own = len(cosine), np.diag(cosine)
    table = pd.DataFrame(
        {
            "paired": own,
            "shuffled": (cosine.sum(axis=1) - own) / (n - 1),
            "hit": np.where((cosine > own[:, None]).any(axis=1), 0, 1 / (cosine == own[:, None]).sum(axis=1)),
        },
        index=cases.index[test],
    )
    others = ~np.eye(n, dtype=bool)
    alike = {name: float((part @ part.T)[others].mean()) for name, part in (("cosine_he", he), ("cosine_ihc", ihc))}
    return table, alike


def _flat(row: dict[str, Any]) -> dict[str, float]:
    return {f"{part}_{name}": value for part in ("train", "val") for name, value in row[part].items()}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
