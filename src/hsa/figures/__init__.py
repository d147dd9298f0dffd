"""One function a figure: axes and data in, axes out. Looks, colours and saving are in `hsa.figures.style`."""

from hsa.figures import triage as triage
from hsa.figures.cohort import fold_map, label_balance, loss_curves
from hsa.figures.embedding import paired_shuffled, recall_bars, umap_scatter
from hsa.figures.heat import heat_bar, heat_overlay
from hsa.figures.prediction import confusion, forest, reliability, roc
from hsa.figures.style import colour, panels, save, use_style
from hsa.figures.sweep import gains
from hsa.figures.tissue import overlay, scale_bar, section_pair, tile_strip

__all__ = [
    "colour",
    "confusion",
    "fold_map",
    "forest",
    "gains",
    "heat_bar",
    "heat_overlay",
    "label_balance",
    "loss_curves",
    "overlay",
    "paired_shuffled",
    "panels",
    "recall_bars",
    "reliability",
    "roc",
    "save",
    "scale_bar",
    "section_pair",
    "tile_strip",
    "umap_scatter",
    "use_style",
]
