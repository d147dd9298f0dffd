"""The smoke study, from nothing to strict HTML, by the same graph as `make book`; then what came out of it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from hsa.files import PACKAGE, REPOSITORY
from hsa.pipeline import again, agreement, steps
from hsa.reporting import notebooks, tables
from hsa.reporting.staging import CHAPTERS
from hsa.study.study import load

pytestmark = pytest.mark.smoke


class Pictures(HTMLParser):
    """Collects the attributes of img and script elements."""

    def __init__(self, text):
        super().__init__()
        self.found = {"img": [], "script": []}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag in self.found:
            self.found[tag].append(dict(attrs))


def test_the_book_has_every_page(built, pages):
    study, _ = built
    for marker in study.markers:
        for chapter in CHAPTERS:
            assert f"notebooks/{marker.lower()}/{chapter}.html" in pages
    for name in ("introduction", "method", "virtual_tissue", "results", "rerun", "api", "bibliography"):
        assert f"book/{name}.html" in pages


def test_no_page_shows_what_no_reader_should_see(built, pages):
    study, _ = built
    own = [str(study.home), str(REPOSITORY), str(Path.home())]
    for name, text in pages.items():
        if name.startswith("_modules"):
            continue
        words = ["Traceback", "IProgress not found", "Warning:", "glue:", "{numref}", "nan [", *own]
        words += ["{stain}"] * name.startswith("notebooks")  # the pages on names of slides say it
        for word in words:
            assert word not in text, f"{name}: {word}"
        assert not re.search(r"(?<![\w.:/-])/(tmp|home|root|Users)/\w", text), name


def test_every_page_reads_offline_and_every_picture_is_described(pages):
    for name, text in pages.items():
        page = Pictures(text)
        assert not [s["src"] for s in page.found["script"] if s.get("src", "").startswith(("http", "//"))], name
        for picture in page.found["img"]:
            assert picture.get("alt"), f"{name}: {picture.get('src')}"


def test_figures_are_numbered_captioned_and_referred_to(built, pages):
    study, _ = built
    for marker in study.markers:
        for chapter in CHAPTERS:
            text = pages[f"notebooks/{marker.lower()}/{chapter}.html"]
            names = re.findall(r'<figure [^>]*id="(fig-[\w-]+)"', text)
            assert len(names) >= 2
            assert text.count('class="caption-number"') == len(names)
            for name in names:
                links = text.count(f'href="#{name}"')  # one is the anchor of its own caption
                assert links >= 2, f"{chapter}: {name} is shown but never referred to"


def test_the_results_page_shows_the_numbers_of_the_summary(built, pages):
    study, _ = built
    summary = json.loads(study.paths.summary.read_text())
    for marker in study.markers:
        for method in tables.titles(study):
            for metric in ("weighted_f1", "roc_auc"):
                number = summary["prediction"][marker][method][metric]
                assert set(number) >= {"value", "low", "high", "n"}
                assert tables.interval(number) in pages["book/results.html"]
        assert summary["alignment"][marker][study.full]["recall_1"]["n"] == summary["cases"][marker]["n"]


def test_every_number_is_one_that_is_kept_or_within_what_machines_change(built):
    study, _ = built
    kept, tolerances = again.read_kept(load("smoke"))
    rows = agreement.compare(kept, json.loads(study.paths.summary.read_text()), tolerances.largest)
    wrong = [f"{row.place}: kept {row.kept}, here {row.again}" for row in rows if row.verdict == "differ"]
    assert len(rows) > 3000
    assert not wrong, "\n".join([*wrong[:20], "If that was meant: hsa verify --rerun smoke --keep, and commit it."])


def test_glued_numbers_are_those_of_the_evaluation(built):
    study, _ = built
    for marker in study.markers:
        values = notebooks.glued(study.paths.notebook(marker, "03_baseline_comparison"))
        found = steps.evaluate(study, marker)
        assert float(values["roc_auc_full"]) == found["prediction"]["full"]["roc_auc"]["value"]


def test_the_page_on_data_flow_names_files_that_the_study_makes(built):
    study, _ = built
    page = (REPOSITORY / "book/how_data_flow.md").read_text()
    named = re.findall(r"^\| `([^`]+\.\w+)` \|", page, re.M)
    assert len(named) == 14
    for name in named:
        assert list(study.paths.root.glob(re.sub(r"<\w+>", "*", name))), name


def test_nothing_is_left_to_do(built, snakemake):
    study, _ = built
    run = snakemake(study.file, "--dry-run")
    assert "Nothing to be done" in run.stdout + run.stderr


def test_the_book_is_built_again_when_the_docstring_of_any_module_changes(built, snakemake):
    study, _ = built
    told = snakemake(study.file, "--dry-run", "--forcerun", "html").stdout
    for path in PACKAGE.rglob("*.py"):
        assert str(path) in told, f"{path} is on a page of the book, which does not depend on it"


def test_a_notebook_runs_alone_and_a_second_run_gives_the_same_summary(built, smoke_file, tmp_path):
    study, _ = built
    path = smoke_file
    alone = tmp_path / "alone.ipynb"
    notebooks.run_notebook(REPOSITORY / "notebooks/04_embedding_analysis.ipynb", alone, {"study": str(path)})
    assert notebooks.glued(alone) == notebooks.glued(study.paths.notebook("P53", "04_embedding_analysis"))
    steps.summarise(load(path), progress=False)
    assert load(path).paths.summary.read_bytes() == study.paths.summary.read_bytes()


def test_committed_notebooks_hold_no_outputs_and_their_parameters_explain_themselves():
    for chapter in CHAPTERS:
        path = REPOSITORY / "notebooks" / f"{chapter}.ipynb"
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs") and cell.get("execution_count") is None
        known = notebooks.parameters(path)
        assert list(known) == ["study", "stain", "seed"]
        assert all(parameter["help"] for parameter in known.values())
