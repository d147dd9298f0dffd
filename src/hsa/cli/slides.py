"""New slides through a trained method. Research use only."""

import math
from pathlib import Path
from typing import Annotated

import typer

from hsa.cli.common import ModelOption, QuietOption, near, told
from hsa.errors import InputError

app = typer.Typer()


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
    from hsa.slides.resolution import COMMAND_LINE, Given

    if override_mpp and mpp is None:
        raise InputError("--override-mpp needs --mpp: give the right resolution, um/px")
    told = Given(math.nan if mpp is None else mpp, override_mpp, COMMAND_LINE)
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
