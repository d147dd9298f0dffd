"""Public cohorts: what they are, and manifests of them as distributed. Nothing is ever downloaded."""

from pathlib import Path

from hsa.cohorts.public import acrobat, bci, bcnb, mist
from hsa.cohorts.public.bcnb import convert_large
from hsa.cohorts.public.manifest import join_manifests, summary
from hsa.cohorts.public.registry import COHORTS, PublicCohort, facts, get, table
from hsa.errors import InputError
from hsa.slides.resolution import PLAUSIBLE_MPP, is_plausible

__all__ = [
    "COHORTS",
    "PublicCohort",
    "convert_large",
    "facts",
    "get",
    "import_cohort",
    "join_manifests",
    "summary",
    "table",
]

_IMPORTERS = {module.__name__.rpartition(".")[2]: module.import_cohort for module in (acrobat, bcnb, bci, mist)}


def import_cohort(
    name: str, source: str | Path, out: str | Path, root: str | Path | None = None, mpp: float | None = None
) -> Path:
    """Write `out`/manifest.csv for a public cohort that lies in `source` as its owners distribute it.

    Args:
        name: of the cohort, see `COHORTS`.
        source: folder of the data.
        out: folder for the manifest; it must hold the data, unless `root` is given.
        root: folder that paths are relative to, for a study that sets `cohort.root`.
        mpp: um/px in place of what the cohort says or assumes.

    Returns:
        The manifest's path.

    Raises:
        InputError: no such cohort, or the data are not as expected: every problem at once, with the layout
            that was expected and where to ask for the data.
    """
    if mpp is not None and not is_plausible(mpp):
        low, high = PLAUSIBLE_MPP
        raise InputError(f"mpp {mpp:g}: give microns per pixel ({low:g} to {high:g}), or leave it out")
    return _IMPORTERS[get(name).name](source, out, root, mpp)
