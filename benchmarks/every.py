"""All benchmarks that give rows, one after the other on this machine: benchmarks/results.json, which the book shows.

python benchmarks/every.py [--repeats 5] [--only readers masks] [--to benchmarks/results.json]

A benchmark that gives rows has a function `rows(repeats)`. Each runs in a process of its own, on one thread, and
compares within itself, in alternating repeats: a machine that others use, too, gives other seconds but about the same
ratios. A row says benchmark, row, value and unit, against (what it is compared with), ratio (above 1 is faster, or
smaller, than that) and spread (lowest and highest ratio of the repeats).
"""

import argparse
import json
import os
import platform
import runpy
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hsa.errors import InputError
from hsa.files import write_json
from hsa.study.provenance import commit
from hsa.workers import cores

FOLDER = Path(__file__).resolve().parent
KEYS = {"benchmark", "row", "value", "unit", "against", "ratio", "spread"}


def names() -> list[str]:
    """Find the benchmarks that give rows."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if "\ndef rows(" in path.read_text())


def measured(name: str, repeats: int) -> list[dict[str, Any]]:
    """Run one benchmark in a process of its own, on one thread, and give its rows.

    Raises:
        InputError: it failed, or gave rows of another kind.
    """
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--repeats", str(repeats), "--one", name]
    run = subprocess.run(command, env=os.environ | single, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise InputError(f"benchmarks/{name}.py: ended with {run.returncode}; what it said stands above.")
    rows: list[dict[str, Any]] = json.loads(run.stdout.splitlines()[-1])
    wrong = [row for row in rows if set(row) != KEYS]
    if wrong:
        raise InputError(f"benchmarks/{name}.py: a row holds {sorted(wrong[0])}; expected {sorted(KEYS)}.")
    return rows


def machine() -> dict[str, Any]:
    """Say on what the rows were measured."""
    model = platform.processor() or platform.machine()
    told = Path("/proc/cpuinfo")
    if told.is_file():
        models = [line.partition(":")[2].strip() for line in told.read_text().splitlines() if "model name" in line]
        model = models[0] if models else model
    return {"cpu": model, "cores": cores(), "system": platform.system(), "python": platform.python_version()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=None, help=f"of {', '.join(names())}")
    parser.add_argument("--to", type=Path, default=FOLDER / "results.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        rows = runpy.run_path(str(FOLDER / f"{given.one}.py"))["rows"](given.repeats)
        print(json.dumps(rows))
        return
    unknown = set(given.only or ()) - set(names())
    if unknown:
        parser.error(f"no benchmark {sorted(unknown)[0]!r} gives rows; there are {', '.join(names())}")
    found = []
    for name in names() if given.only is None else given.only:
        print(f"{name} ...", flush=True)
        found += measured(name, given.repeats)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(given.to, {"machine": machine(), "date": date, **commit(), "repeats": given.repeats, "rows": found})
    for row in found:
        against = f"{row['ratio']:7.2f} x {row['against']}" if row["against"] else ""
        print(f"{row['benchmark']:<12} {row['row']:<44} {row['value']:10.4g} {row['unit']:<18} {against}")
    print(f"{len(found)} rows are in {given.to}")


if __name__ == "__main__":
    main()
