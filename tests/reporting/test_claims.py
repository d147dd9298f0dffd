"""What pages and notebooks may say: no finding is typed, and none is claimed that the runs do not show."""

import ast
import re

import nbformat
import pytest

from hsa.files import PACKAGE, REPOSITORY
from hsa.reporting import power, sentences, tables
from hsa.study.study import load

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
PAGES = sorted((REPOSITORY / "book").glob("*.md"))
# Claims that were made once. Each was held against the kept runs, and they do not show it.
TAKEN_BACK = (
    *("what the alignment brings", "whether alignment helps", "alignment helps\\.", "with alignment than without"),
    *("one thing (is )?changed at a time", "repeats the run", "enough for a difference", "turned out cautious"),
    *("before the run, a formula", "before the first slide was stained", "made with the code of commit"),
    *("above or left of the", "validation loss flattens", "six tiles", "every number traced"),
)
# In a picture's description these words tell a finding, which another stain or study need not share.
FINDINGS = r"\b(fall\w*|ris(e|es|ing)|flatten\w*|steep\w*|higher|lower|better|worse|lies?|clearly|most(ly)?|few|many)\b"
COUNTS = r"\b(four|five|six|seven|eight|nine|ten|\d+)\b"


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def prose():
    """Every text that a reader may meet: pages, notebooks, README, and the words in the source: name -> text."""
    told = {path.name: path.read_text() for path in (*PAGES, REPOSITORY / "README.md")}
    told |= {path.name: "\n".join(cell.source for cell in cells(path, "markdown")) for path in NOTEBOOKS}
    told |= {path.name: str([cell.metadata for cell in cells(path, "code")]) + told[path.name] for path in NOTEBOOKS}
    for path in (PACKAGE / "reporting").rglob("*.py"):
        strings = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
        told[f"{path.parent.name}/{path.name}"] = "\n".join(text for text in strings if isinstance(text, str))
    return told


@pytest.mark.parametrize("claim", TAKEN_BACK)
def test_no_page_makes_a_claim_that_was_taken_back(claim):
    for name, text in prose().items():
        assert not re.search(claim, " ".join(text.split()), re.IGNORECASE), f"{name}: {claim}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_its_results_as_prose_and_prints_nothing(path):
    for cell in cells(path, "code"):
        if "remove-cell" in cell.metadata.get("tags", []):
            continue  # the set-up of Colab, which is no Python
        tree = ast.parse(cell.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "pprint", "sys.stdout.write", "Markdown", "HTML"), (cell.id, called)
                texts = [a for a in node.args if isinstance(a, ast.JoinedStr | ast.Constant)]
                assert called not in ("say", "display") or not texts, f"{cell.id}: a sentence is typed; see sentences"
        last = tree.body[-1]
        assert not (isinstance(last, ast.Expr) and isinstance(last.value, ast.JoinedStr | ast.Constant)), cell.id


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_picture_is_described_by_what_it_shows_and_not_by_what_was_found(path):
    for cell in cells(path, "code"):
        if "figure" not in cell.metadata.get("mystnb", {}):
            continue
        shown = cell.metadata.mystnb
        for text in (shown["image"]["alt"], shown["figure"]["caption"]):
            assert not re.search(FINDINGS, text.replace("the lowest class on top", ""), re.IGNORECASE), text
        assert not re.search(COUNTS, shown["image"]["alt"]), shown["image"]["alt"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_nothing_of_the_kind_of_cohort_by_itself(path):
    """It is run on any cohort; what holds for simulated tissue alone is said by a function that is told the study."""
    for cell in cells(path, "markdown"):
        assert not re.search(r"virtual|simulat|oracle|reference run", cell.source, re.IGNORECASE), cell.source


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_of_results_holds_no_typed_result(path):
    """Values with three digits, intervals and shares of the results come from kept files."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    if path.stem in ("reference", "results", "when", "real_tissue"):
        typed = [n for n in re.findall(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?: ?%)?", text) if n not in ("95 %", "1")]
        assert not typed, typed
        for marker in ("P53", "PD-L1", "Ki-67"):
            assert marker not in text, f"a sentence on {marker} is typed"
    assert not re.search(r"[-+\N{MINUS SIGN}]?0?\.\d{3} \[", text)


def test_the_plan_is_said_to_hold_where_it_holds(summary):
    for marker, scatter in zip(tables.markers_of(summary), (0.001, 0.2, 0.001), strict=True):
        gain = summary["difference"][marker]["metrics"]["roc_auc"]
        metrics = {**summary["difference"][marker]["metrics"], "roc_auc": {**gain, "low": -scatter, "high": scatter}}
        summary["difference"][marker] = {**summary["difference"][marker], "metrics": metrics}
    said = sentences.planned(summary)
    wide = []
    for marker in tables.markers_of(summary):
        wider = power.found_error(summary, marker) > power.planned_error(summary, marker)
        before, _, after = said.partition("not larger")
        assert (marker in before) == wider and (marker in after) == (not wider)
        wide.append(wider)
    assert sorted(wide) == [False, False, True]


def test_the_share_of_alignment_alone_is_said_with_what_is_known_of_it(summary):
    study = load("virtual")
    summary["provenance"]["methods"] = [{"name": n, "title": m.title} for n, m in study.methods.items()]
    for marker, (full, other) in zip(summary["prediction"], ((0.75, 0.7), (0.7, 0.7), (0.6, 0.7)), strict=True):
        auc = {"full": {"roc_auc": {"value": full}}, "no_contrast": {"roc_auc": {"value": other}}}
        summary["prediction"][marker] = auc
    said = sentences.contrast_alone(summary, study)
    for marker, methods in summary["prediction"].items():
        gain = methods["full"]["roc_auc"]["value"] - methods["no_contrast"]["roc_auc"]["value"]
        assert f"- **{marker}**: {tables.signed(gain)}\n" in said
    assert "kept without the intervals" in said
    gain = {"roc_auc": {"value": 0.01, "low": -0.02, "high": 0.04}}
    summary["full_against"] = {marker: {"no_contrast": gain} for marker in summary["prediction"]}
    said = sentences.contrast_alone(summary, study)
    assert "- **P53**: +0.010 [\N{MINUS SIGN}0.020, +0.040]" in said and "without the intervals" not in said


def test_results_that_hang_on_the_probe_say_so(summary):
    for page in (tables.difference(summary), tables.more_metrics(summary)):
        assert tables.PROBE in page
    assert "PROBE" in "".join(
        cell.source for cell in cells(REPOSITORY / "notebooks/03_baseline_comparison.ipynb", "code")
    )


def test_no_page_types_a_commit():
    assert not re.search(r"\b[0-9a-f]{7,40}\b", "".join(path.read_text() for path in PAGES))
