import json

import pytest

from hsa.bags.bag import read_bag, write_bag
from hsa.cohorts.cohort import fold_table
from hsa.errors import InputError
from hsa.training.seen import read_seen, write_seen


def marked(bags, name, **attrs):
    bag = read_bag(bags / f"{name}.h5")
    bag.attrs.update(attrs)
    write_bag(bags / f"{name}.h5", bag)


def test_each_slide_is_told_with_the_folds_that_learned_from_it_and_were_chosen_by_it(
    tiny_study, tiny_cohort, tmp_path
):
    bags, folds = tiny_study.paths.bags, fold_table(tiny_study, tiny_cohort, "P53")
    for number, name in enumerate(folds["he"].unique()):
        marked(bags, name, source_sha256=f"{number:064x}")
    write_seen(tmp_path, folds, bags)
    seen = read_seen(tmp_path)
    assert (seen.folds, seen.unknown, len(seen.slides)) == (3, 0, 21)
    for number, name in enumerate(folds["he"].unique()):
        rows, use = folds[folds["he"] == name], seen.slides[f"{number:064x}"]
        assert use.learned == rows.loc[rows["split"] == "train", "fold"].tolist()
        assert use.chosen == rows.loc[rows["split"] == "val", "fold"].tolist()
        assert use.folds == 2, "of three folds one tests it"


def test_pairs_count_as_learned_joined_slides_are_two_and_copies_one(tiny_study, tiny_cohort, tmp_path):
    bags, folds = tiny_study.paths.bags, fold_table(tiny_study, tiny_cohort, "P53")
    folds.loc[folds["split"] == "train", "split"] = "pairs"
    folds = folds[folds["he"].isin(["C00_HE", "C01_HE", "C02_HE"])].replace({"he": {"C00_HE": "C00_HE+C03_HE"}})
    marked(bags, "C00_HE", source_sha256="a" * 64)
    marked(bags, "C03_HE", source_sha256="b" * 64)
    for name in ("C01_HE", "C02_HE"):  # one slide under two names
        marked(bags, name, source_sha256="c" * 64)
    write_seen(tmp_path, folds, bags)
    slides = read_seen(tmp_path).slides
    assert set(slides) == {letter * 64 for letter in "abc"} and slides["a" * 64] == slides["b" * 64]
    both = folds[folds["he"].isin(["C01_HE", "C02_HE"])]
    assert slides["c" * 64].learned == sorted(both.loc[both["split"] == "pairs", "fold"].unique())


def test_a_bag_that_does_not_tell_its_slide_is_counted_as_unknown(tiny_study, tiny_cohort, tmp_path):
    bags, folds = tiny_study.paths.bags, fold_table(tiny_study, tiny_cohort, "P53")
    for number, name in enumerate(folds["he"].unique()):
        if number > 1:
            marked(bags, name, source_sha256=f"{number:064x}")
    marked(bags, folds["he"].unique()[1], source_sha256="f" * 64, source_tool="trident")  # that of its features
    write_seen(tmp_path, folds, bags)
    seen = read_seen(tmp_path)
    assert seen.unknown == 2 and len(seen.slides) == 19 and "f" * 64 not in seen.slides


def test_a_method_without_the_record_is_older_and_a_damaged_record_is_told(tmp_path):
    assert read_seen(tmp_path) is None
    whole = {"folds": 3, "slides": {"a" * 64: {"learned": [0], "chosen": []}}, "unknown": 0}
    for change in (
        {"folds": 0},
        {"folds": None},
        {"unknown": -1},
        {"slides": {"a": {"learned": [0], "chosen": []}}},
        {"slides": {"a" * 64: {"learned": "0", "chosen": []}}},
        {"slides": {"a" * 64: {"learned": [0]}}},
        {"slides": []},
    ):
        (tmp_path / "seen.json").write_text(json.dumps(whole | change))
        with pytest.raises(InputError, match=r"seen\.json: .*Delete it and made\.json beside it and run `hsa train`"):
            read_seen(tmp_path)
