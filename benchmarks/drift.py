"""How far a study's numbers move from machine to machine: book/reference/<study>/tolerances.json, for `hsa verify`.

python benchmarks/drift.py [--study smoke] [--only threads torch] [--work build/drift] [--also summary.json]

The study is run from nothing to its summary, and again in each of `WAYS`: as on an older CPU, for which the libraries
choose other kernels, with other numbers of threads, and with the network of the tile encoder computed otherwise. Kept
are the largest deviation between any two of these runs, for each family of numbers, and the summary of the first. A
way that cannot change slides or bags takes those of the first run: `shares`. Summaries that the same code made on other
machines may be given, too: `--also`. Runs come one after the other, some CPU minutes each. What they gave is written
after each; interrupted, it goes on where it stopped.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from every import machine

from hsa import files
from hsa.pipeline import again, agreement
from hsa.pipeline.stamps import stamp
from hsa.study.provenance import provenance
from hsa.study.study import Study, load

SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
NUDGED = 0.004  # of the features: as many as differ between the first run and that of the oldest CPU
NEWEST = "X86_V4 AVX512_ICL AVX512_SPR"  # what numpy calls its kernels for AVX-512; names that it lacks it passes over


@dataclass(frozen=True)
class Way:
    """One way to run the study.

    Attributes:
        environment: variables that the libraries read as they are loaded.
        onnx: settings of the encoder's ONNX Runtime session.
        workers: slides encoded at a time.
        shares: what it takes from the first run, since it cannot change it: "slides", "bags", or nothing.
        nudged: seed by which features of the bags are moved to a neighbouring number; 0: none is moved.
    """

    environment: dict[str, str] = field(default_factory=dict)
    onnx: dict[str, int] = field(default_factory=dict)
    workers: int = 1
    shares: str = ""
    nudged: int = 0


FIRST = "first"
WAYS = {
    FIRST: Way(),
    "threads": Way(dict.fromkeys(SINGLE, "2"), {"intra_op_num_threads": 2}, 2, "slides"),
    "torch": Way({"ATEN_CPU_CAPABILITY": "default"}, shares="bags"),
    "oldest": Way(
        {
            "ATEN_CPU_CAPABILITY": "default",
            "OPENBLAS_CORETYPE": "Nehalem",
            "MKL_CBWR": "COMPATIBLE",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "NPY_DISABLE_CPU_FEATURES": f"X86_V3 {NEWEST}",
            "NUMBA_CPU_NAME": "generic",
        },
        {"graph_optimization_level": 1},
    ),
    "avx2": Way(
        {
            "ATEN_CPU_CAPABILITY": "avx2",
            "OPENBLAS_CORETYPE": "Haswell",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "NPY_DISABLE_CPU_FEATURES": NEWEST,
            "NUMBA_CPU_NAME": "haswell",
        },
        {"graph_optimization_level": 2},  # without the layout of its kernels for AVX
    ),
    "onnx": Way(onnx={"graph_optimization_level": 0}, shares="slides"),
    "openblas": Way({"OPENBLAS_CORETYPE": "Haswell"}, shares="bags"),
    # What no other kernel at hand shows: two cases change ranks on one processor and not on another.
    **{f"nudged {seed}": Way(shares="bags", nudged=seed) for seed in (1, 2, 3)},
}


def nudge(bags: Path, seed: int) -> None:
    """Move a share of the features of every bag (`NUDGED`) to the next number of 16 bits, up or down."""
    rng = np.random.default_rng(seed)
    for path in sorted(bags.glob("*.h5")):
        with h5py.File(path, "r+") as file:
            values = file["features"][()]
            drawn = rng.random(values.shape)
            for chosen, end in ((drawn < NUDGED / 2, np.inf), (drawn > 1 - NUDGED / 2, -np.inf)):
                values[chosen] = np.nextafter(values[chosen], values.dtype.type(end))
            file["features"][...] = values


def run_here(study: Study, name: str, folder: Path) -> None:
    """Run the study in one way, whose environment this process has."""
    import onnxruntime

    way, session = WAYS[name], onnxruntime.InferenceSession

    def tuned(model: bytes, options: onnxruntime.SessionOptions, **more: Any) -> onnxruntime.InferenceSession:
        for key, value in way.onnx.items():
            setattr(options, key, type(getattr(options, key))(value))
        return session(model, options, **more)

    onnxruntime.InferenceSession = tuned
    again.run(study, folder, way.workers, progress=False)


def made(study: Study, name: str, work: Path) -> Study:
    """Run the study in one way in a process of its own, unless that is done, and give it where its results lie."""
    way, folder = WAYS[name], work / name
    here = study.model_copy(update={"file": folder / again.FILE, "bags": None})
    first = study.model_copy(update={"file": work / FIRST / again.FILE, "bags": None})
    if here.paths.summary.is_file() and files.read_json(here.paths.summary)["stamp"] == stamp(study, "summary"):
        return here
    for part in {"": [], "slides": ["cohort"], "bags": ["cohort", "bags"]}[way.shares]:
        if not (here.paths.data / part).is_dir():
            shutil.copytree(first.paths.data / part, here.paths.data / part)
            if part == "bags" and way.nudged:
                nudge(here.paths.data / part, way.nudged)
    varied = {key for one in WAYS.values() for key in one.environment}
    known = {key: value for key, value in os.environ.items() if key not in varied}
    command = [sys.executable, __file__, "--study", str(study.file), "--work", str(work), "--one", name]
    subprocess.run(command, env=known | SINGLE | way.environment, check=True, stdout=subprocess.DEVNULL)
    return here


def digest(folder: Path, pattern: str) -> str:
    """One checksum over the content of files."""
    total = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        total.update(path.read_bytes())
    return total.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="smoke")
    parser.add_argument("--only", nargs="*", choices=[name for name in WAYS if name != FIRST], metavar="WAY")
    parser.add_argument("--work", type=Path, default=files.REPOSITORY / "build" / "drift", help="where runs are made")
    parser.add_argument(
        "--also", nargs="*", type=Path, default=[], help="summaries of other machines; they count as runs"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    study, work = load(given.study), given.work.resolve()
    if given.one:
        run_here(study, given.one, work / given.one)
        return
    names = [FIRST, *(name for name in WAYS if name != FIRST and (given.only is None or name in given.only))]
    others: list[dict[str, Any]] = [files.read_json(path) for path in given.also]
    summaries: list[dict[str, Any]] = []
    runs: dict[str, dict[str, Any]] = {}
    largest: dict[str, float] = {}
    print(f"{'way':<10} {'equal':>7} {'moved':>7}  slides bags")
    for name in names:
        here = made(study, name, work)
        again.keep(study, work / FIRST)
        summaries.append(files.read_json(here.paths.summary))
        rows = agreement.compare(summaries[0], summaries[-1], {})
        moved = Counter(row.verdict != "match" for row in rows)
        way = WAYS[name]
        runs[name] = {
            **{key: getattr(way, key) for key in ("environment", "onnx", "workers", "shares", "nudged")},
            **{"equal": moved[False], "moved": moved[True]},
            "slides": digest(here.paths.cohort / "slides", "*.tif"),
            "bags": digest(here.paths.bags, "*.h5"),
        }
        same = ["same" if runs[name][key] == runs[FIRST][key] else "other" for key in ("slides", "bags")]
        print(f"{name:<10} {moved[False]:>7} {moved[True]:>7}  {same[0]:<6} {same[1]}", flush=True)
        largest = agreement.deviations([*summaries, *others])
        date = datetime.now(UTC).isoformat(timespec="seconds")
        by = provenance(study, date=date, cpu=machine()["cpu"], cores=machine()["cores"])
        told = {"study": study.name, "largest": largest, "runs": runs, "provenance": by}
        told["others"] = [one["provenance"]["commit"] for one in others]
        files.write_json(study.paths.kept / "tolerances.json", told)
    print(f"{sum(apart > 0 for apart in largest.values())} of {len(largest)} families of numbers moved")
    print(f"kept in {study.paths.kept}")


if __name__ == "__main__":
    main()
