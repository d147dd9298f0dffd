"""The pieces that pages of the book include, by file name: tables and sentences of one study, and facts."""

from collections.abc import Callable

from hsa.reporting import sentences, tables
from hsa.reporting.tables import Summary


def fragments(summary: Summary, prefix: str = "") -> dict[str, str]:
    """Write the pieces of the book that tell one study's results: file name -> Markdown."""
    return dict(zip(names(prefix), (piece(summary) for piece in _pieces()), strict=True))


def names(prefix: str = "") -> list[str]:
    """Name the pieces that `fragments` writes, in order."""
    return [f"{prefix}{piece.__name__}.md" for piece in _pieces()]


def _pieces() -> tuple[Callable[[Summary], str], ...]:
    told = (sentences.verdict, sentences.simulated)
    tests = (tables.prediction, tables.more_metrics, tables.difference, tables.ablation)
    return (*told, *tests, tables.alignment, tables.maps, tables.published, tables.power)


def facts() -> dict[str, str]:
    """Give the pieces of pages that no study changes, by file name: imprints, tile encoders, public cohorts."""
    from hsa.cohorts import public
    from hsa.encoders import registry

    found = {"imprints.md": imprints(), "encoders.md": registry.table()}
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
