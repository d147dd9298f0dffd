"""Pictures of tissue: a slide and its mask, sample tiles, an H&E section beside its IHC section."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from hsa.errors import InputError
from hsa.reporting.figures.style import INK

_SCALES_UM = (5, 10, 20, 25, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def overlay(ax: Axes, thumbnail: np.ndarray, mask: np.ndarray, mpp: float | None = None) -> Axes:
    """Draw a slide with the outline of its tissue mask; what the mask leaves out is dimmed.

    Args:
        ax: where to draw.
        thumbnail: (h, w, 3) uint8.
        mask: (h', w') bool, True = tissue, over the same area at any resolution.
        mpp: um per pixel of the thumbnail; draws a scale bar.

    Returns:
        The axes, in pixels of the thumbnail.
    """
    height, width = thumbnail.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    _picture(ax, thumbnail)
    veil = np.zeros((*mask.shape, 4))
    veil[..., :3], veil[..., 3] = 0.75, 0.55 * ~mask
    ax.imshow(veil, extent=extent, interpolation="nearest")
    if mask.any() and not mask.all():
        ax.contour(mask.astype(float), [0.5], colors=["#0072B2"], linewidths=1.2, extent=extent, origin="upper")
    ax.set(xlim=extent[:2], ylim=extent[2:])
    if mpp:
        scale_bar(ax, mpp, width, height)
    return ax


def tile_edges(ax: Axes, corners: np.ndarray, side: float) -> Axes:
    """Draw the edges of tiles whose upper left corners (N, 2) and side are in pixels of what is shown."""
    squares = [Rectangle((x - 0.5, y - 0.5), side, side) for x, y in corners]
    ax.add_collection(PatchCollection(squares, facecolor="none", edgecolor="#222222", linewidth=0.5, alpha=0.6))
    return ax


def tile_strip(ax: Axes, tiles: np.ndarray, mpp: float, columns: int = 6) -> Axes:
    """Draw tiles on a grid with white gaps and one scale bar.

    Args:
        ax: where to draw.
        tiles: (N, h, w, 3) uint8.
        mpp: um per pixel of the tiles.
        columns: tiles in a row.

    Returns:
        The axes.

    Raises:
        InputError: there is no tile.
    """
    if len(tiles) == 0:
        raise InputError("tile_strip: no tiles to show; the slide has no tissue at this setting.")
    count, height, width = tiles.shape[:3]
    columns = min(columns, count)
    gap = max(2, width // 24)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = tile
    _picture(ax, sheet)
    scale_bar(ax, mpp, width, height)
    return ax


def section_pair(
    axes: Sequence[Axes], he: np.ndarray, ihc: np.ndarray, marker: str, mpp: float | None = None
) -> Sequence[Axes]:
    """Draw the H&E section of a case beside its IHC section.

    Args:
        axes: two axes.
        he: (h, w, 3) uint8.
        ihc: (h', w', 3) uint8, at the same um per pixel.
        marker: name of the IHC stain.
        mpp: um per pixel; draws a scale bar on the first.

    Returns:
        The two axes.
    """
    for ax, image, name in zip(axes, (he, ihc), ("H&E", marker), strict=True):
        _picture(ax, image)
        ax.set_title(name)
    if mpp:
        scale_bar(axes[0], mpp, he.shape[1], he.shape[0])
    return axes


def scale_bar(ax: Axes, mpp: float, width: int, height: int) -> None:
    """Draw a bar of a round length, at most 0.4 of `width` px, at the lower left of the top left picture."""
    length = max((um for um in _SCALES_UM if um <= 0.4 * width * mpp), default=_SCALES_UM[0])
    unit = f"{length // 1000} mm" if length >= 1000 else f"{length} \N{MICRO SIGN}m"
    x, y = 0.06 * width, 0.94 * height
    halo = {"boxstyle": "square,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    ax.plot([x, x + length / mpp], [y, y], color=INK, linewidth=3, solid_capstyle="butt")
    ax.annotate(unit, (x, y), (0, 5), textcoords="offset points", fontsize=9, color=INK, bbox=halo)


def _picture(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image)
    ax.set(xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)
