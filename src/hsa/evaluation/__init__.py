"""What embeddings are worth: probe, metrics, comparisons, alignment, maps.

Embeddings and labels come in; out go predictions of cases that were not trained on, metrics with their intervals,
paired comparisons of methods, measures of alignment, and maps of what a model looked at.
"""

__all__ = [
    "alignment",
    "calibration",
    "categories",
    "ceilings",
    "comparison",
    "contrasts",
    "evaluate",
    "heatmaps",
    "logistic",
    "metrics",
    "partners",
    "pointing",
    "power",
    "predictions",
    "probe",
    "ranking",
    "scoring",
    "selection",
    "within",
]
