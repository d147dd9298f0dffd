"""What the files of many slides say of themselves; asked in parallel, and once for each state of a file."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import time_ns
from typing import Any, NamedTuple

import openslide

from hsa import files
from hsa.errors import InputError
from hsa.fingerprint import fingerprint
from hsa.slides.readers import slide_files
from hsa.slides.slide import open_file
from hsa.workers import run

log = logging.getLogger(__name__)

# Processes start in a second or two: what this many slides take.
_BATCH = 1000
# A file that was changed so short ago may change again without another time.
_SETTLED_NS = 2_000_000_000
# These have companions that their own size and time do not tell of.
_SEVERAL = (".vms", ".vmu", ".ini", ".companion")


class Facts(NamedTuple):
    """What a file says of its largest picture; see `hsa.slides.readers.Reader`.

    Attributes:
        format: name of the format.
        size: width and height, px.
        mpp: um/px along x and y.
        power: of the objective.
        doubt: what was warned of when it was opened; empty if nothing was.
    """

    format: str
    size: tuple[int, int]
    mpp: tuple[float, float] | None
    power: float | None
    doubt: str = ""


def ask(paths: Sequence[str], memory: Path | None = None, workers: int = 1) -> dict[str, Facts | str]:
    """Open slides, and read what they say.

    Only what could be opened is remembered: a slide that could not may be readable tomorrow, on another machine.

    Args:
        paths: absolute, of slides that are there.
        memory: JSON file of what was read before; made, or made anew where it is damaged or of other readers.
        workers: processes, where there are many slides to open.

    Returns:
        path -> what it says, or why it cannot be opened.
    """
    known = _recall(memory) if memory else {}
    states = {path: _state(path) for path in paths} if memory else {}
    answers: dict[str, Facts | str] = {}
    left = []
    for path in dict.fromkeys(paths):
        state, *facts = known.get(path) or [None]
        if state is not None and state == states.get(path):
            answers[path] = _facts(facts)
        else:
            left.append(path)
    begun = time_ns()
    for found in _open_all(left, workers):
        answers |= found
    fresh = {path: answers[path] for path in left if not isinstance(answers[path], str)}
    lasting = {
        path: [state, *facts]
        for path, facts in fresh.items()
        if (state := states.get(path)) and state[2] < begun - _SETTLED_NS and state == _state(path)
    }
    if memory and lasting:
        _remember(memory, lasting)
    return answers


def memory_of(root: Path) -> Path:
    """Name what remembers the slides below a folder: in the user's cache, as few may write where slides lie."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "hsa", "opened", f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json")


def _open_all(paths: Sequence[str], workers: int) -> Iterator[Mapping[str, Facts | str]]:
    batch = max(1, min(_BATCH, -(-len(paths) // max(1, workers))))
    jobs = [partial(_open, list(paths[start : start + batch])) for start in range(0, len(paths), batch)]
    return run(jobs, workers if len(paths) > _BATCH else 1)


def _open(paths: Sequence[str]) -> dict[str, Facts | str]:
    found: dict[str, Facts | str] = {}
    with _listening() as heard:
        for path in paths:
            heard.clear()
            try:
                reader = open_file(Path(path))
            except InputError as error:
                found[path] = str(error)
                continue
            found[path] = Facts(reader.format, reader.size, reader.mpp, reader.power, "; ".join(heard))
            reader.close()
    return found


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect what readers warn of, in place of printing it: it is told with its row, the next time too."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    readers, ear = logging.getLogger("hsa.slides.readers"), Ear(logging.WARNING)
    before = readers.propagate
    readers.addHandler(ear)
    readers.propagate = False
    try:
        yield heard
    finally:
        readers.removeHandler(ear)
        readers.propagate = before


def _state(path: str) -> list[int] | None:
    """Number, size and latest change of a slide's files; None where that does not tell whether it changed."""
    if path.lower().endswith(_SEVERAL):
        return None
    try:
        plain = not path.lower().endswith(".mrxs") and "#" not in path
        looked = [os.stat(path)] if plain else []
        if not plain or os.path.isdir(path):
            looked = [file.stat() for file in slide_files(Path(path))]
    except OSError:
        return None
    return [len(looked), sum(one.st_size for one in looked), max((one.st_mtime_ns for one in looked), default=0)]


def _version() -> str:
    return fingerprint([openslide.__version__, openslide.__library_version__, Facts._fields], "hsa.slides.readers")


def _recall(memory: Path) -> dict[str, list[Any]]:
    try:
        kept = json.loads(memory.read_text())
        if kept["version"] != _version():
            return {}
        return {path: row for path, row in kept["slides"].items() if _facts(row[1:])}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # not there, or damaged: it is made anew


def _facts(row: Sequence[Any]) -> Facts:
    name, (width, height), mpp, power, doubt = row
    known = mpp and (float(mpp[0]), float(mpp[1]))
    return Facts(str(name), (int(width), int(height)), known, power and float(power), str(doubt))


def _remember(memory: Path, slides: Mapping[str, Sequence[Any]]) -> None:
    """Add to what is remembered. Of two processes the last one wins; what the other had found is asked again."""
    whole = {"version": _version(), "slides": {**_recall(memory), **slides}}
    try:
        files.write_text(memory, json.dumps(whole, separators=(",", ":")))
    except OSError as error:  # a check must not fail for want of a place to keep notes
        log.debug("%s: %s", memory, error)
