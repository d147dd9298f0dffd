"""A slide read by microns, its tissue, and the tiles that cover it.

A file of any supported format comes in, or a folder of DICOM files; out go RGB pixels at the resolution asked for, a
mask of tissue, and the grid of tiles on it. Knows nothing of stains, markers or studies.
"""

__all__ = ["beside_histolab", "examples", "histolab_masks", "readers", "resolution", "slide", "tiling", "tissue"]
