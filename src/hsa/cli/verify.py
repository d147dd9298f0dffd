"""Are the numbers that are kept borne out? By the cases of an experiment, or by a run from nothing on this machine."""

import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hsa import files
from hsa.cli.common import CORES, QuietOption, StudyOption, WorkersOption, near, told
from hsa.errors import InputError
from hsa.study.provenance import VERSIONS
from hsa.study.study import Study, load

if TYPE_CHECKING:
    from hsa.pipeline.agreement import Compared

app = typer.Typer()
SHOWN = 10  # of what has drifted, those furthest from what is kept; all are in the file of `--json`


@app.command()
@told
def verify(
    study: StudyOption = "focal",
    rerun: Annotated[
        str | None, typer.Option(help="run this study, such as smoke, from nothing in a temporary folder instead")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="with --rerun: where to write every comparison")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="with --rerun: keep the new summary, compare nothing")] = False,
    workers: WorkersOption = CORES,
    quiet: QuietOption = False,
) -> None:
    """Reckon every number of an experiment again from its kept cases; or run a study again, and compare its summary.

    With --rerun each number of the summary is told as match (equal to the last bit), drift (within what other kernels
    of the CPU and other numbers of threads change) or differ. Exit code: 0 if none differs, else 1.
    """
    if rerun is not None:
        _run_again(load(rerun), json, keep, workers, not quiet)
    elif json or keep:
        raise InputError("--json and --keep are for a run: add --rerun smoke.")
    else:
        _reckon_again(load(study))


def _reckon_again(study: Study) -> None:
    from hsa.pipeline.experiment import findings

    wrong = findings.verify(study)
    for place, written, again in wrong:
        typer.echo(f"differs: {place}: written {written}, from the cases {again}")
    if wrong:
        raise InputError(f"{len(wrong)} numbers in {near(study.paths.kept)} are not what their cases say.")
    typer.echo(f"match: every number of {study.name} is what its kept cases say")


def _run_again(study: Study, json: Path | None, keep: bool, workers: int, progress: bool) -> None:
    from hsa.pipeline import again, agreement

    kept, tolerances = (None, None) if keep else again.read_kept(study)  # before minutes are spent
    with tempfile.TemporaryDirectory(prefix="hsa-verify-") as folder:
        try:
            found = again.run(study, Path(folder), workers, progress)
        except KeyboardInterrupt:
            typer.echo("hsa: interrupted; a run that verifies leaves nothing behind", err=True)
            raise typer.Exit(130) from None
        if kept is None or tolerances is None:
            typer.echo(f"kept: {near(again.keep(study, Path(folder)))}")
            return
    rows = agreement.compare(kept, found, tolerances.largest)
    counts = agreement.counts(rows)
    total = sum(counts.values(), Counter[str]())
    verdict = next(one for one in reversed(agreement.VERDICTS) if total[one])
    for line in (*_table(counts, total), *_moved(rows), *_made(study, kept, found, verdict)):
        typer.echo(line)
    if json is not None:
        parts = {part: dict(count) for part, count in counts.items()}
        told = {"study": study.name, "verdict": verdict, "counts": parts, "numbers": [asdict(row) for row in rows]}
        files.write_json(json, told | {"kept": kept["provenance"], "here": found["provenance"]})
    if total["differ"]:
        raise typer.Exit(1)


def _table(counts: Mapping[str, Counter], total: Counter) -> list[str]:
    verdicts = ("match", "drift", "differ")
    cells: list[tuple[Any, ...]] = [("", *verdicts)]
    cells += [(part, *(count[one] for one in verdicts)) for part, count in (*counts.items(), ("all", total))]
    return [f"{part:<18}" + "".join(f"{cell:>8}" for cell in row) for part, *row in cells] + [""]


def _moved(rows: "list[Compared]") -> list[str]:
    lines = []
    for row in rows:
        if row.verdict == "differ":
            why = row.why or f"{row.apart:.2g} apart, within {row.tolerance:.2g} it were drift"
            lines.append(f"differs: {row.place}: kept {_short(row.kept)}, here {_short(row.again)}: {why}")
    drifted = [
        (row.apart / row.tolerance, row) for row in rows if row.verdict == "drift" and row.apart and row.tolerance
    ]
    for share, row in sorted(drifted, key=lambda pair: -pair[0])[:SHOWN]:
        lines.append(f"drift: {row.place}: kept {_short(row.kept)}, here {_short(row.again)}, {share:.0%} of tolerance")
    more = len(drifted) - SHOWN
    return lines + ([f"drift: {more} more, nearer to what is kept"] if more > 0 else [])


def _short(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) and math.isfinite(value) else str(value)[:40]


def _made(study: Study, kept: Mapping[str, Any], found: Mapping[str, Any], verdict: str) -> list[str]:
    """Say what else is not as it was, which may be why a number is not, and what all of it comes to."""
    before, now = kept["provenance"], found["provenance"]
    other = [f"{key} {now.get(key)} (kept: {before.get(key)})" for key in VERSIONS if before.get(key) != now.get(key)]
    lines = [f"other versions: {', '.join(other)}"] if other else []
    if verdict == "differ" and kept.get("stamp") != found.get("stamp"):
        remedy = f"if that was meant, keep the new one by `hsa verify --rerun {study.name} --keep`"
        lines.append(f"other code or settings than those of the kept summary: {remedy}")
    told = {
        "match": "every number is equal to the kept one",
        "drift": "every number is within what machines change",
        "differ": "some numbers are not what is kept",
    }
    return [*lines, f"{verdict}: {told[verdict]}"]
