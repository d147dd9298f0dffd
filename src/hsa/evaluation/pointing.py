"""Whether a heat map points where the biology is: scored against the truth of virtual tissue, tile by tile."""

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from hsa.bags.batches import Bags
from hsa.errors import InputError
from hsa.evaluation.heatmaps import attention, occlusion
from hsa.evaluation.metrics import patient_draws
from hsa.evaluation.predictions import read_predictions
from hsa.evaluation.scoring import fold_score
from hsa.models.longnet import GRID
from hsa.study.settings import VirtualCohort
from hsa.study.study import Study

if TYPE_CHECKING:  # numba is heavy, and only the truth of virtual tissue needs it
    from hsa.virtual.recipe import Recipe

# Even a tile full of glands is mostly lumen and stroma: in the default cohort about half of the tiles hold a
# quarter or more of viable tumour; half or more is rare (6 % of the tiles of the first 20 cases).
TUMOUR_SHARE = 0.25
MEASURES = ("pointed", "auc_tumour", "auc_positive", "auc_control")
_KEYS = ("case_id", "patient_id", "fold", "label")
_LABEL = {"auc_positive": 1, "auc_control": 0}


def tile_truth(
    recipe: "Recipe", index: int, coords: np.ndarray, tile_px: int, marker: str, mpp: float = 0.5
) -> pd.DataFrame:
    """What lies below each tile of the H&E section of a virtual case.

    Positivity is drawn for each section: its patches are not those of the layout, and H&E cells have none. So
    positive cells are counted in the same area of the IHC section. Sections are not registered (rotation SD 4
    degrees, shift SD 10 px, each): `positive` is right to a fraction of a tile. It grows with the tumour in a tile.
    What tore or folded in the section is not taken into account.

    Args:
        recipe: of the cohort.
        index: number of the case, from 0.
        coords: (N, 2) upper left corners of the tiles, x and y in px.
        tile_px: side of a tile, px.
        marker: whose IHC section to look at.
        mpp: um per px of `coords` and `tile_px`.

    Returns:
        A row a tile: tumour (share of the tile that is viable tumour, 0-1), positive (number of positive tumour
        cells of the IHC section).

    Raises:
        InputError: a tile lies outside the section.
    """
    tumour, sample, cells = _truth(recipe, index, marker)
    corner = np.asarray(coords, dtype=float) * mpp  # um from here on
    side = tile_px * mpp
    edge = np.round(corner / sample).astype(int)
    length = round(side / sample)
    if len(edge) and (edge.min() < 0 or (edge[:, ::-1] >= tumour.shape).any()):
        where = f"virtual case {index}: a tile lies outside the slide of {recipe.slide_px} px"
        raise InputError(f"{where}; give the coordinates and mpp of its own bag, and the recipe of its cohort.")
    shares = [tumour[y : y + length, x : x + length].sum() / length**2 for x, y in edge]
    inside = ((cells >= corner[:, None]) & (cells < corner[:, None] + side)).all(-1)
    return pd.DataFrame({"tumour": np.array(shares, dtype=float), "positive": inside.sum(1)})


def true_tumour(study: Study, marker: str, case_id: str) -> np.ndarray | None:
    """Viable tumour (h, w) bool of a case's H&E slide; None where the cohort is not virtual and nobody knows."""
    if study.cohort.kind != "virtual":
        return None
    return _truth(_recipe(study.cohort), case_index(case_id), marker)[0]


def score_map(importance: np.ndarray, truth: pd.DataFrame) -> dict[str, float]:
    """Score the heat map of one slide.

    Pointing game (Zhang et al., ECCV 2016): is the tile of highest absolute importance a tumour tile, one with at least
    `TUMOUR_SHARE` of viable tumour? absolute importance, since a tumour may speak for either class. Of tiles that tie
    for the highest the share of tumour tiles counts, so that a flat map scores chance. Chance is not the floor:
    occlusion is large for tiles unlike the average one, and these are mostly stroma, fat and edges (in the
    first 60 cases of the default cohort, a tile's distance from the average one has an AUC of 0.38 for tumour).

    Args:
        importance: (N,).
        truth: of the same tiles, from `tile_truth`.

    Returns:
        pointed (0-1), chance (share of tumour tiles: what pointing at random scores), auc_tumour (of absolute
        importance, for tumour tiles), auc_positive (of signed importance, for tiles with more positive cells than
        the median tile). NaN where a slide has one kind of tile only: then no map could be right or wrong.
    """
    size = np.abs(importance)
    tumour = truth["tumour"].to_numpy() >= TUMOUR_SHARE
    rich = truth["positive"].to_numpy() > truth["positive"].median()
    mixed = tumour.any() and not tumour.all()
    return {
        "pointed": float(tumour[size == size.max()].mean()) if mixed else np.nan,
        "chance": float(tumour.mean()) if mixed else np.nan,
        "auc_tumour": _auc(tumour, size),
        "auc_positive": _auc(rich, importance),
    }


def evaluate_maps(
    study: Study,
    marker: str,
    method: str,
    cases: int | None = 60,
    seed: int | None = None,
    kind: Literal["occlusion", "attention"] = "occlusion",
) -> pd.DataFrame:
    """Map and score test slides of a virtual study, each with the model and probe of the fold that tests it.

    Args:
        study: of a virtual cohort, its method trained and its predictions and probe written.
        marker: the marker.
        method: a method of the study.
        cases: draw so many cases, the same for each method, seed and marker with equal cases; None for all.
        seed: training seed; None for the first of the study.
        kind: of heat map. Attention is for ABMIL only.

    Returns:
        A row a slide: case_id, patient_id, fold, label, n_tiles and what `score_map` gives.

    Raises:
        InputError: not a virtual cohort, predictions, probe or model of a fold missing or damaged, an unknown marker
            or method.
    """
    run = study.at(study.seed if seed is None else seed)
    folder = run.paths.method(study.require_marker(marker), study.require_method(method))
    if study.cohort.kind != "virtual":
        raise InputError(f"{study.file}: heat maps are scored on virtual cohorts only; no other knows its tumour.")
    recipe = _recipe(study.cohort)
    bags = Bags(study.paths.bags, colours=study.methods[method].encoder == "colour", grid=GRID)
    rows = []
    tests = _drawn(folder, cases, study.cohort.seed)
    for fold in sorted(set(tests["fold"].tolist())):
        model, score = fold_score(folder, fold)
        for case in tests.loc[tests["fold"] == fold, list(_KEYS)].to_dict("records"):
            tiles = bags[f"{case['case_id']}-HE"]
            values = attention(model, tiles) if kind == "attention" else occlusion(score, tiles, model.he_mean.numpy())
            place = (tiles[1], study.tiles.size_px, marker, study.tiles.mpp)
            found = score_map(values, tile_truth(recipe, case_index(case["case_id"]), *place))
            rows.append({**case, "n_tiles": len(values), **found})
    return pd.DataFrame(rows).sort_values("case_id", ignore_index=True)


def summarise_maps(frame: pd.DataFrame, draws: int = 1000, seed: int = 0) -> dict[str, dict[str, float | None]]:
    """Average the scores over slides, with 95 % intervals from drawing patients with replacement.

    Positive cells show where a positive prediction should come from, so auc_positive is taken over the slides with
    label 1. It is high, too, for a map that speaks for tumour tiles on any slide; auc_control, the same over the
    slides with label 0, tells. Where the two are alike, the map shows tumour and not the marker. A slide mapped
    with several seeds counts once, with its mean.

    Args:
        frame: from `evaluate_maps`, of one method; of several seeds one below the other.
        draws: number of bootstrap samples.
        seed: of the draws.

    Returns:
        Measure (`MEASURES`) -> value, low, high, chance, n (slides scored), left_out (slides with one kind of tile
        only). Numbers are None where n is 0.
    """
    slides = frame.assign(auc_control=frame["auc_positive"].where(frame["label"] == 0))
    slides = slides.groupby(["case_id", "patient_id", "label"], as_index=False)[[*MEASURES, "chance"]].mean()
    table = {}
    for name in MEASURES:
        asked = slides[slides["label"] == _LABEL[name]] if name in _LABEL else slides
        kept = asked[asked[name].notna()]
        found: dict[str, float | None] = dict.fromkeys(("value", "low", "high", "chance"))
        if len(kept):
            values = kept[name].to_numpy()
            weights = np.concatenate(list(patient_draws(kept["patient_id"], draws, seed)))
            samples = weights @ values / weights.sum(1)
            low, high = np.quantile(samples, [0.025, 0.975]).tolist()
            chance = float(kept["chance"].mean()) if name == "pointed" else 0.5
            found = {"value": float(values.mean()), "low": low, "high": high, "chance": chance}
        table[name] = found | {"n": len(kept), "left_out": len(asked) - len(kept)}
    return table


def case_index(case_id: str) -> int:
    """Number of a virtual case: 12 of "C0012". Any other name raises an `InputError`."""
    if not re.fullmatch(r"C\d{4,}", case_id):
        raise InputError(f"case {case_id!r}: virtual cases are called C0000, C0001, ...; only these have a truth.")
    return int(case_id[1:])


def _recipe(cohort: VirtualCohort) -> "Recipe":
    from hsa.virtual.recipe import Recipe

    return Recipe(cohort.slide_px, cohort.strength, cohort.seed)


def _drawn(folder: Path, cases: int | None, seed: int) -> pd.DataFrame:
    """Test rows of a method's predictions: `cases` of them, or all."""
    frame = read_predictions(folder)
    tested = frame[frame["split"] == "test"].sort_values("case_id", ignore_index=True)
    order = np.random.default_rng(seed).permutation(len(tested))
    return tested.loc[np.sort(order[:cases])]


@lru_cache(maxsize=1024)  # every method and seed asks for the same cases
def _truth(recipe: "Recipe", index: int, marker: str) -> tuple[np.ndarray, float, np.ndarray]:
    """Tumour map of the H&E section, um per sample, and positions (M, 2) in um of positive cells of the IHC section."""
    from hsa.virtual.recipe import HE, MPP, section_truth

    layout = recipe.layout(index)
    he, ihc = (section_truth(recipe, index, name, layout) for name in (HE, marker))
    return he.tumour, he.mpp, ihc.positive * MPP


def _auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Mann-Whitney AUC, ties counting half; NaN where one kind is missing."""
    n = int(positive.sum())
    if n in (0, len(positive)):
        return np.nan
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))
