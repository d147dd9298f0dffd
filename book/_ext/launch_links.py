"""Point the launch buttons of a page at the committed notebook that it was made from.

A page such as notebooks/p53/02_contrastive_training exists in the built book only; its metadata key `hsa_source`
names the notebook in the repository. Binder and Colab open that one, and a new issue names it beside the page. What is
downloaded stays the executed notebook, which is part of the book. Sphinx-book-theme has already made the links when
this runs.
"""

from typing import Any
from urllib.parse import quote


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", rewrite_links, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite_links(app: Any, pagename: str, templatename: str, context: dict, doctree: Any) -> None:
    source = (context.get("meta") or {}).get("hsa_source")
    if not source:
        return
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if group.get("label") == "launch-buttons" and "url" in button:
                button["url"] = button["url"].replace(f"{pagename}.ipynb", source)
            elif button.get("label") == "source-issues-button":
                address, _, _ = button["url"].partition("&body=")
                button["url"] = f"{address}&body={quote(f'The page is made from {source}.')}"
