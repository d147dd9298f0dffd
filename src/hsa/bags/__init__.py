"""From a slide to its bag, and from bags to batches.

A slide and a tile encoder come in; out goes one HDF5 file of features and coordinates. Bags that other tools made are
read and written here too, and bags become padded, masked batches here.
"""

__all__ = [
    "bag",
    "batches",
    "checksums",
    "content",
    "encoding",
    "export",
    "features",
    "foreign",
    "layouts",
    "opened",
    "scale",
]
