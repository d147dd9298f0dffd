"""Figures of the embedding space: paired against shuffled similarity, retrieval, UMAP."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from hsa.reporting.figures.style import (
    CLASS_NAMES,
    CLASSES,
    DASHES,
    FAINT,
    GREY,
    INK,
    STAIN_NAMES,
    STAINS,
    colour,
)


def paired_shuffled(ax: Axes, similar: pd.DataFrame, titles: Mapping[str, str] | None = None) -> Axes:
    """Draw the distribution of cosines to a case's own IHC beside that to other cases' IHC, for each method.

    Args:
        ax: where to draw.
        similar: `hsa.evaluation.alignment.similarities` of each method, with a column method.
        titles: method -> name to show.

    Returns:
        The axes. A dot is a mean.
    """
    long = similar.melt(["method", "case_id"], ["paired", "shuffled"], "pair", "cosine")
    order = list(similar["method"].unique())
    shades = {"paired": STAINS["IHC"], "shuffled": "#C9C9C9"}
    sns.violinplot(
        long,
        x="method",
        y="cosine",
        hue="pair",
        order=order,
        hue_order=list(shades),
        palette=shades,
        split=True,
        gap=0.12,
        inner=None,
        cut=0,
        linewidth=0,
        density_norm="width",
        width=0.75,
        saturation=1,
        ax=ax,
    )
    for x, method in enumerate(order):
        for pair, shift in (("paired", -0.09), ("shuffled", 0.09)):
            mean = similar.loc[similar["method"] == method, pair].mean()
            ax.plot(x + shift, mean, "o", color=INK, markersize=5, markeredgecolor="white")
    room = 70 // len(order)  # letters that fit side by side
    shown = [fill((titles or {}).get(name, name), room, break_long_words=False) for name in order]
    ax.set_xticks(range(len(order)), shown)
    ax.set(xlabel="", ylabel="cosine of H&E and IHC")
    handles = [Line2D([], [], marker="s", linestyle="", markersize=8, color=shade) for shade in shades.values()]
    ax.legend(
        handles,
        ["its own IHC", "another case's IHC (mean)"],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        handletextpad=0.2,
        borderaxespad=0.2,
    )
    return ax


def recall_bars(ax: Axes, table: pd.DataFrame, titles: Mapping[str, str] | None = None) -> Axes:
    """Draw recall@k as bars with 95 % intervals; a dashed line across each group is chance.

    Args:
        ax: where to draw.
        table: `hsa.evaluation.alignment.recall`; bars of one group differ by method, if there is such a column (then
            one direction must be chosen), else by direction.
        titles: method -> name to show.

    Returns:
        The axes.

    Raises:
        ValueError: methods and both directions at once.
    """
    by = "method" if "method" in table else "direction"
    if table.duplicated([by, "k"]).any():
        raise ValueError("recall_bars: choose one direction where several methods are shown")
    names, ks = list(table[by].unique()), sorted(table["k"].unique())
    width = 0.8 / len(names)
    if by == "method":
        inks = [colour(name, dict.fromkeys(names)) for name in names]
    else:
        inks = [STAINS["HE" if name.startswith("H&E") else "IHC"] for name in names]
    bars = []
    for i, name in enumerate(names):
        rows = table[table[by] == name].set_index("k").loc[ks]
        x = np.arange(len(ks)) + (i - (len(names) - 1) / 2) * width
        spread = np.abs(rows[["low", "high"]].to_numpy().T - rows["recall"].to_numpy())
        text = (titles or {}).get(name, name)
        bars.append(ax.bar(x, rows["recall"], width * 0.9, color=inks[i], label=text))
        ax.errorbar(x, rows["recall"], spread, fmt="none", color=INK, elinewidth=1)
    chance = table.groupby("k")["chance"].first().loc[ks]
    for place, level in enumerate(chance):
        ax.plot([place - 0.46, place + 0.46], [level, level], color=INK, linewidth=1.4, linestyle=DASHES)
    chance_line = Line2D([], [], color=INK, linewidth=1.4, linestyle=DASHES, label="chance")
    ax.set_xticks(range(len(ks)), [f"recall@{k}" for k in ks])
    ax.set(ylabel="share of cases", ylim=(0, 1))
    ax.tick_params(axis="x", length=0)
    ax.legend(handles=[*bars, chance_line], loc="center left", bbox_to_anchor=(1.02, 0.5))
    return ax


def umap_scatter(
    ax: Axes,
    placed: pd.DataFrame,
    hue: str = "label",
    trust: float | None = None,
    links: bool = True,
    classes: Sequence[str] = CLASS_NAMES,
) -> Axes:
    """Draw UMAP coordinates: H&E as circles, IHC as triangles; test slides solid, others faint and small.

    Args:
        ax: where to draw.
        placed: frame of `hsa.evaluation.alignment.umap_coordinates`.
        hue: "label" or "stain".
        trust: trustworthiness, written in the corner.
        links: draw a thin line between the two slides of each test case.
        classes: names of the negative and the positive class.

    Returns:
        The axes. Distances between far groups mean nothing, hence no ticks.
    """
    if hue == "label":
        unknown = {-1: "no label"} if (placed["label"] < 0).any() else {}
        inks: dict[Any, str] = CLASSES | {-1: FAINT}
        names: dict[Any, str] = dict(enumerate(classes)) | unknown
    else:
        inks, names = STAINS, STAIN_NAMES
    placed = placed.assign(stain=np.where(placed["stain"] == "HE", "HE", "IHC"))
    test = placed["split"] == "test"
    if links:
        pairs = placed[test].groupby("case_id")[["umap1", "umap2"]]
        lines = [rows.to_numpy() for _, rows in pairs if len(rows) == 2]
        ax.add_collection(LineCollection(lines, colors=GREY, linewidths=0.7, alpha=0.6, zorder=1))
    for kind, shape in (("HE", "o"), ("IHC", "^")):
        for held_out, special in ((False, {"s": 14, "alpha": 0.3, "linewidths": 0, "zorder": 0}), (True, {"s": 42})):
            rows = placed[(placed["stain"] == kind) & (test == held_out)]
            look: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.6, "zorder": 2} | special
            ax.scatter(rows["umap1"], rows["umap2"], c=rows[hue].map(inks).tolist(), marker=shape, **look)
    point_kinds = [(inks[key], "s", name) for key, name in names.items()] if hue == "label" else []
    shape_ink = {"HE": GREY, "IHC": GREY} if hue == "label" else STAINS
    point_kinds += [(shape_ink["HE"], "o", "H&E"), (shape_ink["IHC"], "^", "IHC")]
    handles = [Line2D([], [], marker=m, color=c, linestyle="", markersize=7, label=t) for c, m, t in point_kinds]
    if not test.all():
        handles.append(Line2D([], [], marker="o", color=GREY, alpha=0.35, linestyle="", markersize=4, label="not test"))
    if links:
        handles.append(Line2D([], [], color=GREY, linewidth=1, label="one test case"))
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, -0.07),
        ncols=3,
        handlelength=1.2,
        columnspacing=1.2,
    )
    if trust is not None:
        ax.text(0.01, 0.01, f"trustworthiness {trust:.2f}", transform=ax.transAxes, fontsize=9, color=GREY)
    ax.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    ax.margins(0.08)
    return ax
