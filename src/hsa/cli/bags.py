"""Bags from and for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from hsa.cli.common import QuietOption, StainOption, StudyOption, near, told
from hsa.errors import InputError
from hsa.study.study import load

app = typer.Typer(help="Take bags of other tools, give ours to them.", no_args_is_help=True)


@app.command("import")
@told
def import_(
    source: Annotated[Path, typer.Argument(help="folder of <slide_id>.h5, .npz or .pt")],
    study: StudyOption,
    coords: Annotated[Path | None, typer.Option(help="folder of coordinates that are not in the bags")] = None,
    tool: Annotated[str | None, typer.Option(help="clam, trident, stamp, slide2vec or histostainalign")] = None,
    tile_px: Annotated[int | None, typer.Option(help="side of a tile, px")] = None,
    tile_mpp: Annotated[float | None, typer.Option(help="resolution of a tile, um/px")] = None,
    unit: Annotated[str | None, typer.Option(help="of the coordinates: level0, tile or um")] = None,
    encoder: Annotated[str | None, typer.Option(help="name of the tile encoder")] = None,
    quiet: QuietOption = False,
) -> None:
    """Take the bags of CLAM, TRIDENT, STAMP, slide2vec or HistoStainAlign. What they do not tell must be given."""
    from hsa.bags import foreign
    from hsa.cohorts import cohort
    from hsa.models.longnet import GRID

    chosen = load(study)
    if chosen.encoder.name != "imported":
        raise InputError(
            f"{chosen.file}: the study makes its bags itself, with {chosen.encoder.name}: say "
            "`encoder: {name: imported}`, and under `tiles` the size of those in the bags."
        )
    given = {"tool": tool, "tile_px": tile_px, "tile_mpp": tile_mpp, "unit": unit, "encoder": encoder, "grid": GRID}
    slides, folder = cohort.load(chosen).slides, chosen.paths.bags
    rows = foreign.import_bags(source, folder, slides, coords=coords, progress=not quiet, **given)
    for (by, made_by, dim), part in rows.groupby(["source_tool", "encoder", "encoder_dim"]):
        typer.echo(f"{len(part)} bags of {by}, {made_by} ({dim}), {part['tiles'].sum()} tiles: {near(folder)}")


@app.command()
@told
def export(
    target: Annotated[Path, typer.Argument(help="folder of TRIDENT's layout to write, or a .h5ad file")],
    study: StudyOption = "virtual",
    stain: StainOption = None,
    method: Annotated[str | None, typer.Option(help="for slide embeddings: the method")] = None,
) -> None:
    """Write bags in TRIDENT's layout; with --stain and --method slide embeddings, as .h5ad if the target ends so."""
    from hsa.bags import export
    from hsa.pipeline import steps

    chosen = load(study)
    if (stain is None) != (method is None):
        raise InputError("slide embeddings need `--stain` and `--method`; bags need neither")
    if stain is None or method is None:
        typer.echo(f"bags are in {near(export.to_trident(chosen.paths.bags, target))}")
        return
    one = chosen.at(chosen.seed)
    he = steps.embeddings(one, one.require_marker(stain), one.require_method(method), "HE")
    about = {"study": one.name, "marker": stain, "method": method, "seed": one.seed}
    if target.suffix == ".h5ad":
        typer.echo(f"embeddings are in {near(export.to_h5ad(he, target, about))}")
    else:
        typer.echo(f"embeddings are in {near(export.embeddings_to_trident(he, target, f'hsa-{method}'))}")
