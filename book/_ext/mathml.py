"""Formulas as MathML, which browsers draw themselves: the book reads offline, without a script from elsewhere."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    # The class is the theme's, of a box that scrolls: its script lets the keyboard reach it where it has to.
    formula = f'<div class="pst-scrollable-table-container">{convert(node.astext(), display="block")}</div>'
    writer.body.append(writer.starttag(node, "div", CLASS="math-block") + formula)
    if node["number"]:
        number = writer.builder.env.domains["math"].equations[node["label"]][1]
        writer.body.append(f'<span class="eqno">({number})</span>')
    writer.body.append("</div>\n")
    raise nodes.SkipNode
