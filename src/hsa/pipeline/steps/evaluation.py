"""Step 5: what every method of a marker is worth."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from hsa import files
from hsa.cohorts import cohort as cohorts
from hsa.pipeline.door import begin
from hsa.pipeline.steps.cohort import make_cohort
from hsa.pipeline.steps.probe import train
from hsa.pipeline.steps.records import embeddings
from hsa.study.settings import VirtualCohort
from hsa.study.study import Study


def evaluate(study: Study, marker: str, progress: bool = True) -> dict[str, Any]:
    """Evaluate every method of one marker, over all seeds.

    Returns:
        What evaluation.json holds, see `hsa.evaluation.evaluate.evaluate`.
    """
    from hsa.evaluation.evaluate import evaluate as run
    from hsa.evaluation.probe import majority

    study.require_marker(marker)
    folder = study.paths.marker(marker)
    if job := begin(study, "evaluation", folder / "evaluation.json", marker):
        for method in study.methods:
            train(study, marker, method, progress)
        folds = cohorts.fold_table(study, make_cohort(study, progress=progress), marker)
        job.start()
        predictions = {"majority": _over_seeds(study, lambda one: majority(folds))}
        for method in study.methods:
            predictions[method] = _over_seeds(study, partial(_predictions, marker=marker, method=method))

        def both(method: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
            one = study.at(seed)
            he, ihc = (embeddings(one, marker, method, stain, progress) for stain in ("HE", "IHC"))
            return he, ihc

        ceilings, maps = _ceilings(study, marker, folds), _maps(study, marker)
        job.finish(run(study, marker, predictions, ceilings, both, maps, folder))
    return files.read_json(folder / "evaluation.json")


def _predictions(one: Study, marker: str, method: str) -> pd.DataFrame:
    keys = {"case_id": str, "patient_id": str}
    return pd.read_csv(one.paths.method(marker, method) / "predictions.csv", dtype=keys)


def _over_seeds(study: Study, read: Callable[[Study], pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([read(one).assign(seed=one.seed) for one in map(study.at, study.seeds)], ignore_index=True)


def _ceilings(study: Study, marker: str, folds: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Predict from what a model of H&E slides never sees: the truth, if it is known, and the IHC slides."""
    from hsa.evaluation.ceilings import oracle_embeddings
    from hsa.evaluation.probe import probe_folds

    def probed(embeddings: pd.DataFrame, stain: str) -> pd.DataFrame:
        first = study.markers[marker].first_positive
        return _over_seeds(study, lambda one: probe_folds(embeddings, one.seed, stain, first)[0])

    found = {}
    if isinstance(study.cohort, VirtualCohort):
        truth = oracle_embeddings(folds, pd.read_csv(study.paths.cohort / "truth.csv", dtype={"case_id": str}))
        found["oracle"] = probed(truth, "HE")
    means = [name for name, method in study.methods.items() if method.encoder == "mean"]
    complete = (folds["ihc"] != "") | (folds["label"] < 0)  # the ceiling is of the cases that are predicted
    if means and complete.all():
        found["ihc"] = probed(embeddings(study.at(study.seed), marker, means[0], "IHC"), marker)
    return found


def _maps(study: Study, marker: str) -> dict[str, pd.DataFrame]:
    """Score the heat maps of the compared methods, and of some that have learned nothing, where the truth is known."""
    if not isinstance(study.cohort, VirtualCohort):
        return {}
    from hsa.evaluation.pointing import evaluate_maps

    plain = [name for name, method in study.methods.items() if not method.losses and method.encoder != "colour"]
    maps = {name: evaluate_maps(study, marker, name) for name in (*plain, study.baseline, study.full)}
    gated = [name for name, method in study.methods.items() if method.encoder == "abmil"]
    return maps | {name: evaluate_maps(study, marker, name, kind="attention") for name in gated}
