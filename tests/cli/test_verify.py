"""`hsa verify --rerun`, its run stood in for: what it prints, its exit code, its file."""

import copy
import re

import pytest
from typer.testing import CliRunner

from hsa.cli import app
from hsa.files import read_json, write_json
from hsa.pipeline import again

SUMMARY = {
    "prediction": {"P53": {"full": {"roc_auc": {"value": 0.75, "low": 0.5, "n": 30}}}},
    "holm": {"delong": {"P53": 0.5}},
    "provenance": {"study": "smoke", "torch": "2", "commit": "abc"},
    "stamp": "1",
}


@pytest.fixture
def verify(smoke_file, monkeypatch):
    """A function that verifies a run which gives a summary, and how often it ran."""
    kept = smoke_file.parents[1] / "book/reference/smoke"
    write_json(kept / "summary.json", SUMMARY)
    write_json(kept / "tolerances.json", {"study": "smoke", "largest": {"roc_auc/value": 0.01}})
    ran = []

    def call(summary, *more):
        monkeypatch.setattr(again, "run", lambda study, folder, *_: ran.append(folder) or summary)
        return CliRunner().invoke(app, ["verify", "--rerun", str(smoke_file), *map(str, more)])

    call.ran, call.kept = ran, kept
    return call


def moved(by, **more):
    found = copy.deepcopy(SUMMARY) | more
    found["prediction"]["P53"]["full"]["roc_auc"]["value"] += by
    return found


def test_equal_numbers_match(verify):
    found = verify(SUMMARY)
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert lines[0].split() == ["match", "drift", "differ"]
    assert [line.split() for line in lines[1:4]] == [
        *(["holm", "1", "0", "0"], ["prediction", "3", "0", "0"], ["all", "4", "0", "0"]),
    ]
    assert lines[-1] == "match: every number is equal to the kept one"
    assert not verify.ran[0].exists()


def test_a_number_within_its_tolerance_has_drifted_and_versions_that_are_other_are_told(verify):
    found = verify(moved(0.015, provenance={"study": "smoke", "torch": "3", "commit": "abc"}, stamp="2"))
    assert found.exit_code == 0
    assert "drift: prediction/P53/full/roc_auc/value: kept 0.75, here 0.765, 75% of tolerance" in found.stdout
    assert "other versions: torch 3 (kept: 2)" in found.stdout
    assert "other code" not in found.stdout
    assert found.stdout.splitlines()[-1].startswith("drift: ")


def test_a_number_outside_differs_and_the_exit_code_says_so(verify, tmp_path):
    found = verify(moved(0.03, stamp="2"), "--json", tmp_path / "told.json")
    assert found.exit_code == 1
    told = "differs: prediction/P53/full/roc_auc/value: kept 0.75, here 0.78: 0.03 apart, within 0.02 it were drift"
    assert told in found.stdout
    assert re.search(r"other code or settings .*`hsa verify --rerun smoke --keep`", found.stdout)
    assert found.stdout.splitlines()[-1].startswith("differ: ")
    record = read_json(tmp_path / "told.json")
    assert (record["study"], record["verdict"]) == ("smoke", "differ")
    assert record["counts"] == {"prediction": {"match": 2, "differ": 1}, "holm": {"match": 1}}
    (row,) = [row for row in record["numbers"] if row["verdict"] == "differ"]
    assert (row["place"], row["kept"], row["tolerance"]) == ("prediction/P53/full/roc_auc/value", 0.75, 0.02)
    assert record["kept"] == record["here"] == SUMMARY["provenance"]


def test_a_key_that_is_missing_differs(verify):
    found = verify({key: value for key, value in SUMMARY.items() if key != "holm"})
    assert found.exit_code == 1
    assert "differs: holm/delong/P53: kept 0.5, here None: missing in this run" in found.stdout


def test_what_is_kept_is_read_before_minutes_are_spent(verify):
    (verify.kept / "summary.json").write_text("{")
    found = verify(SUMMARY)
    assert found.exit_code == 2 and "summary.json: not JSON" in found.stderr and not verify.ran


def test_a_new_summary_is_kept_where_none_can_be_read(verify, monkeypatch):
    (verify.kept / "summary.json").write_text("{")

    def stand_in(study, folder):
        write_json(study.paths.kept / "summary.json", SUMMARY)
        return study.paths.kept / "summary.json"

    monkeypatch.setattr(again, "keep", stand_in)
    assert verify(SUMMARY, "--keep").exit_code == 0
    assert read_json(verify.kept / "summary.json") == SUMMARY


@pytest.mark.parametrize("option", [["--keep"], ["--json", "told.json"]])
def test_options_of_a_run_are_refused_without_one(option):
    found = CliRunner().invoke(app, ["verify", "--study", "smoke", *option])
    assert found.exit_code == 2 and "--rerun smoke" in found.stderr


def test_an_interrupted_run_leaves_nothing(verify, monkeypatch, smoke_file):
    def interrupted(study, folder, *_):
        verify.ran.append(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(again, "run", interrupted)
    found = CliRunner().invoke(app, ["verify", "--rerun", str(smoke_file)])
    assert found.exit_code == 130 and "leaves nothing behind" in found.stderr
    assert not verify.ran[0].exists()
