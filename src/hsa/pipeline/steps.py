"""The steps of a study. Each makes its files if they are missing or out of date, and gives what it made.

The command line, the workflow and the notebooks call these same functions. `hsa.pipeline.stamps` tells what is out
of date.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from hsa import files
from hsa.cohorts import cohort as cohorts
from hsa.cohorts.cohort import Cohort
from hsa.errors import InputError
from hsa.pipeline.stamps import is_tuned, stamp
from hsa.study.settings import Training, VirtualCohort
from hsa.study.study import Study


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


def make_features(
    study: Study, workers: int = 1, progress: bool = True, share: tuple[int, int] | None = None
) -> Cohort:
    """Encode every slide of the cohort into its bag, and keep those that are up to date; or check imported bags.

    Args:
        study: the study.
        workers: processes; on a GPU, threads that read.
        progress: show a bar.
        share: (k, n): only the k-th of n shares of the slides, for n jobs side by side. A call without it then finds
            all bags made, or makes what is missing.

    Raises:
        InputError: see `hsa.bags.encoding.encode_cohort`; or a share of imported bags, or of bags by an int8 model,
            which is made once for all slides.
    """
    from hsa.bags.encoding import encode_cohort
    from hsa.bags.foreign import check_bags

    if share and (study.encoder.name == "imported" or study.encoder.runtime == "openvino-int8"):
        raise InputError(
            f"{study.file}: bags that are imported, or made by one int8 network, come in one go: leave out `--share`"
        )
    cohort = make_cohort(study, workers, progress)
    current, folder, tiles = stamp(study, "features"), study.paths.bags, study.tiles
    if study.encoder.name == "imported":
        check_bags(folder, cohort.slides, tiles.size_px, tiles.mpp)
    else:
        how = {"stamp": stamp(study, "bag"), "workers": workers, "progress": progress}
        mine = cohort.slides.iloc[share[0] - 1 :: share[1]] if share else cohort.slides
        encode_cohort(mine, folder, study.tile_encoder, tiles, **how)
    if share is None:
        files.write_json(study.paths.bags / "made.json", {"stamp": current, "slides": len(cohort.slides)})
    return cohort


def tune(study: Study, marker: str, method: str, progress: bool = True) -> dict[int, Training] | None:
    """Choose the training settings of each fold of a method by its validation cases.

    Returns:
        Fold -> settings; None if the study does not tune, or the method has nothing to train.
    """
    if not is_tuned(study, method):
        return None
    from hsa.training import tuning

    folder, current = study.paths.tuning(marker, method), stamp(study, "tune", marker, method)
    if not _is_fresh(folder / "chosen.json", current):
        tuning.tune(study, _encoded(study, progress), marker, method, folder, current, progress)
    candidates = tuning.settings(study)
    return {fold: candidates[k] for fold, k in enumerate(files.read_json(folder / "chosen.json")["folds"])}


def train(study: Study, marker: str, method: str, progress: bool = True) -> None:
    """Fit one method on every fold of one marker, with every seed, embed all its slides, and fit the probe."""
    from hsa.evaluation.probe import probe_folds
    from hsa.training.fit import fit

    study.require_marker(marker)
    study.require_method(method)
    for one in map(study.at, study.seeds):
        folder, current = one.paths.method(marker, method), stamp(one, "train", marker, method)
        if not _is_fresh(folder / "made.json", current):
            cohort, chosen = _encoded(study, progress), tune(study, marker, method, progress)
            fit(one, cohort, marker, method, folder, chosen=chosen, progress=progress)
            files.write_json(folder / "made.json", {"stamp": current})
        current = stamp(one, "probe", marker, method)
        if not _is_fresh(folder / "probe.json", current):
            first = study.markers[marker].first_positive
            he = pd.read_parquet(folder / "embeddings_he.parquet")
            predictions, probes = probe_folds(he, one.seed, first_positive=first)
            files.write_frame(folder / "predictions.csv", predictions)
            files.write_json(folder / "study.json", _description(study, marker, method, predictions))
            files.write_json(folder / "probe.json", {"stamp": current, "folds": probes})


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
    }


def embeddings(study: Study, marker: str, method: str, stain: str, progress: bool = True) -> pd.DataFrame:
    """Read the embeddings of one method, training it first if need be.

    Args:
        study: the study, with one seed.
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
    from hsa.models.checkpoints import load_fold

    study = study.at(study.seed)
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
        Columns fold, epoch, split (train or val), one for each loss, and total; of the first seed.
    """
    study = study.at(study.seed)
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
    """Evaluate every method of one marker, over all seeds.

    Returns:
        What evaluation.json holds, see `hsa.evaluation.evaluate.evaluate`.
    """
    from hsa.evaluation.evaluate import evaluate as run
    from hsa.evaluation.probe import majority

    study.require_marker(marker)
    folder, current = study.paths.marker(marker), stamp(study, "evaluate", marker)
    if not _is_fresh(folder / "evaluation.json", current):
        for method in study.methods:
            train(study, marker, method, progress)
        folds = cohorts.fold_table(study, make_cohort(study, progress=progress), marker)
        predictions = {"majority": _over_seeds(study, lambda one: majority(folds))}
        for method in study.methods:
            predictions[method] = _over_seeds(study, lambda one, m=method: _predictions(one, marker, m))

        def both(method: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
            return tuple(embeddings(study.at(seed), marker, method, stain, progress) for stain in ("HE", "IHC"))

        run(study, marker, predictions, _ceilings(study, marker, folds), both, _maps(study, marker), folder, current)
    return files.read_json(folder / "evaluation.json")


def _predictions(one: Study, marker: str, method: str) -> pd.DataFrame:
    keys = {"case_id": str, "patient_id": str}
    return pd.read_csv(one.paths.method(marker, method) / "predictions.csv", dtype=keys)


def _over_seeds(study: Study, read: Callable[[Study], pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([read(one).assign(seed=one.seed) for one in map(study.at, study.seeds)], ignore_index=True)


def _ceilings(study: Study, marker: str, folds: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Predict from what a model of H&E slides never sees: the truth, if it is known, and the IHC slides."""
    from hsa.evaluation.ceilings import oracle_embeddings
    from hsa.evaluation.probe import probe_folds

    def probed(embeddings: pd.DataFrame, stain: str) -> pd.DataFrame:
        first = study.markers[marker].first_positive
        return _over_seeds(study, lambda one: probe_folds(embeddings, one.seed, stain, first)[0])

    found = {}
    if isinstance(study.cohort, VirtualCohort):
        truth = oracle_embeddings(folds, pd.read_csv(study.paths.cohort / "truth.csv", dtype={"case_id": str}))
        found["oracle"] = probed(truth, "HE")
    means = [name for name, method in study.methods.items() if method.encoder == "mean"]
    complete = (folds["ihc"] != "") | (folds["label"] < 0)  # the ceiling is of the cases that are predicted
    if means and study.design.pairs == "own" and complete.all():
        found["ihc"] = probed(embeddings(study.at(study.seed), marker, means[0], "IHC"), marker)
    return found


def _maps(study: Study, marker: str) -> dict[str, pd.DataFrame]:
    """Score the heat maps of the compared methods, and of some that have learned nothing, where the truth is known."""
    if not isinstance(study.cohort, VirtualCohort):
        return {}
    from hsa.evaluation.pointing import evaluate_maps

    plain = [name for name, method in study.methods.items() if not method.losses and method.encoder != "colour"]
    maps = {name: evaluate_maps(study, marker, name) for name in (*plain, study.baseline, study.full)}
    gated = [name for name, method in study.methods.items() if method.encoder == "abmil"]
    return maps | {name: evaluate_maps(study, marker, name, kind="attention") for name in gated}


def summarise(study: Study, progress: bool = True) -> dict[str, Any]:
    """Gather every headline number of the study in summary.json.

    Returns:
        "prediction" and "ceiling": stain -> method -> metric -> value, low, high, n, seed_sd; "difference" and
        "against_baseline": stain -> metric or test; "alignment": stain -> method -> measure -> value, low, high, n;
        "categories": stain -> method -> metric over all classes, empty unless there are more than two; "holm": test ->
        stain -> p, corrected over the stains; "power"; "published": stain -> value, low, high.
    """
    from hsa.evaluation.comparison import holm
    from hsa.study.provenance import provenance

    evaluations = {marker: evaluate(study, marker, progress) for marker in study.markers}
    judged = ("cases", "prediction", "categories", "ceiling", "difference")
    parts = (*judged, "against_baseline", "full_against", "alignment", "maps", "power")
    summary: dict[str, Any] = {p: {m: e[p] for m, e in evaluations.items()} for p in parts}
    found = {m: e["difference"] for m, e in evaluations.items()}
    summary["holm"] = {
        "delong": holm({m: d["delong"]["p"] for m, d in found.items()}),
        "wilcoxon_positives": holm({m: d["wilcoxon"]["positives"]["p"] for m, d in found.items()}),
        "wilcoxon_negatives": holm({m: d["wilcoxon"]["negatives"]["p"] for m, d in found.items()}),
    }
    summary["published"] = {
        name: dict(zip(("value", "low", "high"), marker.published_f1, strict=True)) if marker.published_f1 else None
        for name, marker in study.markers.items()
    }
    named = [{"name": name, "title": method.title} for name, method in study.methods.items()]  # JSON keys are sorted
    titles = {"title": study.title, "baseline": study.baseline, "full": study.full}
    titles |= {"methods": named, "markers": list(study.markers)}
    ranked = {name: marker.meaning for name, marker in study.markers.items() if marker.classes}
    titles |= {"classes": ranked} if ranked else {}
    summary["provenance"] = provenance(study, **titles)
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


def _encoded(study: Study, progress: bool) -> Cohort:
    """Read the cohort, whose bags are there or are made first."""
    fresh = _is_fresh(study.paths.bags / "made.json", stamp(study, "features"))
    return make_cohort(study, progress=progress) if fresh else make_features(study, progress=progress)


def _is_fresh(path: Path, current: str) -> bool:
    return path.is_file() and files.read_json(path).get("stamp") == current
