"""A result knows what made it: settings, code and what stands outside of the study file."""

import os
import re
import shutil

import pytest

from hsa import files, fingerprint
from hsa.errors import InputError
from hsa.files import PACKAGE, REPOSITORY
from hsa.pipeline import stamps
from hsa.pipeline.steps import make_features
from hsa.study.study import load

CHAIN = ["cohort", "bag", "features", "tuning", "fit", "probe", "evaluation", "summary"]
NAMES = {
    ".".join(["hsa", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
}


def steps_of(study):
    """What each step is made by, and from which steps."""
    virtual = study.cohort.kind == "virtual"
    cohort, bag = "render" if virtual else "cohort", "imported" if study.encoder.name == "imported" else "encode"
    made_by = {"cohort": cohort, "bag": bag} | {step: step for step in CHAIN[2:]}
    before = {"cohort": [], "bag": ["cohort"] if virtual else [], "features": ["cohort", "bag"], "tuning": ["features"]}
    before |= {"fit": ["features", "tuning"], "probe": ["fit"], "evaluation": ["probe"], "summary": ["evaluation"]}
    return made_by, before


def reached(module):
    """What a module runs through, found from its text by other means than `hsa.fingerprint`."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        wing = name.split(".")[1:2]
        on_the_ground = not wing or wing == ["study"] or not (PACKAGE / wing[0]).is_dir()
        books = re.fullmatch(r"hsa\.pipeline\.(steps|stamps|door|ledger)", name)
        other = re.fullmatch(r"hsa\.pipeline\.steps\.(?!records)\w+", name) and name != module
        if name in found or on_the_ground or books or other:
            continue
        found.add(name)
        path = PACKAGE.joinpath(*name.split(".")[1:])
        text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        text = re.sub(r"\nif TYPE_CHECKING:.*?\n(?=\S)", "\n", text, flags=re.S)
        for package, listed in re.findall(r"^ *from (hsa[\w.]*) import (\([^)]*\)|.*)$", text, re.M):
            words = [part.split(" as ")[0].strip(" ()\n") for part in listed.split("  #")[0].split(",")]
            said = {package, *(f"{package}.{word}" for word in words)} & NAMES
            waiting += {".".join(one.split(".")[:n]) for one in said for n in range(2, one.count(".") + 2)}
    return found


def forget():
    for cached in (fingerprint.closure, fingerprint._looked_into):
        cached.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, whose modules can be changed."""
    shutil.copytree(PACKAGE, tmp_path / "hsa", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path / "hsa")
    forget()
    yield tmp_path / "hsa"
    forget()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["virtual", "manifest", "imported"])
def test_a_change_of_code_makes_the_steps_stale_that_run_through_it_and_a_comment_none(smoke_file, package, kind):
    cohort = {"kind": "manifest", "manifest": "m.csv"}
    changes = {"virtual": {}, "manifest": {"cohort": cohort}, "imported": {"cohort": cohort}}[kind]
    changes |= {"encoder": {"name": "imported"}} if kind == "imported" else {}
    study = load(smoke_file, changes=changes | {"tuning": {"seed": 9, "candidates": [{"lr": 0.1}, {"lr": 0.2}]}})
    made_by, before = steps_of(study)
    own = {step: reached(f"hsa.pipeline.steps.{made_by[step]}") for step in CHAIN}

    def stamped():
        forget()
        return {step: stamps.stamp(study, step, "P53", "full") for step in CHAIN}

    first = stamped()
    for name in sorted(NAMES):
        path = package.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = path.read_text()
        path.write_text("# A comment.\n" + text.replace('"""', '"""Well: ', 1))
        assert stamped() == first, f"a comment in {name}"
        path.write_text(text + "\n_changed = 1\n")
        stale = {step for step in CHAIN if name in own[step]}
        while more := {step for step in CHAIN if set(before[step]) & stale} - stale:
            stale |= more
        assert {step for step, one in stamped().items() if one != first[step]} == stale, name
        path.write_text(text)
    touched = set().union(*own.values())
    assert {"hsa.models.losses", "hsa.evaluation.ceilings", "hsa.pipeline.steps.evaluation"} <= touched
    assert not {"hsa.files", "hsa.study.study", "hsa.cli.study", "hsa.reporting.tables", "hsa.pipeline.plan"} & touched


def test_the_workflow_names_no_module_of_the_package_by_hand():
    told = (REPOSITORY / "workflow/Snakefile").read_text()
    assert not re.findall(r"\w+\.py\b", told.replace('"*.py"', ""))
    assert len(re.findall(r"stamp=", told)) >= 9


def test_a_new_way_to_make_ceilings_or_to_keep_books(package, smoke_file):
    """The two faults that lists of modules had: glue in the steps did not count, a comment in hub.py did."""
    study = load(smoke_file)
    before = {step: stamps.stamp(study, step, "P53") for step in ("bag", "evaluation")}
    path = package / "pipeline/steps/evaluation.py"
    path.write_text(path.read_text().replace("if means and complete.all()", "if complete.all() and means"))
    hub = package / "encoders/hub.py"
    hub.write_text("# Nothing.\n" + hub.read_text())
    forget()
    assert stamps.stamp(study, "evaluation", "P53") != before["evaluation"]
    assert stamps.stamp(study, "bag") == before["bag"]


@pytest.fixture
def study(smoke_file):
    def edited(old="", new=""):
        smoke_file.write_text(smoke_file.read_text().replace(old, new))
        return load(smoke_file)

    return edited


def test_a_change_of_settings_makes_what_depends_on_it_stale_and_no_more(study):
    chain = ["cohort", "features", "fit", "probe", "evaluation"]

    def chained(chosen):
        return [stamps.stamp(chosen, step, "P53", "full") for step in chain]

    before = chained(study())
    changes = {"cases: 30": 0, "min_tissue: 0.25": 1, "epochs: 3": 2, "bootstrap: 200": 4}
    for setting, first in changes.items():
        after = chained(study(setting, f"{setting.rsplit(' ', 1)[0]} {0.3 if 'tissue' in setting else 400}"))
        assert after[:first] == before[:first], setting
        assert all(a != b for a, b in zip(after[first:], before[first:], strict=True)), setting
        before = after


@pytest.mark.parametrize(
    "changes",
    [
        {"design.labelled": 0.5},
        {"tuning": {"seed": 9, "candidates": [{"lr": 0.1}, {"lr": 0.2}]}},
        {"tuning": {"seed": 9, "candidates": [{"lr": 0.1}, {"lr": 0.3}]}},
    ],
)
def test_design_and_tuning_make_training_stale_but_no_bag(smoke_file, changes):
    tuned = {"tuning": {"seed": 9, "candidates": [{"lr": 0.1}, {"lr": 0.4}]}}
    before = load(smoke_file, changes=tuned if "tuning" in changes else {})
    after = load(smoke_file, changes=changes)
    assert stamps.stamp(after, "fit", "P53", "full") != stamps.stamp(before, "fit", "P53", "full")
    assert stamps.stamp(after, "features") == stamps.stamp(before, "features")
    if "tuning" in changes:  # what is not trained is not tuned
        assert stamps.stamp(after, "fit", "P53", "mean_pool") == stamps.stamp(before, "fit", "P53", "mean_pool")


def test_a_bag_depends_on_its_tiles_and_encoder_but_not_on_the_manifest(tmp_path, smoke_file):
    def stamped(**changes):
        study = load(
            smoke_file, changes={"cohort": {"kind": "manifest", "manifest": str(tmp_path / "m.csv")}, **changes}
        )
        return stamps.stamp(study, "features"), stamps.stamp(study, "bag")

    (tmp_path / "m.csv").write_text("case_id\n1\n")
    before = stamped()
    (tmp_path / "m.csv").write_text("case_id,label_HER2\n1,0\n2,1\n")
    after = stamped()
    assert after[0] != before[0] and after[1] == before[1]
    assert stamped(**{"encoder.batch": 7}) == after  # memory, no number
    assert stamped(**{"encoder.precision": "float32"})[1] != after[1]
    assert stamped(**{"tiles.min_tissue": 0.4})[1] != after[1]
    virtual = [stamps.stamp(load(smoke_file, changes={"cohort.seed": seed}), "bag") for seed in (1, 2)]
    assert virtual[0] != virtual[1]  # its slides are made again under the same names


def test_a_manifest_that_is_no_utf8_is_told_by_who_reads_it(tmp_path, smoke_file):
    study = load(smoke_file, changes={"cohort": {"kind": "manifest", "manifest": str(tmp_path / "m.csv")}})
    found = []
    for data in (b"case_id,name\n1,M\xfcller\n", b"case_id,name\n1,M\xf6ller\n", "case_id\nü\n".encode("utf-16")):
        (tmp_path / "m.csv").write_bytes(data)
        found.append(stamps.stamp(study, "features"))
        with pytest.raises(InputError, match=r"m\.csv: (not a readable CSV: line 2 is not UTF-8|no text)"):
            make_features(study, progress=False)
    assert len(set(found)) == 3


def test_what_stands_outside_of_the_study_file_makes_bags_and_training_stale(tmp_path, smoke_file, monkeypatch):
    imported = load(smoke_file, changes={"encoder": {"name": "imported"}})
    before = stamps.stamp(imported, "bag")
    files.write_json(imported.paths.bags / "imported.json", {"s": "1"})
    assert stamps.stamp(imported, "bag") != before
    started = load(smoke_file, changes={"model.weights": str(tmp_path / "w.pth"), "model.standardise": False})
    found = []
    for content in (None, b"1", b"2"):
        if content:
            (tmp_path / "w.pth").write_bytes(content)
            os.utime(tmp_path / "w.pth", ns=(0, int(content)))
        found.append(stamps.stamp(started, "fit", "P53", "full"))
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ("cohort", {"markers": {"ER": {}}}),
        ("evaluation", {"seeds": [0, 1]}),
        ("evaluation", {"baseline": "abmil"}),
        ("evaluation", {"full": "abmil"}),
    ],
)
def test_markers_seeds_and_compared_methods_count(smoke_file, step, changes):
    assert stamps.stamp(load(smoke_file, changes=changes), step, "P53") != stamps.stamp(load(smoke_file), step, "P53")


def test_a_title_is_no_reason_to_train_again(study):
    before = stamps.stamp(study(), "evaluation", "P53")
    assert stamps.stamp(study("Smoke test", "Another title"), "evaluation", "P53") == before
