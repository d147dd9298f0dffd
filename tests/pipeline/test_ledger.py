from hsa import files
from hsa.pipeline.door import begin
from hsa.pipeline.ledger import ledger
from hsa.study.study import load


def record(folder, name, step, **more):
    made = {"step": step, "date": "2026-01-02T00:00:00+00:00", "minutes": 1.5, "cpu_minutes": 2.0, "commit": "a"}
    made |= {"clean": True, "peak_memory_mb": {"process": 100.0, "largest_child": None}}
    files.write_json(folder / f"{name}.run.json", made | more)


def test_a_study_adds_up_what_its_steps_took(smoke_file):
    study = load(smoke_file)
    assert ledger(study) == {}
    record(study.paths.root / "seed0/p53/full", "made", "fit")
    later = {"date": "2026-01-03T00:00:00+00:00", "minutes": 2.0, "commit": "b", "clean": False}
    record(
        study.paths.root / "seed0/p53/abmil",
        "made",
        "fit",
        peak_memory_mb={"process": 90.0, "largest_child": 120.0},
        **later,
    )
    record(study.paths.bags, "made", "features", commit=None, clean=None)
    found = ledger(study)
    assert list(found) == ["features", "fit"] and found["features"]["commits"] == []
    assert found["fit"] == {
        "runs": 2,
        "minutes": 3.5,
        "cpu_minutes": 4.0,
        "peak_memory_mb": 120.0,
        "commits": ["a", "b+"],
        "first": "2026-01-02T00:00:00+00:00",
        "last": "2026-01-03T00:00:00+00:00",
    }


def test_bags_of_another_study_count_and_none_twice(smoke_file):
    study = load(smoke_file, changes={"bags": "smoke", "name": "other"})
    record(study.paths.data / "bags", "made", "features")
    record(study.paths.root / "seed0/p53/full", "made", "fit")
    assert {step: one["runs"] for step, one in ledger(study).items()} == {"features": 1, "fit": 1}
    assert ledger(load(smoke_file))["features"]["runs"] == 1


def test_what_a_step_leaves_is_in_the_ledger(smoke_file):
    study = load(smoke_file)
    begin(study, "cohort", study.paths.cohort / "made.json").finish()
    assert ledger(study)["cohort"]["runs"] == 1
