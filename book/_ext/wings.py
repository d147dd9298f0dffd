"""The package as a map: what each wing says of itself, and a picture of which wing uses which.

Both are read from the source when the book is built. `{wings-picture}` draws the imports; `{wings}` gives a paragraph a
wing, linked to the page of that wing.
"""

import ast
import re
from pathlib import Path
from typing import Any

import wings_picture
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective

from hsa.files import PACKAGE

GROUND = "ground"  # modules outside of the wings, which all of them use


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("wings", Wings)
    app.add_directive("wings-picture", WingsPicture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def docstrings(package: Path = PACKAGE) -> dict[str, str]:
    """Say what each wing, a folder of the package with an __init__, says of itself.

    The ground says what its modules say, each in its first sentence.
    """
    ground = " ".join(_docstring(package / f"{name}.py").split("\n")[0] for name in ground_modules(package))
    return {path.parent.name: _docstring(path) for path in sorted(package.glob("*/__init__.py"))} | {GROUND: ground}


def ground_modules(package: Path = PACKAGE) -> list[str]:
    """Name the modules that belong to no wing."""
    return sorted(path.stem for path in package.glob("*.py") if path.stem != "__init__")


def uses(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Find the wings that each wing imports, inside functions too, from the syntax of its files.

    They come in the order in which the docstring of the package tells of them.
    """
    told = re.findall(r"`(\w+)`", _docstring(package / "__init__.py"))
    wings = sorted(path.parent.name for path in package.glob("*/__init__.py"))
    wings.sort(key=lambda wing: told.index(wing) if wing in told else len(told))
    found: dict[str, set[str]] = {wing: set() for wing in wings}
    for wing, known in found.items():
        for path in (package / wing).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = []
                if isinstance(node, ast.ImportFrom):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                known |= {name.split(".")[1] for name in names if name.startswith(f"{package.name}.")}
        known &= found.keys() - {wing}
    return found


def page_of(wing: str) -> str:
    """Name the page of a wing, whether there is one or not."""
    return f"book/api/{wing}"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


class WingsPicture(SphinxDirective):
    """The wings as boxes, with an arrow from a wing to each that uses it."""

    def run(self) -> list[nodes.Node]:  # noqa: D102
        self.env.note_dependency(__file__)
        label = {wing: re.split(r"[.:](?:\s|$)", text)[0].replace("`", "") for wing, text in docstrings().items()}
        label[GROUND] = f"What all of them stand on: {', '.join(ground_modules())}"
        link = self.env.app.builder.get_relative_uri
        links = {wing: link(self.env.docname, page_of(wing)) for wing in label if page_of(wing) in self.env.found_docs}
        return [nodes.raw("", wings_picture.draw(uses(), label, links, floor=GROUND), format="html")]


class Wings(SphinxDirective):
    """A paragraph a wing, in the order of the picture."""

    def run(self) -> list[nodes.Node]:  # noqa: D102
        told = docstrings()
        order = [wing for row in wings_picture.rows(uses()) for wing in row]
        items = nodes.definition_list(classes=["wings-told"])
        for wing in [*order, GROUND]:
            name: nodes.Node = nodes.strong("", wing)
            if page_of(wing) in self.env.found_docs:
                target = {"refdomain": "std", "reftype": "doc", "reftarget": f"/{page_of(wing)}", "refexplicit": True}
                name = pending_xref("", nodes.inline("", "", name), refdoc=self.env.docname, refwarn=True, **target)
            said = nodes.definition()
            lines = told[wing].splitlines()
            self.state.nested_parse(StringList(lines, source=wing), self.content_offset, said)
            items += nodes.definition_list_item("", nodes.term("", "", name), said)
        return [items]
