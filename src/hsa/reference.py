"""The reference run: results of `make study`, kept with the book because they take hours to make again."""

from pathlib import Path

import pandas as pd

from hsa import figures, tables
from hsa.errors import InputError
from hsa.files import read_json

CONTROLS = {"no-signal": "No signal in H&E", "shuffled-pairs": "Shuffled pairs"}


def fragments(folder: Path) -> dict[str, str]:
    """Write the pieces of the book that tell the reference run: file name -> Markdown.

    Args:
        folder: book/reference, with reference.json, no-signal.json, shuffled-pairs.json and sweep.csv.

    Raises:
        InputError: a file is missing.
    """
    main, controls = _read(folder, "reference"), {name: _read(folder, name) for name in CONTROLS}
    made = tables.fragments(main, "reference_")
    made["control_prediction.md"] = chance(controls["no-signal"])
    made["control_alignment.md"] = vanished(controls["shuffled-pairs"], main)
    made["sweep.md"] = settled(_sweep(folder))
    return made


def draw(folder: Path, target: Path) -> None:
    """Draw the figure of the sweep.

    Args:
        folder: with sweep.csv and reference.json.
        target: where sweep.png goes.
    """
    figures.use_style()
    table, meta = _sweep(folder), _read(folder, "reference")["provenance"]
    names = [meta["methods"][meta[key]] for key in ("baseline", "full")]
    figures.save(figures.gains(table, (names[0].lower(), names[1])), target / "sweep.png", table)


def chance(summary: tables.Summary) -> str:
    """ROC AUC of every H&E method where H&E holds no signal, and whether the interval covers 0.5."""
    markers, rows = list(summary["cases"]), []
    for name, title in summary["provenance"]["methods"].items():
        found = [summary["prediction"][marker][name]["roc_auc"] for marker in markers]
        rows.append([title, *(f"{tables.interval(f)}{_mark(f, 0.5)}" for f in found)])
    return tables.table(["ROC AUC without signal", *markers], rows)


def vanished(shuffled: tables.Summary, main: tables.Summary) -> str:
    """Alignment of every method with shuffled pairs, beside that with true ones."""
    rows, markers = [], list(shuffled["cases"])
    for name, title in shuffled["provenance"]["methods"].items():
        for run, summary in (("true pairs", main), ("shuffled pairs", shuffled)):
            found = [summary["alignment"][marker][name]["alignment"] for marker in markers]
            mark = [_mark(f, 0) if summary is shuffled else "" for f in found]
            cells = [f"{tables.interval(f, sign=True)}{m}" for f, m in zip(found, mark, strict=True)]
            rows.append([title, run, *cells])
    return tables.table(["alignment", "", *markers], rows)


def settled(sweep: pd.DataFrame) -> str:
    """Say at how many points of each axis alignment helps, harms, or leaves the question open."""
    rows = []
    for axis, points in sweep.groupby("axis", sort=False):
        helps, harms = int((points["low"] > 0).sum()), int((points["high"] < 0).sum())
        best = points.loc[points["gain"].idxmax()]
        gain = {"value": best["gain"], "low": best["low"], "high": best["high"]}
        most = f"{tables.interval(gain, sign=True)} ({best['marker']} at {best['value']:g})"
        rows.append([axis, *map(str, (len(points), helps, harms, len(points) - helps - harms)), most])
    head = ["axis", "points x stains", "alignment helps", "harms", "not settled", "largest gain of AUC"]
    return tables.table(head, rows)


def _sweep(folder: Path) -> pd.DataFrame:
    if not (folder / "sweep.csv").is_file():
        raise InputError(f"{folder / 'sweep.csv'} is missing. Run `make study`, which keeps its results there.")
    return pd.read_csv(folder / "sweep.csv")


def _mark(number: dict[str, float], null: float) -> str:
    return "" if number["low"] <= null <= number["high"] else " (does not cover it)"


def _read(folder: Path, name: str) -> tables.Summary:
    path = folder / f"{name}.json"
    if not path.is_file():
        raise InputError(f"{path} is missing. Run `make study`, which keeps its results there.")
    return read_json(path)
