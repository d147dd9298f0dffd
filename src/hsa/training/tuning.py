"""The choice of hyper-parameters: every trained method tries the same candidates and is judged by validation cases.

In each fold the candidate wins whose embeddings let a probe, fitted on the train cases, rank the validation cases
best. Test cases are not looked at. The trials have a training seed of their own.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from hsa.cohorts.cohort import Cohort
from hsa.errors import InputError
from hsa.evaluation.probe import probe_folds
from hsa.files import write_frame
from hsa.study.settings import Training, Tuning
from hsa.study.study import Study
from hsa.training.fit import fit


def settings(study: Study) -> list[Training]:
    """Give the training settings of each candidate of `study.tuning`, in order; none where there is no tuning."""
    given = _candidates(study.tuning) if study.tuning else []
    return [study.training.model_copy(update=update) for update in given]


def tune(study: Study, cohort: Cohort, marker: str, method: str, folder: Path, progress: bool = True) -> dict[str, Any]:
    """Try every candidate on every fold and choose one a fold by its validation AUC; of equals, the first.

    Args:
        study: with `tuning`.
        cohort: its cohort.
        marker: the marker.
        method: a method with losses.
        folder: gets trial<i>/ with the models of each trial, and trials.csv (trial, fold, auc).
        progress: show bars.

    Returns:
        "folds": number of the chosen candidate for each fold; "candidates".

    Raises:
        InputError: the study has no `tuning`.
    """
    if study.tuning is None:
        raise InputError(f"{study.file}: tuning: missing. Say its candidates and its seed.")
    trials, rows = study.at(study.tuning.seed), []
    for number, training in enumerate(settings(study)):
        tried = trials.model_copy(update={"training": training})
        trained = fit(tried, cohort, marker, method, folder / f"trial{number}", progress=progress)
        assert trained is not None, "trials are trained on one device, so this process is the first"
        predictions, _ = probe_folds(trained[0], trials.seed, first_positive=study.markers[marker].first_positive)
        for _, val in predictions[predictions["split"] == "val"].groupby("fold"):
            rows.append({"trial": number, "fold": int(val["fold"].iloc[0]), "auc": _auc(val)})
    table = pd.DataFrame(rows)
    write_frame(folder / "trials.csv", table)
    wide = table.pivot(index="fold", columns="trial", values="auc").sort_index()
    chosen = [int(best) for best in np.argmax(wide.to_numpy(), axis=1)]
    return {"folds": chosen, "candidates": _candidates(study.tuning)}


def _candidates(tuning: Tuning) -> list[dict[str, Any]]:
    return [candidate.model_dump(exclude_none=True) for candidate in tuning.candidates]


def _auc(val: pd.DataFrame) -> float:
    """AUC of one fold's validation cases; 0.5 where they are of one class and tell nothing."""
    return float(roc_auc_score(val["label"], val["score"])) if val["label"].nunique() == 2 else 0.5
