"""The evaluation of one marker over all seeds: every method through the same metrics, tests and alignment measures."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hsa.errors import InputError
from hsa.evaluation import alignment, categories, comparison, metrics
from hsa.evaluation.calibration import calibration_error
from hsa.evaluation.pointing import summarise_maps
from hsa.evaluation.power import detectable_difference
from hsa.files import write_frame
from hsa.study.study import Study

Embeddings = Callable[[str, int], tuple[pd.DataFrame, pd.DataFrame]]
ASSUMED = {"auc": 0.75, "correlation": 0.6, "power": 0.8}


def evaluate(
    study: Study,
    marker: str,
    predictions: Mapping[str, pd.DataFrame],
    ceilings: Mapping[str, pd.DataFrame],
    embeddings: Embeddings,
    maps: Mapping[str, pd.DataFrame],
    folder: Path,
) -> dict[str, Any]:
    """Evaluate every method of one marker and write what was found.

    Writes predictions.csv (a row a method, seed, split and case; ceilings too), alignment.csv (a row a method and
    test case), recall.csv, geometry.csv, umap.csv (baseline and full), maps.csv (where there are maps).

    Args:
        study: seeds, methods and evaluation settings.
        marker: the marker.
        predictions: method -> Predictions frame with `seed` and `split`; majority first.
        ceilings: likewise, of what is no prediction from H&E slides.
        embeddings: (method, seed) -> H&E and IHC embeddings of all folds, for the alignment measures.
        maps: method -> scores of its heat maps, of `hsa.evaluation.pointing.evaluate_maps`; empty if no truth is known.
        folder: where the files go.

    Returns:
        What evaluation.json holds. "cases": n and positive; "prediction" and "ceiling": method -> metric -> value,
        low, high, n, seed_sd; "categories": likewise, empty unless the marker has more than two classes; "difference",
        full minus baseline: "metrics" (paired bootstrap), "delong", "wilcoxon", "alignment"; "against_baseline",
        each other method minus the baseline, and "full_against", full minus each other method: method -> metric ->
        value, low, high, and "p" (DeLong); "alignment": method -> measure -> value, low, high, n; "umap": method ->
        trustworthiness; "power": what this size can detect; "maps": method -> measure -> value, low, high, chance, n.
    """
    draws, seed = study.evaluation.bootstrap, study.seed
    test = {name: _test(frame) for name, frame in predictions.items()}
    first = test[study.full].drop_duplicates("case_id")
    found: dict[str, Any] = {"marker": marker, "seeds": list(study.seeds)}
    found["cases"] = {"n": len(first), "positive": int(first["label"].sum())}
    found["prediction"] = {name: _score(frame, draws, seed) for name, frame in test.items()}
    kinds = len(study.markers[marker].names)
    ranked = {name: frame for name, frame in test.items() if kinds > 2}
    found["categories"] = {name: categories.score(frame, kinds, draws, seed) for name, frame in ranked.items()}
    found["ceiling"] = {name: _score(_test(frame), draws, seed) for name, frame in ceilings.items()}
    prevalence = float(first["label"].mean())
    found["power"] = {"detectable": _detectable(len(first), prevalence), **ASSUMED}

    similar, recalls, shapes = {}, {}, {}
    for name in study.methods:
        runs = [pd.concat(embeddings(name, run), ignore_index=True) for run in study.seeds]
        similar[name] = alignment.mean_over_runs(pd.concat([alignment.similarities(both) for both in runs]))
        hits = pd.concat([alignment.recall_hits(both, study.evaluation.recall_at) for both in runs])
        recalls[name] = alignment.recall(hits, draws, seed)
        shapes[name] = pd.concat([alignment.geometry(both) for both in runs])
    found["alignment"] = {name: _aligned(similar[name], recalls[name], shapes[name]) for name in study.methods}

    base, full = test[study.baseline], test[study.full]
    found["difference"] = {
        "metrics": comparison.paired_bootstrap(base, full, draws, seed),
        "delong": comparison.delong(base, full),
        "wilcoxon": comparison.confidence_gain(base, full),
        "alignment": alignment.alignment_gain(similar[study.baseline], similar[study.full]),
    }
    others = [name for name in study.methods if name != study.baseline]
    found["against_baseline"] = {name: _against(base, test[name], draws, seed) for name in others}
    others = [name for name in study.methods if name != study.full]
    found["full_against"] = {name: _against(test[name], full, draws, seed) for name in others}

    layouts = {}
    for name in (study.baseline, study.full):
        both = pd.concat(embeddings(name, seed), ignore_index=True)
        layouts[name], trust = alignment.umap_coordinates(both, seed)
        found.setdefault("umap", {})[name] = {"trustworthiness": trust}
    found["maps"] = {name: summarise_maps(frame, draws, seed) for name, frame in maps.items()}
    if maps:
        write_frame(folder / "maps.csv", _stack(maps))
    write_frame(folder / "predictions.csv", _stack({**predictions, **ceilings}))
    write_frame(folder / "alignment.csv", _stack(similar))
    write_frame(folder / "recall.csv", _stack(recalls))
    write_frame(folder / "geometry.csv", _stack(shapes))
    write_frame(folder / "umap.csv", _stack(layouts))
    return found


def _detectable(cases: int, prevalence: float) -> float | None:
    """Smallest AUC difference that this many cases can show; None where they can show none."""
    try:
        return detectable_difference(cases, prevalence, ASSUMED["auc"], ASSUMED["correlation"], ASSUMED["power"])
    except InputError:
        return None


def _test(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["split"] == "test"].reset_index(drop=True)


def _score(frame: pd.DataFrame, draws: int, seed: int) -> dict[str, Any]:
    scores = metrics.bootstrap(frame, draws, seed)
    scores["calibration_error"] = {"value": calibration_error(frame), "n": frame["case_id"].nunique()}
    return scores


def _against(base: pd.DataFrame, other: pd.DataFrame, draws: int, seed: int) -> dict[str, Any]:
    gains = comparison.paired_bootstrap(base, other, draws, seed)
    chosen = {name: gains[name] for name in ("roc_auc", "weighted_f1", "average_precision")}
    return chosen | {"p": comparison.delong(base, other)["p"]}


def _aligned(similar: pd.DataFrame, recall: pd.DataFrame, shape: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Gather the alignment measures of one method; `_back` is the search from IHC to H&E."""
    table: dict[str, dict[str, float]] = dict(alignment.summary(similar))
    for row in recall.to_dict("records"):
        back = "" if row["direction"] == alignment.DIRECTIONS[0] else "_back"
        numbers = {"value": row["recall"], **{key: row[key] for key in ("low", "high", "chance", "n")}}
        table[f"recall_{row['k']}{back}"] = numbers
    for name in ("modality_gap", "alignment_loss", "uniformity_he", "uniformity_ihc", "cosine_he", "cosine_ihc"):
        table[name] = alignment.mean_interval(shape[name])
    return table


def _stack(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([frame.assign(method=name) for name, frame in frames.items()], ignore_index=True)
