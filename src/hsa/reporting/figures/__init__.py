"""One function a figure: axes and data in, axes out. Looks, colours and saving are in `hsa.reporting.figures.style`."""

from hsa.reporting.figures import triage as triage
from hsa.reporting.figures.cohort import fold_map, label_balance, loss_curves
from hsa.reporting.figures.embedding import paired_shuffled, recall_bars, umap_scatter
from hsa.reporting.figures.experiment import along_axes, calibrated, contrasts
from hsa.reporting.figures.heat import heat_bar, heat_overlay
from hsa.reporting.figures.prediction import confusion, forest, reliability, roc
from hsa.reporting.figures.speed import ratios
from hsa.reporting.figures.style import colour, panels, save, use_style
from hsa.reporting.figures.tissue import overlay, scale_bar, section_pair, tile_edges, tile_strip

__all__ = [
    "along_axes",
    "calibrated",
    "colour",
    "confusion",
    "contrasts",
    "fold_map",
    "forest",
    "heat_bar",
    "heat_overlay",
    "label_balance",
    "loss_curves",
    "overlay",
    "paired_shuffled",
    "panels",
    "ratios",
    "recall_bars",
    "reliability",
    "roc",
    "save",
    "scale_bar",
    "section_pair",
    "tile_edges",
    "tile_strip",
    "umap_scatter",
    "use_style",
]
