"""Step 1, for virtual tissue: the slides, their manifest and the truth."""

from hsa.cohorts.cohort import manifest_path
from hsa.pipeline.door import begin
from hsa.study.study import Study


def render(study: Study, workers: int = 1, progress: bool = True) -> None:
    """Render the slides of a virtual cohort."""
    from hsa.virtual.scan import make_cohort  # numba, which nothing else needs

    mark = study.paths.cohort / "made.json"
    if not manifest_path(study).is_file():
        mark.unlink(missing_ok=True)
    if job := begin(study, "cohort", mark):
        settings = study.cohort.model_dump(exclude={"kind"})
        make_cohort(study.paths.cohort, markers=list(study.markers), workers=workers, progress=progress, **settings)
        job.finish()
