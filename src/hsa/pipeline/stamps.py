"""Fingerprints: what the files of each step depend on, as settings and as source.

A file is out of date when these have changed, not when its clock says so.
"""

from typing import Any

from hsa import files
from hsa.cohorts import cohort as cohorts
from hsa.encoders import registry
from hsa.study.settings import VirtualCohort
from hsa.study.study import Study

VIRTUAL = tuple(f"virtual/{path.name}" for path in sorted((files.PACKAGE / "virtual").glob("*.py")))
READERS = tuple(f"slides/readers/{path.name}" for path in sorted((files.PACKAGE / "slides/readers").glob("*.py")))
FEATURES = (
    *(
        "slides/slide.py",
        *READERS,
        "slides/tissue.py",
        "slides/tiling.py",
        "bags/bag.py",
        "bags/features.py",
        "bags/encoding.py",
    ),
    *(
        "encoders/encoder.py",
        "encoders/lite0.py",
        "encoders/pretrained.py",
        "encoders/hub.py",
        "encoders/openvino.py",
    ),
)
TRAINING = (
    *(
        "cohorts/manifest.py",
        "cohorts/cohort.py",
        "bags/batches.py",
        "models/model.py",
        "models/longnet.py",
        "models/attention.py",
        "models/pooling.py",
    ),
    *(
        "models/losses.py",
        "models/published.py",
        "models/checkpoints.py",
        "training/fold.py",
        "training/fit.py",
    ),
)
PROBE = ("evaluation/probe.py", "evaluation/ranking.py")
TUNING = (*TRAINING, *PROBE, "training/tuning.py")
EVALUATION = (
    *(
        *PROBE,
        "evaluation/metrics.py",
        "evaluation/comparison.py",
        "evaluation/alignment.py",
        "evaluation/ceilings.py",
        "evaluation/calibration.py",
        "evaluation/power.py",
    ),
    *(
        "evaluation/categories.py",
        "evaluation/heatmaps.py",
        "evaluation/pointing.py",
        "evaluation/evaluate.py",
    ),
)


def stamp(study: Study, step: str, marker: str = "", method: str = "") -> str:
    """Fingerprint everything that the files of a step depend on, the steps before it included.

    Args:
        study: the study; for train and probe with one seed.
        step: cohort, bag, features, tune, train, probe or evaluate. `bag` is what one slide's bag depends on besides
            the slide: not the manifest, so that a new column or case leaves the bags there are; nor the batch, which
            changes no number.
        marker: for tune and what follows.
        method: for tune, train and probe.
    """
    parts: dict[str, Any] = study.model_dump(mode="json")
    if step == "cohort":
        if isinstance(study.cohort, VirtualCohort):
            return files.stamp([parts["cohort"], list(study.markers)], *VIRTUAL)
        manifest = cohorts.manifest_path(study)
        return files.stamp(
            [parts["cohort"], manifest.read_text() if manifest.is_file() else None],
            "cohorts/manifest.py",
            "cohorts/cohort.py",
        )
    if step == "bag" and study.encoder.name == "imported":
        record = study.paths.bags / "imported.json"
        tiles = [study.tiles.size_px, study.tiles.mpp]
        return files.stamp([tiles, record.read_text() if record.is_file() else None])
    if step == "bag":
        encoder = {key: value for key, value in parts["encoder"].items() if key != "batch"}
        made = stamp(study, "cohort") if isinstance(study.cohort, VirtualCohort) else None
        return files.stamp([made, parts["tiles"], encoder, registry.record(study.encoder.name)], *FEATURES)
    if step == "features":
        return files.stamp([stamp(study, "cohort"), stamp(study, "bag")])
    if step == "evaluate":
        runs = [stamp(study.at(s), "probe", marker, name) for s in study.seeds for name in study.methods]
        return files.stamp([runs, study.baseline, study.full, parts["evaluation"]], *EVALUATION)
    if step == "probe":
        return files.stamp([stamp(study, "train", marker, method)], *PROBE)
    way = {key: value for key, value in parts["methods"][method].items() if key != "title"}
    deal = [study.evaluation.folds, study.evaluation.fold_seed, parts["design"]]
    settings = [stamp(study, "features"), marker, parts["model"], _weights(study), parts["training"], way, deal]
    if step == "tune":
        return files.stamp([settings, parts["tuning"]], *TUNING)
    tuned = stamp(study, "tune", marker, method) if is_tuned(study, method) else None
    return files.stamp([settings, tuned, study.seed], *TRAINING)


def _weights(study: Study) -> str | None:
    if study.model.weights is None:
        return None
    from hsa.models import published

    return published.fingerprint(published.path_of(study.model, study.file))


def is_tuned(study: Study, method: str) -> bool:
    """Tell whether the hyper-parameters of a method are chosen by trials."""
    return study.tuning is not None and bool(study.methods[method].losses)
