"""The tables of the results, written from a study's summary.json and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hsa.evaluation.ceilings import TITLES as CEILINGS
from hsa.evaluation.comparison import with_seeds
from hsa.pipeline import steps
from hsa.study.study import Study

Summary = dict[str, Any]
_HEADLINE = {"roc_auc": "ROC AUC", "weighted_f1": "weighted F1"}
_OTHERS = {"balanced_accuracy": "balanced accuracy", "average_precision": "average precision"}
_CLASSES = {
    "quadratic_kappa": "quadratic kappa",
    "weighted_f1": "weighted F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
}
KAPPA = (
    "These numbers are over all classes, not positive against negative. Quadratic kappa is agreement beyond chance: "
    "1 is perfect, 0 is chance. A miss by two classes costs four times a miss by one (Cohen 1968)."
)
PROBE = (
    "The Wilcoxon tests and the calibration error follow the strength of the probe's regularisation, which is searched "
    "fold by fold and method by method: with another, the same embeddings can give another answer. They are no "
    "evidence on their own."
)

_MAPS = {
    "pointed": "top tile is tumour (chance)",
    "auc_tumour": "AUC, tumour tiles",
    "auc_positive": "AUC, tiles with positive cells",
    "auc_control": "the same on negative slides",
}


def interval(number: Mapping[Any, Any], sign: bool = False, digits: int = 3) -> str:
    """Write a value with its 95 % interval, such as 0.735 [0.670, 0.799]."""
    form = f"{{:{'+' * sign}.{digits}f}}"
    value, low, high = ("none" if number[k] is None else form.format(number[k]) for k in ("value", "low", "high"))
    return f"{value} [{low}, {high}]".replace("-", "\N{MINUS SIGN}")


def signed(number: float) -> str:
    """Write a difference with its sign, such as −0.021."""
    return f"{number:+.3f}".replace("-", "\N{MINUS SIGN}")


def titles(study: Study) -> dict[str, str]:
    """Name every evaluated method as figures and tables do, in their order."""
    return _named({name: method.title for name, method in study.methods.items()})


def headline(study: Study) -> str:
    """Lay out, for a terminal: stain, method, weighted F1, 95 % CI, published F1; then markers with more classes."""
    summary = steps.read_summary(study)
    rows = [("stain", "method", "weighted F1", "95 % CI", "published F1")]
    for marker in study.markers:
        methods = summary["prediction"][marker]
        published = summary["published"][marker]
        for name, title in titles(study).items():
            f1 = methods[name]["weighted_f1"]
            known = f"{published['value']:.3f}" if published and name == study.full else "unknown"
            rows.append((marker, title, f"{f1['value']:.3f}", f"{f1['low']:.3f}-{f1['high']:.3f}", known))
    return "\n".join([_columns(rows), *_headline_of_classes(study, summary)])


def _headline_of_classes(study: Study, summary: Summary) -> list[str]:
    """The same of all classes, for each marker that has more than two."""
    parts = []
    for marker, methods in _ranked(summary).items():
        rows = [("stain", "method", "quadratic kappa", "95 % CI", "weighted F1", "95 % CI")]
        for name, title in titles(study).items():
            numbers = [methods[name][metric] for metric in ("quadratic_kappa", "weighted_f1")]
            cells = [(f"{n['value']:.3f}", f"{n['low']:.3f} to {n['high']:.3f}") for n in numbers]
            rows.append((marker, title, *cells[0], *cells[1]))
        parts.append(f"\n{marker}, {study.markers[marker].meaning}. {KAPPA}\n\n{_columns(rows)}")
    return parts


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def table(head: list[str], rows: list[list[str]], words: bool = False) -> str:
    """Write a Markdown table; one of numbers is kept in one line a row by book/_static/hsa.css."""
    lines = [head, ["---"] * len(head), *rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{body}\n" if words else f":::{{container}} numbers\n{body}\n:::\n"


def prediction(summary: Summary) -> str:
    """Every method and ceiling of every stain: AUC and weighted F1, and the spread of the AUC over seeds."""

    def cells(found: dict[str, Any]) -> list[str]:
        spread = found["roc_auc"].get("seed_sd")
        shown = ["none" if spread is None else f"{spread:.3f}"] * is_repeated(summary)
        return [interval(found[metric]) for metric in _HEADLINE] + shown

    head = ["", *_HEADLINE.values(), *["SD of AUC over seeds"] * is_repeated(summary)]
    return table(head, _scored_rows(summary, cells, len(head)))


def more_metrics(summary: Summary) -> str:
    """Every method and ceiling of every stain: balanced accuracy, average precision, calibration error; classes."""

    def cells(found: dict[str, Any]) -> list[str]:
        return [interval(found[metric]) for metric in _OTHERS] + [f"{found['calibration_error']['value']:.3f}"]

    head = ["", *_OTHERS.values(), "calibration error"]
    return f"{table(head, _scored_rows(summary, cells, len(head)))}\n{PROBE}\n{_all_classes(summary)}"


def _all_classes(summary: Summary) -> str:
    """Every method of the stains with more than two classes: how well all of them are told apart; else nothing."""
    rows = []
    for marker, methods in _ranked(summary).items():
        rows.append([f"**{marker}**: {summary['provenance']['classes'][marker]}", *[""] * len(_CLASSES)])
        rows += [[title, *class_metrics(methods[name]).values()] for name, title in _methods(summary).items()]
    return f"\n{KAPPA}\n\n{table(['', *_CLASSES.values()], rows)}" if rows else ""


def class_metrics(found: dict[str, Any]) -> dict[str, str]:
    """Write the metrics over all classes of one method: title -> value and interval."""
    return {title: interval(found[metric]) for metric, title in _CLASSES.items()}


def _ranked(summary: Summary) -> dict[str, Any]:
    """Give marker -> method -> metric over all classes, of the markers with more than two."""
    return {marker: found for marker, found in summary.get("categories", {}).items() if found}


def is_repeated(summary: Summary) -> bool:
    """Tell whether the study has several training seeds."""
    return len(summary["provenance"].get("seeds", [0])) > 1


def _scored_rows(summary: Summary, cells: Callable[[dict[str, Any]], list[str]], width: int) -> list[list[str]]:
    rows = []
    for marker in markers_of(summary):
        cases = summary["cases"][marker]
        rows.append([f"**{marker}**: {cases['n']} cases, {cases['positive']} positive", *[""] * (width - 1)])
        for name, title in _methods(summary).items():
            rows.append([title, *cells(summary["prediction"][marker][name])])
        for name, found in summary["ceiling"][marker].items():
            rows.append([f"*{CEILINGS[name]}*", *cells(found)])
    return rows


def difference(summary: Summary) -> str:
    """The full method against the baseline, with every test; p values corrected over the stains in brackets."""
    gained, tested, holm = [], [], summary["holm"]
    for marker in markers_of(summary):
        found = summary["difference"][marker]
        wilcoxon = found["wilcoxon"]
        pairs = (
            (found["delong"]["p"], holm["delong"][marker]),
            (wilcoxon["positives"]["p"], holm["wilcoxon_positives"][marker]),
            (wilcoxon["negatives"]["p"], holm["wilcoxon_negatives"][marker]),
        )
        auc, f1 = (found["metrics"][metric] for metric in ("roc_auc", "weighted_f1"))
        gains = [interval(auc, sign=True), *[seeds_too(auc)] * is_repeated(summary), interval(f1, sign=True)]
        gained.append([marker, *gains])
        tested.append([marker, *(f"{p_value(p)} ({p_value(corrected)})" for p, corrected in pairs)])
    head = ["", "ROC AUC", *["with other seeds"] * is_repeated(summary), "weighted F1"]
    tests = ["", "DeLong p", "Wilcoxon p, +", "Wilcoxon p, \N{MINUS SIGN}"]
    full, base = compared(summary)
    said = f"{full} minus {base.lower()}, on the same cases."
    how = "The published Wilcoxon tests are taken over positive (+) and negative cases."
    how += " In brackets: p corrected over the stains (Holm)."
    return f"{said}\n\n{table(head, gained)}\n{how} {PROBE}\n\n{table(tests, tested)}"


def ablation(summary: Summary) -> str:
    """Every method against the baseline: difference of ROC AUC; a star where p, of cases and seeds, is below 0.05."""
    markers, named = markers_of(summary), titles_of(summary)
    rows = []
    for name, title in named.items():
        if name == summary["provenance"]["baseline"]:
            continue
        found = [summary["against_baseline"][marker][name]["roc_auc"] for marker in markers]
        rows.append([title, *(f"{interval(f, sign=True)}{'*' * (with_seeds(f)['p'] < 0.05)}" for f in found)])
    note = (
        "\nIntervals are over cases. A star marks p < 0.05 over cases and, where there are several, training seeds; "
        "it is not corrected for the number of tests.\n"
    )
    return table(["ROC AUC minus the baseline's", *markers], rows) + note


def alignment(summary: Summary) -> str:
    """Paired against shuffled cosine, retrieval, and the cosine of two H&E slides (1: collapsed) of every method."""
    rows = []
    for marker in markers_of(summary):
        rows.append([f"**{marker}**", *[""] * 5])
        for name, title in titles_of(summary).items():
            found = summary["alignment"][marker][name]
            recall = found["recall_1"]
            cosines = [f"{found[key]['value']:.3f}" for key in ("paired", "shuffled")]
            cells = [interval(found["alignment"], sign=True), *cosines]
            cells += [f"{recall['value']:.3f} ({recall['chance']:.3f})", f"{found['cosine_he']['value']:.3f}"]
            rows.append([title, *cells])
    head = ["", "alignment", "paired", "shuffled", "recall@1 (chance)", "two H&E"]
    return table(head, rows)


def maps(summary: Summary) -> str:
    """Whether heat maps point to tumour and to positive cells; chance in brackets."""
    rows = []
    for marker in markers_of(summary):
        methods = summary["maps"][marker]
        rows += [[f"**{marker}**", *[""] * len(_MAPS)]] if methods else []
        for name, title in titles_of(summary).items():
            if name in methods:
                rows.append([title, *(_scored(methods[name][key]) for key in _MAPS)])
    return table(["", *_MAPS.values()], rows) if rows else "*The truth of these slides is not known.*\n"


def published(summary: Summary) -> str:
    """The paper's numbers, ours, and the ceiling of this cohort."""
    rows, meta = [], summary["provenance"]
    for marker in markers_of(summary):
        methods, known = summary["prediction"][marker], summary["published"][marker]
        oracle = summary["ceiling"][marker].get("oracle")
        for key, paper in (("full", known), ("baseline", None)):
            cells = [interval(paper) if paper else "unknown", interval(methods[meta[key]]["weighted_f1"])]
            cells += [interval(oracle["weighted_f1"]) if oracle else "unknown", "no"]
            rows.append([f"{marker}, {titles_of(summary)[meta[key]]}", *cells])
    return table(["weighted F1", "published", "here", "ceiling here", "comparable?"], rows)


def seeds_too(gain: dict[str, Any]) -> str:
    """Write the interval of a difference over cases and training seeds; nothing where there is one seed."""
    if (gain.get("seeds") or 1) == 1:
        return ""
    return interval(with_seeds(gain), sign=True).partition(" ")[2]


def _named(methods: dict[str, str]) -> dict[str, str]:
    return {"majority": "Majority class", **methods}


def titles_of(summary: Summary) -> dict[str, str]:
    """Give name -> title of every method, in the order of the study."""
    return {method["name"]: method["title"] for method in summary["provenance"]["methods"]}


def _methods(summary: Summary) -> dict[str, str]:
    return _named(titles_of(summary))


def markers_of(summary: Summary) -> list[str]:
    """Name the markers of a study, in its order."""
    return summary["provenance"]["markers"]


def compared(summary: Summary) -> tuple[str, str]:
    """Give the titles of the full method and of the baseline."""
    meta = summary["provenance"]
    named = titles_of(summary)
    return named[meta["full"]], named[meta["baseline"]]


def _scored(number: dict[str, Any]) -> str:
    if not number["n"]:
        return "none"
    chance = f" ({number['chance']:.2f})" if number["chance"] != 0.5 else ""
    return interval(number) + chance


def p_value(value: float) -> str:
    """Write a p value, small ones as < 0.001."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
