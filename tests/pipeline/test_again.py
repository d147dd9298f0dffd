"""What is kept of a study to compare with, and a study run again beside it."""

import math

import pytest

from hsa.errors import InputError
from hsa.files import read_json, write_json
from hsa.pipeline import again, agreement, steps
from hsa.study.study import load


@pytest.fixture
def kept(smoke_file):
    """The smoke study in a folder of its own, with a summary and tolerances that are kept."""
    study = load(smoke_file)
    write_json(study.paths.kept / "summary.json", {"prediction": {"auc": 0.5}, "provenance": {"study": "smoke"}})
    write_json(study.paths.kept / "tolerances.json", {"study": "smoke", "largest": {"prediction/auc": 0.1}})
    return study


def test_what_is_kept_is_read(kept):
    summary, tolerances = again.read_kept(kept)
    assert summary["prediction"] == {"auc": 0.5} and tolerances.largest == {"prediction/auc": 0.1}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("summary.json", None, r"no such file\. .*hsa verify --rerun smoke --keep"),
        ("summary.json", "", r"not JSON .*git checkout.*--rerun smoke --keep"),
        ("summary.json", '{"prediction": {"auc"', r"not JSON .*--keep"),
        ("summary.json", b"\xff\xfe\x00", r"not JSON .*--keep"),
        ("summary.json", "[1, 2]", r"provenance\.study: missing; expected the results of 'smoke'"),
        ("summary.json", '{"provenance": 3}', r"provenance\.study: missing"),
        ("summary.json", '{"provenance": {"study": "virtual"}}', r"provenance\.study: found 'virtual'"),
        (
            "summary.json",
            '{"provenance": {"study": "smoke"}, "holm": {"p": [NaN]}}',
            r"holm/p/0: nan; expected a finite number.*--keep",
        ),
        ("tolerances.json", None, r"no such file.*python benchmarks/drift\.py"),
        ("tolerances.json", "{", r"not readable as JSON .*drift\.py"),
        ("tolerances.json", '{"study": "smoke"}', r"largest: missing.*drift\.py"),
        ("tolerances.json", '{"study": "smoke", "largest": {"a": -1}}', r"largest\.a: .*greater than or equal to 0"),
        ("tolerances.json", '{"study": "smoke", "largest": {"a": NaN}}', r"largest\.a: .*finite"),
        ("tolerances.json", '{"study": "focal", "largest": {}}', r"study: found 'focal'; expected"),
    ],
)
def test_a_kept_file_that_is_damaged_or_of_another_study_is_refused_by_name(kept, name, text, told):
    path = kept.paths.kept / name
    path.unlink()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=rf"{name}: {told}"):
        again.read_kept(kept)


def test_a_study_that_reads_files_cannot_be_run_from_nothing(tmp_path):
    for name in ("focal", "paper"):
        with pytest.raises(InputError, match="kind: virtual"):
            again.run(load(name), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_lies_in_its_folder_and_what_is_kept_is_its_summary(smoke_file, tmp_path, monkeypatch):
    """The steps are stood in for: a true run is that of tests/smoke."""
    study, seen = load(smoke_file), []

    def summarise(fresh, progress):
        seen.append(fresh.home)
        for name in ("summary.json", "summary.run.json"):
            write_json(fresh.paths.root / name, {"of": name})
        return read_json(fresh.paths.summary)

    monkeypatch.setattr(steps, "make_features", lambda fresh, *_: seen.append(fresh.home))
    monkeypatch.setattr(steps, "summarise", summarise)
    before = sorted(smoke_file.parents[1].rglob("*"))
    assert again.run(study, tmp_path / "new", progress=False) == {"of": "summary.json"}
    assert seen == [tmp_path / "new"] * 2
    assert [path for path in sorted(smoke_file.parents[1].rglob("*")) if "new" not in path.parts] == before
    assert again.keep(study, tmp_path / "new") == study.paths.kept / "summary.json"
    assert {path.name: read_json(path)["of"] for path in study.paths.kept.iterdir()} == {
        name: name for name in ("summary.json", "summary.run.json")
    }


def test_what_is_kept_of_the_smoke_study_is_whole_and_of_one_kind():
    study = load("smoke")
    summary, tolerances = again.read_kept(study)
    names = agreement.names_of(summary)
    numbers = {
        agreement.family(place, names)
        for place, value in agreement.leaves(summary)
        if isinstance(value, int | float) and math.isfinite(value)
    }
    assert set(tolerances.largest) == numbers
    record = read_json(study.paths.kept / "tolerances.json")
    assert record["runs"].keys() >= {"first", "threads", "torch", "oldest", "avx2"} and record["provenance"]["commit"]
    assert summary["provenance"]["clean"] and record["provenance"]["clean"]
