"""Step 3, where a study asks for it: the hyper-parameters of each fold."""

from hsa import files
from hsa.pipeline.door import begin
from hsa.pipeline.stamps import is_tuned
from hsa.pipeline.steps.features import encoded
from hsa.study.settings import Training
from hsa.study.study import Study


def tune(study: Study, marker: str, method: str, progress: bool = True) -> dict[int, Training] | None:
    """Choose the training settings of each fold of a method by its validation cases.

    Returns:
        Fold -> settings; None if the study does not tune, or the method has nothing to train.
    """
    if not is_tuned(study, method):
        return None
    from hsa.training import tuning  # torch

    path = study.paths.tuning(marker, method) / "chosen.json"
    if job := begin(study, "tuning", path, marker, method):
        cohort = encoded(study, progress)
        job.start()
        job.finish(tuning.tune(study, cohort, marker, method, path.parent, progress))
    candidates = tuning.settings(study)
    return {fold: candidates[k] for fold, k in enumerate(files.read_json(path)["folds"])}
