"""Step 2: one bag a slide."""

from hsa.bags.checksums import of_bags
from hsa.cohorts.cohort import Cohort, check_folds
from hsa.cohorts.identity import refuse_copies
from hsa.errors import InputError
from hsa.pipeline.door import begin, is_of
from hsa.pipeline.stamps import stamp
from hsa.pipeline.steps.cohort import make_cohort
from hsa.pipeline.steps.encode import encode
from hsa.pipeline.steps.focal import make_focal
from hsa.pipeline.steps.imported import check
from hsa.study.settings import FocalCohort
from hsa.study.study import Study


def make_features(
    study: Study,
    workers: int = 1,
    progress: bool = True,
    share: tuple[int, int] | None = None,
    keep: bool = False,
    verify: bool = False,
) -> Cohort:
    """Encode every slide of the cohort into its bag, and keep those that are up to date; or check imported bags.

    Args:
        study: the study.
        workers: processes; on a GPU, threads that read.
        progress: show a bar.
        share: (k, n): only the k-th of n shares of the slides, for n jobs side by side. A call without it then finds
            all bags made, or makes what is missing.
        keep: also keep bags that other code made, if it makes the same features: those of today's
            `hsa.bags.features.VERSION` and of the same settings.
        verify: read every slide and every bag, and compare their checksums, see `hsa.bags.encoding.encode_cohort`.

    Raises:
        InputError: see `hsa.bags.encoding.encode_cohort`; one picture under two patients; too few cases
            for the folds; or a share of imported
            bags, or of bags by an int8 model, which is made once for all slides.
    """
    if isinstance(study.cohort, FocalCohort):
        return make_focal(study, workers, progress)
    imported = study.encoder.name == "imported"
    if share and (imported or study.encoder.runtime == "openvino-int8"):
        raise InputError(
            f"{study.file}: bags that are imported, or made by one int8 network, come in one go: leave out `--share`"
        )
    mark = study.paths.bags / "made.json"
    if share is None:
        mark.unlink(missing_ok=True)  # until every bag has been looked at, nothing vouches for them
    job = begin(study, "features", mark)  # before the manifest is read: one that changes meanwhile is not vouched for
    cohort = make_cohort(study, workers, progress)
    check_folds(study, cohort)
    if job:
        job.start()
    if imported:
        check(study, cohort)
        made_of = of_bags(cohort.slides, study.paths.bags)
    else:
        slides = cohort.slides.iloc[share[0] - 1 :: share[1]] if share else cohort.slides
        made_of = encode(study, slides, workers, progress, keep, verify)
    if share is None and job:
        refuse_copies(cohort.slides, made_of)
        job.finish({"slides": len(cohort.slides)})
    return cohort


def encoded(study: Study, progress: bool) -> Cohort:
    """Read the cohort, whose bags are there or are made first."""
    fresh = is_of(study.paths.bags / "made.json", stamp(study, "features"))
    return make_cohort(study, progress=progress) if fresh else make_features(study, progress=progress)
