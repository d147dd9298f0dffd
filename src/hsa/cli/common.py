"""What the commands share: options, and how errors are told."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

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


class Ended(KeyboardInterrupt):
    """The process was asked to end, by SIGTERM."""


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that temporary files go and workers end; Python would end without a word."""

    def end(*_: Any) -> None:
        raise Ended

    if threading.current_thread() is not threading.main_thread():  # which alone may say what a signal does
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def told(command: Callable) -> Callable:
    """Print an input error without a traceback and exit with 2; with 1 where the disk fails.

    Interrupted, it exits with 130, and with 143 when it is asked to end (SIGTERM), as `kill`, a cluster or a container
    do; what works for it ends with it.
    """

    @wraps(command)
    def run(*args, **kwargs) -> None:
        try:
            with _ended_as_interrupted():
                command(*args, **kwargs)
        except InputError as error:
            typer.echo(f"hsa: {error}", err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            typer.echo(f"hsa: {error}: mend that; what is finished is kept, run the same command to go on", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            how, code = ("ended by SIGTERM", 143) if isinstance(stop, Ended) else ("interrupted", 130)
            typer.echo(f"hsa: {how}; what is finished is kept, run the same command to go on", err=True)
            raise typer.Exit(code) from None

    return run


def near(path: Path) -> Path:
    """Shorten a path to one from here, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
