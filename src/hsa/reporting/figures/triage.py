"""Figures of pre-screening: worklist, stains saved, decision curve, calibration, prevalence."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from hsa.reporting.figures.style import CLASS_NAMES, CLASSES, DASHES, GREY, INK, colour

# Stained or not, right or wrong: the hue is the true class, the strong shade is the error or the effort.
FATES = {
    "found": ("found", CLASSES[1], "white"),
    "needless": ("stained needlessly", "#D5DDE5", INK),
    "spared": ("spared", CLASSES[0], INK),
    "missed": ("missed", INK, "white"),
}
_SHAPES = ("o", "s", "D", "^", "v")


def worklist(ax: Axes, curves: Mapping[str, pd.DataFrame], titles: Mapping[str, str] | None = None) -> Axes:
    """Draw how soon positives are found by going down a worklist, beside random and perfect order.

    Args:
        ax: where to draw.
        curves: method -> frame of `hsa.screening.triage.worklist_curve`; the last is drawn on top, with its band.
        titles: method -> name to show.

    Returns:
        The axes.
    """
    last = list(curves)[-1]
    first = next(iter(curves.values()))
    ax.plot(first["done"], first["perfect"], color=INK, linewidth=1, linestyle=(0, (1, 1.5)), label="perfect order")
    for method, curve in curves.items():
        ink = colour(method, curves)
        if method == last:
            ax.fill_between(curve["done"], curve["low"], curve["high"], color=ink, alpha=0.16, linewidth=0)
        ax.plot(curve["done"], curve["found"], color=ink, linewidth=1.8, label=(titles or {}).get(method, method))
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHES, label="random order")
    ax.set(xlabel="stains done", ylabel="positives found", xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    _percent(ax)
    ax.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), labelspacing=0.7, handlelength=1.6)
    return ax


def saved_missed(
    ax: Axes,
    curves: Mapping[str, pd.DataFrame],
    tables: Mapping[str, pd.DataFrame],
    titles: Mapping[str, str] | None = None,
) -> Axes:
    """Draw stains saved against positives missed: all thresholds as lines, those set on validation as points.

    Args:
        ax: where to draw.
        curves: method -> frame of `hsa.screening.triage.worklist_curve`.
        tables: method -> frame of `hsa.screening.triage.triage`; intervals are drawn for the last.
        titles: method -> name to show.

    Returns:
        The axes.
    """
    last = list(tables)[-1]
    targets = sorted(tables[last]["target"].unique())
    for method, curve in curves.items():
        ink = colour(method, curves)
        ax.plot(
            1 - curve["done"], 1 - curve["found"], color=ink, linewidth=1.6, label=(titles or {}).get(method, method)
        )
        wide = tables[method].pivot(index="target", columns="measure", values=["value", "low", "high"])
        for shape, target in zip(_SHAPES, targets, strict=False):
            value, low, high = (wide.loc[target, key] for key in ("value", "low", "high"))
            x, y = value["saved"], 1 - value["sensitivity"]
            if method == last:
                ax.plot([low["saved"], high["saved"]], [y, y], color=ink, linewidth=1, zorder=2)
                ax.plot([x, x], [1 - high["sensitivity"], 1 - low["sensitivity"]], color=ink, linewidth=1, zorder=2)
            ax.plot(x, y, shape, color=ink, markersize=7.5, markeredgecolor="white", zorder=3, clip_on=False)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHES, label="random order")
    for shape, target in zip(_SHAPES, targets, strict=False):
        ax.plot([], [], shape, color=GREY, markersize=7, label=f"set to find {target:.0%}")
    top = max(0.4, *(1 - table.query("measure == 'sensitivity'")["low"].min() + 0.02 for table in tables.values()))
    ax.set(xlabel="stains saved", ylabel="positives missed", xlim=(0, 1), ylim=(0, min(1, top)))
    _percent(ax)
    ax.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), labelspacing=0.7, handlelength=1.6)
    return ax


def decision(ax: Axes, curves: Mapping[str, pd.DataFrame], titles: Mapping[str, str] | None = None) -> Axes:
    """Draw net benefit over threshold probability, beside staining everybody and nobody.

    Args:
        ax: where to draw.
        curves: method -> frame of `hsa.screening.decision.decision_curve`; the last is drawn on top, with its band.
        titles: method -> name to show.

    Returns:
        The axes.
    """
    last = list(curves)[-1]
    first = curves[last]
    ax.axhline(0, color=INK, linewidth=1, label="stain nobody")
    ax.plot(first["chance"], first["all"], color=GREY, linewidth=1.2, linestyle=DASHES, label="stain everybody")
    for method, curve in curves.items():
        ink = colour(method, curves)
        if method == last:
            ax.fill_between(curve["chance"], curve["low"], curve["high"], color=ink, alpha=0.16, linewidth=0)
        ax.plot(curve["chance"], curve["value"], color=ink, linewidth=1.8, label=(titles or {}).get(method, method))
    highest = max(curve[["value", "high"]].max().max() for curve in curves.values())
    ax.set(xlim=(0, first["chance"].max()), ylim=(-0.25 * highest, 1.05 * highest))
    ax.set(xlabel="probability from which one would stain", ylabel="net benefit\n(found positives a case)")
    ax.xaxis.set_major_formatter(PercentFormatter(1, 0))
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.03, 0.5), labelspacing=0.7)
    return ax


def calibration(
    ax: Axes, before: pd.DataFrame, after: pd.DataFrame, method: str, positive: str = CLASS_NAMES[1]
) -> Axes:
    """Draw observed against predicted frequency, before and after recalibration.

    Args:
        ax: where to draw.
        before: frame of `hsa.evaluation.calibration.reliability_bins` for the probe's scores.
        after: the same for recalibrated ones.
        method: sets the colour.
        positive: name of the positive class.

    Returns:
        The axes.
    """
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHES, label="perfect calibration")
    looks = (("as the probe gives it", before, GREY, "white"), ("recalibrated", after, colour(method), colour(method)))
    for name, table, ink, fill in looks:
        spread = np.abs(table[["low", "high"]].to_numpy().T - table["observed"].to_numpy())
        gap = np.average((table["predicted"] - table["observed"]).abs(), weights=table["n"])
        ax.errorbar(
            table["predicted"],
            table["observed"],
            spread,
            fmt="o-",
            color=ink,
            markersize=6,
            markerfacecolor=fill,
            markeredgecolor=ink if fill == "white" else "white",
            linewidth=1.6,
            elinewidth=1,
            label=f"{name}\n(mean gap {gap:.3f})",
            clip_on=False,
        )
    ax.set(xlabel=f"predicted probability of {positive}", ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1))
    ax.set_aspect("equal")
    ax.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), labelspacing=0.8)
    return ax


def prevalence(
    axes: Sequence[Axes], table: pd.DataFrame, cases: int = 1000, positive: str = CLASS_NAMES[1]
) -> Sequence[Axes]:
    """Draw what becomes of 1000 cases at each prevalence, one panel a prevalence, one bar a target.

    Args:
        axes: one for each prevalence; the figure gets a legend above them.
        table: frame of `hsa.screening.triage.at_prevalence`.
        cases: how many cases a bar stands for.
        positive: name of the positive class.

    Returns:
        The axes.
    """
    targets = sorted(table["target"].unique())
    for ax, (share, rows) in zip(axes, table.groupby("prevalence"), strict=True):
        rows, left = rows.set_index("target").loc[targets], np.zeros(len(targets))
        for name, (_, fill, ink) in FATES.items():
            width = rows[name].to_numpy() * cases
            ax.barh(range(len(targets)), width, left=left, color=fill, height=0.72, edgecolor="white", linewidth=0.8)
            for y, (start, size) in enumerate(zip(left, width, strict=True)):
                if size >= 0.115 * cases and name != "missed":
                    ax.text(start + size / 2, y, f"{size:.0f}", ha="center", va="center", color=ink, fontsize=9)
            left = left + width
        for y, (missed, npv) in enumerate(zip(rows["missed"] * cases, rows["npv"], strict=True)):
            text = f"{missed:.0f} missed\n" + ("none spared" if np.isnan(npv) else f"NPV {npv:.0%}")
            ax.text(1.02 * cases, y, text, va="center", fontsize=9, color=INK, linespacing=1.05)
        ax.set_yticks(range(len(targets)), [f"{target:.0%}" for target in targets])
        ax.set(xlim=(0, cases), ylim=(len(targets) - 0.5, -0.5), xticks=[0, cases // 2, cases])
        ax.set_title(f"{share:.0%} are {positive}")
        ax.tick_params(axis="y", length=0)
        sns.despine(ax=ax, left=True)
    shapes = [Patch(facecolor=fill, linewidth=0) for _, fill, _ in FATES.values()]
    names = [name for name, _, _ in FATES.values()]
    axes[0].figure.supxlabel(f"of {cases} cases", fontsize=9.5)
    axes[0].figure.supylabel("threshold set to find", fontsize=9.5)
    axes[0].figure.legend(shapes, names, loc="outside upper center", ncols=4, handlelength=1, columnspacing=1.4)
    return axes


def _percent(ax: Axes) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, 0))
