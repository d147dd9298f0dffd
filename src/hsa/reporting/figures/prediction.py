"""Figures of predictions: ROC, confusion, forest plot, reliability."""

from collections.abc import Mapping
from textwrap import fill as wrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from sklearn.metrics import roc_curve

from hsa.evaluation.calibration import calibration_error, reliability_bins
from hsa.evaluation.metrics import point
from hsa.reporting.figures.style import (
    CLASS_NAMES,
    DASHES,
    FAINT,
    GREY,
    INK,
    SPLITS,
    colour,
)


def roc(
    ax: Axes,
    methods: Mapping[str, pd.DataFrame],
    titles: Mapping[str, str] | None = None,
    intervals: Mapping[str, Mapping[str, float]] | None = None,
) -> Axes:
    """Draw the ROC curve of each method on pooled test predictions, its AUC in the legend beside.

    Args:
        ax: where to draw.
        methods: method -> Predictions frame; the last is drawn on top.
        titles: method -> name to show.
        intervals: method -> value, low, high of its AUC, shown if given.

    Returns:
        The axes.
    """
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHES)
    for method, frame in methods.items():
        false, true, _ = roc_curve(frame["label"], frame["score"], drop_intermediate=False)
        found = (intervals or {}).get(method, {"value": point(frame)["roc_auc"]})
        text = f"{(titles or {}).get(method, method)}\n{_number(found)}"
        ax.plot(false, true, color=colour(method, methods), linewidth=1.8, label=text, clip_on=False)
    ax.set(xlabel="1 \N{MINUS SIGN} specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ticks = np.linspace(0, 1, 6)
    ax.set(xticks=ticks, yticks=ticks)
    ax.legend(
        loc="center left",
        bbox_to_anchor=(1.03, 0.5),
        title="AUC [95 % CI]" if intervals else "AUC",
        alignment="left",
        labelspacing=0.7,
        handlelength=1.4,
    )
    return ax


def confusion(ax: Axes, counts: pd.DataFrame, first_positive: int = 1) -> Axes:
    """Draw the confusion matrix: cases, and per cent of the true class, which also sets the shade.

    Args:
        ax: where to draw.
        counts: of `hsa.evaluation.categories.confusion`: true (rows) by predicted class (columns), lowest first.
        first_positive: number of the lowest class that counts as positive; where there are more than two, lines part
            these from the others.

    Returns:
        The axes.
    """
    names, count = [wrap(name, 13) for name in counts.index], counts.to_numpy(float)
    share = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    digits = 0 if np.allclose(count, count.round()) else 1  # a mean over seeds
    shades = LinearSegmentedColormap.from_list("share", ["#F4F6F8", SPLITS["test"]])
    ax.imshow(share, cmap=shades, vmin=0, vmax=1)
    size = 11 if len(names) < 4 else 9
    for (row, column), part in np.ndenumerate(share):
        text, ink = f"{count[row, column]:.{digits}f}\n{part:.0%}", "white" if part > 0.5 else INK
        ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
    longest = max(len(line) for name in names for line in name.splitlines())
    ax.set_xticks(range(len(names)), names, rotation=90 if longest * len(names) > 28 else 0)
    ax.set_yticks(range(len(names)), names)
    if len(names) > 2:
        for line in (ax.axhline, ax.axvline):
            line(first_positive - 0.5, color=INK, linewidth=1, linestyle=DASHES)
    ax.set(xlabel="predicted", ylabel="true")
    ax.tick_params(length=0)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def forest(
    ax: Axes,
    table: pd.DataFrame,
    published: tuple[float, float, float] | None = None,
    titles: Mapping[str, str] | None = None,
    reference: float | None = None,
    label: str = "",
) -> Axes:
    """Draw a value with its interval for each method, written out on the right.

    Args:
        ax: where to draw.
        table: method, value, low, high; drawn from the top down.
        published: value, low, high of the paper, in a row of its own and as a band; None if unknown.
        titles: method -> name to show.
        reference: where to draw a dashed line: chance, or no difference.
        label: name of the metric.

    Returns:
        The axes.
    """
    names = list(table["method"])
    numbers = table[["value", "low", "high"]].to_numpy(float)
    rows = [(colour(n, dict.fromkeys(names)), "o", *three) for n, three in zip(names, numbers, strict=True)]
    shown = [(titles or {}).get(name, name) for name in names]
    if published:
        rows.append((INK, "D", *published))
        shown.append("published")
        ax.axvspan(published[1], published[2], color=FAINT, alpha=0.5, linewidth=0)
    if reference is not None:
        ax.axvline(reference, color=GREY, linewidth=1, linestyle=DASHES)
    for y, (ink, shape, value, low, high) in enumerate(rows):
        ax.plot([low, high], [y, y], color=ink, linewidth=2.2, solid_capstyle="round")
        ax.plot(value, y, shape, color=ink, markersize=7, markeredgecolor="white")
        text = _number({"value": value, "low": low, "high": high}, signed=reference == 0)
        ax.text(1.02, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), shown)
    ax.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"{label} (95 % CI)".strip())
    ax.tick_params(axis="y", length=0)
    sns.despine(ax=ax, left=True)
    return ax


def reliability(
    ax: Axes, predictions: pd.DataFrame, method: str = "full", bins: int = 10, positive: str = CLASS_NAMES[1]
) -> Axes:
    """Draw observed against predicted frequency, with 95 % intervals; the histogram below shows the scores.

    The probe weighs classes equally, so its probabilities are those of a population in which each is as common.

    Args:
        ax: where to draw.
        predictions: Predictions frame.
        method: sets the colour.
        bins: number of bins, of about equally many cases.
        positive: name of the positive class.

    Returns:
        The axes.
    """
    table, ink = reliability_bins(predictions, bins), colour(method)
    spread = np.abs(table[["low", "high"]].to_numpy().T - table["observed"].to_numpy())
    share, edges = np.histogram(predictions["score"], bins=np.linspace(0, 1, 21))
    ax.stairs(0.15 * share / share.max(), edges, fill=True, color=FAINT, label="scores (histogram)")
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=DASHES, label="perfect calibration")
    ax.set(xlabel=f"predicted probability of {positive}", ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1))
    ax.set_aspect("equal")
    error = calibration_error(predictions, bins)
    ax.errorbar(
        table["predicted"],
        table["observed"],
        spread,
        fmt="o-",
        color=ink,
        markersize=6,
        linewidth=1.6,
        elinewidth=1,
        markeredgecolor="white",
        label=f"observed (error {error:.3f})",
        clip_on=False,
    )
    ax.legend(loc="center left", bbox_to_anchor=(1.03, 0.5))
    return ax


def _number(found: Mapping[str, float], signed: bool = False) -> str:
    form = "{:+.3f}" if signed else "{:.3f}"
    text = form.format(found["value"])
    if "low" in found:
        text += f" [{form.format(found['low'])}, {form.format(found['high'])}]"
    return text.replace("-", "\N{MINUS SIGN}")
