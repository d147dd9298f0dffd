"""A slide looked at, and new slides through a trained method. Research use only."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hsa.cli.common import ModelOption, QuietOption, StudyOption, near, told
from hsa.errors import InputError
from hsa.study.study import load

if TYPE_CHECKING:
    from hsa.slides.resolution import Given

app = typer.Typer()


@app.command()
@told
def tiles(
    slide: Annotated[Path, typer.Argument(help="a slide of any stain")],
    study: StudyOption = "virtual",
    out: Annotated[Path | None, typer.Option(help="PNG to write; default: <slide>_tiles.png, here")] = None,
    mpp: Annotated[float | None, typer.Option(help="um/px, if the slide does not hold it")] = None,
    override_mpp: Annotated[bool, typer.Option(help="--mpp wins over what the slide says")] = False,
) -> None:
    """Draw the tissue mask of a slide and the tiles that a study would cut from it."""
    from hsa.reporting import figures
    from hsa.slides.slide import Slide
    from hsa.slides.tiling import tile_grid, tissue_mask

    settings, path = load(study).tiles, out or Path(f"{slide.stem}_tiles.png")
    with Slide.open(slide, _given(mpp, override_mpp), settings.reduction) as opened:
        mask = tissue_mask(opened, settings.mask)
        grid = tile_grid(opened, mask, settings.size_px, settings.mpp, settings.min_tissue, settings.max_tiles)
        shown = opened.view_mpp()
        figures.use_style()
        fig, ax = figures.panels(height=7 * opened.size[1] / opened.size[0])
        figures.overlay(ax, opened.thumbnail(shown), mask.array, shown)
        figures.tile_edges(ax, grid.coords * opened.mpp / shown, grid.size_level0 * opened.mpp / shown)
        figures.save(fig, path)
        typer.echo(
            f"{opened.format}, read by {opened.via}, {opened.mpp:g} um/px: {mask.array.mean():.0%} tissue, "
            f"{len(grid.coords)} tiles of {settings.size_px} px at {settings.mpp:g} um/px, drawn in {near(path)}"
        )
    if mask.warning:
        typer.echo(mask.warning)


@app.command()
@told
def predict(
    slides: Annotated[list[Path], typer.Argument(help="H&E slides")],
    model: ModelOption,
    out: Annotated[Path, typer.Option(help="folder to write to")] = Path("predictions"),
    mpp: Annotated[float | None, typer.Option(help="um/px of slides that do not hold it")] = None,
    override_mpp: Annotated[bool, typer.Option(help="--mpp wins over what the slides say")] = False,
    heatmap_tiles: Annotated[int, typer.Option(min=0, help="no heat map of slides with more tiles; 0: none")] = 1000,
    quiet: QuietOption = False,
) -> None:
    """Predict the marker of new H&E slides, with a heat map of each. Research use only."""
    from hsa.screening import predict
    from hsa.screening.predictor import load_predictor

    told = _given(mpp, override_mpp)
    found = predict.predict(load_predictor(model), slides, out, told, heatmap_tiles, progress=not quiet)
    typer.echo(f"{found}Predictions and heat maps are in {near(out)}")


@app.command()
@told
def prescreen(
    manifest: Annotated[Path, typer.Argument(help="CSV: slide_id, path; optionally case_id, mpp, mpp_override, stain")],
    model: ModelOption,
    out: Annotated[Path, typer.Option(help="CSV to write")] = Path("worklist.csv"),
    quiet: QuietOption = False,
) -> None:
    """Rank H&E slides for IHC, and say what staining only the first would save and miss. Research use only."""
    from hsa.screening import worklist
    from hsa.screening.predictor import load_predictor

    slides = worklist.read_worklist(manifest)
    summary, unread = worklist.prescreen(load_predictor(model), slides, out, progress=not quiet)
    typer.echo(f"{summary}The worklist is {near(out)}")
    if unread:
        raise typer.Exit(1)


def _given(mpp: float | None, override: bool) -> "Given":
    """The resolution as the command line tells it."""
    from hsa.slides.resolution import COMMAND_LINE, Given

    if override and mpp is None:
        raise InputError("--override-mpp needs --mpp: give the right resolution, um/px")
    return Given(math.nan if mpp is None else mpp, override, COMMAND_LINE)
