"""The steps of a study. Each command does what is missing and leaves alone what is done."""

import re
from pathlib import Path
from typing import Annotated

import typer

from hsa import files
from hsa.cli.common import CORES, QuietOption, SeedOption, StainOption, StudyOption, WorkersOption, near, told
from hsa.errors import InputError
from hsa.study.study import Study, load

app = typer.Typer()


def markers_of(study: Study, stain: str | None) -> list[str]:
    """Give the one marker asked for, or all of the study."""
    return list(study.markers) if stain is None else [study.require_marker(stain)]


@app.command()
@told
def plan(
    study: StudyOption = "virtual",
    cases: Annotated[int | None, typer.Option(min=1, help="assume so many, where the cohort is not there yet")] = None,
    sample: Annotated[int, typer.Option(min=0, help="slides of each stain to look at, where there are no bags")] = 4,
    measure: Annotated[bool, typer.Option(help="time encoder and training on this machine")] = True,
) -> None:
    """Estimate slides, tiles, disk, memory and time of a study before anything starts."""
    from hsa.pipeline import plan

    typer.echo(plan.describe(plan.plan(load(study), cases=cases, sample=sample, measure=measure)))


@app.command()
@told
def features(
    study: StudyOption = "virtual",
    workers: WorkersOption = CORES,
    share: Annotated[
        str | None, typer.Option(help="K/N, such as 2/8: the second of eight shares, for eight jobs side by side")
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="after an upgrade: keep bags of the same settings and features"),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="read every slide and bag again, and compare their checksums")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Cut every slide into tiles and encode them: one bag a slide."""
    from hsa.pipeline import steps

    chosen = load(study)
    steps.make_features(chosen, workers, not quiet, _share(share) if share else None, keep, verify)
    typer.echo(f"bags are in {near(chosen.paths.bags)}")


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--share {text}: give K/N with K from 1 to N, such as 2/8")
    return int(found[1]), int(found[2])


@app.command()
@told
def tune(
    study: StudyOption = "virtual",
    stain: StainOption = None,
    method: Annotated[str | None, typer.Option(help="default: all that are trained")] = None,
    quiet: QuietOption = False,
) -> None:
    """Choose the hyper-parameters of each fold by its validation cases, where the study asks for it."""
    from hsa.pipeline import steps

    chosen = load(study)
    if chosen.tuning is None:
        raise InputError(f"{chosen.file}: no `tuning`: give a seed and candidates, or go on with `hsa train`.")
    for marker in markers_of(chosen, stain):
        for name in chosen.methods if method is None else [chosen.require_method(method)]:
            steps.tune(chosen, marker, name, progress=not quiet)


@app.command()
@told
def train(
    study: StudyOption = "virtual",
    stain: StainOption = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="may be repeated; default: all")] = None,
    seed: SeedOption = None,
    quiet: QuietOption = False,
) -> None:
    """Fit methods on every fold and embed all slides. An interrupted run goes on where it stopped."""
    from hsa.pipeline import steps

    chosen = load(study, seed)
    names = [chosen.require_method(name) for name in method or chosen.methods]
    for marker in markers_of(chosen, stain):
        for name in names:
            steps.train(chosen, marker, name, progress=not quiet)
            typer.echo(f"{marker}, {name}: trained, seed {', '.join(map(str, chosen.seeds))}")


@app.command()
@told
def evaluate(
    study: StudyOption = "virtual",
    stain: StainOption = None,
    seed: SeedOption = None,
    quiet: QuietOption = False,
) -> None:
    """Metrics, intervals, tests, alignment, UMAP. For all stains and seeds of the study: summary.json too."""
    from hsa.pipeline import steps

    chosen = load(study, seed)
    for marker in markers_of(chosen, stain):
        steps.evaluate(chosen, marker, progress=not quiet)
        typer.echo(f"{marker}: evaluation is in {near(chosen.paths.marker(marker))}")
    if stain is None and seed is None:  # the summary is over every seed of the study
        steps.summarise(chosen, progress=not quiet)
        typer.echo(f"summary is {near(chosen.paths.summary)}")


@app.command()
@told
def experiment(
    study: StudyOption = "focal",
    point: Annotated[list[str] | None, typer.Option(help="points to make, such as middle; default: all")] = None,
    workers: WorkersOption = CORES,
    quiet: QuietOption = False,
) -> None:
    """Tune, train and read out every method at every point of a study; what is kept is not made again."""
    from hsa.pipeline.experiment import run

    chosen = load(study)
    kept = run.run(chosen, workers, not quiet, point)
    typer.echo(f"{len(kept.units)} units are kept in {near(kept.folder)}")


@app.command()
@told
def calibrate(
    study: StudyOption = "focal",
    shift: Annotated[list[float] | None, typer.Option(help="SDs to try; default: 1, 1.5, 2, 2.5, 3")] = None,
    share: Annotated[list[float] | None, typer.Option(help="of tiles in foci; default: .03, .05, .1, .3")] = None,
    workers: WorkersOption = CORES,
    quiet: QuietOption = False,
) -> None:
    """Find how strong and how large a focus is made, by the rule of the protocol, on cases of another seed."""
    from hsa.pipeline.experiment import calibration

    chosen = load(study)
    tries = shift or [1.0, 1.5, 2.0, 2.5, 3.0], share or [0.03, 0.05, 0.1, 0.3]
    for table in calibration.calibrate(chosen, *tries, workers, not quiet):
        typer.echo(table.round(3).to_string(index=False))


@app.command()
@told
def notebook(
    name: Annotated[str, typer.Argument(help="such as 03_baseline_comparison, of the study's")],
    stain: Annotated[str, typer.Option("--stain", help="marker")],
    study: StudyOption = "virtual",
    seed: SeedOption = None,
) -> None:
    """Execute one notebook for one stain with papermill."""
    from hsa.reporting.notebooks import run_chapter, source_of

    chosen = load(study, seed)
    chosen.require_marker(stain)
    chosen = chosen.at(chosen.seed)  # as the book, which shows the first seed
    target = run_chapter(chosen, stain, source_of(chosen, name), {"study": study, "stain": stain, "seed": chosen.seed})
    typer.echo(f"executed notebook is {near(target)}")


@app.command()
@told
def stage(
    study: StudyOption = "virtual",
    seed: SeedOption = None,
    target: Annotated[Path | None, typer.Option(help="default: build/stage")] = None,
) -> None:
    """Lay out prose, executed notebooks and result tables for Jupyter Book."""
    from hsa.reporting.book import stage_book

    target = target or files.REPOSITORY / "build" / "stage"
    stage_book(load(study, seed), target)
    typer.echo(f"staged book is {near(target)}")


@app.command()
@told
def show(study: StudyOption = "virtual") -> None:
    """Print the headline table and where the book is."""
    from hsa.reporting import tables

    chosen = load(study)
    typer.echo(tables.headline(chosen))
    page = files.REPOSITORY / "build" / "_build" / "html" / "index.html"
    if page.is_file():
        typer.echo(f"\nThe book: {page}")
