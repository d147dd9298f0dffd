"""Figures of an experiment: its contrasts, what methods reach along its axes, and how its signal was calibrated."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hsa.reporting.figures.style import DASHES, GREY, INK, colour, panels

VERDICTS = {"higher": "#117733", "lower": "#882255", "open": GREY}
_SHAPES = {"higher": "^", "lower": "v", "open": "o"}


def contrasts(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw every contrast of an experiment with its interval, a panel a marker, coloured by its verdict.

    Args:
        table: contrast, marker, value, low, high, verdict; from the top down.
        titles: contrast -> what to call it.

    Returns:
        The figure. Shapes tell the verdict, too.
    """
    markers = list(dict.fromkeys(table["marker"]))
    names = list(dict.fromkeys(table["contrast"]))
    fig, axes = panels(
        len(markers), 1, height=(0.36 * len(names) + 0.55) * len(markers) + 0.35, sharex=True, squeeze=False
    )
    for ax, marker in zip(axes.flat, markers, strict=True):
        rows = table[table["marker"] == marker].set_index("contrast")
        ax.axvline(0, color=GREY, linewidth=1, linestyle=DASHES)
        for y, name in enumerate(names):
            row = rows.loc[name]
            ink = VERDICTS[row["verdict"]]
            ax.plot([row["low"], row["high"]], [y, y], color=ink, linewidth=2.2, solid_capstyle="round")
            ax.plot(row["value"], y, _SHAPES[row["verdict"]], color=ink, markersize=7, markeredgecolor="white")
            number = f"{row['value']:+.3f}  {row['verdict']}".replace("-", "\N{MINUS SIGN}")
            ax.text(1.02, y, number, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
        ax.set_yticks(range(len(names)), [titles[name] for name in names])
        ax.set(ylim=(len(names) - 0.4, -0.6), title=marker)
        ax.tick_params(axis="y", length=0)
    axes.flat[-1].set(xlabel="difference of the AUC within folds (95 % CI over cases and seeds)")
    return fig


def along_axes(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Draw the AUC of every method along every axis, a panel an axis and marker.

    Args:
        table: axis, value, marker, method, auc, low, high; the middle stands on every axis that it lies on.
        titles: method -> name to show.

    Returns:
        The figure. Values are evenly spaced in their order; the dashed line is chance.
    """
    places = list(dict.fromkeys(zip(table["axis"], table["marker"], strict=True)))
    columns = 2 if len(places) > 1 else 1
    rows = -(-len(places) // columns)
    fig, axes = panels(rows, columns, height=2.7 * rows + 0.7, sharey=True, squeeze=False)
    methods = list(dict.fromkeys(table["method"]))
    for ax, (axis, marker) in zip(axes.flat, places, strict=False):
        here = table[(table["axis"] == axis) & (table["marker"] == marker)]
        values = sorted(here["value"].unique())
        ax.axhline(0.5, color=GREY, linewidth=1, linestyle=DASHES)
        for i, method in enumerate(methods):
            one = here[here["method"] == method].set_index("value")
            one = one.loc[[value for value in values if value in one.index]]
            x = np.array([values.index(value) for value in one.index]) + 0.07 * (i - (len(methods) - 1) / 2)
            spread = np.abs(one[["low", "high"]].to_numpy().T - one["auc"].to_numpy())
            ink = colour(method, dict.fromkeys(methods))
            how = {"fmt": "o-", "markersize": 4.5, "linewidth": 1.4, "elinewidth": 1}
            ax.errorbar(x, one["auc"], spread, color=ink, label=titles[method], **how)
        ax.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        ax.set(xlabel=axis, title=marker)
    for ax in axes.flat[len(places) :]:
        ax.set_visible(False)
    fig.supylabel("AUC within folds", fontsize=9.5, color=INK)
    entries: dict[str, Any] = {}
    for ax in axes.flat:
        entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    fig.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=2)
    return fig


def calibrated(shifts: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """Draw how the strength and the size of a focus were chosen.

    Args:
        shifts: shift, tile_auc, plain_auc, other_auc, chosen.
        shares: share, mean_auc, attention_auc, chosen.
    """
    fig, (left, right) = panels(1, 2, height=3.2, sharey=True)
    drawn = {
        left: (shifts, "shift", {"plain_auc": "against plain", "other_auc": "against other foci", "tile_auc": "both"}),
        right: (shares, "share", {"mean_auc": "mean of the tiles", "attention_auc": "gated attention"}),
    }
    inks = {"tile_auc": INK, "plain_auc": "#6699CC", "other_auc": "#AA4466"}
    inks |= {"mean_auc": colour("mean_pool"), "attention_auc": colour("abmil")}
    for ax, (table, column, lines) in drawn.items():
        at = np.arange(len(table))
        for name, label in lines.items():
            ax.plot(at, table[name], "o-", color=inks[name], linewidth=1.4, markersize=4.5, label=label)
            ax.plot(at[table["chosen"]], table[name][table["chosen"]], "o", mfc="none", mec=INK, markersize=11)
        ax.axhline(0.5, color=GREY, linewidth=1, linestyle=DASHES)
        ax.set_xticks(at, [f"{value:g}" for value in table[column]])
        ax.legend(loc="best")
    left.set(xlabel="shift of a focus, SD", ylabel="AUC", title="Tiles")
    right.set(xlabel="share of tiles in foci", title="Bags")
    return fig
