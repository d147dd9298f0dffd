"""What the numbers of a study say, in words, written from its settings and its summary.json and nothing else."""

from typing import Any

from hsa.evaluation.comparison import holm, with_seeds
from hsa.reporting.design import contrast, plain, without
from hsa.reporting.power import found_error, planned_error
from hsa.reporting.tables import (
    Summary,
    compared,
    interval,
    markers_of,
    p_value,
    seeds_too,
    signed,
    titles_of,
)
from hsa.study.study import Study


def verdict(summary: Summary) -> str:
    """Say in words what the intervals say: better, worse, or not settled, seeds and number of stains allowed for."""
    full, base = map(plain, compared(summary))
    corrected, lines = _corrected(summary), []
    for marker in markers_of(summary):
        auc = summary["difference"][marker]["metrics"]["roc_auc"]
        if corrected[marker] < 0.05:
            says = f"is predicted {'better' if auc['value'] > 0 else 'worse'} by the full method than by the baseline"
        elif auc["low"] > 0 or auc["high"] < 0:
            scored = "higher" if auc["low"] > 0 else "lower"
            says = f"is scored {scored} by the full method, but seeds and number of stains leave open whether by chance"
        else:
            says = "shows no difference that this cohort could settle"
        seeds = f", with other seeds {seeds_too(auc)}" if seeds_too(auc) else ""
        aligned, before = _of_both(summary, marker, "alignment")
        apart = "lie nearer to each other than to others" if aligned["low"] > 0 else "lie no nearer than others"
        lines.append(
            f"- **{marker}** {says}: ROC AUC differs by {interval(auc, sign=True)}{seeds}; p = "
            f"{p_value(corrected[marker])}, corrected over the stains. H&E slides and their own IHC "
            f"sections {apart} (alignment {interval(aligned, sign=True)}, the baseline's "
            f"{interval(before, sign=True)}).{_beside_plain(summary, marker)}"
        )
    count = len(summary["provenance"].get("seeds", [0]))
    trained = "one training seed" if count == 1 else f"mean of {count} training seeds"
    head = f"{full} against {base.lower()} ({plain(summary['provenance']['title'])}; {trained}):"
    return "\n".join([head, "", *lines, ""])


def lead(summary: Summary, study: Study, nuisance: str = "") -> str:
    """Sum the verdict up in a few sentences.

    Args:
        summary: of the study.
        study: the study.
        nuisance: sentence on what the first number is where H&E holds nothing of the markers, if that is known.
    """
    markers, corrected = markers_of(summary), _corrected(summary)
    full, count = study.full, len(markers)
    gain = {marker: summary["difference"][marker]["metrics"]["roc_auc"]["value"] for marker in markers}
    better, worse = (sum(corrected[m] < 0.05 and s * gain[m] > 0 for m in markers) for s in (1, -1))
    hits = zip(*(_of_both(summary, marker, "recall_1") for marker in markers), strict=True)
    found, before = (spanned([hit["value"] for hit in both]) for both in hits)
    settled = f"it does for {better} of {count} stains and predicts worse for {worse}; the rest is open"
    if not better + worse:
        settled = f"none of {count} stains settles it" if count > 1 else "this cohort does not settle it"
    slides = f"the simulated slides of *{plain(study.title)}*" if study.simulated else "these slides"
    said = [
        f"On {slides} an H&E slide finds its own IHC section first among those of its test fold in {found} of cases "
        f"with the full method, in {before} with the baseline.",
        nuisance,
        f"**Whether the full method predicts better than the baseline is another question: {settled}.**",
    ]
    methods = [summary["prediction"][marker] for marker in markers]
    if all("mean_pool" in found for found in methods):
        ahead = sum(found["mean_pool"]["roc_auc"]["value"] > found[full]["roc_auc"]["value"] for found in methods)
        said.append(
            f"Mean-pooled tiles, for which nothing is trained, score a higher ROC AUC than the full method in {ahead} "
            f"of {count}."
        )
    said.append(contrast(study))
    return " ".join(filter(None, said))


def contrast_alone(summary: Summary, study: Study) -> str:
    """Say what the full method gains over the same method without the contrastive loss: what alignment adds alone."""
    alone = without(study, "info_nce")
    if alone not in titles_of(summary) or alone == study.baseline:
        return contrast(study)
    lines, bare = [], False
    for marker in markers_of(summary):
        full, other = (summary["prediction"][marker][name]["roc_auc"]["value"] for name in (study.full, alone))
        # Summaries that were kept before this was compared do not hold it.
        gain = summary.get("full_against", {}).get(marker, {}).get(alone)
        bare = bare or gain is None
        told = interval(gain["roc_auc"], sign=True) if gain else signed(full - other)
        lines.append(f"- **{marker}**: {told}")
    note = "\nThis run was kept without the intervals of these differences, so they may be chance.\n" if bare else ""
    head = f"ROC AUC of the full method minus that of *{plain(study.methods[alone].title)}*:"
    return "\n".join([contrast(study), head, "", *lines, note])


def planned(summary: Summary) -> str:
    """Say whether differences scatter as the plan assumed, cases and training seeds counted."""
    wider: list[str] = []
    narrower: list[str] = []
    for marker in markers_of(summary):
        planned = planned_error(summary, marker)
        if planned is not None:
            (wider if found_error(summary, marker) > planned else narrower).append(marker)
    parts = [f"larger than planned for {', '.join(wider)}"] if wider else []
    parts += [f"not larger for {', '.join(narrower)}"] if narrower else []
    seeds = "cases and training seeds" if len(summary["provenance"].get("seeds", [0])) > 1 else "cases alone"
    return f"The standard error of the difference, {seeds} counted, is {' and '.join(parts)}.\n" if parts else ""


def mapped(summary: Summary) -> str:
    """Say how many slides the maps are scored on; nothing where the truth is not known."""
    counts, total = [], 0
    for marker in markers_of(summary):
        for found in list(summary["maps"][marker].values())[:1]:
            total = max(total, found["pointed"]["n"])
            counts.append(f"{marker}: {found['auc_positive']['n']} and {found['auc_control']['n']}")
    if not counts:
        return ""
    return (
        f"{total} test slides are scored, each with the model that has not seen it; the last two columns rest on "
        f"positive and on negative ones among them ({'; '.join(counts)}).\n"
    )


def spanned(values: list[float]) -> str:
    """Write the lowest and the highest share, once if they look alike."""
    ordered = sorted(values)
    return " to ".join(dict.fromkeys(f"{share:.0%}" for share in (ordered[0], ordered[-1])))


def _of_both(summary: Summary, marker: str, measure: str) -> list[dict[str, Any]]:
    """An alignment measure of the full method and of the baseline."""
    return [summary["alignment"][marker][summary["provenance"][key]][measure] for key in ("full", "baseline")]


def _corrected(summary: Summary) -> dict[str, float]:
    """Two-sided p of the difference of AUC, over cases and training seeds, corrected over the stains (Holm)."""
    gains = {marker: summary["difference"][marker]["metrics"]["roc_auc"] for marker in markers_of(summary)}
    return holm({marker: with_seeds(gain)["p"] for marker, gain in gains.items()})


def _beside_plain(summary: Summary, marker: str) -> str:
    """The sentence that keeps a gain in proportion: what the mean of the tiles reaches without any training."""
    methods = summary["prediction"][marker]
    if "mean_pool" not in methods:
        return ""
    plain, full = (methods[name]["roc_auc"]["value"] for name in ("mean_pool", summary["provenance"]["full"]))
    said = f" Mean-pooled tiles, which train nothing, reach a ROC AUC of {plain:.3f}, the full method {full:.3f}"
    # Summaries that were kept before this was compared do not hold it.
    gain = summary.get("full_against", {}).get(marker, {}).get("mean_pool")
    return f"{said}; it gains {interval(gain['roc_auc'], sign=True)} over them." if gain else f"{said}."
