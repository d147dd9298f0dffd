"""What the files of each step depend on: the step's code, its settings, and the steps before it.

A file is out of date when these have changed, not when its clock says so. Code is found by `hsa.fingerprint`, module by
module from the step's own file; it stops at the other steps, whose fingerprints are inputs here.
"""

from typing import Any

from hsa.cohorts import cohort as cohorts
from hsa.errors import InputError
from hsa.fingerprint import fingerprint
from hsa.study.settings import FocalCohort, VirtualCohort
from hsa.study.study import Study

STEPS = (
    *("cohort", "render", "focal", "features", "encode", "imported"),
    *("tuning", "fit", "probe", "evaluation", "summary"),
)
MODULES = tuple(f"hsa.pipeline.steps.{step}" for step in STEPS)
# At the other steps the code of a step ends. What keeps these books decides no number.
STOP = (
    *MODULES,
    "hsa.pipeline.steps",
    "hsa.pipeline.stamps",
    "hsa.pipeline.door",
    "hsa.pipeline.ledger",
    "hsa.pipeline.vouched",
)


def stamp(study: Study, step: str, marker: str = "", method: str = "") -> str:
    """Fingerprint everything that the files of a step depend on, the steps before it included.

    Args:
        study: the study; for fit and probe with one seed.
        step: cohort, bag, features, tuning, fit, probe, evaluation or summary. `bag` is what one slide's bag depends on
            besides the slide: not the manifest, so that a new column or case leaves the bags there are; nor the batch,
            which changes no number.
        marker: for tuning and what follows, but summary.
        method: for tuning, fit and probe.

    Raises:
        InputError: a focal cohort, whose bags are composed for an experiment; it has no slides for the steps of a book.
    """
    if isinstance(study.cohort, FocalCohort):
        raise InputError(
            f"{study.file}: cohort.kind: focal: such a cohort has tiles and no slides, so no book can be made of it; "
            f"run `hsa experiment --study {study.name}`, whose results every book shows."
        )
    virtual, imported = isinstance(study.cohort, VirtualCohort), study.encoder.name == "imported"
    made_by = {"cohort": "render"} if virtual else {}
    made_by["bag"] = "imported" if imported else "encode"
    return fingerprint(_values(study, step, marker, method), _module(made_by.get(step, step)), stop=STOP)


def bag_settings(study: Study) -> str:
    """Fingerprint the settings that bags are made with, whatever the code: tiles, encoder, the virtual cohort."""
    return fingerprint(_values(study, "bag", "", ""))


def is_tuned(study: Study, method: str) -> bool:
    """Tell whether the hyper-parameters of a method are chosen by trials."""
    return study.tuning is not None and bool(study.methods[method].losses)


def _module(step: str) -> str:
    return f"hsa.pipeline.steps.{step}"


def _values(study: Study, step: str, marker: str, method: str) -> Any:
    """The settings and inputs of a step."""
    parts: dict[str, Any] = study.model_dump(mode="json")
    virtual = isinstance(study.cohort, VirtualCohort)
    if step == "cohort":
        return [parts["cohort"], list(study.markers) if virtual else _text(cohorts.manifest_path(study))]
    if step == "bag" and study.encoder.name == "imported":
        return [study.tiles.size_px, study.tiles.mpp, _text(study.paths.bags / "imported.json")]
    if step == "bag":
        encoder = {key: value for key, value in parts["encoder"].items() if key != "batch"}
        # This setting came later, and at its default leaves bags of before as they are.
        tiles = {key: value for key, value in parts["tiles"].items() if (key, value) != ("reduction", "mean")}
        return [stamp(study, "cohort") if virtual else None, tiles, encoder]
    if step == "features":
        return [stamp(study, "cohort"), stamp(study, "bag")]
    if step == "summary":
        found = [stamp(study, "evaluation", name) for name in study.markers]
        return [found, study.title, parts["markers"], {name: way["title"] for name, way in parts["methods"].items()}]
    if step == "evaluation":
        runs = [stamp(study.at(seed), "probe", marker, name) for seed in study.seeds for name in study.methods]
        return [runs, study.baseline, study.full, parts["evaluation"]]
    if step == "probe":
        return [stamp(study, "fit", marker, method)]
    way = {key: value for key, value in parts["methods"][method].items() if key != "title"}
    deal = [study.evaluation.folds, study.evaluation.fold_seed, parts["design"]]
    kind = {key: value for key, value in parts["markers"][marker].items() if key != "published_f1"}
    settings = [stamp(study, "features"), marker, kind, parts["model"], _weights(study), parts["training"], way, deal]
    if step == "tuning":
        return [settings, parts["tuning"]]
    if step == "fit":
        return [settings, stamp(study, "tuning", marker, method) if is_tuned(study, method) else None, study.seed]
    raise ValueError(f"unknown step {step!r}")


def _weights(study: Study) -> str | None:
    if study.model.weights is None:
        return None
    from hsa.models import published  # imports torch, which the workflow can do without

    return published.fingerprint(published.path_of(study.model, study.file))


def _text(path: Any) -> str | None:
    """Text of a file; bytes that are no UTF-8 stand for themselves: whoever reads the file as a table tells of them."""
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else None
