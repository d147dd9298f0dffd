"""How fast and how small it is beside its peers: the page that reads benchmarks/results.json."""

from pathlib import Path
from typing import Any

import pandas as pd

from hsa.files import read_json
from hsa.reporting import figures
from hsa.reporting.tables import table

_ABSENT = "*This copy of the book holds no measurements. `make bench` makes them.*\n"
_FIGURE = """{{numref}}`fig-speed` shows the ratios; right of the dashed line this package is faster, or smaller.

```{{figure}} _generated/speed.png
:name: fig-speed
:alt: A row for each measurement, with a point and the spread of its repeats, on a logarithmic axis with a line at 1.

This package against what stands behind each row: the median ratio, and the lowest and highest of {repeats} repeats that
took turns in one run. {machine}.
```

"""


def fragments(path: Path) -> dict[str, str]:
    """Write the pieces of the page: file name -> Markdown.

    Args:
        path: of results.json, as `benchmarks/every.py` writes it.
    """
    if not path.is_file():
        return {"speed.md": _ABSENT}
    found = read_json(path)
    rows = [
        [row["benchmark"], row["row"], f"{row['value']:.4g} {row['unit']}", row["against"] or "", _ratio(row)]
        for row in found["rows"]
    ]
    head = ["benchmark", "row", "measured", "against", "ratio (spread)"]
    told = _FIGURE.format(repeats=found["repeats"], machine=_machine(found))
    when = f"Measured on {found['date'][:10]} at commit `{(found['commit'] or 'unknown')[:7]}`"
    clean = "" if found["clean"] else ", with changes that were not committed"
    return {"speed.md": f"{told}{when}{clean}.\n\n{table(head, rows, words=True)}"}


def draw(path: Path, target: Path) -> None:
    """Draw speed.png into a folder, if there are measurements."""
    if path.is_file():
        figures.use_style()
        rows = pd.DataFrame([row for row in read_json(path)["rows"] if row["ratio"] is not None])
        rows[["low", "high"]] = rows.pop("spread").tolist()
        fig, ax = figures.panels(1, 1, height=0.45 * len(rows) + 0.9)
        figures.ratios(ax, rows)
        figures.save(fig, target / "speed.png", rows)


def _ratio(row: dict[str, Any]) -> str:
    if row["ratio"] is None:
        return ""
    low, high = row["spread"]
    return f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"


def _machine(found: dict[str, Any]) -> str:
    on = found["machine"]
    return f"{on['cpu']}, {on['cores']} cores, {on['system']}, Python {on['python']}"
