"""How tests are shared among processes: tried on a tree of tests that write down who ran them."""

import subprocess
import sys
from pathlib import Path

TESTS = """
import os, pathlib, time
import pytest

{marks}

@pytest.mark.parametrize("number", range({count}))
def test_it(number):
    time.sleep(0.1)
    with open({log!r}, "a") as log:
        log.write(f"{{os.environ['PYTEST_XDIST_WORKER']}} {{pathlib.Path(__file__).stem}}\\n")
"""


def test_the_smoke_study_runs_in_one_process_and_first(tmp_path):
    log, marked = str(tmp_path / "log.txt"), "pytestmark = pytest.mark.{}".format
    files = {"smoke/test_a": marked("smoke"), "smoke/test_b": marked("smoke"), "test_c": "", "test_d": marked("slow")}
    for name, marks in files.items():
        path = tmp_path / "tests" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TESTS.format(marks=marks, log=log, count=3 if marks else 9))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    smoke\n    slow\n")
    options = ["-q", "-n", "2", "-p", "parallel", "-p", "no:cacheprovider", "tests"]
    program = (
        f"import sys, pytest; sys.path.insert(0, {str(Path(__file__).parent)!r}); sys.exit(pytest.main({options}))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    ran = [line.split() for line in Path(log).read_text().splitlines()]
    assert len(ran) == 18
    by_file = {name: {worker for worker, file in ran if file == name} for _, name in ran}
    assert all(len(workers) == 1 for workers in by_file.values())
    assert by_file["test_a"] == by_file["test_b"]
    assert {file for _, file in ran[:2]} <= {"test_a", "test_d"}
    assert by_file["test_a"] != by_file["test_d"]
