"""The steps of a study. Each makes its files if they are missing or out of date, and gives what it made.

The command line, the workflow and the notebooks call these same functions. A file is out of date when the
settings or the source that made it have changed (`stamp`), not when its clock says so.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from hsa import cohort as cohorts
from hsa import files
from hsa.cohort import Cohort
from hsa.errors import InputError
from hsa.settings import VirtualCohort
from hsa.study import Study

_VIRTUAL = tuple(f"virtual/{path.name}" for path in sorted((files.PACKAGE / "virtual").glob("*.py")))
_FEATURES = ("slide.py", "tiling.py", "encoders.py", "features.py")
_TRAINING = (
    *("cohort.py", "batches.py", "model.py", "longnet.py", "attention.py", "pooling.py", "losses.py"),
    *("checkpoints.py", "fold.py", "training.py"),
)
_EVALUATION = ("probe.py", "metrics.py", "comparison.py", "alignment.py", "evaluation.py")


def stamp(study: Study, step: str, marker: str = "", method: str = "") -> str:
    """Fingerprint everything that the files of a step depend on, the steps before it included.

    Args:
        study: the study.
        step: cohort, features, train or evaluate.
        marker: for train and evaluate.
        method: for train.
    """
    parts: dict[str, Any] = study.model_dump(mode="json")
    if step == "cohort":
        if isinstance(study.cohort, VirtualCohort):
            return files.stamp([parts["cohort"], list(study.markers)], *_VIRTUAL)
        manifest = cohorts.manifest_path(study)
        return files.stamp([parts["cohort"], manifest.read_text() if manifest.is_file() else None], "cohort.py")
    if step == "features":
        return files.stamp([stamp(study, "cohort"), parts["tiles"], parts["encoder"]], *_FEATURES)
    if step == "train":
        deal = [study.evaluation.folds, study.evaluation.fold_seed, study.seed]
        settings = [parts["model"], parts["training"], parts["methods"][method], deal]
        return files.stamp([stamp(study, "features"), marker, settings], *_TRAINING)
    trained = [stamp(study, "train", marker, name) for name in study.methods]
    return files.stamp([trained, study.baseline, study.full, parts["evaluation"]], *_EVALUATION)


def make_cohort(study: Study, workers: int = 1, progress: bool = True) -> Cohort:
    """Render the slides of a virtual cohort, or check the manifest of a real one, and read it."""
    if isinstance(study.cohort, VirtualCohort):
        from hsa.virtual.scan import make_cohort as scan

        settings = study.cohort.model_dump(exclude={"kind"})
        mark = study.paths.cohort / "made.json"
        if not (_is_fresh(mark, stamp(study, "cohort")) and cohorts.manifest_path(study).is_file()):
            markers = list(study.markers)
            scan(study.paths.cohort, markers=markers, workers=workers, progress=progress, **settings)
            files.write_json(mark, {"stamp": stamp(study, "cohort")})
    return cohorts.load(study)


def make_features(study: Study, workers: int = 1, progress: bool = True) -> Cohort:
    """Encode every slide of the cohort into its bag. Bags that are up to date are kept."""
    from hsa.features import encode_cohort

    cohort = make_cohort(study, workers, progress)
    current = stamp(study, "features")
    encode_cohort(
        cohort.slides,
        study.paths.bags,
        study.encoder,
        study.tiles,
        stamp=current,
        workers=workers,
        progress=progress,
    )
    files.write_json(study.paths.bags / "made.json", {"stamp": current, "slides": len(cohort.slides)})
    return cohort


def train(study: Study, marker: str, method: str, progress: bool = True) -> None:
    """Fit one method on every fold of one marker and embed all its slides."""
    from hsa.training import fit

    study.require_marker(marker)
    study.require_method(method)
    folder = study.paths.method(marker, method)
    current = stamp(study, "train", marker, method)
    if _is_fresh(folder / "made.json", current):
        return
    if _is_fresh(study.paths.bags / "made.json", stamp(study, "features")):
        cohort = make_cohort(study, progress=progress)
    else:
        cohort = make_features(study, progress=progress)
    fit(study, cohort, marker, method, folder, progress=progress)
    files.write_json(folder / "made.json", {"stamp": current})


def embeddings(study: Study, marker: str, method: str, stain: str, progress: bool = True) -> pd.DataFrame:
    """Read the embeddings of one method, training it first if need be.

    Args:
        study: the study.
        marker: the marker.
        method: the method.
        stain: "HE" or "IHC".
        progress: show bars.

    Returns:
        Columns slide_id, case_id, patient_id, stain, fold, split, label, v0, v1, ...
    """
    train(study, marker, method, progress)
    return pd.read_parquet(study.paths.method(marker, method) / f"embeddings_{stain.lower()}.parquet")


def describe(study: Study, marker: str, method: str) -> dict[str, Any]:
    """Describe a trained method in one row: title, slide encoder, losses, trained parameters, embedding width."""
    from hsa.checkpoints import load_fold

    train(study, marker, method)
    model, record = load_fold(study.paths.method(marker, method), 0)
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad) if record["history"] else 0
    vectors = embeddings(study, marker, method, "HE").filter(regex=r"^v\d+$")
    losses = ", ".join(study.methods[method].losses).replace("_", " ") or "none"
    return {
        "method": study.methods[method].title,
        "slide encoder": study.methods[method].encoder,
        "losses": losses,
        "trained parameters": f"{learned:,}",
        "embedding width": vectors.shape[1],
    }


def history(study: Study, marker: str, method: str) -> pd.DataFrame:
    """Gather the losses of every fold of a trained method.

    Returns:
        Columns fold, epoch, split (train or val), one for each loss, and total.
    """
    train(study, marker, method)
    rows = []
    for path in sorted(study.paths.method(marker, method).glob("fold*.json")):
        record = files.read_json(path)
        for epoch in record["history"]:
            for split in ("train", "val"):
                rows.append({"fold": record["fold"], "epoch": epoch["epoch"], "split": split, **epoch[split]})
    return pd.DataFrame(rows)


def best_epochs(study: Study, marker: str, method: str) -> pd.Series:
    """Give the epoch that each fold of a trained method kept: that of the lowest total validation loss."""
    validation = history(study, marker, method).query("split == 'val'")
    return validation.loc[validation.groupby("fold")["total"].idxmin()].set_index("fold")["epoch"]


def evaluate(study: Study, marker: str, progress: bool = True) -> dict[str, Any]:
    """Evaluate every method of one marker.

    Returns:
        What evaluation.json holds, see `hsa.evaluation.evaluate`.
    """
    from hsa.evaluation import evaluate as run

    study.require_marker(marker)
    folder = study.paths.marker(marker)
    current = stamp(study, "evaluate", marker)
    if not _is_fresh(folder / "evaluation.json", current):
        pairs = {
            method: tuple(embeddings(study, marker, method, stain, progress) for stain in ("HE", "IHC"))
            for method in study.methods
        }
        run(study, marker, pairs, folder, current)
    return files.read_json(folder / "evaluation.json")


def summarise(study: Study, progress: bool = True) -> dict[str, Any]:
    """Gather every headline number of the study in summary.json.

    Returns:
        "prediction": stain -> method -> metric -> value, low, high, n; "difference": stain -> metric or test;
        "alignment": stain -> method -> measure -> value, low, high, n; "published": stain -> value, low, high.
    """
    from hsa.report import provenance

    evaluations = {marker: evaluate(study, marker, progress) for marker in study.markers}
    parts = ("prediction", "difference", "alignment", "cases")
    summary: dict[str, Any] = {p: {m: e[p] for m, e in evaluations.items()} for p in parts}
    summary["published"] = {
        name: dict(zip(("value", "low", "high"), marker.published_f1, strict=True)) if marker.published_f1 else None
        for name, marker in study.markers.items()
    }
    summary["provenance"] = provenance(study, title=study.title, baseline=study.baseline, full=study.full)
    files.write_json(study.paths.summary, summary)
    return summary


def read_summary(study: Study) -> dict[str, Any]:
    """Read summary.json.

    Raises:
        InputError: it has not been made.
    """
    if not study.paths.summary.is_file():
        raise InputError(f"{study.paths.summary} is missing. Run `hsa evaluate --study {study.name}`.")
    return files.read_json(study.paths.summary)


def _is_fresh(path: Path, current: str) -> bool:
    return path.is_file() and files.read_json(path).get("stamp") == current
