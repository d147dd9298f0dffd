import os
import subprocess
import sys
import time
from functools import partial

import pytest

from hsa import workers
from hsa.errors import InputError

SCRIPT = """
from functools import partial
from hsa.workers import run
{guard}print(sorted(run([partial(abs, -n) for n in range(3)], 2)))
"""


def test_results_come_whatever_the_number_of_processes():
    jobs = [partial(divmod, n, 7) for n in range(20)]
    assert list(workers.run(jobs, 1)) == [divmod(n, 7) for n in range(20)]
    assert sorted(workers.run(jobs, 2)) == sorted(divmod(n, 7) for n in range(20))
    assert list(workers.run([], 2)) == []
    here = {os.getpid()}
    assert set(workers.run([os.getpid] * 3, 1)) == set(workers.run([os.getpid], 2)) == here
    assert not here & set(workers.run([os.getpid] * 3, 2))


def test_a_killed_process_says_what_to_do():
    with pytest.raises(InputError, match=r"one of 2 processes was killed.*fewer `--workers`"):
        list(workers.run([partial(os._exit, 1)] * 2, 2))


def test_what_a_job_raises_is_raised_and_jobs_not_begun_are_dropped(tmp_path):
    jobs = [partial(int, "seven"), *[partial(_touch, tmp_path / str(n)) for n in range(30)]]
    with pytest.raises(ValueError, match="seven"):
        list(workers.run(jobs, 2))
    assert len(list(tmp_path.iterdir())) < 30


def _touch(path):
    time.sleep(0.2)
    path.touch()


def test_a_script_without_a_guard_is_told_about_it(tmp_path):
    def script(guard):
        path = tmp_path / "mine.py"
        path.write_text(SCRIPT.format(guard=guard))
        return subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=120)

    assert "has to call this under `if __name__" in script("").stderr
    assert script('if __name__ == "__main__": ').stdout == "[0, 1, 2]\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_cores_are_those_that_the_process_may_use():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert workers.cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("disabled", [{}, {"TQDM_DISABLE": "1"}])
def test_a_bar_is_shown_unless_the_caller_or_the_environment_hides_it(progress, disabled):
    code = f"from hsa.workers import bar\nassert sum(bar(range(3), progress={progress}, desc='slides')) == 3"
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"} | disabled
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ("slides" in told.stderr) == (progress and not disabled)
