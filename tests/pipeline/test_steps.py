import ast
import os
from collections import defaultdict

import pandas as pd
import pytest

from hsa import files
from hsa.errors import InputError
from hsa.files import PACKAGE
from hsa.pipeline import stamps, steps
from hsa.study.study import load

# Modules that decide no number: settings and models of the registry reach a stamp as values, the others only carry
# things about.
NEUTRAL = {
    "__init__.py",
    "errors.py",
    "files.py",
    "encoders/registry.py",
    "study/paths.py",
    "study/settings.py",
    "study/study.py",
    "workers.py",
}


def imported(module):
    """The modules of this package that a module imports, directly or not."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in found or name in NEUTRAL:
            continue
        found.add(name)
        for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hsa"):
                base = node.module.replace(".", "/").removeprefix("hsa").removeprefix("/")
                candidates = [f"{base}.py", *(f"{base}/{alias.name}.py".lstrip("/") for alias in node.names)]
                waiting += [name for name in candidates if (PACKAGE / name).is_file()]
    return found


@pytest.mark.parametrize(
    ("entry", "stamped"),
    [
        ("virtual/scan.py", stamps.VIRTUAL),
        ("bags/encoding.py", stamps.FEATURES),
        ("training/fit.py", (*stamps.FEATURES, *stamps.TRAINING)),
        ("training/tuning.py", (*stamps.FEATURES, *stamps.TUNING)),
        ("evaluation/ceilings.py", (*stamps.TRAINING, *stamps.EVALUATION)),
        ("evaluation/evaluate.py", (*stamps.VIRTUAL, *stamps.FEATURES, *stamps.TRAINING, *stamps.EVALUATION)),
    ],
)
def test_a_stamp_covers_every_module_that_a_step_imports(entry, stamped):
    assert imported(entry) <= set(stamped)
    assert all((PACKAGE / name).is_file() for name in stamped)


@pytest.fixture
def study(smoke_file):
    def edited(old="", new=""):
        smoke_file.write_text(smoke_file.read_text().replace(old, new))
        return load(smoke_file)

    return edited


def test_a_change_of_settings_makes_what_depends_on_it_stale_and_no_more(study):
    chain = ["cohort", "features", "train", "probe", "evaluate"]

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
        {"design.pairs": "shuffled"},
        {"tuning": {"seed": 9, "candidates": [{"lr": 0.1}, {"lr": 0.2}]}},
        {"tuning": {"seed": 9, "candidates": [{"lr": 0.1}, {"lr": 0.3}]}},
    ],
)
def test_design_and_tuning_make_training_stale_but_no_bag(smoke_file, changes):
    tuned = {"tuning": {"seed": 9, "candidates": [{"lr": 0.1}, {"lr": 0.4}]}}
    before = load(smoke_file, changes=tuned if "tuning" in changes else {})
    after = load(smoke_file, changes=changes)
    assert stamps.stamp(after, "train", "P53", "full") != stamps.stamp(before, "train", "P53", "full")
    assert stamps.stamp(after, "features") == stamps.stamp(before, "features")
    if "tuning" in changes:  # what is not trained is not tuned
        assert stamps.stamp(after, "train", "P53", "mean_pool") == stamps.stamp(before, "train", "P53", "mean_pool")


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


def test_what_stands_outside_of_the_study_file_makes_bags_and_training_stale(tmp_path, smoke_file, monkeypatch):
    imported = load(smoke_file, changes={"encoder": {"name": "imported"}})
    before = stamps.stamp(imported, "bag")
    files.write_json(imported.paths.bags / "imported.json", {"s": "1"})
    assert stamps.stamp(imported, "bag") != before
    known = load(smoke_file, changes={"encoder": {"name": "uni"}})
    before = stamps.stamp(known, "bag")
    monkeypatch.setattr(stamps.foundation, "record", lambda name: {"resize": 1})
    assert stamps.stamp(known, "bag") != before
    started = load(smoke_file, changes={"model.weights": str(tmp_path / "w.pth"), "model.standardise": False})
    found = []
    for content in (None, b"1", b"2"):
        if content:
            (tmp_path / "w.pth").write_bytes(content)
            os.utime(tmp_path / "w.pth", ns=(0, int(content)))
        found.append(stamps.stamp(started, "train", "P53", "full"))
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        ("cohort", {"markers": {"ER": {}}}),
        ("evaluate", {"seeds": [0, 1]}),
        ("evaluate", {"baseline": "abmil"}),
        ("evaluate", {"full": "abmil"}),
    ],
)
def test_markers_seeds_and_compared_methods_count(smoke_file, step, changes):
    assert stamps.stamp(load(smoke_file, changes=changes), step, "P53") != stamps.stamp(load(smoke_file), step, "P53")


def test_a_title_is_no_reason_to_train_again(study):
    before = stamps.stamp(study(), "evaluate", "P53")
    assert stamps.stamp(study("Smoke test", "Another title"), "evaluate", "P53") == before


def test_the_summary_must_have_been_made(study):
    with pytest.raises(InputError, match="hsa evaluate --study smoke"):
        steps.read_summary(study())


def test_each_test_is_corrected_over_the_stains_by_itself(study, monkeypatch):
    wilcoxon = {"positives": {"p": 0.02}, "negatives": {"p": 0.03}}
    found = defaultdict(dict, difference={"delong": {"p": 0.01}, "wilcoxon": wilcoxon})
    monkeypatch.setattr(steps, "evaluate", lambda *a: found)
    holm = steps.summarise(study())["holm"]
    for name, p in (("delong", 0.03), ("wilcoxon_positives", 0.06), ("wilcoxon_negatives", 0.09)):
        assert holm[name] == pytest.approx(dict.fromkeys(["P53", "PD-L1", "Ki-67"], p))


def test_rows_of_several_seeds_say_theirs(study):
    both = study("seeds: [0]", "seeds: [3, 4]")
    rows = steps._over_seeds(both, lambda one: pd.DataFrame({"read": one.seeds}))
    assert rows["read"].tolist() == rows["seed"].tolist() == [3, 4]


def test_what_is_done_and_up_to_date_is_not_done_again(study, monkeypatch):
    chosen = study()
    folder = chosen.paths.method("P53", "full")
    files.write_json(folder / "made.json", {"stamp": stamps.stamp(chosen, "train", "P53", "full")})
    files.write_json(folder / "probe.json", {"stamp": stamps.stamp(chosen, "probe", "P53", "full")})
    monkeypatch.setattr(steps, "make_features", lambda *a, **k: pytest.fail("made features"))
    steps.train(chosen, "P53", "full")
    files.write_json(folder / "made.json", {"stamp": "of another day"})
    with pytest.raises(pytest.fail.Exception, match="made features"):
        steps.train(chosen, "P53", "full")


def test_shares_make_every_bag_once_and_only_the_whole_is_called_made(tmp_path, smoke_file, make_slide, monkeypatch):
    slides = [{"slide_id": f"s{n}", "case_id": f"c{n}", "patient_id": f"c{n}", "stain": "HE"} for n in range(7)]
    for row in slides:
        row |= {"path": make_slide(f"{row['slide_id']}.tif", size=512, covered=0.9).name}
        row |= {f"label_{marker}": "1" for marker in ("P53", "PD-L1", "Ki-67")}
    pd.DataFrame(slides).to_csv(tmp_path / "m.csv", index=False)
    changes = {"cohort": {"kind": "manifest", "manifest": str(tmp_path / "m.csv")}}
    study = load(smoke_file, changes=changes)
    encoded = []
    monkeypatch.setattr(
        "hsa.bags.encoding.encode_cohort", lambda slides, *a, **k: encoded.append(list(slides["slide_id"]))
    )
    for k in (1, 2, 3):
        steps.make_features(study, share=(k, 3), progress=False)
    assert [len(part) for part in encoded] == [3, 2, 2]
    assert sorted(name for part in encoded for name in part) == [f"s{n}" for n in range(7)]
    assert not (study.paths.bags / "made.json").exists()
    steps.make_features(study, progress=False)
    assert len(encoded[3]) == 7 and (study.paths.bags / "made.json").is_file()
    with pytest.raises(InputError, match="in one go: leave out `--share`"):
        steps.make_features(load(smoke_file, changes=changes | {"encoder.runtime": "openvino-int8"}), share=(1, 2))
