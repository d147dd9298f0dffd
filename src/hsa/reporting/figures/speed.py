"""Figure of measured ratios: this package beside its peers."""

import pandas as pd
from matplotlib.axes import Axes

from hsa.reporting.figures.style import DASHES, GREY, INK


def ratios(ax: Axes, rows: pd.DataFrame) -> Axes:
    """Draw a ratio with its spread for each row, from the top down, on a logarithmic axis with a line at 1.

    Args:
        ax: where to draw.
        rows: benchmark, row, against, ratio, low, high; rows of one measurement stand together.

    Returns:
        The axes.
    """
    for y, row in enumerate(rows.to_dict("records")):
        ink = INK if row["ratio"] >= 1 else GREY
        ax.plot([row["low"], row["high"]], [y, y], color=ink, linewidth=2.2, solid_capstyle="round")
        ax.plot(row["ratio"], y, "o", color=ink, markersize=6, markeredgecolor="white")
        ax.text(1.02, y, f"{row['ratio']:.2f}", transform=ax.get_yaxis_transform(), va="center", fontsize=9)
    ax.axvline(1, color=GREY, linewidth=1, linestyle=DASHES)
    # What is measured stands over the first of what it is held against.
    first = ~rows.duplicated(["benchmark", "row"])
    names = (rows["benchmark"] + ": " + rows["row"] + "\n").where(first, "")
    ax.set_yticks(range(len(rows)), (names + "against " + rows["against"]).tolist())
    ax.set(xscale="log", ylim=(len(rows) - 0.4, -0.6), xlabel="ratio")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda *_: "")
    ax.tick_params(axis="y", length=0)
    return ax
