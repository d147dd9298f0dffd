"""Checklists of the book: the items of a page's tables, and the same as a CSV that a reader fills in.

The page is the one place where a checklist is written. A row begins with the number of its item in bold, `**3a** Text`.
"""

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from hsa.errors import InputError

EMPTY = "where in your report"
_ROW = re.compile(r"^\| \*\*(?P<number>\d+[a-z]?)\*\* (?P<text>.*) \|$")
_ROLE = re.compile(r"\{(?P<role>\w+)\}`(?P<target>[^`]+)`")


class Item(NamedTuple):
    """A row of a checklist.

    Attributes:
        section: heading that it stands under.
        number: such as 3a.
        asks: what is asked for.
        cells: the other cells, as the page has them.
    """

    section: str
    number: str
    asks: str
    cells: tuple[str, ...]


def items(page: str) -> list[Item]:
    """Read the items of a page (Markdown) in its order."""
    section, found = "", []
    for line in page.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif row := _ROW.match(line):
            asks, *cells = (cell.strip() for cell in row["text"].split(" | "))
            found.append(Item(section, row["number"], asks, tuple(cells)))
    return found


def template(page: Path) -> str:
    """Write the items of a page as CSV, with a last column that is left empty.

    Links become the titles of the pages that they lead to, which lie beside this one; other markup is taken away.

    Raises:
        InputError: the page has no item, or a link leads to a page or place that is not there.
    """
    text = page.read_text()
    heads = [_cells(line) for line in text.splitlines() if line.startswith("| item |")]
    found = items(text)
    if not found or not heads:
        raise InputError(f"{page}: no item; begin the rows of a table `| item |` with a number, `**1a** Text`.")
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["section", "number", *heads[0], EMPTY])
    for one in found:
        rows.writerow([one.section, one.number, *(_plain(cell, page) for cell in (one.asks, *one.cells)), ""])
    return written.getvalue()


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def _plain(cell: str, page: Path) -> str:
    led = _ROLE.sub(lambda link: _told(link["role"], link["target"], page), cell)
    return re.sub(r"[*`]", "", led)


def _told(role: str, target: str, page: Path) -> str:
    """Say in words where a link leads: the title of a page, or the heading of a place."""
    if role == "doc":
        there = page.parent / f"{target}.md"
        heading = re.search(r"^# (.+)$", there.read_text(), re.M) if there.is_file() else None
    else:
        pages = (one.read_text() for one in sorted(page.parent.glob("*.md")))
        places = (re.search(rf"^\({re.escape(target)}\)=\n#+ (.+)$", text, re.M) for text in pages)
        heading = next(filter(None, places), None)
    if heading is None:
        raise InputError(f"{page}: {{{role}}}`{target}`: there is no such page or place; mend the link.")
    return f"{'page' if role == 'doc' else 'section'} '{heading[1]}'"
