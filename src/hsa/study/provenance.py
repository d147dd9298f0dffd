"""What made a result, and how its making ran.

`provenance` is the same for equal runs, so it may stand inside a result that is compared byte for byte. `run_record`
holds what differs from run to run, such as date, minutes and memory, and stands beside the result.
"""

import hashlib
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hsa.files import PACKAGE, REPOSITORY
from hsa.study.study import Study
from hsa.workers import cores, peak_mb

# Libraries whose arithmetic ends up in a number.
_NUMERIC = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "scikit-image", "onnxruntime", "umap-learn", "numba")
VERSIONS = ("hsa", "python", *_NUMERIC)


def provenance(study: Study, **more: Any) -> dict[str, Any]:
    """Say what made a result: study, seeds, code and versions. No date and no path: equal runs say the same.

    Args:
        study: the study.
        more: what else to say.

    Returns:
        "study", "seeds", "hsa", "python", a version each of the numeric libraries, "commit" and "clean" (None outside
        of a git checkout), "constraints" (SHA-256 of constraints.txt, None if there is none).
    """
    return {
        "study": study.name,
        "seeds": list(study.seeds),
        "hsa": version("hsa"),
        "python": platform.python_version(),
        **{name: _version(name) for name in _NUMERIC},
        **commit(),
        "constraints": _constraints(),
        **more,
    }


class Clock:
    """When a step began, in wall-clock and in CPU time of this process and of those it waited for."""

    def __init__(self) -> None:
        self.began, self._wall, self._cpu = datetime.now(UTC), time.monotonic(), _cpu_seconds()

    @property
    def minutes(self) -> float:
        """Minutes since then."""
        return (time.monotonic() - self._wall) / 60

    @property
    def cpu_minutes(self) -> float:
        """CPU minutes since then."""
        return (_cpu_seconds() - self._cpu) / 60


def run_record(study: Study, clock: Clock, **more: Any) -> dict[str, Any]:
    """Say how a step ran: what `provenance` says, and date (UTC), minutes, memory, device, cores and threads.

    Peak memory is that of this process since it began, MB, and that of the largest process it waited for, which on
    Linux counts at least what this process held when it started that one: None where the system does not tell.

    Args:
        study: the study.
        clock: made when the step began.
        more: what else to say, such as the step and its fingerprint.
    """
    return provenance(
        study,
        date=clock.began.isoformat(timespec="seconds"),
        minutes=round(clock.minutes, 3),
        cpu_minutes=round(clock.cpu_minutes, 3),
        peak_memory_mb={"process": peak_mb(), "largest_child": _largest_child_mb()},
        device=device(),
        cores=cores(),
        threads={name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")},
        **more,
    )


@cache
def commit() -> dict[str, Any]:
    """Tell the commit of the code that runs, and whether the checkout was clean; None for both where git cannot say.

    Only the checkout that this package was installed from counts, not one that it happens to be installed in.
    """
    unknown = {"commit": None, "clean": None}
    if REPOSITORY / "src" / "hsa" != PACKAGE or not (REPOSITORY / ".git").exists():
        return unknown
    try:
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", ":!book/reference")  # where results are kept as they end
    except (OSError, subprocess.SubprocessError):
        return unknown
    return {"commit": head, "clean": not changed}


def device() -> str:
    """Name what torch would compute on here: the GPU, or the kind of CPU; without loading torch for it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return platform.machine() or "cpu"


def _git(*words: str) -> str:
    found = subprocess.run(
        ["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True, check=True, timeout=30, shell=False
    )
    return found.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _constraints() -> str | None:
    path = REPOSITORY / "constraints.txt"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _largest_child_mb() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(held / (2**20 if sys.platform == "darwin" else 2**10), 1) if held else None
