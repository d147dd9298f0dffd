"""Show the meaning of a word of the glossary where the pointer rests on it: the title of its link.

It needs no script and nothing from elsewhere; on a phone the link leads to the glossary.
"""

from collections.abc import Iterator
from typing import Any

from docutils import nodes


def setup(app: Any) -> dict[str, bool]:
    app.connect("doctree-resolved", add_titles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_titles(app: Any, doctree: nodes.document, docname: str) -> None:
    known = meanings(app.env)
    for link in doctree.findall(nodes.reference):
        anchor = link.get("refid") or link.get("refuri", "").partition("#")[2]
        if anchor in known:
            link["reftitle"] = known[anchor]


def meanings(env: Any) -> dict[str, str]:
    """Collect what the glossary says: the anchor of a word -> its meaning."""
    pages = {docname for _, _, kind, docname, _, _ in env.get_domain("std").get_objects() if kind == "term"}
    return {anchor: text for page in pages for anchor, text in _entries(env.get_doctree(page))}


def _entries(doctree: nodes.document) -> Iterator[tuple[str, str]]:
    for item in doctree.findall(nodes.definition_list_item):
        meaning = " ".join(one.astext() for one in item.findall(nodes.definition))
        for term in item.findall(nodes.term):
            yield from ((anchor, meaning) for anchor in term["ids"])
