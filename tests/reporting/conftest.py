import pytest

from hsa.reporting import tables
from hsa.study.study import load


def number(value, low, high):
    return {"value": value, "low": low, "high": high, "n": 30}


@pytest.fixture
def study(smoke_file):
    return load(smoke_file)


@pytest.fixture
def summary(study):
    """Invented numbers, told apart by their digits."""
    metrics = {name: number(0.712, 0.611, 0.813) | {"seed_sd": None} for name in (*tables._HEADLINE, *tables._OTHERS)}
    metrics["calibration_error"] = {"value": 0.123, "n": 30}
    test = {"p": 0.0004, "statistic": 1.0, "n": 9}
    difference = {
        "metrics": {name: number(0.021, -0.031, 0.072) for name in (*tables._HEADLINE, *tables._OTHERS)},
        "delong": number(0.02, -0.04, 0.08) | {"p": 0.345},
        "wilcoxon": {"positives": test, "negatives": test | {"p": 0.25}},
    }
    alignment = {name: number(0.4, 0.3, 0.5) for name in ("alignment", "paired", "shuffled")}
    alignment["cosine_he"] = number(0.81, 0.8, 0.82)
    alignment["recall_1"] = number(0.5, 0.4, 0.6) | {"chance": 0.042}
    made = {
        "prediction": {m: dict.fromkeys(tables.titles(study), metrics) for m in study.markers},
        "ceiling": {m: {"oracle": metrics, "ihc": metrics} for m in study.markers},
        "difference": dict.fromkeys(study.markers, difference),
        "against_baseline": {
            m: {
                name: {"roc_auc": number(0.03, -0.01, 0.07), "p": 0.02 + 0.1 * (name == "abmil")}
                for name in study.methods
            }
            for m in study.markers
        },
        "holm": {
            name: dict.fromkeys(study.markers, p)
            for name, p in (("delong", 0.8), ("wilcoxon_positives", 0.9), ("wilcoxon_negatives", 0.95))
        },
        "maps": {
            m: {"full": dict.fromkeys(tables._MAPS, number(0.4, 0.3, 0.5) | {"chance": 0.53})} for m in study.markers
        },
        "power": {m: {"detectable": 0.111, "auc": 0.75, "correlation": 0.6, "power": 0.8} for m in study.markers},
        "alignment": {m: dict.fromkeys(study.methods, alignment) for m in study.markers},
        "cases": {m: {"n": 30, "positive": 14} for m in study.markers},
        "published": {m: {"value": 0.735, "low": 0.670, "high": 0.799} for m in study.markers},
        "provenance": {
            "study": study.name,
            "title": study.title,
            "full": study.full,
            "baseline": study.baseline,
            "methods": [{"name": name, "title": method.title} for name, method in study.methods.items()],
            "markers": list(study.markers),
        },
    }
    made["published"]["Ki-67"] = None
    return made
