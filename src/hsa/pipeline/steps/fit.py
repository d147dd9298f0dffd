"""Step 3: the models of a method, one a fold, and every slide embedded by each."""

from hsa.cohorts.cohort import fold_table
from hsa.pipeline.door import begin
from hsa.pipeline.steps.features import encoded
from hsa.pipeline.steps.tuning import tune
from hsa.study.study import Study


def fit(study: Study, marker: str, method: str, progress: bool = True) -> None:
    """Fit one method on every fold of one marker with one seed, embed all its slides, and note which it has seen."""
    folder = study.paths.method(marker, method)
    if job := begin(study, "fit", folder / "made.json", marker, method):
        from hsa.training.fit import fit as run  # torch
        from hsa.training.seen import write_seen

        cohort, chosen = encoded(study, progress), tune(study, marker, method, progress)
        job.start()
        run(study, cohort, marker, method, folder, chosen=chosen, progress=progress)
        write_seen(folder, fold_table(study, cohort, marker), study.paths.bags)
        job.finish()
