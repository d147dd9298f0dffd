import pytest

from hsa import files, tables
from hsa.errors import InputError
from hsa.files import REPOSITORY
from hsa.study import load


def number(value, low, high):
    return {"value": value, "low": low, "high": high, "n": 30}


@pytest.fixture
def study(smoke_file):
    return load(smoke_file)


@pytest.fixture
def summary(study):
    """Invented numbers, told apart by their digits."""
    metrics = {name: number(0.712, 0.611, 0.813) for name in tables._METRICS}
    test = {"p": 0.0004, "statistic": 1.0, "n": 9}
    difference = {
        "metrics": {name: number(0.021, -0.031, 0.072) for name in tables._METRICS},
        "delong": {"p": 0.345},
        "wilcoxon": {"positives": test, "negatives": test | {"p": 0.25}},
    }
    alignment = {name: number(0.4, 0.3, 0.5) for name in ("alignment", "paired", "shuffled")}
    alignment["recall_1"] = number(0.5, 0.4, 0.6) | {"chance": 0.042}
    made = {
        "prediction": {m: dict.fromkeys(tables.titles(study), metrics) for m in study.markers},
        "difference": dict.fromkeys(study.markers, difference),
        "alignment": {m: dict.fromkeys(study.methods, alignment) for m in study.markers},
        "cases": {m: {"n": 30, "positive": 14} for m in study.markers},
        "published": {m: {"value": 0.735, "low": 0.670, "high": 0.799} for m in study.markers},
        "provenance": {"title": study.title},
    }
    made["published"]["Ki-67"] = None
    return made


def test_the_headline_has_a_row_for_each_stain_and_method(study, summary):
    files.write_json(study.paths.summary, summary)
    rows = tables.headline(study).splitlines()
    assert rows[0].split("  ")[0] == "stain"
    assert len(rows) == 1 + len(study.markers) * (1 + len(study.methods))
    full = [row for row in rows if study.methods["full"].title in row]
    assert "0.712" in full[0] and "0.611-0.813" in full[0] and full[0].endswith("0.735")
    assert full[2].endswith("unknown"), "a number that the paper does not give is not invented"


def test_the_verdict_follows_the_interval(study, summary):
    def verdict(low, high):
        summary["difference"]["P53"] = {"metrics": {"roc_auc": number(0, low, high)}}
        return tables._verdict(study, summary).split("\n- ")[1]

    assert "predicts better" in verdict(0.01, 0.05)
    assert "predicts worse" in verdict(-0.05, -0.01)
    assert "no difference" in verdict(-0.05, 0.05)


def test_every_fragment_of_the_book_is_written(study, summary):
    files.write_json(study.paths.summary, summary)
    made = tables.fragments(study)
    for page in (REPOSITORY / "book").glob("*.md"):
        for line in page.read_text().splitlines():
            if "_generated/" in line:
                assert line.split("_generated/")[1] in made
    assert "0.712 [0.611, 0.813]" in made["prediction.md"]
    assert "+0.021 [−0.031, +0.072] | 0.345 | < 0.001 | 0.250 |" in made["difference.md"]
    assert "0.500 (0.042)" in made["alignment.md"]
    assert "unknown" in made["published.md"]


def test_without_a_summary_the_message_says_what_to_run(study):
    with pytest.raises(InputError, match="hsa evaluate --study smoke"):
        tables.headline(study)
