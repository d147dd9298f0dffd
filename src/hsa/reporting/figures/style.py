"""The look of every figure, what each colour means, and how a figure is saved.

Call `use_style` once, take axes from `panels`, draw with a function of `hsa.reporting.figures`, then `save`. Text is
9 pt or more on a figure 7 inches wide, so that it can be read on a phone. Palettes: Okabe & Ito for methods,
Tol's muted scheme for classes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from hsa.files import replacing, write_frame

DASHES = (0, (4, 3))
INK, GREY, FAINT = "#222222", "#777777", "#DDDDDD"
CLASSES = {0: "#44AA99", 1: "#882255"}
CLASS_NAMES = ("negative", "positive")
STAINS = {"HE": "#D6619E", "IHC": "#7F4A12"}
STAIN_NAMES = {"HE": "H&E", "IHC": "IHC"}
SPLITS = {"train": "#D5DDE5", "val": "#8DA2B8", "test": "#1F3B57"}
METHODS = {
    "majority": "#999999",
    "mean_colour": "#C7B300",
    "mean_pool": "#56B4E9",
    "untrained": "#E69F00",
    "abmil": "#009E73",
    "classification_only": "#0072B2",
    "contrastive_only": "#CC79A7",
    "full": "#D55E00",
}
_SPARE = ("#332288", "#999933", "#661100", "#6699CC", "#AA4466", "#117733", "#DDAA33")


def use_style() -> None:
    """Set matplotlib and seaborn to the look of this study, for the session."""
    sns.set_theme(
        style="ticks",
        font="DejaVu Sans",
        rc={
            "font.size": 9.5,
            "axes.labelsize": 9.5,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.title_fontsize": 9,
            "legend.frameon": False,
            "axes.edgecolor": INK,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.major.width": 0.8,
            "ytick.major.width": 0.8,
            "figure.dpi": 110,
            "savefig.dpi": 200,
            "svg.hashsalt": "hsa",
        },
    )


def panels(rows: int = 1, columns: int = 1, height: float = 3.0, width: float = 7.0, **more: Any) -> tuple[Figure, Any]:
    """Make a figure and its axes; sizes in inches, further arguments as for `plt.subplots`."""
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **more)


def colour(method: str, among: Mapping[str, Any] | None = None) -> str:
    """Give the colour of a method: a fixed one if it is known here, else a spare by its place in `among`."""
    if method in METHODS:
        return METHODS[method]
    others = [name for name in among or [method] if name not in METHODS]
    return _SPARE[others.index(method) % len(_SPARE)]


def class_colours(count: int, first_positive: int) -> list[str]:
    """Give each of `count` ordered classes a colour: shades of the negative's, then of the positive's.

    The lowest and the highest class have the full colours; the shades pale towards the class that divides them.
    """
    above = count - first_positive
    strength = [*np.linspace(1, 0.4, first_positive), *np.linspace(1, 0.4, above)[::-1]]
    ends = [CLASSES[0]] * first_positive + [CLASSES[1]] * above
    return [to_hex(1 - s * (1 - np.array(to_rgb(end)))) for s, end in zip(strength, ends, strict=True)]


def ink_on(fill: str) -> str:
    """Give the colour of text that can be read on this one."""
    return INK if np.dot(to_rgb(fill), (0.30, 0.59, 0.11)) > 0.45 else "white"


def save(
    fig: Figure,
    path: str | Path,
    data: pd.DataFrame | None = None,
    provenance: Mapping[str, Any] | None = None,
    svg: bool = False,
) -> None:
    """Write a figure as PNG and the numbers it shows as CSV beside it, each whole or not at all.

    Args:
        fig: the figure.
        path: where the PNG goes; the CSV, the SVG and the provenance (JSON) get the same stem.
        data: what the figure shows.
        provenance: what made it; kept inside the PNG and the SVG, as JSON in "Description".
        svg: also write an SVG.
    """
    path = Path(path)
    note = json.dumps(provenance, sort_keys=True, default=str) if provenance else None
    with replacing(path.with_suffix(".png")) as temporary:
        fig.savefig(temporary, metadata={"Description": note} if note else {})
    if svg:
        with replacing(path.with_suffix(".svg")) as temporary:
            fig.savefig(temporary, metadata={"Date": None} | ({"Description": note} if note else {}))
    if data is not None:
        write_frame(path.with_suffix(".csv"), data)
