"""`hsa`: the steps of a study from a shell. Each does what is missing and leaves alone what is done."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

import hsa
from hsa import files
from hsa.errors import InputError
from hsa.study import Study, load

app = typer.Typer(
    name="hsa",
    help="Predict IHC status from H&E slides by contrastive alignment: every step of a study.\n\n"
    "A study is a YAML file; give its path, or its name if it lies in studies/. Steps, in order: cohort, "
    "features, train, evaluate, notebook, stage. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

CORES = os.cpu_count() or 1
StudyOption = Annotated[str, typer.Option("--study", "-s", help="study file, or its name in studies/")]
StainOption = Annotated[str | None, typer.Option("--stain", help="marker; default: all of the study")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="training seed; default: the study's")]
WorkersOption = Annotated[int, typer.Option("--workers", "-w", min=1, help="processes; default: one a core")]
ModelOption = Annotated[Path, typer.Option("--model", "-m", help="folder of a trained method")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="no progress bars")]


def _told(command: Callable) -> Callable:
    """Print an input error without a traceback and exit with 2; with 130 when interrupted."""

    @wraps(command)
    def run(*args, **kwargs) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            typer.echo(f"hsa: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("hsa: interrupted; what is finished is kept, run the same command to go on", err=True)
            raise typer.Exit(130) from None

    return run


def _near(path: Path) -> Path:
    """Shorten a path to one from here, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _markers(study: Study, stain: str | None) -> list[str]:
    return list(study.markers) if stain is None else [study.require_marker(stain)]


@app.command()
@_told
def cohort(study: StudyOption = "virtual", workers: WorkersOption = CORES, quiet: QuietOption = False) -> None:
    """Make the virtual cohort, or check the manifest of a real one."""
    from hsa import steps

    chosen = load(study)
    made = steps.make_cohort(chosen, workers=workers, progress=not quiet)
    for marker in chosen.markers:
        labels = made.cases(marker)["label"]
        typer.echo(f"{marker}: {len(labels)} cases, {labels.sum()} {chosen.markers[marker].positive}")


@app.command()
@_told
def features(study: StudyOption = "virtual", workers: WorkersOption = CORES, quiet: QuietOption = False) -> None:
    """Cut every slide into tiles and encode them: one bag a slide."""
    from hsa import steps

    chosen = load(study)
    steps.make_features(chosen, workers=workers, progress=not quiet)
    typer.echo(f"bags are in {_near(chosen.paths.bags)}")


@app.command()
@_told
def tune(
    study: StudyOption = "virtual",
    stain: StainOption = None,
    method: Annotated[str | None, typer.Option(help="default: all that are trained")] = None,
    quiet: QuietOption = False,
) -> None:
    """Choose the hyper-parameters of each fold by its validation cases, where the study asks for it."""
    from hsa import steps

    chosen = load(study)
    if chosen.tuning is None:
        raise InputError(f"{chosen.file}: no `tuning`: give a seed and candidates, or go on with `hsa train`.")
    for marker in _markers(chosen, stain):
        for name in chosen.methods if method is None else [chosen.require_method(method)]:
            steps.tune(chosen, marker, name, progress=not quiet)


@app.command()
@_told
def train(
    study: StudyOption = "virtual",
    stain: StainOption = None,
    method: Annotated[str | None, typer.Option("--method", help="default: all of the study")] = None,
    seed: SeedOption = None,
    quiet: QuietOption = False,
) -> None:
    """Fit one method on every fold and embed all slides. An interrupted run goes on where it stopped."""
    from hsa import steps

    chosen = load(study, seed)
    for marker in _markers(chosen, stain):
        for name in chosen.methods if method is None else [chosen.require_method(method)]:
            steps.train(chosen, marker, name, progress=not quiet)
            typer.echo(f"{marker}, {name}: trained, seed {', '.join(map(str, chosen.seeds))}")


@app.command()
@_told
def evaluate(
    study: StudyOption = "virtual",
    stain: StainOption = None,
    seed: SeedOption = None,
    quiet: QuietOption = False,
) -> None:
    """Metrics, intervals, tests, alignment, UMAP. For all stains and seeds of the study: summary.json too."""
    from hsa import steps

    chosen = load(study, seed)
    for marker in _markers(chosen, stain):
        steps.evaluate(chosen, marker, progress=not quiet)
        typer.echo(f"{marker}: evaluation is in {_near(chosen.paths.marker(marker))}")
    if stain is None and seed is None:  # the summary is over every seed of the study
        steps.summarise(chosen, progress=not quiet)
        typer.echo(f"summary is {_near(chosen.paths.summary)}")


@app.command()
@_told
def sweep(study: StudyOption = "sweep", workers: WorkersOption = CORES, quiet: QuietOption = False) -> None:
    """Run a study once for each point of its sweep, and gather what alignment changes there."""
    from hsa import sweep as sweeping

    path = sweeping.run(load(study), workers=workers, progress=not quiet)
    typer.echo(f"the sweep is in {_near(path)}")


@app.command()
@_told
def notebook(
    name: Annotated[str, typer.Argument(help="such as 03_baseline_comparison, or a path")],
    stain: Annotated[str, typer.Option("--stain", help="marker")],
    study: StudyOption = "virtual",
    seed: SeedOption = None,
) -> None:
    """Execute one notebook for one stain with papermill."""
    from hsa.report import run_notebook

    chosen = load(study, seed)
    chosen.require_marker(stain)
    source = Path(name) if name.endswith(".ipynb") else files.REPOSITORY / "notebooks" / f"{name}.ipynb"
    target = chosen.paths.notebook(stain, source.stem)
    run_notebook(source, target, {"study": study, "stain": stain, "seed": chosen.seed})
    typer.echo(f"executed notebook is {_near(target)}")


@app.command()
@_told
def stage(
    study: StudyOption = "virtual",
    seed: SeedOption = None,
    target: Annotated[Path | None, typer.Option(help="default: build/stage")] = None,
) -> None:
    """Lay out prose, executed notebooks and result tables for Jupyter Book."""
    from hsa import reference, staging, steps, tables

    chosen = load(study, seed)
    target = target or files.REPOSITORY / "build" / "stage"
    kept = files.REPOSITORY / "book" / "reference"
    summary = steps.read_summary(chosen)
    pieces = tables.fragments(summary) | reference.fragments(kept, summary)
    staging.stage(chosen, files.REPOSITORY, target, pieces | {"imprints.md": tables.imprints()})
    reference.draw(kept, target / "book" / "_generated")
    typer.echo(f"staged book is {_near(target)}")


@app.command()
@_told
def show(study: StudyOption = "virtual") -> None:
    """Print the headline table and where the book is."""
    from hsa import tables

    chosen = load(study)
    typer.echo(tables.headline(chosen))
    page = files.REPOSITORY / "build" / "_build" / "html" / "index.html"
    if page.is_file():
        typer.echo(f"\nThe book: {page}")


@app.command()
@_told
def predict(
    slides: Annotated[list[Path], typer.Argument(help="H&E slides")],
    model: ModelOption,
    out: Annotated[Path, typer.Option(help="folder to write to")] = Path("predictions"),
    mpp: Annotated[float | None, typer.Option(help="um/px of slides that do not hold it")] = None,
    heatmap_tiles: Annotated[int, typer.Option(min=0, help="no heat map of slides with more tiles; 0: none")] = 1000,
    quiet: QuietOption = False,
) -> None:
    """Predict the marker of new H&E slides, with a heat map of each. Research use only."""
    from hsa import predict

    found = predict.predict(predict.load_predictor(model), slides, out, mpp, heatmap_tiles, progress=not quiet)
    typer.echo(f"{found}Predictions and heat maps are in {_near(out)}")


@app.command()
@_told
def prescreen(
    manifest: Annotated[Path, typer.Argument(help="CSV: slide_id, path; optionally case_id, mpp, stain")],
    model: ModelOption,
    out: Annotated[Path, typer.Option(help="CSV to write")] = Path("worklist.csv"),
    quiet: QuietOption = False,
) -> None:
    """Rank H&E slides for IHC, and say what staining only the first would save and miss. Research use only."""
    from hsa import worklist
    from hsa.predict import load_predictor

    slides = worklist.read_worklist(manifest)
    summary, unread = worklist.prescreen(load_predictor(model), slides, out, progress=not quiet)
    typer.echo(f"{summary}The worklist is {_near(out)}")
    if unread:
        raise typer.Exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hsa {hsa.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line."""
    app()
