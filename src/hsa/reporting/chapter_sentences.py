"""What the numbers of one marker say, in the words of its chapters: notebooks show them with `say`."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hsa.evaluation.comparison import with_seeds
from hsa.reporting.design import plain
from hsa.reporting.prescreening_tables import triaged
from hsa.reporting.tables import interval, p_value
from hsa.study.settings import Marker


def marker(name: str, kind: Marker) -> str:
    """Name the marker, its classes, and which of them are positive."""
    return f"**{name}**: {plain(kind.meaning)}."


def tissue(shares: Mapping[str, float]) -> str:
    """Say how much of each picture the mask takes for tissue.

    Args:
        shares: name of the picture -> share of its area.
    """
    return (
        "The mask takes for tissue: " + "; ".join(f"{share:.0%} of the {name}" for name, share in shares.items()) + "."
    )


def dealt(cases: pd.DataFrame, folds: pd.DataFrame, kind: Marker) -> str:
    """Count cases, patients and positives, and the patients that stand in two parts of a fold.

    Args:
        cases: case_id, patient_id, label (1 positive; -1 not known).
        folds: case_id, fold, split.
        kind: the marker.
    """
    parts = folds.merge(cases, on="case_id").groupby(["fold", "patient_id"])["split"].nunique()
    torn, positive = int((parts > 1).sum()), int((cases["label"] == 1).sum())
    unknown = int((cases["label"] < 0).sum())
    labels = f"{positive} {plain(kind.positive)}" + (f", {unknown} without a label" if unknown else "")
    shared = "No patient stands" if not torn else f"In {torn} instances a patient stands"
    return (
        f"{len(cases)} cases of {cases['patient_id'].nunique()} patients, {labels}. {shared} in more than one part of "
        "a fold."
    )


def turned(history: pd.DataFrame) -> str:
    """Say in how many folds the total validation loss ends above that of the epoch that was kept.

    Args:
        history: fold, epoch, split and total, as `hsa.pipeline.steps.history`.
    """
    totals = history[history["split"] == "val"].pivot(index="epoch", columns="fold", values="total").sort_index()
    risen = int((totals.iloc[-1] > totals.min()).sum())
    ratio = (totals.iloc[-1] / totals.min()).median()
    said = (
        f"In {risen} of {totals.shape[1]} folds the validation loss of the last epoch is above that of the epoch kept"
    )
    return f"{said}; at the median of the folds it is {ratio:.2f} times as high."


def epochs(kept: pd.DataFrame, last: int) -> str:
    """Say which epochs each method keeps, and what that means for a comparison.

    Args:
        kept: a row a method, by title; a column a fold; epoch, from 0.
        last: number of the last epoch.
    """
    ranges = [
        f"{plain(title)}: {min(row):.0f} to {max(row):.0f}"
        for title, row in zip(kept.index, kept.to_numpy(), strict=True)
    ]
    return (
        f"Epochs kept, of 0 to {last}: {'; '.join(ranges)}. The rule is the same for all, the lowest total validation "
        "loss, but the total is another sum for each method. So methods that are compared may differ in the length of "
        "their training, too."
    )


def power(found: Mapping[str, Any], kind: Marker) -> str:
    """Say which difference of two AUCs this many cases could show.

    Args:
        found: evaluation of the marker: cases, power.
        kind: the marker.
    """
    assumed, cases = found["power"], found["cases"]
    counted = f"With {cases['n']} cases, {cases['positive']} of them {plain(kind.positive)},"
    if not assumed["detectable"]:
        return f"{counted} no difference of two AUCs is seen with a power of {assumed['power']:.0%}."
    return (
        f"{counted} an AUC of {assumed['auc']} is told from one that is higher by {assumed['detectable']:.3f} with a "
        f"power of {assumed['power']:.0%}, if the two correlate by {assumed['correlation']}."
    )


def verdict(found: Mapping[str, Any]) -> str:
    """Say whether this cohort can tell the full method from the baseline, of this stain alone.

    Args:
        found: evaluation of the marker.
    """
    gain = found["difference"]["metrics"]["roc_auc"]
    wide = with_seeds(gain)
    says = "is not told apart from that of the baseline"
    if wide["low"] > 0 or wide["high"] < 0:
        says = f"is {'higher' if wide['low'] > 0 else 'lower'} than that of the baseline"
    seeds = ", training seeds counted" if (gain.get("seeds") or 1) > 1 else ", by one training seed"
    return (
        f"**The ROC AUC of the full method {says}: the difference is {interval(wide, sign=True)}{seeds}, not corrected "
        f"for the number of stains.**"
    )


def aligned(found: Mapping[str, Any], full: str, baseline: str) -> str:
    """Say how far the full method brings the sections of a case together, beside the baseline.

    Args:
        found: evaluation of the marker.
        full: name of the full method.
        baseline: name of the baseline.
    """
    both = {name: found["alignment"][name] for name in (full, baseline)}
    first, gain = both[full]["recall_1"], found["difference"]["alignment"]
    return (
        f"Alignment of the full method: {interval(both[full]['alignment'], sign=True)}; of the baseline: "
        f"{interval(both[baseline]['alignment'], sign=True)}. That the first is larger: one-sided Wilcoxon test, p "
        f"{_p(gain['p'])}, n = {gain['n']}. "
        f"An H&E slide finds its own section first in {first['value']:.0%} of cases (chance {first['chance']:.0%}), "
        f"with the baseline in {both[baseline]['recall_1']['value']:.0%}. *How large an alignment is depends on the "
        "temperature of the contrastive loss, too: compare methods of different temperatures by recall.*"
    )


def worklist(needed: pd.DataFrame, cases: Mapping[str, int], kind: Marker, title: str) -> str:
    """Say how soon the worklist of a method finds the first share of the positives.

    Args:
        needed: of `hsa.screening.triage.stains_needed`.
        cases: n, positive.
        kind: the marker.
        title: of the method.
    """
    early = needed.iloc[0].to_dict()
    return (
        f"{cases['n']} cases, {cases['positive']} {plain(kind.positive)}. Down the worklist of {plain(title)}, "
        f"{early['share']:.0%} of the positives are found after {interval(early)} of the stains; in random order after "
        f"{early['random']:.3f}."
    )


def threshold(at: pd.DataFrame, target: float, positives: int) -> str:
    """Say what the thresholds of the highest target found, saved and missed.

    Args:
        at: rows of `hsa.screening.triage.triage` for that target.
        target: share of the positives to be found.
        positives: fewest validation positives of a fold.
    """
    rows = {row["measure"]: row for _, row in at.iterrows()}
    reached, saved = (rows[name].to_dict() for name in ("sensitivity", "saved"))
    short = "lies above" if reached["low"] >= target else "holds values below"
    spared = "" if pd.isna(rows["npv"]["value"]) else f" Of the unstained, {triaged(rows['npv'])} were negative;"
    return (
        f"Thresholds set to find {target:.0%} of the positives found {interval(reached)} and saved "
        f"{interval(saved)} of the stains.{spared} {rows['missed']['value']:.1f} positives were missed. "
        f"The interval {short} the {target:.0%} that was aimed at. A fold's threshold hangs on as few as {positives} "
        "validation positives."
    )


def _p(value: float) -> str:
    return p_value(value) if value < 0.001 else f"= {p_value(value)}"
