"""Leave out the scripts of sphinx-thebe, which Jupyter Book always adds.

No page runs code in the browser, and the scripts declare one constant twice: an error on the console of every page.
"""

from typing import Any


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", leave_out, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def leave_out(app: Any, pagename: str, templatename: str, context: dict, doctree: Any) -> None:
    for key in ("script_files", "css_files"):
        context[key] = [one for one in context[key] if "thebe" not in str(one)]
