"""What the commands share: options, and how errors are told."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

from hsa.errors import InputError
from hsa.workers import cores

CORES = cores()
StudyOption = Annotated[str, typer.Option("--study", "-s", help="study file, or its name in studies/")]
StainOption = Annotated[str | None, typer.Option("--stain", help="marker; default: all of the study")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="training seed; default: the study's")]
WorkersOption = Annotated[int, typer.Option("--workers", "-w", min=1, help="jobs at a time; default: one a core")]
ModelOption = Annotated[Path, typer.Option("--model", "-m", help="folder of a trained method")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="no progress bars")]


def told(command: Callable) -> Callable:
    """Print an input error without a traceback and exit with 2; with 1 where the disk fails, 130 when interrupted."""

    @wraps(command)
    def run(*args, **kwargs) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            typer.echo(f"hsa: {error}", err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            typer.echo(f"hsa: {error}: mend that; what is finished is kept, run the same command to go on", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("hsa: interrupted; what is finished is kept, run the same command to go on", err=True)
            raise typer.Exit(130) from None

    return run


def near(path: Path) -> Path:
    """Shorten a path to one from here, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
