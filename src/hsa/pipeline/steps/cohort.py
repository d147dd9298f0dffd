"""Step 1: the cohort, checked."""

from hsa.cohorts import cohort as cohorts
from hsa.cohorts.cohort import Cohort
from hsa.pipeline.steps.focal import focal_cohort
from hsa.pipeline.steps.render import render
from hsa.study.settings import FocalCohort, VirtualCohort
from hsa.study.study import Study


def make_cohort(study: Study, workers: int = 1, progress: bool = True) -> Cohort:
    """Render the slides of a virtual cohort, or check the manifest of a real one, and read it."""
    if isinstance(study.cohort, FocalCohort):
        return focal_cohort(study)
    if isinstance(study.cohort, VirtualCohort):
        render(study, workers, progress)
    return cohorts.load(study)
