"""Heat maps: what a prediction rests on, laid over the slide, and how well that agrees with the truth."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize

from hsa.errors import InputError
from hsa.reporting.figures.style import CLASS_NAMES, CLASSES, INK
from hsa.reporting.figures.tissue import scale_bar

# Its ends are the colours of the classes that a tile speaks for; between them, nothing.
IMPORTANCE = LinearSegmentedColormap.from_list("importance", ["#11695B", CLASSES[0], "#FFFFFF", "#B9578B", CLASSES[1]])
NAME_INKS = ("#11695B", CLASSES[1])
# Names of classes at the bar are broken into lines of about so many.
NAME_CHARACTERS = 16


def heat_overlay(
    ax: Axes,
    thumbnail: np.ndarray,
    coords: np.ndarray,
    importance: np.ndarray,
    tile_px_level0: int,
    mpp_thumbnail: float,
    mpp_level0: float,
    tumour: np.ndarray | None = None,
    limit: float | None = None,
) -> Axes:
    """Lay the importance of tiles over a slide: the stronger, the less transparent; the slide is greyed.

    Args:
        ax: where to draw.
        thumbnail: H&E slide (h, w, 3) uint8.
        coords: (N, 2) upper left corners of the tiles, x and y in level-0 px.
        importance: (N,), positive where a tile speaks for the positive class.
        tile_px_level0: side of a tile, level-0 px.
        mpp_thumbnail: um per pixel of the thumbnail.
        mpp_level0: um per pixel of level 0.
        tumour: (h', w') bool, true tumour over the same area at any resolution; drawn as a contour.
        limit: absolute importance of the full colour; by default the largest. Give one for slides that are compared.

    Returns:
        The axes, in pixels of the thumbnail.

    Raises:
        InputError: not one importance for each tile, or one that is not finite.
    """
    importance = np.asarray(importance, dtype=float)
    if importance.shape != (len(coords),) or not np.isfinite(importance).all():
        raise InputError(
            f"heat_overlay: {importance.shape} importances for {len(coords)} tiles; give one finite number a tile."
        )
    height, width = thumbnail.shape[:2]
    # Wine on pink would not show: the slide keeps its structure and gives up its colour.
    ax.imshow(thumbnail @ (0.30, 0.59, 0.11), cmap="gray", vmin=0, vmax=255)
    scale = mpp_level0 / mpp_thumbnail
    corner = np.asarray(coords, dtype=float) * scale - 0.5
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * tile_px_level0 * scale
    limit = limit or float(np.abs(importance).max(initial=0)) or 1.0
    strength = np.clip(np.abs(importance) / limit, 0, 1)
    tiles = PolyCollection(
        [*(corner[:, None] + square)],
        array=importance,
        cmap=IMPORTANCE,
        norm=Normalize(-limit, limit),
        alpha=0.7 * np.sqrt(strength),
        edgecolors="white",
        linewidths=1.0,
    )
    ax.add_collection(tiles, autolim=False)
    if tumour is not None and tumour.any() and not tumour.all():
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        for ink, line in (("white", 2.0), (INK, 0.9)):
            ax.contour(tumour.astype(float), [0.5], colors=[ink], linewidths=line, extent=extent, origin="upper")
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)
    scale_bar(ax, mpp_thumbnail, width, height)
    return ax


def heat_bar(
    axes: Axes | np.ndarray,
    limit: float,
    label: str = "importance of a tile\n(logits)",
    classes: Sequence[str] = CLASS_NAMES,
) -> Axes:
    """Add the colour bar of `heat_overlay` to the right of its axes.

    Args:
        axes: the overlays, of one figure and with one `limit`.
        limit: absolute importance of the full colour.
        label: name of the importance.
        classes: names of the negative and the positive class.

    Returns:
        The axes of the bar.
    """
    shown = ScalarMappable(Normalize(-limit, limit), IMPORTANCE)
    first: Axes = np.asarray(axes).flat[0]
    bar = first.figure.colorbar(shown, ax=axes, label=label, shrink=0.8, aspect=30)
    bar.outline.set_visible(False)
    # Texts, for the layout makes no room for the width of titles and labels, and long names ended beyond the page.
    for name, end, offset, side, ink in zip(classes, (0, 1), (-5, 5), ("top", "bottom"), NAME_INKS, strict=True):
        text = fill(f"for {name}", NAME_CHARACTERS)
        bar.ax.annotate(
            *(text, (0, end), (0, offset), "axes fraction", "offset points"), va=side, fontsize=9, color=ink
        )
    return bar.ax
