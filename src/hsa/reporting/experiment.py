"""What an experiment found, in words and tables written from its findings.json and nothing else.

Every conclusion follows the rules that the protocol wrote down before the run, and says "open" where it is. Nothing is
concluded before all runs of the middle point are there: who looks while runs come in finds something in the end.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hsa.files import read_json
from hsa.reporting import figures
from hsa.reporting.design import plain
from hsa.reporting.tables import interval, p_value, signed, table
from hsa.study.study import Study

Findings = dict[str, Any]
MIDDLE, PRIMARY = "middle", "validated"
RULES = {
    "validated": "best validation AUC (primary)",
    "last": "last epoch",
    "published": "lowest total validation loss (published)",
}
_STARRED = "\nAn arrow marks a verdict: corrected over the contrasts and markers, under the rule of its column.\n"
_ABSENT = "*{title}*: this copy of the book holds no results of it yet. `make study` makes them, or goes on.\n"
_CONTRASTS = """### {title}

```{{figure}} _generated/{name}_contrasts.png
:name: fig-{name}-contrasts
:alt: A panel for each marker; in each a line for every contrast with its interval, and the verdict in words.

{title}: AUC within folds of {of} minus that of the method that each line names, with 95 % intervals over cases and
training seeds. The verdicts are corrected over all contrasts and markers.
```
"""


def read(study: Study) -> Findings | None:
    """Read what is found of a study, in its own order; None until all runs of its middle are there."""
    path = study.paths.kept / "findings.json"
    found = read_json(path) if path.is_file() else {}
    there = found.get(MIDDLE, {"units": {"kept": 0, "wanted": 1}})["units"]
    if there["kept"] < there["wanted"]:
        return None
    places = [*study.markers, *study.methods, *study.contrasts]
    for point in found.values():
        for rows in (rows for rule in RULES for rows in point[rule].values()):
            rows.sort(
                key=lambda row: (places.index(row["marker"]), places.index(row.get("method", row.get("contrast"))))
            )
    return found


def fragments(study: Study, found: Findings | None) -> dict[str, str]:
    """Write the pieces of the book that tell one experiment: file name -> Markdown, most empty until it is done."""
    folded = {answers: "the same numbers as a table", rules: "under three rules", levels: "every method"}
    told = (answer(study, found), shown(study, found)) if found else (_ABSENT.format(title=study.title), "")
    made = dict(zip(("answer", "shown"), told, strict=True))
    for piece, label in folded.items():
        made[piece.__name__] = fold(study, label, piece(study, found)) if found else ""
    return {f"{study.name}_{name}.md": text for name, text in made.items()}


def fold(study: Study, label: str, text: str) -> str:
    """Fold a table under a line that says what it is of."""
    return f"::::{{dropdown}} {study.title}: {label}\n{text}::::\n"


def shown(study: Study, found: Findings) -> str:
    """Show the contrasts as a figure, which `draw` draws."""
    of = {pair.of for pair in study.contrasts.values()}
    what = title(study, of.pop()) if len(of) == 1 else "the method in the first place"
    return _CONTRASTS.format(name=study.name, title=plain(study.title), of=what)


def draw(study: Study, found: Findings | None, target: Path) -> None:
    """Draw <study>_contrasts.png into a folder, if there are results."""
    if found is None:
        return
    figures.use_style()
    rows = pd.DataFrame(contrasts(found))
    titles = {name: f"{way.title}" for name, way in study.methods.items()}
    first = {pair.of for pair in study.contrasts.values()}
    of = "" if len(first) == 1 else "{}\n"  # said once, where it is always the same
    asked = {name: f"{of.format(titles[p.of])}minus {titles[p.minus]}" for name, p in study.contrasts.items()}
    figures.save(figures.contrasts(rows, asked), target / f"{study.name}_contrasts.png", rows)


def verdicts(found: Findings, contrast: str) -> dict[str, str]:
    """Give marker -> verdict of a contrast at the middle under the primary rule; none where it was not tested."""
    return {row["marker"]: row["verdict"] for row in contrasts(found) if row["contrast"] == contrast}


def answer(study: Study, found: Findings) -> str:
    """Answer the question in one sentence, by the rules of the protocol."""
    alignment, pairing = (verdicts(found, name) for name in ("alignment", "pairing"))
    settled = {word for word in alignment.values() if word != "open"}
    where = f"*{plain(study.title)}*"
    if not settled:
        said = f"In {where} it is **open** whether alignment changes the prediction from H&E, in every marker."
        parts = [
            f"True pairs score {word} than shuffled ones ({_listed(where_so)})."
            for word in ("higher", "lower")
            if (where_so := [marker for marker, one in pairing.items() if one == word])
        ]
        return " ".join([said, *parts]) + "\n"
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
        for row in (row for row in contrasts(found) if row["contrast"] == name):
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
                row = one_of(found[MIDDLE][rule]["contrasts"], contrast=name, marker=marker)
                cells.append(f"{interval(row, sign=True)}{_mark(row['verdict'])}")
            rows.append([f"{title(study, pair.of)} minus {title(study, pair.minus)}", marker, *cells])
    return table(["contrast", "marker", *RULES.values()], rows, words=True) + _STARRED


def levels(study: Study, found: Findings) -> str:
    """Lay out what each method reached at the middle, and how its embeddings lie."""
    rows = []
    for row in found[MIDDLE][PRIMARY]["levels"]:
        cells = [interval({**row, "value": row["auc"]}), f"{row['pooled_auc']:.3f}", f"{row['weighted_f1']:.3f}"]
        cells += [f"{row['recall_1']:.3f} ({row['chance_1']:.3f})", signed(row["alignment"])]
        rows.append(
            [row["marker"], title(study, row["method"]), *cells, f"{row['cosine_he']:.3f}", f"{row['epoch']:g}"]
        )
    names = ("AUC within folds", "pooled", "weighted F1", "recall@1 (chance)", "alignment", "two H&E", "epoch")
    return table(["marker", "method", *names], rows)


def contrasts(found: Findings) -> list[dict[str, Any]]:
    """Give the rows of the contrasts at the middle, under the primary rule."""
    rows: list[dict[str, Any]] = found[MIDDLE][PRIMARY]["contrasts"]
    return rows


def one_of(rows: Iterable[Mapping[str, Any]], **keys: str) -> dict[str, Any]:
    """Find the first row that holds these values; an empty one where none does."""
    return next((dict(row) for row in rows if all(row[key] == value for key, value in keys.items())), {})


def title(study: Study, method: str) -> str:
    """Name a method as the tables do."""
    return plain(study.methods[method].title)


def _mark(verdict: str) -> str:
    return {"higher": " \N{UPWARDS ARROW}", "lower": " \N{DOWNWARDS ARROW}"}.get(verdict, "")


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
