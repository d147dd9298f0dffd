"""How strong the sign of a focus is made: by a rule, on cases of a seed of their own, before any encoder of the method.

The rule has two steps. The shift is the smallest at which a linear classifier tells tiles inside a focus from other
tumour tiles with an AUC of 0.9 or more, so that whoever finds the focus can read it. The share of tiles in foci is the
one at which gated attention, which sees no IHC, comes closest to an AUC of 0.8 on whole bags: there neither chance nor
the ceiling hides what alignment does. Beside it stands what the mean of the tiles makes of the same bags.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from hsa.errors import InputError
from hsa.evaluation.logistic import fit_logistic
from hsa.evaluation.ranking import roc_auc
from hsa.evaluation.within import within_folds
from hsa.files import write_frame
from hsa.pipeline import steps
from hsa.pipeline.steps.focal import bank_tiles
from hsa.study.settings import FocalCohort
from hsa.study.study import Study

ENOUGH, WANTED = 0.9, 0.8
STRENGTH = np.array([0.01])  # of the penalty of both classifiers
APART = 1000  # added to the seed of the cohort: the cases of the experiment are not looked at
FEW = {"labs": 3, "specimens": 4}  # enough specimens to choose a shift by


def tile_auc(bank: pd.DataFrame, features: dict[str, np.ndarray], other: Sequence[str]) -> float:
    """Compute how well tiles of the marker's foci are told from others, all of them tumour.

    Args:
        bank: a row a tile: part, tumour.
        features: kind -> those of the H&E tiles (n, D).
        other: kinds of the tiles that are no foci of the marker.

    Returns:
        Mean over the parts of the folds of the AUC in the part that was left out of the fit.
    """
    from hsa.virtual.composing import TUMOUR
    from hsa.virtual.foci import FOCUS

    used = (bank["tumour"] > TUMOUR).to_numpy()
    kinds = [FOCUS, *other]
    x = np.concatenate([features[kind][used] for kind in kinds]).astype(float)
    part = np.tile(bank["part"].to_numpy()[used], len(kinds))
    label = np.repeat([int(kind == FOCUS) for kind in kinds], used.sum())
    found = []
    for one in np.unique(part):
        train = part != one
        mean, scale = x[train].mean(axis=0), x[train].std(axis=0) + 1e-9
        coef, intercept = fit_logistic((x[train] - mean) / scale, label[train], STRENGTH)
        found.append(roc_auc(label[~train], ((x[~train] - mean) / scale) @ coef[0] + intercept[0]))
    return float(np.mean(found))


def calibrate(
    study: Study, shifts: Sequence[float], shares: Sequence[float], workers: int = 1, progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the shift and the share by the rule, on cases of another seed; write both tables beside the kept runs.

    Args:
        study: focal; its methods `mean_pool` and `abmil` are read out, trained as it says, with its seed of tuning.
        shifts: to try, in SDs; those above the first that is enough are not made.
        shares: of the tiles in foci.
        workers: processes that render.
        progress: show bars.

    Returns:
        Of shifts (shift, tile_auc, plain_auc, other_auc: against both and each kind of other tumour tiles; chosen), and
        of shares (share, shift, mean_auc, attention_auc: AUC within folds of whole bags; chosen). They are written to
        calibration_shift.csv and calibration_share.csv in book/reference/<study>.

    Raises:
        InputError: no shift is enough.
    """
    shift_rows = list(_shifts(study, sorted(shifts), workers, progress))
    by_shift = pd.DataFrame(shift_rows)
    by_shift["chosen"] = by_shift["tile_auc"] >= ENOUGH
    write_frame(study.paths.kept / "calibration_shift.csv", by_shift.round(4))
    if not by_shift["chosen"].any():
        raise InputError(f"no shift of {list(shifts)} lets a classifier of tiles reach {ENOUGH}; try larger ones.")
    shift = float(by_shift["shift"].iloc[-1])
    rows = [_share(study, shift, share, workers, progress) for share in sorted(shares)]
    by_share = pd.DataFrame(rows)
    distance = (by_share["attention_auc"] - WANTED).abs()
    by_share["chosen"] = distance == distance.min()
    write_frame(study.paths.kept / "calibration_share.csv", by_share.round(4))
    return by_shift, by_share


def _shifts(study: Study, shifts: Sequence[float], workers: int, progress: bool) -> Iterator[dict[str, float]]:
    for shift in shifts:
        tiles = bank_tiles(_changed(study, f"shift-{shift:g}", shift=shift, **FEW), workers, progress)
        against = {"tile_auc": ["plain", "other"], "plain_auc": ["plain"], "other_auc": ["other"]}
        row = {"shift": shift} | {name: tile_auc(*tiles, kinds) for name, kinds in against.items()}
        yield row
        if row["tile_auc"] >= ENOUGH:
            return


def _share(study: Study, shift: float, share: float, workers: int, progress: bool) -> dict[str, float]:
    from hsa.training import trial  # torch

    one = _changed(study, f"share-{share:g}", shift=shift, share=share)
    cases, row = steps.make_features(one, workers, progress), {"share": share, "shift": shift}
    for column, method in (("mean_auc", "mean_pool"), ("attention_auc", "abmil")):
        train, folds = trial.trainer(one, cases, next(iter(one.markers)), method)
        scored = trial.run(train, folds, one.training, float(STRENGTH[0])).cases
        row[column] = float(within_folds(scored.assign(score=scored["score_validated"]))["auc"].mean())
    return row


def _changed(study: Study, name: str, **settings: float) -> Study:
    """Give the study with other settings of its cohort, on cases of another seed."""
    cohort = study.cohort
    assert isinstance(cohort, FocalCohort), "a study of focal signal"
    changed = cohort.model_copy(update={**settings, "seed": cohort.seed + APART})
    seed = study.tuning.seed if study.tuning else study.seed
    return study.model_copy(
        update={"cohort": changed, "name": f"{study.name}-calibration-{name}", "bags": None, "seeds": [seed]}
    )
