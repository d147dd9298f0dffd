"""Where a manifest's path leads, and why it leads nowhere."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path


class Places:
    """The folder that a manifest's paths are relative to; what was listed once is not listed again."""

    def __init__(self, root: Path):
        self._root = root
        self._known: dict[tuple[Path, Callable], dict[str, str]] = {}

    def spell(self, name: str) -> str:
        """Spell a path as the disk does, where both differ in Unicode composition only: a Mac writes ü as two signs.

        Returns:
            The path of the file that is there; `name`, if there is none.
        """
        if name.isascii() or os.path.exists(self._root / name):
            return name
        here = self._root
        spelt: list[str] = []
        for part in Path(name).parts:
            if not os.path.lexists(here / part):
                part = self._listed(here, _composed).get(_composed(part), part)
            here, spelt = here / part, [*spelt, part]
        return "/".join(spelt) if os.path.exists(here) else name

    def why_absent(self, name: str) -> str:
        """Say why there is no file of that path, as far as it can be seen, and what to do: the end of a sentence."""
        path = self._root / name
        if name and os.path.islink(path):
            return f": it is a link to {os.readlink(path)!r}, which is not there. Mend it, or copy the slide here."
        if "\\" in name:
            turned = name.replace("\\", "/")
            there = f" (did you mean {turned!r}?)" if os.path.exists(self._root / turned) else ""
            return f"{there}. Write '/' for '\\', and the path from {self._root} on."
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
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
