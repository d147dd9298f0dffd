"""The evaluation of one marker: every method through the same probe, metrics, tests and alignment measures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hsa import alignment, comparison, metrics, probe
from hsa.files import write_frame, write_json
from hsa.study import Study


def evaluate(
    study: Study,
    marker: str,
    embeddings: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    folder: Path,
    stamp: str,
) -> dict[str, Any]:
    """Evaluate every method of one marker and write what was found.

    Writes predictions.csv (a row a method and test case), alignment.csv (likewise), recall.csv, geometry.csv,
    umap.csv (baseline and full) and, last, evaluation.json.

    Args:
        study: seed, methods and evaluation settings.
        marker: the marker.
        embeddings: method -> H&E and IHC embeddings of all folds. The probe is given the H&E ones only.
        folder: where the files go.
        stamp: fingerprint to store with them.

    Returns:
        What evaluation.json holds. "cases": n and positive; "prediction": method -> metric -> value, low, high,
        n; "difference", full minus baseline: "metrics" (paired bootstrap), "delong", "wilcoxon", "alignment";
        "alignment": method -> measure -> value, low, high, n; "umap": method -> trustworthiness.
    """
    predictions = {name: probe.probe_folds(he, study.seed) for name, (he, _) in embeddings.items()}
    predictions = {"majority": probe.majority(embeddings[study.baseline][0]), **predictions}
    draws, seed = study.evaluation.bootstrap, study.seed
    found: dict[str, Any] = {"stamp": stamp, "marker": marker}
    first = predictions[study.full]
    found["cases"] = {"n": len(first), "positive": int(first["label"].sum())}
    found["prediction"] = {name: metrics.bootstrap(frame, draws, seed) for name, frame in predictions.items()}
    for name, frame in predictions.items():
        found["prediction"][name]["calibration_error"] = {
            "value": metrics.calibration_error(frame),
            "n": len(frame),
        }

    pairs = {name: pd.concat(both, ignore_index=True) for name, both in embeddings.items()}
    similar = {name: alignment.similarities(both) for name, both in pairs.items()}
    recalls = {name: alignment.recall(both, study.evaluation.recall_at, draws, seed) for name, both in pairs.items()}
    shapes = {name: alignment.geometry(both) for name, both in pairs.items()}
    found["alignment"] = {name: _aligned(similar[name], recalls[name], shapes[name]) for name in pairs}
    base, full = predictions[study.baseline], predictions[study.full]
    found["difference"] = {
        "metrics": comparison.paired_bootstrap(base, full, draws, seed),
        "delong": comparison.delong(base, full),
        "wilcoxon": comparison.confidence_gain(base, full),
        "alignment": alignment.alignment_gain(similar[study.baseline], similar[study.full]),
    }

    layouts = {name: alignment.umap_coordinates(pairs[name], seed) for name in (study.baseline, study.full)}
    found["umap"] = {name: {"trustworthiness": trust} for name, (_, trust) in layouts.items()}
    write_frame(folder / "predictions.csv", _stack(predictions))
    write_frame(folder / "alignment.csv", _stack(similar))
    write_frame(folder / "recall.csv", _stack(recalls))
    write_frame(folder / "geometry.csv", _stack(shapes))
    write_frame(folder / "umap.csv", _stack({name: frame for name, (frame, _) in layouts.items()}))
    write_json(folder / "evaluation.json", found)
    return found


def _aligned(similar: pd.DataFrame, recall: pd.DataFrame, shape: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Gather the alignment measures of one method; `_back` is the search from IHC to H&E."""
    table: dict[str, dict[str, float]] = dict(alignment.summary(similar))
    for row in recall.to_dict("records"):
        back = "" if row["direction"] == alignment.DIRECTIONS[0] else "_back"
        numbers = {"value": row["recall"], **{key: row[key] for key in ("low", "high", "chance", "n")}}
        table[f"recall_{row['k']}{back}"] = numbers
    for name in ("modality_gap", "uniformity_he", "uniformity_ihc", "cosine_he", "cosine_ihc"):
        table[name] = alignment.mean_interval(shape[name])
    return table


def _stack(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([frame.assign(method=name) for name, frame in frames.items()], ignore_index=True)
