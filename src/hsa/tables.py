"""The tables and sentences of the results, written from a study's summary.json and nothing else."""

from typing import Any

from hsa import steps
from hsa.ceilings import TITLES as CEILINGS
from hsa.study import Study

Summary = dict[str, Any]
_METRICS = {
    "roc_auc": "ROC AUC",
    "weighted_f1": "weighted F1",
    "balanced_accuracy": "balanced accuracy",
    "average_precision": "average precision",
}

_MAPS = {
    "pointed": "top tile is tumour (chance)",
    "auc_tumour": "AUC, tumour tiles",
    "auc_positive": "AUC, tiles with positive cells",
    "auc_control": "the same on negative slides",
}


def interval(number: dict[str, Any], sign: bool = False) -> str:
    """Write a value with its 95 % interval, such as 0.735 [0.670, 0.799]."""
    form = "{:+.3f}" if sign else "{:.3f}"
    value, low, high = ("none" if number[k] is None else form.format(number[k]) for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]".replace("-", "\N{MINUS SIGN}")


def titles(study: Study) -> dict[str, str]:
    """Name every evaluated method as figures and tables do, in their order."""
    return _named({name: method.title for name, method in study.methods.items()})


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


def fragments(summary: Summary, prefix: str = "") -> dict[str, str]:
    """Write the pieces of the book that tell one study's results: file name -> Markdown."""
    parts = (prediction, difference, ablation, alignment, maps, published, power, verdict)
    return dict(zip(names(prefix), (part(summary) for part in parts), strict=True))


def names(prefix: str = "") -> list[str]:
    """Name the pieces that `fragments` writes, in order."""
    parts = ("prediction", "difference", "ablation", "alignment", "maps", "published", "power", "verdict")
    return [f"{prefix}{part}.md" for part in parts]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def prediction(summary: Summary) -> str:
    """Every method and ceiling of every stain: the metrics with intervals, calibration error, spread over seeds."""
    rows = []
    for marker, cases in summary["cases"].items():
        rows.append([f"**{marker}**: {cases['n']} cases, {cases['positive']} positive", *[""] * (len(_METRICS) + 2)])
        scored = {name: (title, summary["prediction"][marker][name]) for name, title in _methods(summary).items()}
        scored |= {name: (f"*{CEILINGS[name]}*", found) for name, found in summary["ceiling"][marker].items()}
        for title, found in scored.values():
            spread = found["roc_auc"].get("seed_sd")
            error = f"{found['calibration_error']['value']:.3f}"
            shown = "one seed" if spread is None else f"{spread:.3f}"
            rows.append([title, *(interval(found[metric]) for metric in _METRICS), shown, error])
    return table(["", *_METRICS.values(), "SD of AUC over seeds", "calibration error"], rows)


def difference(summary: Summary) -> str:
    """The full method against the baseline, with every test; p values corrected over the stains in brackets."""
    rows, holm = [], summary["holm"]
    for marker, found in summary["difference"].items():
        wilcoxon = found["wilcoxon"]
        pairs = (
            (found["delong"]["p"], holm["delong"][marker]),
            (wilcoxon["positives"]["p"], holm["wilcoxon_positives"][marker]),
            (wilcoxon["negatives"]["p"], holm["wilcoxon_negatives"][marker]),
        )
        gains = [interval(found["metrics"][metric], sign=True) for metric in ("roc_auc", "weighted_f1")]
        rows.append([marker, *gains, *(f"{_p(p)} ({_p(corrected)})" for p, corrected in pairs)])
    head = ["", "ROC AUC", "weighted F1", "DeLong p (Holm)", "Wilcoxon p, positives", "Wilcoxon p, negatives"]
    full, base = compared(summary)
    return f"{full} minus {base.lower()}, on the same cases:\n\n{table(head, rows)}"


def ablation(summary: Summary) -> str:
    """Every method against the baseline: difference of ROC AUC, and DeLong's p."""
    markers, named = list(summary["cases"]), summary["provenance"]["methods"]
    rows = []
    for name, title in named.items():
        if name == summary["provenance"]["baseline"]:
            continue
        found = [summary["against_baseline"][marker][name] for marker in markers]
        rows.append([title, *(f"{interval(f['roc_auc'], sign=True)}, p {_p(f['p'], '=')}" for f in found)])
    return table(["ROC AUC minus the baseline's", *markers], rows)


def alignment(summary: Summary) -> str:
    """Paired against shuffled similarity, retrieval and collapse of every method."""
    rows = []
    for marker, methods in summary["alignment"].items():
        rows.append([f"**{marker}**", *[""] * 5])
        for name, found in methods.items():
            recall = found["recall_1"]
            cosines = [f"{found[key]['value']:.3f}" for key in ("paired", "shuffled")]
            cells = [interval(found["alignment"], sign=True), *cosines]
            cells += [f"{recall['value']:.3f} ({recall['chance']:.3f})", f"{found['cosine_he']['value']:.3f}"]
            rows.append([summary["provenance"]["methods"][name], *cells])
    head = ["", "alignment", "paired cosine", "shuffled cosine", "recall@1 (chance)", "cosine of two H&E slides"]
    return table(head, rows)


def maps(summary: Summary) -> str:
    """Whether heat maps point to tumour and to positive cells; chance in brackets."""
    rows = []
    for marker, methods in summary["maps"].items():
        rows.append([f"**{marker}**", *[""] * len(_MAPS)])
        for name, found in methods.items():
            cells = [_scored(found[key]) for key in _MAPS]
            rows.append([summary["provenance"]["methods"][name], *cells])
    return table(["", *_MAPS.values()], rows) if rows else "*The truth of these slides is not known.*\n"


def published(summary: Summary) -> str:
    """The paper's numbers, ours, and the ceiling of this cohort."""
    rows, meta = [], summary["provenance"]
    for marker, methods in summary["prediction"].items():
        known, oracle = summary["published"][marker], summary["ceiling"][marker].get("oracle")
        ceiling = interval(oracle["weighted_f1"]) if oracle else "unknown"
        full = [interval(known) if known else "unknown", interval(methods[meta["full"]]["weighted_f1"])]
        base = ["unknown", interval(methods[meta["baseline"]]["weighted_f1"])]
        rows.append([marker, *full, *base, ceiling, "no: other slides, other encoder"])
    full, base = compared(summary)
    head = [f"{full}, published", f"{full}, here", f"{base}, published", f"{base}, here", "ceiling here"]
    return table(["weighted F1", *head, "comparable?"], rows)


def power(summary: Summary) -> str:
    """What a cohort of this size can detect, beside what was seen."""
    rows = []
    for marker, found in summary["power"].items():
        seen, cases = summary["difference"][marker]["delong"], summary["cases"][marker]
        least = "none" if found["detectable"] is None else f"{found['detectable']:.3f}"
        counts = [f"{cases['n']}", f"{cases['positive'] / cases['n']:.0%}"]
        rows.append([marker, *counts, least, interval(seen, sign=True)])
    return table(["", "cases", "positive", "detectable difference of AUC", "difference seen (DeLong)"], rows)


def verdict(summary: Summary) -> str:
    """Say in words what the intervals say: better, worse, or not settled."""
    full, base = compared(summary)
    lines = []
    for marker, found in summary["difference"].items():
        auc = found["metrics"]["roc_auc"]
        if auc["low"] > 0:
            says = "predicts better with alignment than without"
        elif auc["high"] < 0:
            says = "predicts worse with alignment than without"
        else:
            says = "shows no difference that this cohort could settle"
        aligned = summary["alignment"][marker][summary["provenance"]["full"]]["alignment"]
        apart = "lie nearer to each other than to others" if aligned["low"] > 0 else "lie no nearer than others"
        lines.append(
            f"- **{marker}** {says}: ROC AUC differs by {interval(auc, sign=True)}. H&E slides and their own IHC "
            f"sections {apart} (alignment {interval(aligned, sign=True)})."
        )
    return f"{full} against {base.lower()}, {summary['provenance']['title'].lower()}:\n\n" + "\n".join(lines) + "\n"


def imprints() -> str:
    """Say what each marker of the virtual tissue leaves in H&E, from the table that the simulation reads."""
    from hsa.virtual.markers import LATENTS, MARKERS

    rows = [
        [marker, latent.replace("_", " "), f"{weight:.1f}", LATENTS[latent]]
        for marker, programme in MARKERS.items()
        for latent, weight in programme.imprint.items()
    ]
    return table(["marker", "latent", "weight", "what one unit of it changes"], rows)


def _named(methods: dict[str, str]) -> dict[str, str]:
    return {"majority": "Majority class", **methods}


def _methods(summary: Summary) -> dict[str, str]:
    return _named(summary["provenance"]["methods"])


def compared(summary: Summary) -> tuple[str, str]:
    """Give the titles of the full method and of the baseline."""
    meta = summary["provenance"]
    return meta["methods"][meta["full"]], meta["methods"][meta["baseline"]]


def _scored(number: dict[str, Any]) -> str:
    if not number["n"]:
        return "none"
    chance = f" ({number['chance']:.2f})" if number["chance"] != 0.5 else ""
    return interval(number) + chance


def _p(value: float, equals: str = "") -> str:
    return "< 0.001" if value < 0.001 else f"{equals} {value:.3f}".strip()
