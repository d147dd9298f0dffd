from collections import defaultdict

import pandas as pd
import pytest

from hsa import files
from hsa.errors import InputError
from hsa.pipeline import stamps, steps
from hsa.pipeline.door import begin
from hsa.pipeline.steps import evaluation, features, summary
from hsa.study.study import load


@pytest.fixture
def study(smoke_file):
    def edited(old="", new=""):
        smoke_file.write_text(smoke_file.read_text().replace(old, new))
        return load(smoke_file)

    return edited


def test_the_summary_must_have_been_made(study):
    with pytest.raises(InputError, match="hsa evaluate --study smoke"):
        steps.read_summary(study())


def test_each_test_is_corrected_over_the_stains_by_itself(study, monkeypatch):
    wilcoxon = {"positives": {"p": 0.02}, "negatives": {"p": 0.03}}
    found = defaultdict(dict, difference={"delong": {"p": 0.01}, "wilcoxon": wilcoxon})
    monkeypatch.setattr(summary, "evaluate", lambda *a: found | {"stamp": "s"})
    holm = steps.summarise(study())["holm"]
    for name, p in (("delong", 0.03), ("wilcoxon_positives", 0.06), ("wilcoxon_negatives", 0.09)):
        assert holm[name] == pytest.approx(dict.fromkeys(["P53", "PD-L1", "Ki-67"], p))


def test_rows_of_several_seeds_say_theirs(study):
    both = study("seeds: [0]", "seeds: [3, 4]")
    rows = evaluation._over_seeds(both, lambda one: pd.DataFrame({"read": one.seeds}))
    assert rows["read"].tolist() == rows["seed"].tolist() == [3, 4]


def test_what_is_done_and_up_to_date_is_not_done_again(study, monkeypatch):
    chosen = study()
    folder = chosen.paths.method("P53", "full")
    files.write_json(folder / "made.json", {"stamp": stamps.stamp(chosen, "fit", "P53", "full")})
    files.write_json(folder / "probe.json", {"stamp": stamps.stamp(chosen, "probe", "P53", "full")})
    monkeypatch.setattr(features, "make_features", lambda *a, **k: pytest.fail("made features"))
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
    monkeypatch.setattr(features, "check_folds", lambda *a: None)

    def encode(slides, *args, **options):
        encoded.append(list(slides["slide_id"]))
        return slides.assign(source_sha256=slides["slide_id"])

    monkeypatch.setattr("hsa.pipeline.steps.encode.encode_cohort", encode)
    for k in (1, 2, 3):
        steps.make_features(study, share=(k, 3), progress=False)
    assert [len(part) for part in encoded] == [3, 2, 2]
    assert sorted(name for part in encoded for name in part) == [f"s{n}" for n in range(7)]
    assert not (study.paths.bags / "made.json").exists()
    steps.make_features(study, progress=False)
    assert len(encoded[3]) == 7 and (study.paths.bags / "made.json").is_file()
    with pytest.raises(InputError, match="in one go: leave out `--share`"):
        steps.make_features(load(smoke_file, changes=changes | {"encoder.runtime": "openvino-int8"}), share=(1, 2))


def test_bags_are_not_vouched_for_where_the_manifest_changed_as_it_was_read(
    tmp_path, smoke_file, make_slide, monkeypatch
):
    row = {
        "slide_id": "s",
        "case_id": "c",
        "patient_id": "c",
        "stain": "HE",
        "path": make_slide("s.tif", size=512).name,
    }
    row |= {f"label_{marker}": "1" for marker in ("P53", "PD-L1", "Ki-67")}
    pd.DataFrame([row]).to_csv(tmp_path / "m.csv", index=False)
    study = load(smoke_file, changes={"cohort": {"kind": "manifest", "manifest": str(tmp_path / "m.csv")}})
    read = features.make_cohort

    def read_then_changed(*args):
        found = read(*args)
        (tmp_path / "m.csv").write_text((tmp_path / "m.csv").read_text() + "\n")
        return found

    monkeypatch.setattr(features, "make_cohort", read_then_changed)
    monkeypatch.setattr(features, "check_folds", lambda *a: None)
    monkeypatch.setattr(
        "hsa.pipeline.steps.encode.encode_cohort", lambda slides, *a, **k: slides.assign(source_sha256="x")
    )
    steps.make_features(study, progress=False)
    assert begin(study, "features", study.paths.bags / "made.json")
