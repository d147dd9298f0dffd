"""A picture of what a focus is: one specimen of the focal experiment, painted in all three ways, in both stains."""

from pathlib import Path

import numpy as np

from hsa.files import replacing
from hsa.reporting import figures
from hsa.reporting.figures.style import DASHES, INK
from hsa.study.settings import FocalCohort
from hsa.study.study import Study

SHARE, SIDE = 0.25, 1024  # of the tumour in the patch, more than in the experiment, to be seen; px
TITLES = {"plain": "plain", "focus": "focus of the marker", "other": "focus of another kind"}


def draw(study: Study, target: Path) -> None:
    """Draw focus.png into a folder: H&E above, IHC below; the dashed line is the edge of the patch.

    Args:
        study: focal; its marker, seed and shift count.
        target: the folder.
    """
    from hsa.virtual.foci import FocalRecipe, specimens
    from hsa.virtual.whole import paint

    cohort, marker = study.cohort, next(iter(study.markers))
    assert isinstance(cohort, FocalCohort), "a study of focal signal"
    recipe, one = FocalRecipe(SIDE, 0.0, cohort.seed, marker, cohort.shift), specimens(1, 1, 1)[0]
    figures.use_style()
    fig, axes = figures.panels(2, len(TITLES), height=5.0)
    for row, stain in zip(axes, ("HE", marker), strict=True):
        for ax, (kind, title) in zip(row, TITLES.items(), strict=True):
            whole = paint(recipe, one, stain, SHARE, kind)
            ax.imshow(whole.picture)
            edge, step = whole.focus.astype(float), SIDE / whole.focus.shape[0]
            if kind != "plain":
                places = (np.arange(len(edge)) + 0.5) * step
                ax.contour(places, places, edge, [0.5], colors=[INK], linewidths=1.3, linestyles=[DASHES])
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if stain == "HE":
                ax.set_title(title, fontsize=9.5, fontweight="normal")
        row[0].set_ylabel("H&E" if stain == "HE" else stain)
    figures.scale_bar(axes[0, 0], 0.5, SIDE, SIDE)
    with replacing(target / "focus.png") as temporary:
        fig.savefig(temporary)
