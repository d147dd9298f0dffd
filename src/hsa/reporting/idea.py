"""The picture of the idea on the first page: two sections of one specimen, one encoder, one space."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from hsa.files import replacing
from hsa.reporting import figures
from hsa.reporting.figures.style import GREY, INK, STAINS

SIDE, SEED, MARKER = 512, 3, "P53"
# Where cases lie in the space, and by how much the IHC slide of each lies beside its H&E slide; the first is shown.
CASES = np.array([[0.30, 0.62], [0.72, 0.84], [0.60, 0.46], [0.22, 0.22], [0.84, 0.20]])
BESIDE = np.array([[0.08, -0.05], [-0.08, 0.05], [0.07, -0.07], [0.08, 0.06], [-0.07, -0.06]])
LETTERS = 14  # pt on 7 inches: 9 px on a phone
ARROWS = (((-0.05, 0.78), (0.24, 0.6), "HE"), ((-0.05, 0.22), (0.24, 0.4), "IHC"), ((0.76, 0.5), (1.05, 0.5), None))


def draw(target: Path) -> None:
    """Draw idea.png into a folder."""
    from hsa.virtual.recipe import HE, Recipe, photograph, section_truth  # numba

    recipe = Recipe(SIDE, 1.0, SEED)
    figures.use_style()
    fig, axes = plt.subplot_mosaic(
        [["HE", "encoder", "space"], ["IHC", "encoder", "space"]],
        width_ratios=[1, 0.95, 1.65],
        figsize=(7.0, 4.0),
        layout="constrained",
    )
    for kind, stain, name in (("HE", HE, "H&E"), ("IHC", MARKER, "IHC")):
        axes[kind].imshow(photograph(recipe, 0, stain, section_truth(recipe, 0, stain)))
        axes[kind].set(xticks=[], yticks=[])
        axes[kind].set_ylabel(name, fontsize=LETTERS, fontweight="bold", color=STAINS[kind])
        axes[kind].spines[:].set_visible(False)
    _encoder(axes["encoder"])
    _space(axes["space"])
    with replacing(target / "idea.png") as temporary:
        fig.savefig(temporary)
    plt.close(fig)


def _encoder(ax: Axes) -> None:
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")
    box = {"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": INK}
    ax.text(0.5, 0.5, "one\nslide\nencoder", fontsize=LETTERS, ha="center", va="center", bbox=box)
    for start, end, kind in ARROWS:
        colour = STAINS[kind] if kind else INK
        ax.add_patch(
            FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=18, linewidth=2.4, color=colour, clip_on=False)
        )


def _space(ax: Axes) -> None:
    ihc = CASES + BESIDE
    for one, other in zip(CASES, ihc, strict=True):
        ax.plot(*zip(one, other, strict=True), color=GREY, linewidth=2, zorder=1)
    ax.scatter(CASES[:, 0], CASES[:, 1], s=150, color=STAINS["HE"], zorder=2)
    ax.scatter(ihc[:, 0], ihc[:, 1], s=150, color=STAINS["IHC"], marker="s", zorder=2)
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=GREY)
    ax.set_title("pairs together,\nothers apart", fontsize=LETTERS, fontweight="normal", loc="center")
    ax.set_xlabel("the aim: H&E alone\ntells the status", fontsize=LETTERS)
