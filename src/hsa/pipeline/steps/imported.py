"""Step 2, for bags of other tools: are they all there, and of one kind?"""

from hsa.bags.foreign import check_bags
from hsa.cohorts.cohort import Cohort
from hsa.study.study import Study


def check(study: Study, cohort: Cohort) -> None:
    """Check imported bags, see `hsa.bags.foreign.check_bags`."""
    check_bags(study.paths.bags, cohort.slides, study.tiles.size_px, study.tiles.mpp)
