"""The tables and sentences of the results, written from summary.json and nothing else."""

from typing import Any

from hsa import steps
from hsa.study import Study

_METRICS = {
    "weighted_f1": "weighted F1",
    "roc_auc": "ROC AUC",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "average_precision": "average precision",
}
_HEADLINE = ("weighted_f1", "roc_auc", "balanced_accuracy")


def interval(number: dict[str, Any], sign: bool = False) -> str:
    """Write a value with its 95 % interval, such as 0.735 [0.670, 0.799]."""
    form = "{:+.3f}" if sign else "{:.3f}"
    value, low, high = (form.format(number[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]".replace("-", "\N{MINUS SIGN}")


def titles(study: Study) -> dict[str, str]:
    """Name every evaluated method as figures and tables do, in their order."""
    return {"majority": "Majority class", **{name: method.title for name, method in study.methods.items()}}


def headline(study: Study) -> str:
    """Lay out, for a terminal: stain, method, weighted F1, 95 % CI, published F1."""
    summary = steps.read_summary(study)
    rows = [("stain", "method", "weighted F1", "95 % CI", "published F1")]
    for marker in study.markers:
        methods = summary["prediction"][marker]
        published = summary["published"][marker]
        for name, title in titles(study).items():
            f1 = methods[name]["weighted_f1"]
            known = f"{published['value']:.3f}" if published and name == study.full else "unknown"
            rows.append((marker, title, f"{f1['value']:.3f}", f"{f1['low']:.3f}-{f1['high']:.3f}", known))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def fragments(study: Study) -> dict[str, str]:
    """Write every generated piece of the book: file name -> Markdown.

    Raises:
        InputError: summary.json is missing.
    """
    summary = steps.read_summary(study)
    return {
        "prediction.md": _prediction(study, summary),
        "difference.md": _difference(study, summary),
        "alignment.md": _alignment(study, summary),
        "published.md": _published(study, summary),
        "verdict.md": _verdict(study, summary),
        "imprints.md": _imprints(),
    }


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _prediction(study: Study, summary: dict) -> str:
    rows = []
    for marker in study.markers:
        methods = summary["prediction"][marker]
        cases = summary["cases"][marker]
        rows.append([f"**{marker}**, {cases['n']} cases, {cases['positive']} positive", *[""] * len(_HEADLINE)])
        for name, title in titles(study).items():
            rows.append([title, *(interval(methods[name][metric]) for metric in _HEADLINE)])
    return _table(["", *(_METRICS[metric] for metric in _HEADLINE)], rows)


def _difference(study: Study, summary: dict) -> str:
    rows = []
    for marker in study.markers:
        found = summary["difference"][marker]
        wilcoxon = found["wilcoxon"]
        rows.append(
            [
                marker,
                interval(found["metrics"]["weighted_f1"], sign=True),
                interval(found["metrics"]["roc_auc"], sign=True),
                _p(found["delong"]["p"]),
                _p(wilcoxon["positives"]["p"]),
                _p(wilcoxon["negatives"]["p"]),
            ]
        )
    head = ["", "weighted F1", "ROC AUC", "DeLong p", "Wilcoxon p, positives", "Wilcoxon p, negatives"]
    text = f"{study.methods[study.full].title} minus {study.methods[study.baseline].title.lower()}, on the same cases:"
    return f"{text}\n\n{_table(head, rows)}"


def _alignment(study: Study, summary: dict) -> str:
    rows = []
    for marker in study.markers:
        methods = summary["alignment"][marker]
        rows.append([f"**{marker}**", "", "", "", ""])
        for name in study.methods:
            found = methods[name]
            recall = found["recall_1"]
            rows.append(
                [
                    study.methods[name].title,
                    interval(found["alignment"], sign=True),
                    f"{found['paired']['value']:.3f}",
                    f"{found['shuffled']['value']:.3f}",
                    f"{recall['value']:.3f} ({recall['chance']:.3f})",
                ]
            )
    return _table(["", "alignment", "paired cosine", "shuffled cosine", "recall@1 (chance)"], rows)


def _published(study: Study, summary: dict) -> str:
    rows = []
    for marker in study.markers:
        methods = summary["prediction"][marker]
        known = summary["published"][marker]
        rows.append(
            [
                marker,
                interval(known) if known else "unknown",
                interval(methods[study.full]["weighted_f1"]),
                "unknown",
                interval(methods[study.baseline]["weighted_f1"]),
                "no: other slides, other encoder",
            ]
        )
    full, base = (study.methods[name].title for name in (study.full, study.baseline))
    head = [
        "weighted F1",
        f"{full}, published",
        f"{full}, here",
        f"{base}, published",
        f"{base}, here",
        "comparable?",
    ]
    return _table(head, rows)


def _verdict(study: Study, summary: dict) -> str:
    """Say in words what the intervals say: better, worse, or not settled."""
    full, base = (study.methods[name].title for name in (study.full, study.baseline))
    lines = []
    for marker in study.markers:
        found = summary["difference"][marker]
        auc = found["metrics"]["roc_auc"]
        if auc["low"] > 0:
            says = "predicts better with alignment than without"
        elif auc["high"] < 0:
            says = "predicts worse with alignment than without"
        else:
            says = "shows no difference that this cohort could settle"
        aligned = summary["alignment"][marker][study.full]["alignment"]
        apart = "lie nearer to each other than to others" if aligned["low"] > 0 else "lie no nearer than others"
        lines.append(
            f"- **{marker}** {says}: ROC AUC differs by {interval(auc, sign=True)}. H&E slides and their own IHC "
            f"sections {apart} (alignment {interval(aligned, sign=True)})."
        )
    return f"{full} against {base.lower()}, {summary['provenance']['title'].lower()}:\n\n" + "\n".join(lines) + "\n"


def _imprints() -> str:
    """Say what each marker of the virtual tissue leaves in H&E, from the table that the simulation reads."""
    from hsa.virtual.markers import LATENTS, MARKERS

    rows = [
        [marker, latent.replace("_", " "), f"{weight:.1f}", LATENTS[latent]]
        for marker, programme in MARKERS.items()
        for latent, weight in programme.imprint.items()
    ]
    return _table(["marker", "latent", "weight", "what one unit of it changes"], rows)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
