"""HistoStainAlign, as a study that anyone can run: IHC status predicted from the H&E slide alone."""

__version__ = "0.1.0"
