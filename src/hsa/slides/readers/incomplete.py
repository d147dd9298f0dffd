"""Files that have a slide's name and hold none, or a part of one: each is told with its own remedy."""

import stat
from pathlib import Path

from hsa.errors import InputError

_HEAD = 512  # bytes; enough to see what a download left
_LFS = b"version https://git-lfs"
_WEB = (b"<!doctype html", b"<html", b"<?xml version", b'{"error', b'{"message')
_SLIDEDAT = "Slidedat.ini"  # the index in the folder of an MRXS slide


def refuse_incomplete(path: Path) -> None:
    """Refuse what is no slide, before a reader takes what is left of it for the whole.

    The .mrxs file of a 3DHISTECH slide is a small JPEG; the slide lies in the folder of its name. Without the folder
    a reader of pictures would take that thumbnail for the slide.

    Raises:
        InputError: a pipe or device, an empty file, a Git LFS pointer, a web page, or MRXS without its folder.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"slide {path} is no regular file, but a pipe or a device: give the file of the slide")
    if found.st_size == 0:
        raise InputError(f"slide {path} is empty (0 bytes): copy the file again")
    with path.open("rb") as file:
        head = file.read(_HEAD).lstrip().lower()
    if head.startswith(_LFS):
        raise InputError(f"slide {path} is a Git LFS pointer, not the slide: fetch it with `git lfs pull`")
    if head.startswith(_WEB):
        raise InputError(f"slide {path} is a web page or a server's answer, not the slide: download it again")
    if path.suffix.lower() == ".mrxs" and not (path.with_suffix("") / _SLIDEDAT).is_file():
        folder = path.with_suffix("")
        lacks = f"{_SLIDEDAT} in its folder {folder}" if folder.is_dir() else f"its folder {folder}"
        raise InputError(f"slide {path} lacks {lacks}, which holds the slide: copy the whole folder beside the file")
