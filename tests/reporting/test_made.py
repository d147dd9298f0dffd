import json

import pytest

from hsa.errors import InputError
from hsa.reporting import made
from hsa.study.study import load


@pytest.fixture
def study(smoke_file):
    study = load(smoke_file)
    record = {
        "clean": True,
        "commit": "a" * 40,
        "date": "2026-01-02T03:04:05+00:00",
        "minutes": 1.0,
        "cpu_minutes": 1.5,
    }
    record |= {"device": "x86_64", "cores": 2, "hsa": "0.2.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"}

    def write(name, **more):
        path = study.paths.root / f"{name}.run.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**record, "step": name, "peak_memory_mb": {"process": 512.0}, **more}))

    write("fit", peak_memory_mb={"process": 2048.0, "largest_child": None})
    write("summary", commit="b" * 40, clean=False, date="2026-01-03T03:04:05+00:00")
    return study


def test_the_foot_tells_every_commit_day_and_minute(study, monkeypatch):
    monkeypatch.setattr(made, "read_summary", lambda one: {"stamp": "0123"})
    told = made.foot(study)
    assert told["study"] == "smoke, fingerprint 0123, seed 0"
    assert told["code"] == "commit aaaaaaa, commit bbbbbbb, with changes that were not committed"
    assert told["run"] == "2026-01-02 to 2026-01-03; 3.0 minutes of one core; at most 2.0 GB a process"
    assert told["machine"] == "x86_64, 2 cores"
    assert told["versions"] == "hsa 0.2.0, python 3.11.7, torch 2.13.0, numpy 2.4.6"


def test_a_study_without_a_summary_has_no_foot(study):
    with pytest.raises(InputError, match="hsa evaluate"):
        made.foot(study)
