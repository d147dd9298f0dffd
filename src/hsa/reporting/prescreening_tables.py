"""The tables of the pre-screening chapter."""

from collections.abc import Mapping

import pandas as pd

from hsa.reporting.tables import interval

_TRIAGE = {
    "sensitivity": "sensitivity",
    "npv": "neg. predictive value",
    "saved": "stains saved",
    "missed": "positives missed",
}


def triage_rows(found: Mapping[str, pd.DataFrame], named: Mapping[str, str]) -> pd.DataFrame:
    """Lay out `hsa.screening.triage.triage` of several methods: a row a method and target.

    Args:
        found: method -> what `triage` gives.
        named: method -> title.
    """
    rows = {
        (named[name], f"{target:.0%}"): {
            title: triaged(part[part["measure"] == measure].iloc[0])
            for measure, title in _TRIAGE.items()
            if (part["measure"] == measure).any()
        }
        for name, frame in found.items()
        for target, part in frame.groupby("target")
    }
    return pd.DataFrame(rows).T.rename_axis(["method", "set to find"])


def triaged(row: pd.Series) -> str:
    """Write one row of `hsa.screening.triage.triage`; positives missed are counts, the rest shares."""
    if pd.isna(row["value"]):
        return "no case unstained"
    if row["measure"] == "missed":
        return f"{row['value']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
    return interval(row.to_dict())


def stains_needed(found: Mapping[str, pd.DataFrame], named: Mapping[str, str]) -> pd.DataFrame:
    """Lay out `hsa.screening.triage.stains_needed` of several methods, with the perfect and the random order.

    Args:
        found: method -> what `stains_needed` gives.
        named: method -> title.
    """
    heads = [f"{share:.0%} found" for share in next(iter(found.values()))["share"]]
    rows = {named[name]: [*map(interval, frame.to_dict("records"))] for name, frame in found.items()}
    *_, last = found.values()
    rows |= {f"{order.capitalize()} order": [f"{v:.3f}" for v in last[order]] for order in ("perfect", "random")}
    return pd.DataFrame(rows, index=heads).T
