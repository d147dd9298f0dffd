"""A book gathered: prose, executed notebooks, tables and the kept results of the reference run."""

from pathlib import Path

from hsa.files import REPOSITORY
from hsa.pipeline.steps.summary import read_summary
from hsa.reporting import pieces, protocol, reference, speed, staging
from hsa.study.study import Study, load

EXPERIMENTS = ("focal", "diffuse")


def stage_book(study: Study, target: Path) -> None:
    """Lay out everything that Jupyter Book reads, in `target`.

    Args:
        study: whose results to show.
        target: the stage; it is replaced as a whole.

    Raises:
        InputError: the study has no summary, or a notebook has not been executed.
    """
    kept = REPOSITORY / "book" / "reference"
    summary = read_summary(study)
    measured = REPOSITORY / "benchmarks" / "results.json"
    fragments = pieces.fragments(summary, study) | reference.fragments(kept, summary, study) | pieces.facts()
    planned = protocol.fragments(*(load(REPOSITORY / "studies" / f"{name}.yml") for name in EXPERIMENTS))
    staging.stage(study, REPOSITORY, target, fragments | planned | speed.fragments(measured))
    reference.draw(kept, target / "book" / "_generated")
    speed.draw(measured, target / "book" / "_generated")
