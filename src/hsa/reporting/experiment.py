"""What an experiment found, in words and tables written from its findings.json and nothing else.

Every conclusion follows the rules that the protocol wrote down before the run, and says "open" where it is.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hsa.files import read_json
from hsa.pipeline.experiment.points import middles
from hsa.reporting import figures
from hsa.reporting.design import plain
from hsa.reporting.tables import interval, p_value, table
from hsa.study.study import Study

Findings = dict[str, Any]
MIDDLE, PRIMARY = "middle", "validated"
RULES = {
    "validated": "best validation AUC (primary)",
    "last": "last epoch",
    "published": "lowest total validation loss (published)",
}
_STARRED = "\nAn arrow marks a verdict: corrected over the contrasts and markers, under the rule of its column.\n"
_ABSENT = "*This copy of the book holds no results of this experiment. `make study` makes them.*\n"


def read(study: Study) -> Findings | None:
    """Read what is found of a study; None where nothing is, or the middle is not."""
    path = study.paths.kept / "findings.json"
    found = read_json(path) if path.is_file() else {}
    return found if MIDDLE in found else None


def fragments(study: Study, found: Findings | None) -> dict[str, str]:
    """Write the pieces of the book that tell one experiment: file name -> Markdown."""
    pieces = (answer, answers, rules, levels, controls, axes)
    return {f"{study.name}_{piece.__name__}.md": piece(study, found) if found else _ABSENT for piece in pieces}


def draw(study: Study, found: Findings | None, target: Path) -> None:
    """Draw <study>_contrasts.png and <study>_axes.png into a folder, if there are results."""
    if found is None:
        return
    figures.use_style()
    rows = pd.DataFrame(_rows(found))
    titles = {name: f"{way.title}" for name, way in study.methods.items()}
    first = {pair.of for pair in study.contrasts.values()}
    of = "" if len(first) == 1 else "{}\n"  # said once, where it is always the same
    asked = {name: f"{of.format(titles[p.of])}minus {titles[p.minus]}" for name, p in study.contrasts.items()}
    figures.save(figures.contrasts(rows, asked), target / f"{study.name}_contrasts.png", rows)
    table = _along(study, found)
    if not table.empty:
        figures.save(figures.along_axes(table, titles), target / f"{study.name}_axes.png", table)


def verdicts(found: Findings, contrast: str) -> dict[str, str]:
    """Give marker -> verdict of a contrast at the middle under the primary rule; none where it was not tested."""
    return {row["marker"]: row["verdict"] for row in _rows(found) if row["contrast"] == contrast}


def answer(study: Study, found: Findings) -> str:
    """Answer the question in one sentence, by the rules of the protocol."""
    alignment, pairing = (verdicts(found, name) for name in ("alignment", "pairing"))
    settled = {word for word in alignment.values() if word != "open"}
    where = f"*{plain(study.title)}*"
    if not settled:
        return f"In {where} it is **open** whether alignment changes the prediction from H&E, in every marker.\n"
    if len(settled) == 2:
        told = "; ".join(f"{marker}: {word}" for marker, word in alignment.items())
        return f"In {where} alignment moves the prediction in opposite directions: {told}.\n"
    (word,) = settled
    there = _listed(marker for marker, one in alignment.items() if one == word)
    against = [marker for marker, one in pairing.items() if one not in ("open", word)]
    if against:
        return f"In {where} alignment scores {word} ({there}), but true pairs do the contrary in {_listed(against)}.\n"
    verb = "helps" if word == "higher" else "harms"
    paired = [marker for marker, one in pairing.items() if one == word]
    because = (
        f"and the truth of the pairs has a share in it ({_listed(paired)})"
        if paired
        else "and it is open whether that is owed to the truth of the pairs"
    )
    return f"In {where} alignment **{verb}** ({there}), {because}.\n"


def answers(study: Study, found: Findings) -> str:
    """Lay out every contrast at the middle: value, interval over cases and seeds, corrected p, verdict."""
    rows = []
    for name, pair in study.contrasts.items():
        for row in (row for row in _rows(found) if row["contrast"] == name):
            cells = [interval(row, sign=True), p_value(row["p_holm"]), f"**{row['verdict']}**"]
            rows.append([plain(pair.asks), row["marker"], *cells])
    head = ["question", "marker", "difference of AUC", "p, corrected", "verdict"]
    tested = len(rows)
    return f"{table(head, rows, words=True)}\nCorrected over all {tested} tests of this table (Holm).\n"


def rules(study: Study, found: Findings) -> str:
    """Lay out whether an answer depends on the rule that chooses the epoch."""
    rows = []
    for name, pair in study.contrasts.items():
        for marker in verdicts(found, name):
            cells = []
            for rule in RULES:
                row = _one(found[MIDDLE][rule]["contrasts"], contrast=name, marker=marker)
                cells.append(f"{interval(row, sign=True)}{_mark(row['verdict'])}")
            rows.append([f"{_title(study, pair.of)} minus {_title(study, pair.minus)}", marker, *cells])
    return table(["contrast", "marker", *RULES.values()], rows, words=True) + _STARRED


def levels(study: Study, found: Findings) -> str:
    """Lay out what each method reached at the middle, and how its embeddings lie."""
    return _levels(study, found, MIDDLE)


def controls(study: Study, found: Findings) -> str:
    """Lay out retrieval and AUC with and without signal side by side, of the same methods and seeds."""
    without = next(
        (name for name, row in found.items() if row["axis"] == "signal strength" and row["value"] == 0), None
    )
    if without is None:
        return _ABSENT
    rows = []
    for row in found[MIDDLE][PRIMARY]["levels"]:
        other = _one(found[without][PRIMARY]["levels"], marker=row["marker"], method=row["method"])
        if other:
            cells = [f"{one['recall_1']:.3f}" for one in (row, other)] + [f"{row['chance_1']:.3f}"]
            cells += [interval({**one, "value": one["auc"]}) for one in (row, other)]
            rows.append([row["marker"], _title(study, row["method"]), *cells])
    head = ["marker", "method", "recall@1", "without signal", "chance", "AUC", "AUC without signal"]
    return table(head, rows)


def axes(study: Study, found: Findings) -> str:
    """Lay out the AUC of every method at every point of every axis, and how much of the point is there."""
    rows = []
    for name, point in found.items():
        if name != MIDDLE:
            for row in point[PRIMARY]["levels"]:
                done = f"{point['units']['kept']} of {point['units']['wanted']}"
                cells = [interval({**row, "value": row["auc"]}), f"{row['seeds']}", done]
                rows.append(
                    [f"{point['axis']}: {point['value']:g}", row["marker"], _title(study, row["method"]), *cells]
                )
    return table(["point", "marker", "method", "AUC", "seeds", "runs kept"], rows)


def _levels(study: Study, found: Findings, point: str) -> str:
    rows = []
    for row in found[point][PRIMARY]["levels"]:
        cells = [interval({**row, "value": row["auc"]}), f"{row['pooled_auc']:.3f}", f"{row['weighted_f1']:.3f}"]
        cells += [
            f"{row['recall_1']:.3f} ({row['chance_1']:.3f})",
            f"{row['alignment']:+.3f}",
            f"{row['cosine_he']:.3f}",
        ]
        rows.append([row["marker"], _title(study, row["method"]), *cells, f"{row['epoch']:g}"])
    head = [
        "marker",
        "method",
        "AUC within folds",
        "pooled",
        "weighted F1",
        "recall@1 (chance)",
        "alignment",
        "two H&E",
    ]
    return table([*head, "epoch"], rows)


def _along(study: Study, found: Findings) -> pd.DataFrame:
    """Levels of every point whose axis also holds the middle, and of the middle there."""
    rows = []
    for axis, value in middles(study).items():
        points = [point for point in found.values() if point["axis"] == axis]
        there = {(row["marker"], row["method"]) for point in points for row in point[PRIMARY]["levels"]}
        for point in [found[MIDDLE] | {"value": value}, *points] if points else []:
            for row in point[PRIMARY]["levels"]:
                if (row["marker"], row["method"]) in there:
                    rows.append({"axis": axis, "value": float(point["value"]), **row})
    return pd.DataFrame(rows)


def _rows(found: Findings) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = found[MIDDLE][PRIMARY]["contrasts"]
    return rows


def _one(rows: Iterable[Mapping[str, Any]], **keys: str) -> dict[str, Any]:
    return next((dict(row) for row in rows if all(row[key] == value for key, value in keys.items())), {})


def _title(study: Study, method: str) -> str:
    return plain(study.methods[method].title)


def _mark(verdict: str) -> str:
    return {"higher": " \N{UPWARDS ARROW}", "lower": " \N{DOWNWARDS ARROW}"}.get(verdict, "")


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
