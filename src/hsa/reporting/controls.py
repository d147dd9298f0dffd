"""What the negative controls of the reference run say, read from their kept results and nothing else."""

import pandas as pd

from hsa.reporting import sentences, tables

_ALIKE = 0.95
_NOTE = "\n\N{DAGGER} The interval does not hold {}.\n"


def chance(summary: tables.Summary) -> str:
    """ROC AUC of every H&E method where H&E holds no signal, and whether the interval covers 0.5."""
    markers, rows, halves, missed = tables.markers_of(summary), [], [], 0
    for name, title in tables.titles_of(summary).items():
        found = [summary["prediction"][marker][name]["roc_auc"] for marker in markers]
        rows.append([title, *(f"{tables.interval(f)}{_mark(f, 0.5)}" for f in found)])
        halves += [(f["high"] - f["low"]) / 2 for f in found]
        missed += sum(bool(_mark(f, 0.5)) for f in found)
    cases = max(summary["cases"][marker]["n"] for marker in markers)
    said = (
        f"\nOf {len(halves)} intervals {missed} miss the 0.5; by chance one in twenty does. With {cases} cases half an "
        f"interval is {min(halves):.2f} to {max(halves):.2f}: a leak that is smaller than that would go unseen.\n"
    )
    return _noted(tables.table(["ROC AUC without signal", *markers], rows), 0.5) + said


def nuisance(summary: tables.Summary, sweep: pd.DataFrame | None) -> str:
    """Say how often H&E slides find their own section where the markers leave nothing in H&E.

    Args:
        summary: of that control.
        sweep: of the sweep, whose axis "signal strength" holds runs of equal size with signal and without; or None.
    """
    markers, full = tables.markers_of(summary), summary["provenance"]["full"]
    found = [summary["alignment"][marker][full]["recall_1"] for marker in markers]
    cases = max(summary["cases"][marker]["n"] for marker in markers)
    hits, luck = (sentences.spanned([hit[key] for hit in found]) for key in ("value", "chance"))
    said = (
        f"In a control of {cases} cases whose markers leave nothing in H&E it still does so in {hits} (chance {luck})"
    )
    if sweep is not None:
        axis = sweep[sweep["axis"] == "signal strength"]
        like = axis[(axis["value"] == 1) & (axis["n"] == cases)]["recall_1"].tolist()
        said += f", in a like run with signal in {sentences.spanned(like)}" if like else ""
    if all(hit["low"] > hit["chance"] for hit in found):
        said += ": sections of one case resemble each other without any marker, so this does not show that one is read"
    return f"{said}."


def vanished(summary: tables.Summary) -> str:
    """Alignment, retrieval, prediction and collapse of every method with shuffled pairs."""
    rows = []
    for marker in tables.markers_of(summary):
        rows.append([f"**{marker}**", *[""] * 4])
        for name, title in tables.titles_of(summary).items():
            found, auc = summary["alignment"][marker][name], summary["prediction"][marker][name]["roc_auc"]
            recall = found["recall_1"]
            cells = [f"{tables.interval(found['alignment'], sign=True, digits=4)}{_mark(found['alignment'], 0)}"]
            cells += [f"{recall['value']:.3f} ({recall['chance']:.3f})", f"{found['cosine_he']['value']:.3f}"]
            rows.append([title, *cells, tables.interval(auc)])
    head = ["with shuffled pairs", "alignment", "recall@1 (chance)", "two H&E", "ROC AUC"]
    alike = (
        "\nWhere the cosine of two H&E slides is near one, the encoder has collapsed: it makes all slides alike, and "
        f"an alignment near zero says little. That is so, above {_ALIKE}, for {_named(summary)}.\n"
    )
    return _noted(tables.table(head, rows), 0) + (alike if _named(summary) else "")


def pairing(summary: tables.Summary, sweep: pd.DataFrame) -> str:
    """Lay the full method with shuffled pairs beside the like run with true ones.

    The like run is the point of the sweep with as many cases. That it is like is checked, not believed: the baseline
    never sees a pair, so that its AUC has to be the same in both runs.

    Args:
        summary: of the control with shuffled pairs.
        sweep: the sweep, with an axis "cases".
    """
    markers, meta = tables.markers_of(summary), summary["provenance"]
    rows, worth = [], []
    for marker in markers:
        full, base = (summary["prediction"][marker][meta[key]]["roc_auc"]["value"] for key in ("full", "baseline"))
        axis = sweep[(sweep["axis"] == "cases") & (sweep["marker"] == marker)]
        like = axis[axis["value"] == summary["cases"][marker]["n"]]
        if len(like) != 1 or abs(like.iloc[0][f"auc_{meta['baseline']}"] - base) > 1e-9:
            return "*No like run with true pairs is kept: what pairing is worth is not known.*\n"
        true, found = like.iloc[0], summary["alignment"][marker][meta["full"]]
        gain = {"value": true["gain"], "low": true["low"], "high": true["high"]}
        gains = gain, summary["difference"][marker]["metrics"]["roc_auc"]
        numbers = (true[f"auc_{meta['full']}"], true["alignment"], true["recall_1"])
        shuffled = (full, found["alignment"]["value"], found["recall_1"]["value"])
        for run, gain, (auc, aligned, recall) in zip(("true", "shuffled"), gains, (numbers, shuffled), strict=True):
            cells = [f"{auc:.3f}", tables.interval(gain, sign=True), tables.signed(aligned), f"{recall:.3f}"]
            rows.append([f"{marker}, {run} pairs", *cells])
        worth.append(f"{marker} {tables.signed(numbers[0] - full)}")
    head = ["full method", "ROC AUC", "minus the baseline's", "alignment", "recall@1"]
    return (
        f"{tables.table(head, rows)}\nTrue pairs in place of shuffled ones change the ROC AUC of the full method by "
        f"{', '.join(worth)}: points of one training seed, without intervals, so they may be chance. That is what "
        "pairing is worth there; a gain over the baseline holds the masking loss, too.\n"
    )


def _named(summary: tables.Summary) -> str:
    """Name the methods whose H&E slides are all alike, with the stains for which they are."""
    said = []
    for name, title in tables.titles_of(summary).items():
        cosines = {m: summary["alignment"][m][name]["cosine_he"]["value"] for m in tables.markers_of(summary)}
        found = [marker for marker, cosine in cosines.items() if cosine > _ALIKE]
        said += [f"{title} ({', '.join(found)})"] if found else []
    return ", ".join(said)


def _noted(text: str, null: float) -> str:
    """Add what the dagger means, where there is one."""
    return text + _NOTE.format(null) if "\N{DAGGER}" in text else text


def _mark(number: dict[str, float], null: float) -> str:
    return "" if number["low"] <= null <= number["high"] else "\N{DAGGER}"
