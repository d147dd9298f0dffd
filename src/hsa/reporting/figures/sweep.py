"""When the full method gains: its gain along each axis of a sweep."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hsa.reporting.figures.style import DASHES, GREY, panels

_MARKERS = ("#332288", "#117733", "#CC6677", "#999933", "#AA4499", "#88CCEE")


def gains(table: pd.DataFrame, methods: tuple[str, str] = ("baseline", "full")) -> Figure:
    """Draw the AUC that the full method gains over the baseline, a panel an axis, a line a marker.

    Args:
        table: sweep.csv: axis, value, marker, gain, low, high.
        methods: what to call the baseline and the full method.

    Returns:
        The figure. Bars are 95 % intervals; the dashed line is no difference.
    """
    axes_names = list(dict.fromkeys(table["axis"]))
    columns = 2
    fig, axes = panels(
        -(-len(axes_names) // columns), columns, height=2.6 * -(-len(axes_names) // columns), sharey=True
    )
    inks = dict(zip(dict.fromkeys(table["marker"]), _MARKERS, strict=False))
    for ax, name in zip(np.ravel(axes), axes_names, strict=False):
        rows = table[table["axis"] == name]
        values = sorted(rows["value"].unique())
        ax.axhline(0, color=GREY, linewidth=1, linestyle=DASHES)
        for i, (marker, ink) in enumerate(inks.items()):
            one = rows[rows["marker"] == marker].set_index("value").loc[values]
            x = np.arange(len(values)) + 0.14 * (i - (len(inks) - 1) / 2)
            spread = np.abs(one[["low", "high"]].to_numpy().T - one["gain"].to_numpy())
            ax.errorbar(
                x, one["gain"], spread, fmt="o-", color=ink, markersize=5, linewidth=1.4, elinewidth=1, label=marker
            )
        ax.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        ax.set(xlabel=name)
    for ax in np.ravel(axes)[len(axes_names) :]:
        ax.set_visible(False)
    fig.supylabel(f"ROC AUC, {methods[1]} minus {methods[0]}", fontsize=9.5)
    handles, labels = np.ravel(axes)[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return fig
