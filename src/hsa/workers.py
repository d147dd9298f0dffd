"""Several jobs at a time, each in a process of its own, how far they are, and what a process has held."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from hsa.errors import InputError

if TYPE_CHECKING:
    from tqdm import tqdm

Result = TypeVar("Result")


def cores() -> int:
    """Count the cores that this process may use: on a cluster those of the job, not of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_mb() -> float | None:
    """Tell the most memory that this process has held since it began, MB; None where the system does not say.

    Linux hands the `ru_maxrss` of a process on to the programs that it starts, so that a small process of a large one
    looks as large; what /proc says is its own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        held = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if held:
            return round(int(held[0]) / 2**10, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10), 1)


def run(jobs: Sequence[Callable[[], Result]], workers: int) -> Iterator[Result]:
    """Give the results of jobs as they come. When this process is killed or interrupted, those that work for it end.

    Args:
        jobs: functions that another process can be given, such as `functools.partial` of one of a module.
        workers: processes; with one, or with one job, this process does the work, in order.

    Raises:
        InputError: a process was killed. Whatever a job raises, it raises here; jobs not begun are dropped.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from (job() for job in jobs)
        return
    # Forked processes inherit the threads' locks of torch and OpenMP, and hang.
    context = get_context("spawn")
    given, held = context.Pipe(duplex=False)  # who works reads the end of it when this process closes its own
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent, initargs=(given,))
    try:
        yield from (future.result() for future in as_completed([pool.submit(job) for job in jobs]))
    except BrokenProcessPool as error:
        raise InputError(
            f"one of {workers} processes was killed, most likely for want of memory; what was done is kept: run again "
            'with fewer `--workers`. (A script of your own has to call this under `if __name__ == "__main__":`.)'
        ) from error
    except (KeyboardInterrupt, GeneratorExit):  # nobody waits for what is in hand, which may take minutes
        held.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        held.close()
        given.close()


def _end_with_parent(given: Connection) -> None:
    parent = parent_process()
    if parent is not None:
        Thread(target=_watch, args=(parent.sentinel, given), daemon=True).start()


def _watch(sentinel: int, given: Connection) -> None:
    wait([sentinel, given])
    os._exit(1)


def bar(items: Iterable[Any] | None = None, *, progress: bool, **how: Any) -> "tqdm":
    """Make a progress bar, hidden unless `progress`, and where TQDM_DISABLE says so, as for a notebook of the book.

    Args:
        items: what to go through.
        progress: whether to show it.
        how: what tqdm takes.
    """
    from tqdm import tqdm

    # Given at all, even as False, `disable` would outweigh the environment.
    return tqdm(items, **how) if progress else tqdm(items, disable=True, **how)
