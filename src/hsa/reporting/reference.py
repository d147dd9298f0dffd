"""The reference run: results of `make study`, kept with the book because they take hours to make again."""

import math
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from hsa.evaluation.ceilings import TITLES as CEILINGS
from hsa.evaluation.evaluate import ASSUMED
from hsa.evaluation.power import cases_needed
from hsa.files import REPOSITORY, read_json
from hsa.reporting import controls, design, figures, pieces, sentences, tables
from hsa.study.study import Study, load

STUDIES = ("reference", "no-signal", "shuffled-pairs")
_ABSENT = (
    "*This copy of the book holds no results of that run. `make study` makes them, and keeps them in book/reference.*\n"
)
_MIDDLE = "the middle point, on every axis"
_LEVELS = """
A gain over the baseline is worth little where the mean of the tiles, which nothing was trained for, does as well. Mean
ROC AUC of the stains, with one seed and without intervals:

"""
_SHORT = """
{{numref}}`fig-short` shows four methods; {{doc}}`reference` holds all of them, and the tests.

```{{figure}} _generated/short.png
:name: fig-short
:alt: A panel for each stain, in each a point with its interval for mean-pooled tiles, baseline, full method and oracle.

{title}: ROC AUC of prediction from H&E alone, with 95 % confidence intervals over patients. Dashed: chance. The
oracle is told the true morphology.
```
"""
_FIGURE = """{{numref}}`fig-sweep` shows what {full} gains over {base}. Above the dashed line the full method scores
higher.

```{{figure}} _generated/sweep.png
:name: fig-sweep
:alt: A panel for each thing that is changed; in each, the gain for the stains, with intervals, around a zero line.

ROC AUC of {full} minus that of {base}, with 95 % confidence intervals of a paired bootstrap over patients. One
training seed a point.
```

The middle point, one study, stands on every axis; the table counts it once. Points of an axis share cases, so they are
not independent. The intervals leave the training seed out: in {{doc}}`reference` the gain scatters from seed to seed
with an SD of {spread}. Nor are they corrected for the number of points, and the largest of many gains is too large by
luck.

"""


def fragments(folder: Path, here: tables.Summary, study: Study) -> dict[str, str]:
    """Write the pieces of the book that tell the reference run: file name -> Markdown.

    The first page leads with the results of the reference run where the book is of simulated slides, too, and the run
    is there; else with those of the study that the book was built with.

    Args:
        folder: book/reference, with <study>.json, the summary of each of `STUDIES`, and sweep.csv.
        here: summary of the study that the book is of.
        study: that study.
    """
    paths = (folder / f"{name}.json" for name in STUDIES)
    main, chance_run, shuffled = (read_json(path) if path.is_file() else None for path in paths)
    run = load(REPOSITORY / "studies" / "reference.yml")
    sweep = pd.read_csv(folder / "sweep.csv") if (folder / "sweep.csv").is_file() else None
    made = pieces.fragments(main, run, "reference_") if main else dict.fromkeys(pieces.names("reference_"), _ABSENT)
    made["control_prediction.md"] = controls.chance(chance_run) if chance_run else _ABSENT
    made["control_alignment.md"] = controls.vanished(shuffled) if shuffled else _ABSENT
    made["control_pairs.md"] = controls.pairing(shuffled, sweep) if shuffled and sweep is not None else _ABSENT
    kept = [summary for summary in (main, chance_run, shuffled) if summary]
    made["reference_made.md"] = "\n".join(f"- {sentences.made(summary)}" for summary in kept) or _ABSENT
    if main and study.cohort.kind == "virtual":
        nuisance = controls.nuisance(chance_run, sweep) if chance_run else ""
        leading = [sentences.lead(main, run, nuisance), _SHORT.format(title=design.plain(main["provenance"]["title"]))]
    else:
        leading = [sentences.lead(here, study), sentences.verdict(here)]
    made["short.md"] = "\n".join(leading)
    made["published_settings.md"] = design.published(study, run)
    made["planning.md"] = planning()
    varied = load(REPOSITORY / "studies" / "sweep.yml")
    made["middle.md"] = design.middle(varied)
    made["sweep.md"] = _ABSENT
    if main and sweep is not None:
        full, base = tables.compared(main)
        told = _FIGURE.format(full=full, base=base.lower(), spread=_spread(main))
        middle = {
            axis: value
            for axis, points in (varied.sweep or {}).items()
            for value, changed in points.items()
            if not changed
        }
        made["sweep.md"] = told + settled(sweep, middle) + levels(sweep, main)
    return made


def draw(folder: Path, target: Path) -> None:
    """Draw what the first page shows and the sweep, if their results are there.

    Args:
        folder: with reference.json and sweep.csv.
        target: where short.png and sweep.png go.
    """
    if not (folder / "reference.json").is_file():
        return
    figures.use_style()
    main = read_json(folder / "reference.json")
    fig, numbers = _overview(main)
    figures.save(fig, target / "short.png", numbers)
    if (folder / "sweep.csv").is_file():
        table, (full, base) = pd.read_csv(folder / "sweep.csv"), tables.compared(main)
        figures.save(figures.gains(table, (base.lower(), full)), target / "sweep.png", table)


def _overview(main: tables.Summary) -> tuple[Figure, pd.DataFrame]:
    """Draw the ROC AUC of the methods that matter most, a panel a stain; the figure and its numbers."""
    meta, markers, rows = main["provenance"], tables.markers_of(main), []
    fig, axes = figures.panels(len(markers), 1, height=1.35 * len(markers) + 0.5, sharex=True, squeeze=False)
    for ax, marker in zip(axes.flat, markers, strict=True):
        judged = main["prediction"][marker] | main["ceiling"][marker]
        shown = [name for name in ("mean_pool", meta["baseline"], meta["full"], "oracle") if name in judged]
        part = pd.DataFrame([{"marker": marker, "method": name, **judged[name]["roc_auc"]} for name in shown])
        figures.forest(ax, part, None, tables.titles_of(main) | CEILINGS, 0.5, "ROC AUC")
        ax.set_title(marker)
        ax.label_outer()
        rows.append(part)
    return fig, pd.concat(rows, ignore_index=True)


def planning() -> str:
    """How many cases show a difference of two AUCs, under the assumptions that the evaluation states."""
    told = (
        f"Two methods whose AUCs correlate by {ASSUMED['correlation']}, one of them with an AUC of {ASSUMED['auc']}. "
        f"So many cases does DeLong's test need to find a difference with a power of {ASSUMED['power']:.0%}:"
    )
    shares = (0.5, 0.2)
    rows = [
        [f"{gain:.2f}", *(f"{math.ceil(cases_needed(gain, share, **ASSUMED)):,}" for share in shares)]
        for gain in (0.02, 0.03, 0.05, 0.10)
    ]
    head = ["difference of AUC", *(f"cases, {share:.0%} positive" for share in shares)]
    return f"{told}\n\n{tables.table(head, rows)}"


def settled(sweep: pd.DataFrame, middle: dict[str, float]) -> str:
    """Count the points (times stains) of each axis whose interval lies above 0, below it, or holds it.

    Args:
        sweep: axis, value, marker, gain, low, high.
        middle: axis -> the value at which it stands at the study itself; that study is counted once, apart.
    """
    own = sweep["value"] == sweep["axis"].map(middle)
    parts = list(sweep[~own].groupby("axis", sort=False))
    if own.any():
        axis = sweep.loc[own, "axis"].iloc[0]
        parts.append((_MIDDLE, sweep[own & (sweep["axis"] == axis)]))
    rows = []
    for axis, points in [*parts, ("all", pd.concat([points for _, points in parts]))]:
        helps, harms = int((points["low"] > 0).sum()), int((points["high"] < 0).sum())
        best = points.iloc[int(points["gain"].argmax())]
        gain = {"value": best["gain"], "low": best["low"], "high": best["high"]}
        at = best["marker"] if axis == _MIDDLE else f"{best['marker']} at {best['value']:g}"
        most = f"{tables.interval(gain, sign=True)} ({at})"
        rows.append([str(axis), *map(str, (len(points), helps, harms, len(points) - helps - harms)), most])
    head = ["axis", "intervals", "above 0", "below 0", "hold 0", "largest gain of AUC"]
    return tables.table(head, rows)


def levels(sweep: pd.DataFrame, main: tables.Summary) -> str:
    """ROC AUC of each method at each point, averaged over the stains: is the gain more than what a mean gives?"""
    titles = tables.titles_of(main)
    names = [column.removeprefix("auc_") for column in sweep.columns if column.startswith("auc_")]
    means = sweep.groupby(["axis", "value"], sort=False)[[f"auc_{name}" for name in names]].mean()
    rows = [
        [axis, f"{value:g}", *(f"{auc:.3f}" for auc in row)]
        for (axis, value), row in zip(means.index, means.to_numpy(), strict=True)
    ]
    head = ["axis", "value", *(titles.get(name, name) for name in names)]
    return _LEVELS + tables.table(head, rows)


def _spread(main: tables.Summary) -> str:
    """SD over the training seeds of the gain of one, lowest and highest of the stains."""
    gains = [main["difference"][marker]["metrics"]["roc_auc"] for marker in main["provenance"]["markers"]]
    known = sorted(gain["seed_sd"] for gain in gains if gain.get("seed_sd") is not None)
    return f"{known[0]:.3f} to {known[-1]:.3f}" if known else "unknown size"
