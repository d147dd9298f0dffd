"""A book gathered: prose, executed notebooks, tables and the kept results of the experiments."""

from pathlib import Path

from hsa.files import REPOSITORY, write_json
from hsa.pipeline.steps.summary import read_summary
from hsa.reporting import focus, idea, made, pieces, protocol, real_tissue, reference, speed, staging, viewer
from hsa.study.study import Study


def stage_book(study: Study, target: Path) -> None:
    """Lay out everything that Jupyter Book reads, in `target`.

    Args:
        study: whose results to show.
        target: the stage; it is replaced as a whole.

    Raises:
        InputError: the study has no summary, or a notebook has not been executed.
    """
    summary, experiments = read_summary(study), reference.studies()
    measured = REPOSITORY / "benchmarks" / "results.json"
    fragments = pieces.fragments(summary, study) | reference.fragments(experiments, summary, study) | pieces.facts()
    real = REPOSITORY / "book" / "reference" / "real"
    fragments |= protocol.fragments(*experiments) | speed.fragments(measured) | real_tissue.fragments(real)
    staging.stage(study, REPOSITORY, target, fragments)
    write_json(target / "book" / "_generated" / "made.json", made.foot(study))
    idea.draw(target / "book" / "_generated")
    focus.draw(experiments[0], target / "book" / "_generated")
    reference.draw(experiments, target / "book" / "_generated")
    real_tissue.draw(real, target / "book" / "_generated")
    speed.draw(measured, target / "book" / "_generated")
    if study.cohort.kind == "virtual":
        viewer.draw(study, experiments[0], target / "book" / "_static" / "slides")
