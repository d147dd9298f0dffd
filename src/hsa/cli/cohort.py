"""The cohort of a study, and the manifests of real ones: drafted, checked, made from public data."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hsa.cli.common import CORES, QuietOption, StudyOption, WorkersOption, near, told
from hsa.errors import InputError
from hsa.study.study import load

app = typer.Typer()

MarkerOption = Annotated[list[str] | None, typer.Option("--marker", help="IHC marker; may be repeated")]
RootOption = Annotated[Path | None, typer.Option(help="folder that paths are relative to; default: the manifest's")]
MppOption = Annotated[float | None, typer.Option(help="um/px, in place of what the cohort says or assumes")]


@app.callback(invoke_without_command=True)
@told
def cohort(
    context: typer.Context,
    study: StudyOption = "virtual",
    workers: WorkersOption = CORES,
    quiet: QuietOption = False,
) -> None:
    """Make the virtual cohort, or read the manifest of a real one; and commands that write and check manifests."""
    if context.invoked_subcommand:
        return
    from hsa.cohorts.cohort import check_folds
    from hsa.pipeline import steps

    chosen = load(study)
    made = steps.make_cohort(chosen, workers=workers, progress=not quiet)
    for marker in chosen.markers:
        typer.echo(f"{marker}: {made.summary(marker)}")
    check_folds(chosen, made)


@app.command()
@told
def check(
    manifest: Annotated[Path, typer.Argument(help="CSV, a row a slide")],
    study: Annotated[
        str | None, typer.Option("--study", "-s", help="its markers, folds and bags; default: the CSV's markers")
    ] = None,
    root: RootOption = None,
    checksums: Annotated[
        bool, typer.Option(help="read slides of equal size, to find one picture under two patients")
    ] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="open slides that are known and unchanged, too")] = False,
    workers: WorkersOption = CORES,
) -> None:
    """Tell every problem of a manifest and of its slides at once, row by row.

    Checksums of slides come from the study's bags where they are there. What slides said is kept in ~/.cache/hsa.
    """
    from hsa.bags.checksums import of_slides
    from hsa.cohorts import check
    from hsa.cohorts.manifest import told as listed
    from hsa.cohorts.opened import memory_of

    chosen = load(study) if study else None
    markers = chosen.markers if chosen else check.markers_of(manifest)
    bags = chosen.paths.bags if chosen else None
    memory = None if fresh else memory_of(Path(root or manifest.parent).resolve())
    report = check.check(
        manifest, markers, root, partial(of_slides, folder=bags, read=checksums), chosen, memory, workers
    )
    typer.echo("\n".join(report.notes))
    if report.problems:
        raise InputError(listed(manifest, report.problems))
    typer.echo("no problem found")


@app.command()
@told
def init(
    folder: Annotated[Path, typer.Argument(help="holds the slides, in any depth")],
    marker: MarkerOption = None,
    study: Annotated[str | None, typer.Option("--study", "-s", help="takes its markers")] = None,
    pattern: Annotated[str | None, typer.Option(help="of the names, such as '{patient}_{case}_{stain}'")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="spelling of a stain, such as 'MIB1=Ki-67'")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV: case_id, a column a marker")] = None,
    mpp: Annotated[float | None, typer.Option(help="um/px of the slides whose files do not say it")] = None,
    out: Annotated[Path | None, typer.Option(help="default: manifest.csv in the folder")] = None,
    force: Annotated[bool, typer.Option(help="replace the manifest that is there")] = False,
) -> None:
    """Draft a manifest from a folder of slides."""
    from hsa.cohorts import draft

    markers = [*(load(study).markers if study else []), *(marker or [])]
    if not markers:
        raise InputError("name the markers: `--marker HER2`, or `--study`")
    odd = [text for text in alias or [] if text.count("=") != 1]
    if odd:
        raise InputError(f"alias {odd[0]!r}: write the spelling, '=', and the stain, such as MIB1=Ki-67")
    found = draft.draft_manifest(folder, markers, pattern, dict(a.split("=") for a in alias or []), labels, mpp)
    target = out or folder / "manifest.csv"
    base = draft.write_draft(found, target, force)
    command = ["hsa", "cohort", "check", str(near(target))]
    elsewhere = base != target.resolve().parent
    typer.echo(
        f"{found.summary()}\nThe draft is {near(target)}; check it with "
        f"`{shlex.join([*command, *(['--root', str(near(base))] if elsewhere else [])])}`"
        + (f"\nIts paths are relative to {base}: set `cohort.root` in the study." if elsewhere else "")
    )


@app.command("list")
@told
def list_() -> None:
    """List the public cohorts that can be imported: what they hold, licence, size, where to ask."""
    from hsa.cohorts import public

    typer.echo(f"{public.table()}\n{public.facts()}")


@app.command("import")
@told
def import_(
    name: Annotated[str, typer.Argument(help="of a public cohort, see `hsa cohort list`")],
    source: Annotated[Path, typer.Argument(help="folder of the data as distributed")],
    out: Annotated[Path, typer.Option(help="folder for manifest.csv")],
    root: RootOption = None,
    mpp: MppOption = None,
) -> None:
    """Write the manifest of a public cohort that was downloaded."""
    from hsa.cohorts import public

    manifest = public.import_cohort(name, source, out, root, mpp)
    typer.echo(f"{public.summary(manifest)}\nThe manifest is {near(manifest)}")


@app.command()
@told
def join(
    manifests: Annotated[list[Path], typer.Argument(help="CSVs")],
    out: Annotated[Path, typer.Option(help="CSV to write")],
    root: RootOption = None,
) -> None:
    """Join manifests into one, such as that of pairs without labels and that of labels without pairs."""
    from hsa.cohorts import public

    typer.echo(f"{public.summary(public.join_manifests(manifests, out, root))}\nThe manifest is {near(out)}")


@app.command()
@told
def convert(
    source: Annotated[Path, typer.Argument(help="folder of BCNB")],
    mpp: MppOption = None,
) -> None:
    """Write tiled TIFFs beside JPEG slides that are too large to be decoded whole."""
    from hsa.cohorts import public

    for path in public.convert_large(source, mpp):
        typer.echo(near(path))
