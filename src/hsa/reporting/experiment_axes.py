"""What surrounds the answer of an experiment: its other points, its controls, its calibration, and how it was made."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hsa.pipeline.experiment.kept import Kept
from hsa.pipeline.experiment.points import middles
from hsa.reporting import figures
from hsa.reporting.design import plain
from hsa.reporting.experiment import MIDDLE, PRIMARY, Findings, fold, one_of, title
from hsa.reporting.tables import interval, table
from hsa.study.study import Study

_LATER = "*Not run yet: `make study` goes on with it.*\n"
_LUCK = ("deal of the folds", "cohort")  # axes whose points differ by chance alone
_UNORDERED = (*_LUCK, "permuted labels")
_AXES = """## {title}

```{{figure}} _generated/{name}_axes.png
:name: fig-{name}-axes
:alt: A panel for each axis and marker; in each a line for every method with its intervals, and a dashed line at chance.

{title}: AUC within folds along each axis, with 95 % intervals over cases and training seeds. Values stand evenly
spaced. Dashed: chance.
```
"""
_CALIBRATION = """## How the signal in foci was set

```{{figure}} _generated/{name}_calibration.png
:name: fig-{name}-calibration
:alt: Two panels: AUC of a classifier of tiles by shift, and of whole bags by the share in foci. The chosen are ringed.

{title}: how strong and how large a focus is, chosen by the rule of {{doc}}`protocol` on cases of another seed. Left: a
linear classifier of tiles, foci of the marker against other tumour tiles. Right: whole bags at the chosen shift.
Rings mark what was chosen.
```
"""


def fragments(study: Study, found: Findings | None) -> dict[str, str]:
    """Write the pieces of the book that tell what surrounds the answer: file name -> Markdown."""
    made = {"made": made_of(study), "calibration": calibration(study), "along": along(study, found) if found else ""}
    for piece, label in _FOLDED.items():
        text = piece(study, found) if found else ""
        made[piece.__name__] = fold(study, label, text) if text else _LATER if found else ""
    return {f"{study.name}_{name}.md": text for name, text in made.items()}


def draw(study: Study, found: Findings | None, target: Path) -> None:
    """Draw <study>_axes.png and <study>_calibration.png into a folder, where there is something to draw."""
    figures.use_style()
    rows = _along(study, found) if found else pd.DataFrame()
    if not rows.empty:
        titles = {name: way.title for name, way in study.methods.items()}
        figures.save(figures.along_axes(rows, titles), target / f"{study.name}_axes.png", rows)
    chosen = _calibrated(study)
    if chosen is not None:
        figures.save(figures.calibrated(*chosen), target / f"{study.name}_calibration.png", pd.concat(chosen))


def controls(study: Study, found: Findings) -> str:
    """Lay out retrieval and AUC with and without signal side by side, of the same methods and seeds."""
    without = [row for row in found.values() if row["axis"] == "signal strength" and row["value"] == 0]
    rows = []
    for row in found[MIDDLE][PRIMARY]["levels"] if without else []:
        other = one_of(without[0][PRIMARY]["levels"], marker=row["marker"], method=row["method"])
        if other:
            cells = [f"{one['recall_1']:.3f}" for one in (row, other)] + [f"{row['chance_1']:.3f}"]
            cells += [interval({**one, "value": one["auc"]}) for one in (row, other)]
            rows.append([row["marker"], title(study, row["method"]), *cells])
    head = ["marker", "method", "recall@1", "without signal", "chance", "AUC", "AUC without signal"]
    return table(head, rows) if rows else ""


def permuted(study: Study, found: Findings) -> str:
    """Lay out what trained methods reach where the labels are dealt anew: AUC, and its scatter from deal to deal."""
    rows = [
        [
            row["marker"],
            title(study, row["method"]),
            interval({**row, "value": row["auc"]}),
            f"{row['seed_sd']:.3f}",
            str(row["seeds"]),
        ]
        for point in found.values()
        if point["axis"] == "permuted labels"
        for row in point[PRIMARY]["levels"]
    ]
    return table(["marker", "method", "AUC", "SD over deals", "deals"], rows) if rows else ""


def deals(study: Study, found: Findings) -> str:
    """Lay out how a contrast scatters over deals of the folds and over cohorts: lowest, highest and SD of each."""
    rows = []
    for axis, value in middles(study).items():
        points = [point for point in found.values() if point["axis"] == axis]
        if axis not in _LUCK or not points:
            continue
        for name, pair in study.contrasts.items():
            for row in (row for row in points[0][PRIMARY]["contrasts"] if row["contrast"] == name):
                told = [one_of(p[PRIMARY]["contrasts"], contrast=name, marker=row["marker"]) for p in points]
                values = np.array([one["value"] for one in told if one])
                cells = [f"{f(values):+.3f}".replace("-", "\N{MINUS SIGN}") for f in (np.min, np.max)]
                scatter = f"{np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
                what = f"{title(study, pair.of)} minus {title(study, pair.minus)}"
                rows.append([f"{axis} (middle: {value:g})", row["marker"], what, *cells, scatter, str(len(values))])
    return table(["what is dealt", "marker", "contrast", "lowest", "highest", "SD", "deals"], rows) if rows else ""


def subgroups(study: Study, found: Findings) -> str:
    """Lay out what alignment brings in subgroups of the middle that the simulation knows."""
    rows = [
        [
            row["subgroup"],
            row["marker"],
            str(row["n"]),
            "too few" if row["value"] is None else interval(row, sign=True),
        ]
        for row in found[MIDDLE].get("subgroups", [])
    ]
    return table(["cases", "marker", "number", "difference of AUC"], rows, words=True) if rows else ""


def axes(study: Study, found: Findings) -> str:
    """Lay out the AUC of every method at every point of every axis, and how much of the point is there."""
    rows = []
    for name, point in found.items():
        if name != MIDDLE:
            for row in point[PRIMARY]["levels"]:
                done = f"{point['units']['kept']} of {point['units']['wanted']}"
                cells = [interval({**row, "value": row["auc"]}), f"{row['recall_1']:.3f}", f"{row['cosine_he']:.3f}"]
                what = f"{point['axis']}: {point['value']:g}"
                rows.append([what, row["marker"], title(study, row["method"]), *cells, str(row["seeds"]), done])
    head = ["point", "marker", "method", "AUC", "recall@1", "two H&E", "seeds", "runs kept"]
    return table(head, rows) if rows else ""


def along(study: Study, found: Findings) -> str:
    """Show the axes as a figure, which `draw` draws."""
    return "" if _along(study, found).empty else _AXES.format(name=study.name, title=plain(study.title))


def calibration(study: Study) -> str:
    """Show the calibration as a figure, which `draw` draws, and say what was chosen."""
    found = _calibrated(study)
    if found is None:
        return ""
    shift, share = (table[table["chosen"]].iloc[0] for table in found)
    return _CALIBRATION.format(name=study.name, title=plain(study.title)) + (
        f"\nAt a shift of {shift['shift']:g} SD a classifier of tiles reaches an AUC of {shift['tile_auc']:.3f}; with "
        f"{share['share']:.0%} of the tiles in foci the mean of the tiles reaches {share['mean_auc']:.3f} and gated "
        f"attention {share['attention_auc']:.3f}.\n"
    )


def made_of(study: Study) -> str:
    """Say how the kept runs were made: how many, of which code, when, how long, on what."""
    records = [record["made"] for record in Kept(study.paths.kept).units.values()]
    if not records:
        return ""
    commits = list(dict.fromkeys(str(one["commit"])[:7] for one in records))
    clean = "from a clean tree" if all(one["clean"] for one in records) else "**not all from a clean tree**"
    dates = sorted(str(one["date"])[:10] for one in records)
    hours = sum(one["cpu_minutes"] for one in records) / 60
    versions = sorted({f"torch {one['torch']}, NumPy {one['numpy']}, on {one['device']}" for one in records})
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return (
        f"*{plain(study.title)}* (`studies/{study.file.name}`): {len(records)} runs are kept, {when}, of commit "
        f"{', '.join(f'`{one}`' for one in commits)}, {clean}; {hours:.1f} hours of one core (without tuning and "
        f"bags), at most {max(one['peak_mb'] for one in records):,.0f} MB a process; {'; '.join(versions)}.\n"
    )


def _calibrated(study: Study) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    paths = [study.paths.kept / f"calibration_{name}.csv" for name in ("shift", "share")]
    if not all(path.is_file() for path in paths):
        return None
    shifts, shares = map(pd.read_csv, paths)
    return shifts, shares


def _along(study: Study, found: Findings) -> pd.DataFrame:
    """Levels of every point whose axis also holds the middle, and of the middle there."""
    rows: list[Mapping[str, Any]] = []
    for axis, value in middles(study).items():
        points = [point for point in found.values() if point["axis"] == axis and axis not in _UNORDERED]
        there = {(row["marker"], row["method"]) for point in points for row in point[PRIMARY]["levels"]}
        for point in [found[MIDDLE] | {"value": value}, *points] if points else []:
            for row in point[PRIMARY]["levels"]:
                if (row["marker"], row["method"]) in there:
                    rows.append({"axis": axis, "value": float(point["value"]), **row})
    return pd.DataFrame(rows)


_FOLDED: dict[Callable[[Study, Findings], str], str] = {
    controls: "with and without signal",
    permuted: "labels that mean nothing",
    deals: "other deals of the folds, other cohorts",
    subgroups: "subgroups",
    axes: "every point and method",
}
