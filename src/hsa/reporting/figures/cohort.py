"""Figures of a cohort and of training on it: labels, folds, losses."""

from collections.abc import Mapping
from textwrap import fill as wrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from hsa.reporting.figures.style import (
    CLASSES,
    FAINT,
    GREY,
    METHODS,
    SPLITS,
    class_colours,
    ink_on,
)
from hsa.study.settings import Marker


def label_balance(ax: Axes, labels: pd.DataFrame, markers: Mapping[str, Marker]) -> Axes:
    """Draw how many cases of each marker are of which class; the classes are named on the left, in their order.

    Args:
        ax: where to draw.
        labels: a column for each marker, a row for each case: number of the class, or NaN.
        markers: their classes.

    Returns:
        The axes. The lowest class of a marker is green, the highest wine, those between are shades between.
    """
    ticks = []
    for y, (name, column) in enumerate(labels.items()):
        kind, left = markers[str(name)], 0
        fills = [*class_colours(len(kind.names), kind.first_positive), FAINT]
        counts = [*((column == k).sum() for k in range(len(kind.names))), column.isna().sum()]
        for fill, count in zip(fills, counts, strict=True):
            bar = ax.barh(y, count, left=left, color=fill, height=0.62)
            shown = str(count) if count > 0.04 * len(labels) else ""
            ax.bar_label(bar, [shown], label_type="center", color=ink_on(fill), fontsize=9.5)
            left += count
        whole = (one.replace(" ", "\N{NO-BREAK SPACE}") for one in kind.names)
        ticks.append(f"{name}\n{wrap(', '.join(whole), 26, break_on_hyphens=False)}")
    ax.set_yticks(range(len(ticks)), ticks)
    ax.invert_yaxis()
    ax.set(xlabel="cases", xlim=(0, len(labels)))
    ax.tick_params(axis="y", length=0)
    looks = {"negative": CLASSES[0], "positive": CLASSES[1]}
    looks |= {"no label": FAINT} if labels.isna().any(axis=None) else {}
    handles = [Patch(color=fill, label=name) for name, fill in looks.items()]
    ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, handlelength=1, borderaxespad=0.2)
    return ax


def fold_map(ax: Axes, folds: pd.DataFrame) -> Axes:
    """Draw which case is in which split of which fold; cases ordered by the fold that tests them.

    Args:
        ax: where to draw.
        folds: case_id, fold, split.

    Returns:
        The axes.
    """
    names = list(SPLITS)
    table = folds.assign(code=folds["split"].map(names.index)).pivot(index="fold", columns="case_id", values="code")
    first = folds[folds["split"] == "test"].sort_values(["fold", "case_id"])["case_id"]
    order = [*first, *table.columns.difference(list(first))]
    cells = np.ma.masked_invalid(table[order].to_numpy(float))
    ax.pcolormesh(cells, cmap=ListedColormap(list(SPLITS.values())), vmin=0, vmax=2, rasterized=True)
    ax.hlines(range(1, len(table)), 0, len(order), color="white", linewidth=3)
    ax.set_yticks(np.arange(len(table)) + 0.5, [str(fold) for fold in table.index])
    ax.set(xlabel="case, ordered by the fold that tests it", ylabel="fold", xlim=(0, len(order)))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    sns.despine(ax=ax, left=True, bottom=True)
    handles = [Patch(color=fill, label=name) for name, fill in SPLITS.items()]
    ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, handlelength=1, borderaxespad=0.2)
    return ax


def loss_curves(ax: Axes, history: pd.DataFrame, loss: str = "total") -> Axes:
    """Draw the loss by epoch: a thin line a fold, a thick mean; a dot marks the epoch that each fold kept.

    A fold keeps the epoch of its lowest total validation loss, whichever loss is drawn.

    Args:
        ax: where to draw.
        history: fold, epoch, split ("train" or "val"), "total" and a column for each loss.
        loss: the column to draw.

    Returns:
        The axes.
    """
    for split, ink in (("train", GREY), ("val", METHODS["classification_only"])):
        rows = history[history["split"] == split].sort_values(["fold", "epoch"], ignore_index=True)
        table = rows.pivot(index="epoch", columns="fold", values=loss)
        if table.empty:
            continue
        ax.plot(table.index, table.to_numpy(), color=ink, linewidth=0.8, alpha=0.45)
        ax.plot(
            table.index, table.mean(axis=1), color=ink, linewidth=2.2, label={"val": "validation"}.get(split, split)
        )
        if split == "val":
            kept = rows.loc[rows.groupby("fold")["total"].idxmin()]
            label = "chosen epoch of a fold"
            ax.plot(kept["epoch"], kept[loss], "o", color=ink, markersize=5, markeredgecolor="white", label=label)
    ax.set(xlabel="epoch", ylabel=f"{loss} loss".replace("_", " "))
    ax.locator_params(axis="x", integer=True)
    ax.legend()
    return ax
