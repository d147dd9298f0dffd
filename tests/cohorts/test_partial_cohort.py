"""A cohort as real ones are, from imported bags to the summary: three classes, missing slides and labels."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from hsa.bags.bag import Bag, write_bag
from hsa.cli import app
from hsa.files import REPOSITORY, write_json
from hsa.pipeline import steps
from hsa.reporting import notebooks, staging, tables
from hsa.study.study import load

STUDY = """
name: real
title: A cohort as real ones are
seeds: [0]
cohort: {kind: manifest, manifest: manifest.csv}
markers:
  HER2: {classes: ["0", "1+", "2+"], positive_from: "1+"}
encoder: {name: imported}
model: {dim: 16, depth: 1, heads: 2, segment_lengths: [16], dilated_ratios: [1]}
methods:
  mean_pool: {title: Mean, encoder: mean}
  classification_only: {title: Classification only, losses: [classification]}
  full: {title: Full, losses: [intra_modality, info_nce, classification]}
baseline: classification_only
full: full
training: {epochs: 2, batch: 8, lr: 1.0e-2, min_lr: 1.0e-4, warmup_epochs: 0}
evaluation: {folds: 3, bootstrap: 100, recall_at: [1]}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """36 cases: c00-c29 with a label, of which every fifth lacks IHC; c30-c35 pairs only. c01 has two H&E slides."""
    tmp_path = tmp_path_factory.mktemp("real")
    (tmp_path / "real.yml").write_text(STUDY)
    chosen, rng, rows, bags = load(tmp_path / "real.yml"), np.random.default_rng(0), [], {}
    for i in range(36):
        stains = ["HE", *["HE"] * (i == 1), *["HER2"] * (i >= 30 or i % 5 > 0)]
        for number, stain in enumerate(stains):
            slide = f"c{i:02d}-{number}"
            (tmp_path / f"{slide}.tif").touch()
            rows.append({"patient_id": f"p{i}", "case_id": f"c{i:02d}", "slide_id": slide, "stain": stain})
            rows[-1] |= {"path": f"{slide}.tif", "mpp": 0.5, "label_HER2": ["0", "1+", "2+"][i % 3] if i < 30 else ""}
            coords = np.stack([np.arange(6) % 3, np.arange(6) // 3], axis=1) * 256
            features = rng.standard_normal((6, 5)) + 2 * (i % 3) * np.array([1, 0, 0, 0, 0])
            attrs = {"source_tool": "trident", "encoder": "uni", "encoder_dim": 5, "slide_id": slide}
            attrs |= {"tile_px": 256, "tile_mpp": 0.5, "tile_px_level0": 256, "stamp": "s", "source_sha256": slide}
            bags[slide] = "s"
            write_bag(chosen.paths.bags / f"{slide}.h5", Bag(features.astype(np.float16), coords, attrs))
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    write_json(chosen.paths.bags / "imported.json", bags)
    return chosen


@pytest.mark.slow
def test_a_cohort_with_gaps_goes_from_bags_to_the_summary(study):
    summary = steps.summarise(study, progress=False)
    predicted = summary["prediction"]["HER2"]
    assert summary["cases"]["HER2"] == {"n": 30, "positive": 20}
    assert predicted["mean_pool"]["roc_auc"]["value"] > 0.7
    found = summary["categories"]["HER2"]["mean_pool"]
    assert found["weighted_f1"]["n"] == 30 and found["quadratic_kappa"]["value"] > 0.6
    assert summary["categories"]["HER2"]["majority"]["quadratic_kappa"]["value"] < 0.1
    assert summary["alignment"]["HER2"]["full"]["alignment"]["n"] == 30  # 24 labelled pairs and 6 others
    assert summary["ceiling"]["HER2"] == {}
    he = steps.embeddings(study, "HER2", "full", "HE", progress=False)
    assert "c01-0+c01-1" in set(he["slide_id"]) and set(he["category"]) == {-1, 0, 1, 2}
    assert summary["provenance"]["classes"] == {"HER2": "classes 0, 1+, 2+; positive: 1+, 2+"}
    told = json.loads((study.paths.method("HER2", "full") / "study.json").read_text())
    assert told["classes"] == ["below 1+", "1+ and above"] and told["all_classes"] == ["0", "1+", "2+"]
    assert "quadratic kappa" in tables.headline(study) and "Cohen 1968" in tables.more_metrics(summary)
    predictions = pd.read_csv(study.paths.method("HER2", "full") / "predictions.csv")
    assert set(predictions["case_id"]) == {f"c{i:02d}" for i in range(30)}


ELSEWHERE = ("reference.md", "when.md", "virtual_tissue.md")
SIMULATED = re.compile(r"virtual|simulat|its truth|oracle", re.IGNORECASE)


@pytest.mark.slow
def test_the_book_of_slides_on_disk_is_told_as_such(study, tmp_path):
    summary = steps.summarise(study, progress=False)
    for chapter in staging.CHAPTERS:
        executed = study.paths.notebook("HER2", chapter)
        executed.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "notebooks" / f"{chapter}.ipynb", executed)
    target = tmp_path / "stage"
    run = CliRunner().invoke(app, ["stage", "--study", str(study.file), "--target", str(target)])
    assert run.exit_code == 0, run.output
    told = (*target.glob("book/*.md"), *target.glob("book/_generated/*.md"))  # book/api is of the package
    pages = {path.name: path.read_text() for path in told}
    for path in target.rglob("*.ipynb"):
        found = nbformat.read(path, as_version=4).cells
        prose = [cell.source for cell in found if cell.cell_type == "markdown"]
        pages[path.name] = "\n\n".join([*prose, *(str(cell.metadata.get("mystnb", "")) for cell in found)])
    assert len(pages) > 30
    parts = yaml.safe_load((target / "book" / "_toc.yml").read_text())["parts"]
    code = [c["file"] for part in parts for c in part["chapters"] if part["caption"] == "For developers"]
    others = {*ELSEWHERE, "reforms.md", *(f"{Path(file).name}.md" for file in code)}  # of the software, not of a cohort
    chapters = [c["file"] for part in parts for c in part["chapters"]]
    assert "book/look" not in chapters, "its slides are painted: it is not built"
    others.add("look.md")
    for name, text in pages.items():
        if name in others or name.startswith(("focal_", "diffuse_", "imprints")):
            continue
        for part in re.sub(r"^```.*?\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE).split("\n\n"):
            if SIMULATED.search(re.sub(r"{doc}`.*?`", "", part)):
                assert re.search("reference|simulated one|study `virtual`|experiment", part), f"{name}: {part}"
    for name in ("reference.md", "when.md", "virtual_tissue.md", "reforms.md"):
        assert pages[name].split("\n\n")[1].startswith(":::{admonition} Another cohort"), name
    first = pages["introduction.md"]
    assert "on a cohort of slides on disk" in first and "_generated/short.md" in first
    assert "that anyone can make" not in first
    assert pages["short.md"].startswith("On these slides an H&E slide finds its own IHC section first")
    assert tables.interval(summary["difference"]["HER2"]["metrics"]["roc_auc"], sign=True) in pages["short.md"]
    assert "fig-short" not in pages["short.md"]
    assert pages["cohort.md"].startswith("**The cohort is that of the study `real`**: A cohort as real ones are.")
    assert "No number on any page of this book" not in pages["public_cohorts.md"]
    assert [part["caption"] for part in parts][:3] == [
        "The study",
        "HER2",
        "Experiments on simulated tissue, and a check on real tissue",
    ]


@pytest.mark.slow
def test_the_comparison_chapter_shows_all_classes(study, tmp_path):
    source, page = REPOSITORY / "notebooks/03_baseline_comparison.ipynb", tmp_path / "page.ipynb"
    notebooks.run_notebook(source, page, {"study": str(study.file), "stain": "HER2"})
    outputs = {cell.id: cell.get("outputs", []) for cell in nbformat.read(page, as_version=4).cells}
    said = {key: found[-1]["data"].get("text/markdown", "") for key, found in outputs.items() if found}
    assert said["c315a971"] == "**HER2**: classes 0, 1+, 2+; positive: 1+, 2+."
    assert not any("simulated" in text or "Oracle" in text for text in said.values())
    assert "adds the masking loss and adds the contrastive loss" in said["2bcdbefa"]
    assert "ROC AUC of the full method" in said["d5b6cf21"]
    scores, note, classes = (output["data"] for output in outputs["d06df948"])
    assert "AUC within folds" in scores["text/html"] and "kappa" not in scores["text/html"]
    assert "Cohen 1968" in note["text/markdown"] and "quadratic kappa" in classes["text/html"]
    counts = pd.read_csv(study.paths.marker("HER2") / "figures/confusion.csv", dtype={"true": str})
    assert set(counts["true"]) == {"0", "1+", "2+"} and counts.groupby("method")["cases"].sum().tolist() == [30, 30]
