"""Where among the cases a contrast holds: subgroups that the simulation knows, laid out without verdict."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from hsa.errors import InputError
from hsa.evaluation import contrasts
from hsa.study.settings import VirtualCohort
from hsa.study.study import Study

ASKED = "alignment"  # the contrast that is looked into


def rows(study: Study, cases: pd.DataFrame) -> list[dict[str, Any]]:
    """Measure the contrast `alignment` in every subgroup of a cohort of whole virtual slides.

    Args:
        study: whose contrasts are asked.
        cases: kept cases of one point (`Kept.cases`).

    Returns:
        A row a subgroup and marker: subgroup, marker, n, and of the contrast value, low and high; None where a fold has
        no case of one class. Nothing for other cohorts.
    """
    cohort = study.cohort
    if not isinstance(cohort, VirtualCohort) or ASKED not in study.contrasts:
        return []
    found: list[dict[str, Any]] = []
    for name, marker, chosen in _groups(cohort, cases):
        part = cases[(cases["marker"] == marker) & cases["case_id"].isin(chosen)]
        row: dict[str, Any] = {"subgroup": name, "marker": marker, "n": int(part["case_id"].nunique())}
        try:
            told = contrasts.compare(part, {ASKED: study.contrasts[ASKED]}).to_dict("records")
        except InputError:
            told = []
        found.append(row | {key: told[0][key] if told else None for key in ("value", "low", "high")})
    return found


def _groups(cohort: VirtualCohort, cases: pd.DataFrame) -> Iterator[tuple[str, str, set[str]]]:
    """Name, marker and cases of each subgroup; what the cases are is drawn again from the cohort's seed."""
    from hsa.virtual.markers import MARKERS
    from hsa.virtual.recipe import Recipe

    recipe = Recipe(cohort.slide_px, cohort.strength, cohort.seed)
    drawn = {name: recipe.case(int(name[1:])) for name in cases["case_id"].unique()}
    share = pd.Series({name: case.latents["tumour_share"] for name, case in drawn.items()})
    little = set(share.index[share <= share.quantile(1 / 3)])
    for marker in cases["marker"].unique():
        known = cases[cases["marker"] == marker].drop_duplicates("case_id").set_index("case_id")["label"]
        yield "least tumour, a third", marker, little
        yield "more tumour, two thirds", marker, set(share.index) - little
        if MARKERS[marker].aberrant:
            lost = {name for name, case in drawn.items() if case.fractions[marker] == 0}
            negative = set(known.index[known == 0])
            yield "positive by loss, all negative", marker, negative | (set(known.index[known == 1]) & lost)
            yield "positive by excess, all negative", marker, negative | (set(known.index[known == 1]) - lost)
