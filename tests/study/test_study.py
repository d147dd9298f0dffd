from pathlib import Path

import pytest
import yaml

from hsa.errors import InputError, shown
from hsa.study.study import find, load

REPO = Path(__file__).parents[2]


@pytest.fixture
def edited(tmp_path):
    """Load the default study after replacing one text by another."""

    def edit(old, new):
        text = (REPO / "studies/virtual.yml").read_text()
        assert old in text
        path = tmp_path / "edited.yml"
        path.write_text(text.replace(old, new, 1))
        return load(path)

    return edit


@pytest.mark.parametrize("path", sorted((REPO / "studies").glob("*.yml")), ids=lambda p: p.stem)
def test_every_study_in_the_repository_loads_under_its_own_name(path):
    assert load(path).name == path.stem


def test_a_study_is_found_by_name_from_below_the_repository(monkeypatch):
    monkeypatch.chdir(REPO / "notebooks")
    assert find("smoke").resolve() == REPO / "studies/smoke.yml"


def test_files_lie_beside_the_studies_folder_by_seed_and_marker():
    study = load(REPO / "studies/virtual.yml", seed=7)
    assert study.paths.method("PD-L1", "full") == REPO / "results/virtual/seed7/pd-l1/full"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("epochs: 25\n", "epoch: 25\n", ["training.epoch", "unknown key", "'epochs'"]),
        ("batch: 12", "batch: many", ["training.batch", "integer", "'many'"]),
        ("cases: 100", "cases: 3", ["cohort.cases", "20", "3"]),
        ("cases: 100", "cases: true", ["cohort.cases", "integer"]),
        ("  strength: 1.0\n", "", ["cohort.strength", "missing"]),
        ("name: virtual", "name: a b", ["name", "'a b'"]),
        ("heads: 4", "heads: 3", ["model", "multiple of heads"]),
        ("baseline: classification_only", "baseline: nothing", ["baseline", "'nothing'", "mean_pool"]),
        ("losses: [info_nce]", "losses: [infonce]", ["methods.contrastive_only.losses", "info_nce"]),
        ("dilated_ratios: [1, 2]", "dilated_ratios: [1]", ["model", "one length"]),
        ("seeds: [0]\n", "seeds: [0]\nseeds: [1]\n", ["'seeds'", "twice"]),
        ("seeds: [0]\n", "seeds: [0, 0]\n", ["seeds", "twice"]),
        ("seeds: [0]\n", "seeds: [0]\ntuning: {seed: 0, candidates: [{lr: 1.0}, {lr: 2.0}]}\n", ["tuning.seed"]),
        ("seeds: [0]\n", "seeds: [0]\ntuning: {seed: 9, candidates: [{lr: 1.0}, {lrr: 2.0}]}\n", ["lrr", "'lr'"]),
        ("markers:\n", "markers:\n  p53: {}\n", ["markers", "case only"]),
        ("name: virtual", "name: [virtual", ["not valid YAML"]),
        ("name: virtual", "name: ..", ["name", "'..'"]),
        ("name: virtual", "name: on", ["name", "Put it in quotes"]),
        ("epochs: 25", "epochs: 010", ["training.epochs", "'010'"]),
        ("epochs: 25", "epochs: 1:30", ["training.epochs", "'1:30'"]),
        ("seeds: [0]\n", "seeds: [-1]\n", ["seeds.0", "0"]),
        ("seeds: [0]\n", "seeds: [0]\n1: x\n", ["key 1"]),
        ("strength: 1.0", "strength: .inf", ["cohort.strength", "finite"]),
        ("  kind: virtual\n", "", ["cohort.kind", "missing"]),
        ("markers:\n", "markers:\n  he: {}\n", ["markers", "routine stain"]),
        ("markers:\n", "markers:\n  X: {classes: ['', a, b]}\n", ["markers.X", "needs a name"]),
        ("  full:\n", "  Full: {title: x}\n  full:\n", ["methods", "case only"]),
        ("  full:\n", "  majority: {title: x}\n  full:\n", ["methods", "names of results"]),
        ("segment_lengths: [", "segment_lengths: [] # [", ["model.segment_lengths", "at least 1"]),
        ("name: virtual", "extends: 5\nname: virtual", ["extends", "5"]),
    ],
)
def test_a_wrong_study_names_file_key_and_remedy(edited, old, new, told):
    with pytest.raises(InputError) as caught:
        edited(old, new)
    for words in ["edited.yml", *told]:
        assert words in str(caught.value)


def test_all_problems_are_told_at_once(edited):
    with pytest.raises(InputError, match=r"(?s)training\.epoch.*training\.lrr|training\.lrr.*training\.epoch"):
        edited("  epochs: 25\n", "  epoch: 25\n  lrr: 1\n")


def test_an_exponent_without_a_dot_is_a_number(edited):
    assert edited("lr: 1.0e-3", "lr: 5e-5").training.lr == 5e-5


def test_an_unknown_study_or_marker_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'virtual'"):
        load("virtul")
    with pytest.raises(InputError, match=r"did you mean 'Ki-67'.*markers"):
        load("virtual").require_marker("Ki67")


def test_adding_a_marker_takes_one_line(edited):
    assert "HER2" in edited("markers:\n", "markers:\n  HER2:\n").markers


def test_a_study_survives_a_round_trip_through_yaml(tmp_path):
    study = load("virtual")
    path = tmp_path / "copy.yml"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    assert load(path).model_dump() == study.model_dump()


def test_a_study_that_extends_another_holds_only_what_differs(edited, tmp_path):
    edited("name: virtual", "name: edited")
    path = tmp_path / "child.yml"
    path.write_text("extends: edited\nname: child\ntraining: {lr: 0.5}\nmethods: {full: {title: F}}\nbaseline: full\n")
    child, base = load(path), load(tmp_path / "edited.yml")
    assert child.training.lr == 0.5 and child.training.epochs == base.training.epochs
    assert list(child.methods) == ["full"]
    assert child.cohort == base.cohort
    assert load(path, changes={"training.lr": 0.25, "name": "other"}).training.lr == 0.25


def test_a_study_that_extends_itself_is_refused(tmp_path):
    (tmp_path / "a.yml").write_text("extends: b\n")
    (tmp_path / "b.yml").write_text("extends: a\n")
    with pytest.raises(InputError, match=r"extends itself, by way of a.yml, b.yml"):
        load(tmp_path / "a.yml")


def test_bags_are_shared_only_with_a_study_of_the_same_slides(edited, tmp_path):
    edited("name: virtual", "name: edited")
    path = tmp_path / "child.yml"
    path.write_text("extends: edited\nname: child\nbags: edited\n")
    assert load(path).paths.bags == load(tmp_path / "edited.yml").paths.bags
    path.write_text("extends: edited\nname: child\nbags: edited\ntiles: {min_tissue: 0.1}\n")
    with pytest.raises(InputError, match=r"child.yml: bags: edited, but `tiles` differs from .*edited.yml"):
        load(path)


def test_several_seeds_have_a_folder_together_and_one_each():
    study = load("focal")
    assert study.paths.marker("P53").parent.name == "seeds10-11-12-13-14"
    assert study.at(13).paths.method("P53", "full").parts[-3:] == ("seed13", "p53", "full")
    with pytest.raises(ValueError, match="5 seeds"):
        study.paths.method("P53", "full")


@pytest.mark.parametrize("data", ["name: t\xefny".encode("latin-1"), b"a: " + b"[" * 20_000], ids=["latin-1", "deep"])
def test_what_is_no_yaml_in_utf_8_is_told(tmp_path, data):
    (tmp_path / "s.yml").write_bytes(data)
    with pytest.raises(InputError, match="not valid YAML in UTF-8"):
        load(tmp_path / "s.yml")


def test_bags_are_taken_from_the_study_that_makes_them(tmp_path):
    text = (REPO / "studies/smoke.yml").read_text()
    for name, bags in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yml").write_text(text.replace("name: smoke", f"name: {name}\nbags: {bags}", 1))
    with pytest.raises(InputError, match="uses those of a"):
        load(tmp_path / "a.yml")


@pytest.mark.parametrize(
    "value",
    [
        "2024-99-99",
        "2024-01-01 99:99:99",
        "!!int abc",
        "!!bool perhaps",
        "!!timestamp never",
        "!!float x",
        "9" * 5000,
        "!!binary \xe4",
        f"!{'t' * 100_000} x",
    ],
    ids=lambda value: value[:12],
)
def test_a_value_that_yaml_cannot_read_is_told_with_its_line(edited, value):
    with pytest.raises(InputError, match=r"(?s)not valid YAML in UTF-8.*line \d") as error:
        edited("title: ", f"title: {value}\nbags: ")
    assert len(str(error.value)) < 2000


LISTS = "\n".join(f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 10) if k else 'x'}]" for k in range(10))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: virtual", f"{LISTS}\nname: virtual"),
        ("name: virtual", f"{LISTS}\nname: virtual\nextends: *l9"),
        ("name: virtual", f"name: {'n' * 100_000}"),
        ("name: virtual", f"name: virtual\nseeds: [{', '.join(['x'] * 20_000)}]"),
        ("name: virtual", "name: virtual\n" + "\n".join(f"key{k}: {k}" for k in range(20_000))),
        ("name: virtual", f"name: virtual\n{'k' * 100_000}: 1"),
        ("name: virtual", f"name: !!int 0x{'f' * 9000}"),
    ],
    ids=["lists in lists", "extends", "long name", "many seeds", "many keys", "long key", "long number"],
)
def test_a_message_repeats_little_of_what_was_given(edited, old, new):
    with pytest.raises(InputError) as error:
        edited(old, new)
    assert len(str(error.value)) < 60_000


def test_what_a_message_repeats_of_a_value_is_cut():
    deep = ["x"]
    for _ in range(40):
        deep = [deep] * 10
    for value in (deep, "y" * 10**6, {"k": deep}, 16**5000, ("z",) * 10**5):
        assert len(shown(value)) <= 200
    assert shown([1, "a"]) == "[1, 'a']"
