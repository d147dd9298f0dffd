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


MADE = {"fold0.json": "{}", "fold0.safetensors": "w", "embeddings_he.parquet": "h", "seen.json": "{}"}


@pytest.fixture
def made(study, tmp_path):
    """A step whose files are there."""
    job = begin(study, "fit", tmp_path / "made.json", "P53", "full")
    for name, text in MADE.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "fold1.resume.safetensors").write_text("passing")
    (tmp_path / "made.run.json").write_text("{}")
    job.finish()
    return tmp_path / "made.json"


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("harm", ["missing", "cut", "another byte", "a folder's worth of zeros"])
def test_a_marker_does_not_vouch_for_what_is_missing_or_damaged(study, made, name, harm):
    assert set(files.read_json(made)["files"]) == set(MADE)
    current = files.read_json(made)["stamp"]
    assert is_of(made, current) and begin(study, "fit", made, "P53", "full") is None
    file = made.with_name(name)
    text = file.read_text()
    if harm == "missing":
        file.unlink()
    else:
        file.write_text({"cut": text[:-1], "another byte": f"{text[:-1]}?"}.get(harm, "\0" * 4096))
    assert not is_of(made, current)
    job = begin(study, "fit", made, "P53", "full")
    assert job and not file.exists(), "the step does not meet what is damaged"
    assert all(made.with_name(other).exists() for other in MADE if other != name)
    file.write_text(text)
    job.finish()
    assert begin(study, "fit", made, "P53", "full") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", "[" * 100_000, '{"stamp": 1}', '"text"', "\0" * 9])
def test_a_marker_that_is_damaged_vouches_for_nothing(study, made, text):
    current = files.read_json(made)["stamp"]
    made.write_text(text)
    assert not is_of(made, current)
    job = begin(study, "fit", made, "P53", "full")
    assert job and job.stamp == current
    job.finish()
    assert begin(study, "fit", made, "P53", "full") is None


@pytest.mark.parametrize("name", ["../outside", "sub/outside", "", "..", "."])
def test_a_marker_that_names_files_elsewhere_touches_none(study, tmp_path, name):
    folder = tmp_path / "method"
    (folder / "sub").mkdir(parents=True)
    for outside in (tmp_path / "outside", folder / "sub/outside"):
        outside.write_text("not ours")
    marker = folder / "made.json"
    current = begin(study, "fit", marker, "P53", "full").stamp
    files.write_json(marker, {"stamp": current, "files": {name: [0, ""]}})
    assert begin(study, "fit", marker, "P53", "full")
    assert all(path.read_text() == "not ours" for path in (tmp_path / "outside", folder / "sub/outside"))


def test_a_marker_of_before_lists_nothing_and_is_believed(study, made):
    told = files.read_json(made)
    files.write_json(made, {"stamp": told["stamp"]})
    made.with_name("seen.json").unlink()
    assert begin(study, "fit", made, "P53", "full") is None


def test_beside_a_result_stands_how_it_was_made(study, tmp_path):
    job = begin(study, "features", tmp_path / "made.json")
    job.finish()
    record = files.read_json(tmp_path / "made.run.json")
    assert record["step"] == "features" and record["stamp"] == job.stamp
    assert {"commit", "date", "minutes", "peak_memory_mb", "device", "cores", "torch", "constraints"} <= set(record)


def test_a_step_that_failed_is_not_vouched_for(study, tmp_path):
    begin(study, "cohort", tmp_path / "made.json")
    assert not list(tmp_path.glob("made*"))
