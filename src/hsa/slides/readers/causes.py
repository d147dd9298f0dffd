"""Why a file that is named like a slide is none: what can be seen without a reader, and what to do about it."""

import configparser
import os
import re
from pathlib import Path

# A first line -> what the file is; what people copy in place of a slide.
_FOREIGN = (
    (b"version https://git-lfs", "a pointer of Git LFS, and not the slide: fetch it (`git lfs pull`)"),
    (b"/annex/objects/", "a pointer of git-annex, and not the slide: fetch it (`git annex get`)"),
    (b"<!doctype html", "a web page, and not the slide: download it again, signed in where that is asked for"),
    (b"<html", "a web page, and not the slide: download it again, signed in where that is asked for"),
    (b"<?xml", "an XML text, and not the slide: download it again, or give the file that it tells of"),
    (b"PK\x03\x04", "a ZIP archive: unpack it, and give the slide that is in it"),
    (b"\x1f\x8b", "a gzip archive: unpack it, and give the slide that is in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it, and give the slide that is in it"),
    (b"Rar!", "a RAR archive: unpack it, and give the slide that is in it"),
    (b"\x00\x05\x16\x07", "what a Mac keeps beside a file, and not the slide: give the one without the leading '._'"),
)
_HEAD = 4096
_SHOWN = 3


def absent(path: Path) -> str:
    """Say why there is no slide of that path; the end of a sentence that names it."""
    if os.path.islink(path):
        return f"is a link to {os.readlink(path)!r}, which is not there: mend it, or copy the slide here"
    return "does not exist: correct its path"


def lacking(path: Path) -> str:
    """Say which companions of a slide are not there, or that it is no file; empty if nothing is lacking.

    A reader may not miss them: without its folder, an MRXS file is a picture of the label. For a pipe it would wait.
    """
    kind = path.suffix.lower()
    if os.path.exists(path) and not os.path.isfile(path):  # Path.exists fails for a name that is too long
        return "is no regular file, but a pipe or a device: give the file of the slide"
    if kind == ".mrxs":
        folder = path.with_suffix("")
        if not folder.is_dir():
            return f"lacks its folder {folder.name!r}, which holds its pixels: copy it to beside the file"
        return _told(f"lacks, in its folder {folder.name!r},", *_listed(folder, _of_mirax(folder)))
    if kind in (".vms", ".vmu"):
        return _told("lacks, beside it,", *_listed(path.parent, _of_hamamatsu(path)))
    return ""


def looks_like(path: Path) -> str:
    """Say what a file is that no reader takes; empty if that cannot be seen. The end of a sentence that names it."""
    try:
        if path.is_dir():
            return ""
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    if not size:
        return "is empty: its copy failed; copy it again from its source"
    if not head.strip(b"\0"):
        return f"begins with {len(head)} zeros: its copy was not finished; copy it again from its source"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, what in _FOREIGN:
        if head.startswith(mark) or start.startswith(mark):
            return f"is {what}"
    return ""


def within(folder: Path) -> str:
    """Name the one file in a folder that may be meant, as where an archive was unpacked to a folder of its name."""
    names = sorted(file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    alike = [name for name in names if Path(name).suffix.lower() == folder.suffix.lower() != ""]
    return f" (did you mean {f'{folder.name}/{alike[0]}'!r}?)" if len(alike) == 1 else ""


def _told(where: str, names: list[str], count: int) -> str:
    if not count:
        return ""
    more = f" and {count - len(names)} more" if count > len(names) else ""
    return f"{where} {', '.join(map(repr, names))}{more}: copy all files of the slide again"


def _listed(folder: Path, names: list[str]) -> tuple[list[str], int]:
    gone = [name for name in dict.fromkeys(names) if not (folder / name).is_file()]
    return gone[:_SHOWN], len(gone)


def _of_mirax(folder: Path) -> list[str]:
    """Files that Slidedat.ini names, itself among them; as OpenSlide reads it."""
    index = folder / "Slidedat.ini"
    if not index.is_file():
        return [index.name]
    found = _ini(index)
    names = [found[part][key] for part, key in (("HIERARCHICAL", "INDEXFILE"),) if found.has_option(part, key)]
    if found.has_section("DATAFILE"):
        names += [name for key, name in found["DATAFILE"].items() if re.fullmatch(r"file_\d+", key)]
    return names


def _of_hamamatsu(path: Path) -> list[str]:
    """Files that a VMS or VMU names: its pictures and its map."""
    found = _ini(path)
    wanted = re.compile(r"imagefile(\(\d+,\d+(,\d+)?\))?|mapfile")
    return [name for part in found.sections() for key, name in found[part].items() if wanted.fullmatch(key) and name]


def _ini(path: Path) -> configparser.ConfigParser:
    """Read a file of sections; what it does not hold, or not as such, is not there."""
    found = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#",))
    try:
        found.read_string(path.read_bytes().decode("utf-8-sig", "replace"))
    except configparser.Error:
        found.clear()
    return found
