"""What a cohort of a study's size can detect, beside what was seen: written from summary.json and nothing else."""

from scipy.stats import norm

from hsa.evaluation.comparison import with_seeds
from hsa.reporting.tables import Summary, interval, is_repeated, markers_of, table


def power(summary: Summary) -> str:
    """What a cohort of this size can detect, beside what was seen, with the standard errors planned and found."""
    rows, repeated = [], is_repeated(summary)
    for marker in markers_of(summary):
        cases, planned = summary["cases"][marker], planned_error(summary, marker)
        least = "none" if planned is None else f"{summary['power'][marker]['detectable']:.3f}"
        counts = [f"{cases['n']}", f"{cases['positive'] / cases['n']:.0%}"]
        errors = ["none" if planned is None else f"{planned:.3f}", f"{found_error(summary, marker):.3f}"]
        rows.append([marker, *counts, least, interval(summary["difference"][marker]["delong"], sign=True), *errors])
    errors = ["standard error planned", f"found, cases{' and seeds' * repeated}"]
    head = ["", "cases", "positive", "detectable difference of AUC", "difference seen (DeLong)", *errors]
    return table(head, rows)


def planned_error(summary: Summary, marker: str) -> float | None:
    """Give the standard error of a difference of AUC that the plan reckons with; None where nothing is detectable."""
    found = summary["power"][marker]
    reach = norm.ppf(0.975) + norm.ppf(found["power"])
    return None if found["detectable"] is None else float(found["detectable"] / reach)


def found_error(summary: Summary, marker: str) -> float:
    """Give the standard error of the difference of AUC that was found, over cases and, if several, training seeds."""
    return with_seeds(summary["difference"][marker]["metrics"]["roc_auc"])["se"]
