"""Where a manifest's path leads, and why it leads nowhere."""

import os
import re
import stat
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hsa.slides.readers import split_scene


class Place(NamedTuple):
    """Where a path leads.

    Attributes:
        real: absolute, links followed.
        there: whether something is there; a `#2` that chooses an image of the file aside.
        link: whether the path itself is a link.
        inside: whether it lies below the folder that paths are relative to.
    """

    real: str
    there: bool
    link: bool
    inside: bool


class Places:
    """The folder that a manifest's paths are relative to; what was listed once is not listed again.

    Attributes:
        root: absolute.
    """

    def __init__(self, root: Path):
        self.root = root
        self._known: dict[tuple[Path, Callable], dict[str, str]] = {}
        self._places: dict[str, Place] = {}
        self._folders: dict[str, tuple[str, bool]] = {}

    def look(self, name: str) -> Place:
        """Follow a path. Each is followed once, and so is each folder: a slide costs one look at the disk."""
        if name not in self._places:
            self._places[name] = self._look(name)
        return self._places[name]

    def _look(self, name: str) -> Place:
        path = os.path.join(self.root, name)
        folder, last = os.path.split(path)
        if folder not in self._folders:
            real = os.path.realpath(folder)
            self._folders[folder] = real, Path(real).is_relative_to(self.root)
        real, inside = self._folders[folder]
        if last in ("", ".", ".."):
            real = os.path.realpath(path)
            # Asked of the path as it stands: a file with a slash after it is none.
            return Place(real, bool(name) and os.path.exists(path), False, Path(real).is_relative_to(self.root))
        try:
            link = stat.S_ISLNK(os.lstat(path).st_mode)
        except (OSError, ValueError):  # not there, or no name that a disk takes
            there = "#" in last and os.path.exists(split_scene(Path(path))[0])
            return Place(os.path.join(real, last), there, False, inside)
        if not link:
            return Place(os.path.join(real, last), True, False, inside)
        real = os.path.realpath(path)
        return Place(real, os.path.exists(real), True, Path(real).is_relative_to(self.root))

    def spell(self, name: str) -> str:
        """Spell a path as the disk does, where both differ in Unicode composition only: a Mac writes ü as two signs.

        Returns:
            The path of the file that is there; `name`, if there is none.
        """
        if name.isascii() or os.path.exists(self.root / name):
            return name
        here = self.root
        spelt: list[str] = []
        for part in Path(name).parts:
            if not os.path.lexists(here / part):
                part = self._listed(here, _composed).get(_composed(part), part)
            here, spelt = here / part, [*spelt, part]
        return Path(*spelt).as_posix() if os.path.exists(here) else name

    def why_absent(self, name: str) -> str:
        """Say why there is no file of that path, as far as it can be seen, and what to do: the end of a sentence."""
        path = self.root / name
        if name and os.path.islink(path):
            return f": it is a link to {os.readlink(path)!r}, which is not there. Mend it, or copy the slide here."
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
            return f". It is an address: copy the slide to this disk, and write its path from {self.root} on."
        if name.startswith(("~", "$", "%")):
            return f". '~' and variables are not filled in: write the path from {self.root} on."
        if "\\" in name:
            turned = name.replace("\\", "/")
            there = f" (did you mean {turned!r}?)" if os.path.exists(self.root / turned) else ""
            return f"{there}. Write '/' for '\\', and the path from {self.root} on."
        if name.endswith("/") and path.is_file():
            return f" (did you mean {name.rstrip('/')!r}?). Mend the path."
        alike = self._listed(path.parent, _loose).get(_loose(path.name)) if name else None
        if alike:
            return f" (did you mean {(Path(name).parent / alike).as_posix()!r}?). Mend the path."
        return ". Mend the path, or set `cohort.root`."

    def _listed(self, folder: Path, rule: Callable[[str], str]) -> dict[str, str]:
        """Names in a folder by their plain form; none if it cannot be listed."""
        if (folder, rule) not in self._known:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            self._known[folder, rule] = {rule(name): name for name in names}
        return self._known[folder, rule]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _loose(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip("\"'")
