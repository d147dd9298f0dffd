"""What a whole study took, added up from the records that its steps left: minutes, memory, commits, days."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from hsa.files import read_json
from hsa.study.study import Study


def ledger(study: Study) -> dict[str, dict[str, Any]]:
    """Add up the records of every step of a study, shared slides and bags included.

    Returns:
        Step -> "runs"; "minutes" and "cpu_minutes", of all runs; "peak_memory_mb", of the largest process; "commits",
        with a `+` where the checkout was not clean; "first" and "last" date. Steps in the order of their names.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(set(_records(study.paths.root)) | set(_records(study.paths.data))):
        record = read_json(path)
        found[record["step"]].append(record)
    return {step: _added(found[step]) for step in sorted(found)}


def _records(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.run.json") if not path.name.startswith(".")]


def _added(records: list[dict[str, Any]]) -> dict[str, Any]:
    dates = sorted(record["date"] for record in records)
    peaks = [peak for record in records for peak in record["peak_memory_mb"].values() if peak is not None]
    commits = {f"{record['commit']}{'' if record['clean'] else '+'}" for record in records if record["commit"]}
    return {
        "runs": len(records),
        "minutes": round(sum(record["minutes"] for record in records), 3),
        "cpu_minutes": round(sum(record["cpu_minutes"] for record in records), 3),
        "peak_memory_mb": max(peaks, default=None),
        "commits": sorted(commits),
        "first": dates[0],
        "last": dates[-1],
    }
