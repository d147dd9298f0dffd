import pandas as pd
import pytest

from hsa import files
from hsa.errors import InputError
from hsa.evaluation import categories
from hsa.files import REPOSITORY
from hsa.reporting import pieces, prescreening_tables, protocol, real_tissue, reference, sentences, speed, tables
from hsa.study.settings import Marker
from hsa.study.study import ManifestCohort


def number(value, low, high):
    return {"value": value, "low": low, "high": high, "n": 30}


def test_the_headline_has_a_row_for_each_stain_and_method(study, summary):
    files.write_json(study.paths.summary, summary)
    rows = tables.headline(study).splitlines()
    assert rows[0].split("  ")[0] == "stain"
    assert len(rows) == 1 + len(study.markers) * (1 + len(study.methods))
    full = [row for row in rows if study.methods["full"].title in row]
    assert "0.712" in full[0] and "0.611-0.813" in full[0] and full[0].endswith("0.735")
    assert full[2].endswith("unknown"), "a number that the paper does not give is not invented"
    assert sum(row.endswith("0.735") for row in rows) == 2, "nor given to another method"


@pytest.fixture
def ranked(study, summary):
    """The same summary, its P53 with three classes."""
    study.markers["P53"] = Marker(classes=["null", "wild-type", "over"], positive_from="over")
    metrics = {name: number(0.234, 0.111, 0.345) for name in categories.METRICS}
    found = {"P53": dict.fromkeys(tables.titles(study), metrics | {"quadratic_kappa": number(-0.05, -0.1, 0.2)})}
    classes = {"classes": {"P53": study.markers["P53"].meaning}}
    return {**summary, "categories": {marker: found.get(marker, {}) for marker in study.markers}} | {
        "provenance": summary["provenance"] | classes
    }


def test_all_classes_of_a_marker_are_on_the_result_page_and_a_binary_study_reads_as_before(study, summary, ranked):
    made = pieces.fragments(ranked, study)
    page = made["more_metrics.md"]
    assert page.startswith(tables.more_metrics(summary)), "the binary table is the same"
    assert "| **P53**: classes null, wild-type, over; positive: over |" in page
    assert "| HistoStainAlign (full) | −0.050 [−0.100, 0.200] | 0.234 [0.111, 0.345] |" in page
    assert page.count("Cohen 1968") == 1 and "**PD-L1**: classes" not in page
    empty = {**summary, "categories": {marker: {} for marker in summary["cases"]}}
    assert pieces.fragments(empty, study) == pieces.fragments(summary, study), (
        "with or without the key, as in book/reference"
    )
    assert "kappa" not in str(pieces.fragments(summary, study))
    assert {name for name in made if made[name] != pieces.fragments(summary, study)[name]} == {"more_metrics.md"}


def test_the_headline_adds_all_classes_where_there_are_more_than_two(study, summary, ranked):
    files.write_json(study.paths.summary, summary)
    before = tables.headline(study)
    files.write_json(study.paths.summary, ranked)
    after = tables.headline(study)
    assert after.startswith(before + "\n\nP53, classes null, wild-type, over; positive: over. These numbers")
    last = " ".join(after.splitlines()[-1].split())
    assert last == "P53 HistoStainAlign (full) -0.050 -0.100 to 0.200 0.234 0.111 to 0.345"
    assert "kappa" not in before and len(after.splitlines()) == len(before.splitlines()) + 5 + len(study.methods)


def test_the_verdict_follows_the_interval(study, summary):
    def verdict(low, high):
        summary["difference"]["P53"] = {"metrics": {"roc_auc": number((low + high) / 2, low, high) | seeds}}
        return sentences.verdict(summary).split("\n- ")[1]

    seeds = {}
    assert "is predicted better" in verdict(0.01, 0.05)
    assert "is predicted worse" in verdict(-0.05, -0.01)
    assert "no difference" in verdict(-0.05, 0.05)
    assert "is scored higher by the full method, but" in verdict(0.001, 0.05), (
        "three stains: corrected, it is not settled"
    )
    assert "another question: none of 3 stains settles it." in sentences.lead(summary, study)
    seeds = {"seeds": 5, "seed_sd": 0.05}
    assert "is scored lower by the full method, but" in verdict(-0.05, -0.01), "other seeds could tell otherwise"
    assert "[−0.050, −0.010], with other seeds [−0." in verdict(-0.05, -0.01)
    seeds = {"seeds": 5, "seed_sd": 0.005}
    assert "is predicted better" in verdict(0.01, 0.05)
    assert "it does for 1 of 3 stains and predicts worse for 0; the rest is open" in sentences.lead(summary, study)
    assert "lie nearer to each other" in verdict(-0.05, 0.05)
    aligned = summary["alignment"]["P53"]["full"]
    summary["alignment"]["P53"] = summary["alignment"]["P53"] | {
        "full": aligned | {"alignment": number(0.1, -0.1, 0.3)}
    }
    assert "lie no nearer than others" in verdict(-0.05, 0.05)


def test_the_lead_says_whether_slides_are_simulated(study, summary):
    assert "On the simulated slides of *Smoke test, 30 cases* an H&E slide" in sentences.lead(summary, study)
    real = study.model_copy(update={"cohort": ManifestCohort(kind="manifest", manifest="manifest.csv")})
    assert "simulated" not in sentences.lead(summary, real)


def test_the_verdict_names_what_the_mean_of_the_tiles_reaches(summary):
    methods, full = summary["prediction"]["P53"], summary["provenance"]["full"]
    methods[full] = methods[full] | {"roc_auc": number(0.812, 0.7, 0.9)}
    methods["mean_pool"] = methods[full] | {"roc_auc": number(0.834, 0.7, 0.9)}
    summary["provenance"]["title"] = "HER2 from H&E"
    told = sentences.verdict(summary)
    assert told.startswith("HistoStainAlign (full) against classification only (HER2 from H&E; one training seed):")
    assert "reach a ROC AUC of 0.834, the full method 0.812." in told
    gain = {"mean_pool": {"roc_auc": number(-0.022, -0.05, 0.01)}}
    summary["full_against"] = dict.fromkeys(summary["cases"], gain)
    gains = "the full method 0.812; it gains −0.022 [−0.050, +0.010] over them."
    assert gains in sentences.verdict(summary)
    del methods["mean_pool"]
    assert sentences.verdict(summary).count("Mean-pooled") == told.count("Mean-pooled") - 1


def test_the_tables_say_what_the_summary_says(study, summary):
    made = pieces.fragments(summary, study)
    assert "| *Oracle: true morphology* | 0.712 [0.611, 0.813]" in made["prediction.md"]
    assert "| 0.712 [0.611, 0.813] | 0.123 |" in made["more_metrics.md"]
    assert "| P53 | +0.021 [−0.031, +0.072] | +0.021 [−0.031, +0.072] |" in made["difference.md"]
    assert "| P53 | 0.345 (0.800) | < 0.001 (0.900) | 0.250 (0.950) |" in made["difference.md"]
    assert "0.500 (0.042) | 0.810 |" in made["alignment.md"]
    assert made["published.md"].count("0.735") == 2, "of the full method, where the paper has it"
    assert "0.400 [0.300, 0.500] (0.53)" in made["maps.md"]
    assert "| 30 | 47% | 0.111 | +0.020 [−0.040, +0.080] | 0.040 | 0.025 |" in made["power.md"]
    assert "| +0.030 [−0.010, +0.070] |" in made["ablation.md"] and "Classification only" not in made["ablation.md"]
    summary["against_baseline"]["P53"]["full"]["roc_auc"] = number(0.03, 0.01, 0.05)
    assert "| +0.030 [+0.010, +0.050]* |" in tables.ablation(summary)
    assert tables._scored(number(0.4, 0.3, 0.5) | {"chance": 0.5}) == "0.400 [0.300, 0.500]"
    assert tables._scored({"n": 0, "value": None}) == "none"
    assert not any("seeds" in made[f"{name}.md"] for name in ("prediction", "difference"))
    several = summary | {"provenance": summary["provenance"] | {"seeds": [0, 1]}}
    several["prediction"]["P53"]["full"]["roc_auc"]["seed_sd"] = 0.0217
    assert "| 0.712 [0.611, 0.813] | 0.022 |" in tables.prediction(several)
    several["difference"]["P53"]["metrics"]["roc_auc"] |= {"seeds": 2, "seed_sd": 0.01}
    assert "| +0.021 [−0.031, +0.072] | [−0." in tables.difference(several)
    assert "| Gated attention (ABMIL) | +0.030 [−0.010, +0.070] |" in made["ablation.md"]
    order = [line.split(" | ")[0] for line in made["ablation.md"].splitlines()]
    assert order.index("| Mean-pooled tiles") < order.index("| HistoStainAlign (full)")


def test_without_a_summary_the_message_says_what_to_run(study):
    with pytest.raises(InputError, match="hsa evaluate --study smoke"):
        tables.headline(study)


def test_every_fragment_that_a_page_includes_is_written(study, summary):
    experiments = reference.studies()
    made = {*pieces.fragments(summary, study), *reference.fragments(experiments, summary, study), *pieces.facts()}
    made |= {*speed.fragments(REPOSITORY / "benchmarks" / "results.json"), *protocol.fragments(*experiments)}
    made |= {*real_tissue.fragments(REPOSITORY / "book" / "reference" / "real")}
    included = {
        line.split("_generated/")[1]
        for page in (REPOSITORY / "book").glob("*.md")
        for line in page.read_text().splitlines()
        if "_generated/" in line and line.endswith(".md")
    }
    assert included <= made
    assert {*pieces.fragments(summary, study)} <= included, "what no page shows"


def test_pre_screening_tables_show_shares_and_counts():
    numbers = {"value": [0.9, 2.5, None], "low": [0.8, 1.0, None], "high": [1.0, 4.0, None]}
    frame = pd.DataFrame({"target": 0.95, "measure": ["sensitivity", "missed", "npv"], **numbers})
    table = prescreening_tables.triage_rows({"full": frame}, {"full": "Full"})
    assert table.loc[("Full", "95%")].tolist() == ["0.900 [0.800, 1.000]", "no case unstained", "2.5 [1.0, 4.0]"]
    needed = pd.DataFrame({"share": [0.8], "value": 0.6, "low": 0.5, "high": 0.7, "perfect": 0.2, "random": 0.8})
    shown = prescreening_tables.stains_needed({"full": needed}, {"full": "Full"})
    assert shown["80% found"].to_dict() == {
        "Full": "0.600 [0.500, 0.700]",
        "Perfect order": "0.200",
        "Random order": "0.800",
    }
