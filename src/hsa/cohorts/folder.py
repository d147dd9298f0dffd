"""What lies in a folder: slides, and files that only look like slides."""

import os
import re
from pathlib import Path

# Tried; others are told. OpenSlide opens CZI of one plane, as a brightfield scanner writes it.
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi", ".tif", ".tiff")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
_ENDING = re.compile(rf"(\.ome)?({'|'.join(map(re.escape, (*SLIDES, *IMAGES)))})$", re.IGNORECASE)
_HALF = (".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp")
# What lies beside slides and is none: tables, texts, annotations, checksums, parts of a slide.
_BESIDE = (
    *("", ".csv", ".tsv", ".xls", ".xlsx", ".ods", ".txt", ".md", ".pdf", ".doc", ".docx", ".html", ".log", ".ini"),
    *(".json", ".geojson", ".xml", ".yml", ".yaml", ".qpdata", ".qpproj", ".qptxt", ".db", ".dat", ".opt", ".ndpa"),
    *(".md5", ".sha256", ".py", ".r", ".ipynb", ".sh", ".groovy", ".h5", ".npy", ".npz", ".pt", ".parquet"),
)


def find(root: Path) -> tuple[list[str], dict[str, str]]:
    """Slides below a folder as relative POSIX paths, and what is no slide although it is named like one."""
    names, unread = [], {}
    for where, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        here = Path(where)
        paths = sorted(here / f for f in files if not f.startswith("."))
        kinds = {path.suffix.lower() for path in paths}
        # The tiles of a MIRAX slide lie in a folder of its name, those of a VSI in one between underscores.
        folders[:] = [f for f in folders if not (here / f"{f}.mrxs").is_file()]
        folders[:] = [f for f in folders if not (here / f"{f[1:-1]}.vsi").is_file()]
        if ".dcm" in kinds and here != root:
            names.append(here.relative_to(root).as_posix())  # one DICOM slide: its levels are its files
            continue
        slides = {stem(path.name) for path in paths if path.suffix.lower() in SLIDES}
        for path in paths:
            name, kind = path.relative_to(root).as_posix(), path.suffix.lower()
            if kind == ".dcm":
                unread[name] = "DICOM slides need a folder each"
            elif kind not in (*SLIDES, *IMAGES):
                if kind in _HALF:
                    unread[name] = "a copy that was not finished"
                elif kind not in _BESIDE:
                    unread[name] = f"{kind} is not read; convert it to OME-TIFF or another pyramidal TIFF"
            elif not path.resolve().is_relative_to(root):
                unread[name] = f"a link to outside of {root.name}"
            elif kind in IMAGES and (stem(path.name) in slides or kinds & {".vms", ".vmu"}):
                unread[name] = "an image beside a slide"
            else:
                names.append(name)
    return names, unread


def stem(name: str) -> str:
    """Relative path without its ending."""
    return _ENDING.sub("", name)
