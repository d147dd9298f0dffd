import pytest

from hsa import files
from hsa.pipeline.door import begin, is_of
from hsa.study.study import load


@pytest.fixture
def study(smoke_file):
    return load(smoke_file)


def test_a_step_that_is_done_stays_shut_until_what_it_depends_on_changes(study, smoke_file, tmp_path):
    path = tmp_path / "made.json"
    job = begin(study, "cohort", path)
    assert job and not path.exists()
    job.finish({"slides": 3})
    assert files.read_json(path) == {"slides": 3, "stamp": job.stamp}
    assert is_of(path, job.stamp) and begin(study, "cohort", path) is None
    assert begin(load(smoke_file, changes={"cohort.seed": 9}), "cohort", path)


def test_beside_a_result_stands_how_it_was_made(study, tmp_path):
    job = begin(study, "features", tmp_path / "made.json")
    job.finish()
    record = files.read_json(tmp_path / "made.run.json")
    assert record["step"] == "features" and record["stamp"] == job.stamp
    assert {"commit", "date", "minutes", "peak_memory_mb", "device", "cores", "torch", "constraints"} <= set(record)


def test_a_step_that_failed_is_not_vouched_for(study, tmp_path):
    begin(study, "cohort", tmp_path / "made.json")
    assert not list(tmp_path.glob("made*"))
