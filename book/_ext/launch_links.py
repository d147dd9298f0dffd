"""Point the launch and source buttons of a page at the committed notebook that it was made from.

A page such as notebooks/p53/02_contrastive_training exists in the built book only; its metadata key
`hsa_source` names the notebook in the repository. Sphinx-book-theme has already made the links when this runs.
"""

from typing import Any


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", rewrite_links, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite_links(app: Any, pagename: str, templatename: str, context: dict, doctree: Any) -> None:
    source = (context.get("meta") or {}).get("hsa_source")
    if source:
        for button in context.get("header_buttons", []):
            _rewrite(button, pagename, source)


def _rewrite(button: dict, pagename: str, source: str) -> None:
    for inner in button.get("buttons", []):
        _rewrite(inner, pagename, source)
    if isinstance(button.get("url"), str):
        button["url"] = button["url"].replace(f"{pagename}.ipynb", source).replace(pagename, source)
