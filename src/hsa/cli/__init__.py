"""The command `hsa`: the steps of a study, and what surrounds them, from a shell."""

from typing import Annotated

import typer

import hsa
from hsa.cli import bags, cohort, slides, study, verify

app = typer.Typer(
    name="hsa",
    help="Predict IHC status from H&E slides by contrastive alignment: every step of a study.\n\n"
    "A study is a YAML file; give its path, or its name if it lies in studies/. Steps, in order: cohort, "
    "features, train, evaluate, notebook, stage. Exit codes: 0 done, 1 failed, 2 wrong input, 130 "
    "interrupted, 143 ended.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cohort.app, name="cohort")
app.add_typer(study.app)
app.add_typer(verify.app)
app.add_typer(slides.app)
app.add_typer(bags.app, name="bags")


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
    app(prog_name="hsa")
