"""What the numbers of a study say, in words, written from its summary.json and nothing else."""

from typing import Any

from hsa.evaluation.comparison import holm, with_seeds
from hsa.reporting.tables import Summary, compared, interval, markers_of, p_value, seeds_too


def verdict(summary: Summary) -> str:
    """Say in words what the intervals say: better, worse, or not settled, seeds and number of stains allowed for."""
    full, base = compared(summary)
    corrected, lines = _corrected(summary), []
    for marker in markers_of(summary):
        auc = summary["difference"][marker]["metrics"]["roc_auc"]
        if corrected[marker] < 0.05:
            says = f"predicts {'better' if auc['value'] > 0 else 'worse'} with alignment than without"
        elif auc["low"] > 0 or auc["high"] < 0:
            scored = "higher" if auc["low"] > 0 else "lower"
            says = f"scores {scored} with alignment, but seeds and number of stains leave open whether by chance"
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
    head = f"{full} against {base.lower()} ({summary['provenance']['title']}; {trained}):"
    return "\n".join([head, "", *lines, ""])


def lead(summary: Summary) -> str:
    """Sum the verdict up in four sentences."""
    markers, corrected = markers_of(summary), _corrected(summary)
    full, count = summary["provenance"]["full"], len(markers_of(summary))
    gain = {marker: summary["difference"][marker]["metrics"]["roc_auc"]["value"] for marker in markers}
    better, worse = (sum(corrected[m] < 0.05 and s * gain[m] > 0 for m in markers) for s in (1, -1))
    hits = zip(*(_of_both(summary, marker, "recall_1") for marker in markers), strict=True)
    found, before = (_range([hit["value"] for hit in both]) for both in hits)
    said = (
        f"On {'simulated' if _is_simulated(summary) else 'these'} slides an H&E slide finds its own IHC "
        f"section first among those of its test fold in {found} of cases, without alignment in {before}. "
        f"**Whether alignment predicts better is another question: it is shown for {better} of {count} stains, that "
        f"it predicts worse for {worse}; the rest is open.**"
    )
    methods = [summary["prediction"][marker] for marker in markers]
    if all("mean_pool" in found for found in methods):
        plain = sum(found["mean_pool"]["roc_auc"]["value"] > found[full]["roc_auc"]["value"] for found in methods)
        said += (
            f" Mean-pooled tiles, for which nothing is trained, score a higher ROC AUC than the full method in {plain} "
            f"of {count}."
        )
    return f"{said}\n"


def simulated(summary: Summary) -> str:
    """Say whether the slides are simulated."""
    if _is_simulated(summary):
        return "**The cohort is simulated** ({doc}`virtual_tissue`). Its numbers say nothing about patients.\n"
    return f"*{summary['provenance']['title']}.*\n"


def _of_both(summary: Summary, marker: str, measure: str) -> list[dict[str, Any]]:
    """An alignment measure of the full method and of the baseline."""
    return [summary["alignment"][marker][summary["provenance"][key]][measure] for key in ("full", "baseline")]


def _range(shares: list[float]) -> str:
    """Write the lowest and the highest share, once if they look alike."""
    ordered = sorted(shares)
    return " to ".join(dict.fromkeys(f"{share:.0%}" for share in (ordered[0], ordered[-1])))


def _is_simulated(summary: Summary) -> bool:
    # Only where slides are simulated is the truth known.
    return all("oracle" in summary["ceiling"][marker] for marker in markers_of(summary))


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
