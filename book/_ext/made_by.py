"""Say at the foot of every page how the numbers of the book were made: what staging left in `_generated/made.json`."""

import json
from html import escape
from pathlib import Path
from typing import Any

FILE = Path("book") / "_generated" / "made.json"


def setup(app: Any) -> dict[str, bool]:
    app.connect("html-page-context", add_foot, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_foot(app: Any, pagename: str, templatename: str, context: dict, doctree: Any) -> None:
    file = Path(app.srcdir) / FILE
    if doctree is None or not file.is_file():
        return
    rows = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>" for key, text in json.loads(file.read_text()).items()
    )
    foot = (
        f'<details class="hsa-made"><summary>How the numbers of this run were made</summary><dl>{rows}</dl></details>'
    )
    context["body"] += foot
