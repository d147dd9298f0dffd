"""Step 4: the probe, from embeddings to a prediction of each case."""

from typing import Any

import pandas as pd

from hsa import files
from hsa.pipeline.door import begin
from hsa.pipeline.steps.fit import fit
from hsa.study.study import Study


def train(study: Study, marker: str, method: str, progress: bool = True) -> None:
    """Fit one method on every fold of one marker, with every seed, embed all its slides, and fit the probe."""
    from hsa.evaluation.probe import probe_folds  # scikit-learn

    study.require_marker(marker)
    study.require_method(method)
    for one in map(study.at, study.seeds):
        fit(one, marker, method, progress)
        folder = one.paths.method(marker, method)
        if job := begin(one, "probe", folder / "probe.json", marker, method):
            first = study.markers[marker].first_positive
            he = pd.read_parquet(folder / "embeddings_he.parquet")
            predictions, probes = probe_folds(he, one.seed, first_positive=first)
            files.write_frame(folder / "predictions.csv", predictions)
            files.write_json(folder / "study.json", _description(study, marker, method, predictions))
            job.finish({"folds": probes})


def _description(study: Study, marker: str, method: str, predictions: pd.DataFrame) -> dict[str, Any]:
    """Say what a method's folder was made for: what one needs to predict new slides with it."""
    parts = study.model_dump(mode="json")
    names = study.markers[marker]
    labels = predictions[predictions["split"] == "test"]["label"]
    return {
        **{"study": study.name, "title": study.title, "marker": marker, "method": method},
        **{"tiles": parts["tiles"], "encoder": study.tile_encoder.model_dump(mode="json")},
        "int8": str(study.paths.bags / "int8") if study.encoder.runtime == "openvino-int8" else None,
        "classes": [names.negative, names.positive],
        "all_classes": names.names,
        "prevalence": float(labels.mean()),
        "cohort": {"kind": study.cohort.kind, "cases": len(labels)},
    }
