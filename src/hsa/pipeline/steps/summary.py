"""Step 6: every headline number of the study."""

from typing import Any

from hsa import files
from hsa.errors import InputError
from hsa.evaluation.comparison import holm
from hsa.pipeline.door import begin
from hsa.pipeline.ledger import ledger
from hsa.pipeline.steps.evaluation import evaluate
from hsa.study.provenance import provenance
from hsa.study.study import Study


def summarise(study: Study, progress: bool = True) -> dict[str, Any]:
    """Gather every headline number of the study in summary.json.

    Returns:
        "prediction" and "ceiling": stain -> method -> metric -> value, low, high, n, seed_sd; "difference" and
        "against_baseline": stain -> metric or test; "alignment": stain -> method -> measure -> value, low, high, n;
        "categories": stain -> method -> metric over all classes, empty unless there are more than two; "holm": test ->
        stain -> p, corrected over the stains; "power"; "published": stain -> value, low, high.
    """
    job = begin(study, "summary", study.paths.summary)
    if job is None:
        return files.read_json(study.paths.summary)
    evaluations = {marker: evaluate(study, marker, progress) for marker in study.markers}
    job.start()
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
    titles: dict[str, Any] = {"title": study.title, "baseline": study.baseline, "full": study.full}
    titles |= {"methods": named, "markers": list(study.markers)}
    ranked = {name: marker.meaning for name, marker in study.markers.items() if marker.classes}
    titles |= {"classes": ranked} if ranked else {}
    evaluated = {marker: found["stamp"] for marker, found in evaluations.items()}
    summary["provenance"] = provenance(study, fingerprints=evaluated, **titles)
    job.finish(summary, study_took=ledger(study))
    return files.read_json(study.paths.summary)


def read_summary(study: Study) -> dict[str, Any]:
    """Read summary.json.

    Raises:
        InputError: it has not been made.
    """
    if not study.paths.summary.is_file():
        raise InputError(f"{study.paths.summary} is missing. Run `hsa evaluate --study {study.name}`.")
    return files.read_json(study.paths.summary)
