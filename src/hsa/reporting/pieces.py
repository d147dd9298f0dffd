"""The pieces that pages of the book include, by file name: tables and sentences of one study, and facts."""

from collections.abc import Callable

from hsa.files import REPOSITORY
from hsa.reporting import checklist, design, power, sentences, tables
from hsa.reporting.tables import Summary
from hsa.study.study import Study

_OF_STUDY: tuple[Callable[[Study], str], ...] = (design.cohort, design.run)
_OF_SUMMARY: tuple[Callable[[Summary], str], ...] = (
    *(sentences.verdict, sentences.planned, sentences.mapped),
    *(tables.prediction, tables.more_metrics, tables.difference, tables.ablation),
    *(tables.alignment, tables.maps, tables.published, power.power),
)


def fragments(summary: Summary, study: Study) -> dict[str, str]:
    """Write the pieces of the book that tell one study and its results: file name -> Markdown."""
    made = {piece.__name__: piece(study) for piece in _OF_STUDY}
    made |= {piece.__name__: piece(summary) for piece in _OF_SUMMARY}
    made["contrast_alone"] = sentences.contrast_alone(summary, study)
    return {f"{name}.md": text for name, text in made.items()}


def facts() -> dict[str, str]:
    """Give the pieces that no study changes, by file name: imprints, tile encoders, public cohorts, a checklist."""
    from hsa.cohorts import public
    from hsa.encoders import registry

    found = {"imprints.md": imprints(), "encoders.md": registry.table()}
    found["tripod_ai.csv"] = checklist.template(REPOSITORY / "book" / "tripod_ai.md")
    return found | {"public_table.md": public.table(), "public_facts.md": public.facts()}


def imprints() -> str:
    """Say what each marker of the virtual tissue leaves in H&E, from the table that the simulation reads."""
    from hsa.virtual.markers import LATENTS, MARKERS

    rows = [
        [marker, latent.replace("_", " "), f"{weight:.1f}", LATENTS[latent]]
        for marker, programme in MARKERS.items()
        for latent, weight in programme.imprint.items()
    ]
    return tables.table(["marker", "latent", "weight", "what one unit of it changes"], rows, words=True)
