import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from hsa.errors import InputError
from hsa.files import REPOSITORY
from hsa.reporting import experiment_axes, reference, speed, staging
from hsa.study.study import ManifestCohort, load


@pytest.fixture
def study(smoke_file):
    """The smoke study, with its results in a folder of its own."""
    return load(smoke_file)


@pytest.fixture
def chapter(tmp_path):
    """A committed notebook and its executed copy."""
    figure = {
        "figure": {"name": "fig-roc", "caption": "ROC of {stain}."},
        "image": {"alt": "Curves, {stain}."},
    }
    cells = [
        new_markdown_cell("# Baseline\n\nSee {numref}`fig-roc` and {numref}`fig-forest`.\n\n# Not a title"),
        new_code_cell("seed: int = 0  # random seed", metadata={"tags": ["parameters"]}),
        new_code_cell("draw()", metadata={"mystnb": figure}),
    ]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    source = tmp_path / "03_baseline_comparison.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=spec), source)
    injected = new_code_cell("seed = 0", metadata={"tags": ["injected-parameters"]})
    cells[2].outputs = [new_output("display_data", {"image/png": ""})]
    executed = tmp_path / "executed.ipynb"
    nbformat.write(new_notebook(cells=[*cells[:2], injected, cells[2]], metadata=spec), executed)
    return source, executed


def test_a_page_is_told_apart_from_its_sisters(study, chapter):
    page = staging.staged_notebook(study.model_copy(update={"seeds": [7]}), "PD-L1", *chapter)
    text, table, figure = page.cells
    assert text.source.startswith("# Baseline: PD-L1\n") and "# Not a title" in text.source
    assert "{numref}`fig-roc-pd-l1`" in text.source and "{numref}`fig-forest-pd-l1`" in text.source
    assert figure.metadata.mystnb["figure"] == {"name": "fig-roc-pd-l1", "caption": "ROC of PD-L1."}
    assert figure.metadata.mystnb["image"]["alt"] == "Curves, PD-L1."
    assert figure.metadata["tags"] == ["hide-input"]
    assert table.cell_type == "markdown" and "| `seed` | 7 | 0 | random seed |" in table.source
    assert table.source.startswith("**Simulated tissue**")
    real = study.model_copy(update={"cohort": ManifestCohort(kind="manifest", manifest="manifest.csv")})
    assert "Simulated" not in staging.staged_notebook(real, "PD-L1", *chapter).cells[1].source
    assert page.metadata["hsa_source"] == "notebooks/03_baseline_comparison.ipynb"


def test_blocks_of_other_cohorts_are_left_out_and_a_wrong_block_is_named():
    page = "a\n\n::::{only} virtual\n:::{note}\nb\n:::\n::::\n:::{only} manifest\nc\n\n\nd\n:::\n\ne\n"
    assert staging.only(page, "virtual", "p.md") == "a\n\n:::{note}\nb\n:::\n\ne\n"
    assert staging.only(page, "manifest", "p.md") == "a\n\nc\n\n\nd\n\ne\n"
    with pytest.raises(InputError, match=r"p.md: `{only} real`: give one of virtual, manifest"):
        staging.only(":::{only} real\nc\n:::\n", "virtual", "p.md")
    with pytest.raises(InputError, match=r"p.md: a block `{only}` has no end"):
        staging.only("::::{only} virtual\nc\n:::\n", "virtual", "p.md")


def test_the_book_of_simulated_slides_is_told_as_such(study, tmp_path):
    one = study.model_copy(update={"markers": {"P53": study.markers["P53"]}})
    for name in staging.CHAPTERS:
        path = one.paths.notebook("P53", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "notebooks" / f"{name}.ipynb", path)
    staging.stage(one, REPOSITORY, tmp_path / "stage", {})
    pages = {path.name: path.read_text() for path in (tmp_path / "stage").rglob("*.md")}
    assert "The cohort is *virtual tissue*" in pages["introduction.md"] and "on disk" not in pages["introduction.md"]
    for name, text in pages.items():
        assert "{only}" not in text and "Another cohort" not in text, name
    folded = nbformat.read(tmp_path / "stage/notebooks/p53/03_baseline_comparison.ipynb", as_version=4).cells
    tags = {cell.source: cell.metadata.get("tags") for cell in folded if cell.cell_type == "code"}
    assert tags["say(design.contrast(chosen))"] == ["remove-input"], "a sentence shows no code"


def test_the_table_of_contents_has_a_part_for_each_marker():
    toc = yaml.safe_load((REPOSITORY / "book/_toc.yml").read_text())
    captions = [part["caption"] for part in staging.expand_toc(toc, ["HER2", "ER"], "virtual")["parts"]]
    assert captions == ["The study", "HER2", "ER", "Your own data", "Reference", "For developers"]
    files = [c["file"] for part in staging.expand_toc(toc, ["HER2"], "virtual")["parts"] for c in part["chapters"]]
    other = staging.expand_toc(toc, ["HER2"], "manifest")["parts"]
    others = [c["file"] for part in other for c in part["chapters"]]
    assert sorted(files) == sorted([*others, "book/look"]), "the same pages but that of painted slides"
    assert not any("only" in part for part in other)
    assert "notebooks/her2/01_data_preparation" in files
    assert [f"notebooks/her2/{c}" for c in staging.CHAPTERS] == [f for f in files if f.startswith("notebooks")]


def test_a_missing_notebook_is_named_and_the_old_stage_stays(study, tmp_path):
    target = tmp_path / "stage"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(InputError, match=r"01_data_preparation.ipynb is missing. Run `hsa notebook .* --stain P53"):
        staging.stage(study, REPOSITORY, target, {})
    assert (target / "old").exists()


def test_a_new_stage_replaces_the_old_as_a_whole(study, chapter, tmp_path):
    both = study.model_copy(update={"seeds": [3, 4]})  # the pages are of the first seed
    for marker in both.markers:
        for name in staging.CHAPTERS:
            path = both.at(3).paths.notebook(marker, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chapter[1].read_bytes())
    for folder in ("book", "notebooks"):
        shutil.copytree(REPOSITORY / folder, tmp_path / "home" / folder)
    (tmp_path / "home" / "book" / "__pycache__").mkdir(exist_ok=True)
    target = tmp_path / "stage"
    target.mkdir()
    (target / "old").touch()
    staging.stage(both, tmp_path / "home", target, {"short.md": "told"})
    assert sorted(path.name for path in target.iterdir()) == ["book", "notebooks"]
    assert len(list(target.glob("notebooks/*/*.ipynb"))) == 3 * len(staging.CHAPTERS)
    assert (target / "book" / "_generated" / "short.md").read_text() == "told"
    assert not list(target.rglob("__pycache__"))


def test_two_that_stage_at_once_both_end_and_leave_one_whole_stage(tmp_path):
    target = tmp_path / "stage"
    barrier = threading.Barrier(8)

    def stage(number):
        for _ in range(20):
            with staging._replacing_folder(target) as new:
                new.mkdir()
                for name in "abc":
                    (new / name).write_text(str(number))
                barrier.wait(30)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(stage, range(8)))
    assert len({(target / name).read_text() for name in "abc"}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


def test_a_stage_that_fails_leaves_the_old_one_and_nothing_else(tmp_path):
    target = tmp_path / "stage"
    (target / "sub").mkdir(parents=True)
    stale, fresh = tmp_path / ".stage.0123abcd.new", tmp_path / ".stage.4567abcd.new"
    stale.mkdir(), fresh.mkdir()
    os.utime(stale, (0, 0))
    with pytest.raises(RuntimeError), staging._replacing_folder(target) as new:
        new.mkdir()
        raise RuntimeError
    assert (target / "sub").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [fresh.name, "stage"]


def test_options_of_figures_stand_in_one_line_where_a_second_would_become_a_caption(summary, study):
    experiments = reference.studies()
    made = reference.fragments(experiments, summary, study) | speed.fragments(
        REPOSITORY / "benchmarks" / "results.json"
    )
    texts = {path.name: path.read_text() for path in (REPOSITORY / "book").glob("*.md")} | made
    texts |= {"axes": experiment_axes._AXES, "calibration": experiment_axes._CALIBRATION, "short": reference._SHORT}
    for name, text in texts.items():
        for figure in re.findall(r"^```\{+figure\}+.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            head, _, caption = figure.partition("\n\n")
            assert all(line.startswith(":") for line in head.splitlines()), f"{name}: {head}"
            assert caption.strip(), name
