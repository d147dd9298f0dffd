"""How strong the sign of a focus is made: by a rule, on cases of a seed of their own, before any encoder of the method.

The rule: the smallest shift at which a linear classifier tells tiles inside a focus from other tumour tiles with an AUC
of 0.9 or more, so that whoever finds the focus can read it. Beside it stands what the mean of the tiles and gated
attention make of whole bags there: the room that is left between them is where a slide encoder can earn its keep.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hsa.evaluation.logistic import fit_logistic
from hsa.evaluation.ranking import roc_auc
from hsa.evaluation.within import within_folds
from hsa.files import write_frame
from hsa.pipeline import steps
from hsa.pipeline.steps.focal import bank_tiles
from hsa.study.settings import FocalCohort
from hsa.study.study import Study

ENOUGH = 0.9
STRENGTH = np.array([0.01])  # of the penalty of both classifiers
APART = 1000  # added to the seed of the cohort: the cases of the experiment are not looked at


def tile_auc(bank: pd.DataFrame, features: np.ndarray) -> float:
    """Compute how well tiles of the marker's foci are told from background tiles, both tumour.

    Args:
        bank: a row a tile: part, kind, tumour.
        features: of its H&E tiles (n, D).

    Returns:
        Mean over the parts of the folds of the AUC in the part that was left out of the fit.
    """
    from hsa.virtual.composing import TUMOUR

    used = (bank["tumour"] > TUMOUR).to_numpy() & bank["kind"].isin(["background", "focus"]).to_numpy()
    x, part = features[used].astype(float), bank["part"].to_numpy()[used]
    label = (bank["kind"] == "focus").to_numpy()[used]
    found = []
    for one in np.unique(part):
        train = part != one
        mean, scale = x[train].mean(axis=0), x[train].std(axis=0) + 1e-9
        coef, intercept = fit_logistic((x[train] - mean) / scale, label[train].astype(int), STRENGTH)
        found.append(roc_auc(label[~train].astype(int), ((x[~train] - mean) / scale) @ coef[0] + intercept[0]))
    return float(np.mean(found))


def calibrate(study: Study, shifts: Sequence[float], workers: int = 1, progress: bool = True) -> pd.DataFrame:
    """Measure every shift on cases of another seed, and write book/reference/<study>/calibration.csv.

    Args:
        study: focal; its methods `mean_pool` and `abmil` are read out, trained as it says, with its seed of tuning.
        shifts: in SDs.
        workers: processes that render.
        progress: show bars.

    Returns:
        A row a shift: shift, tile_auc, mean_auc, attention_auc (AUC within folds of whole bags), share, chosen (the
        first shift that is enough).
    """
    from hsa.training import trial  # torch

    rows = []
    for shift in sorted(shifts):
        cohort = study.cohort
        assert isinstance(cohort, FocalCohort), "a study of focal signal"
        changed = cohort.model_copy(update={"shift": shift, "seed": cohort.seed + APART})
        name = f"{study.name}-calibration-{shift:g}"
        seed = study.tuning.seed if study.tuning else study.seed
        one = study.model_copy(update={"cohort": changed, "name": name, "bags": None, "seeds": [seed]})
        cases = steps.make_features(one, workers, progress)
        row = {"shift": shift, "share": changed.share, "tile_auc": tile_auc(*bank_tiles(one))}
        for column, method in (("mean_auc", "mean_pool"), ("attention_auc", "abmil")):
            train, folds = trial.trainer(one, cases, next(iter(one.markers)), method)
            scored = trial.run(train, folds, one.training, float(STRENGTH[0])).cases
            row[column] = float(within_folds(scored.assign(score=scored["score_validated"]))["auc"].mean())
        rows.append(row)
    table = pd.DataFrame(rows)
    enough = table["tile_auc"] >= ENOUGH
    table["chosen"] = enough & ~enough.shift(fill_value=False).cummax()
    write_frame(study.paths.kept / "calibration.csv", table.round(4))
    return table
