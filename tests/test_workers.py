import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

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


def test_a_process_tells_its_own_memory_and_not_that_of_its_parent():
    ballast = bytearray(600_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    code = "from hsa.workers import peak_mb; before = peak_mb(); held = b'x' * 100_000_000; print(before, peak_mb())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    before, after = map(float, told)
    assert before < 200 and 90 < after - before < 110
    assert workers.peak_mb() > len(ballast) / 2**20


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
def test_whoever_works_for_a_killed_process_ends_too(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "from functools import partial\nimport os, time\nfrom pathlib import Path\nfrom hsa.workers import run\n"
        f"def job(n):\n    (Path({str(tmp_path)!r}) / f'{{n}}.pid').write_text(str(os.getpid()))\n    time.sleep(600)\n"
        'if __name__ == "__main__":\n    list(run([partial(job, n) for n in range(2)], 2))\n'
    )
    killed = subprocess.Popen([sys.executable, script])
    files = [tmp_path / "0.pid", tmp_path / "1.pid"]
    try:
        _until(lambda: all(file.is_file() and file.read_text() for file in files))
    finally:
        killed.kill()
        killed.wait()
    _until(lambda: not any(_lives(int(file.read_text())) for file in files))


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
@pytest.mark.parametrize(
    ("sign", "code", "says"), [(signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGINT, 130, "interrupted")]
)
@pytest.mark.parametrize("where", ["waiting", "between"])
def test_a_command_that_is_asked_to_end_says_so_and_leaves_nothing(tmp_path, sign, code, says, where):
    script = tmp_path / "mine.py"
    pause = "time.sleep(600)" if where == "between" else "pass"
    script.write_text(
        "from functools import partial\nimport os, time, typer\nfrom pathlib import Path\n"
        "from hsa.cli.common import told\nfrom hsa.files import replacing\nfrom hsa.workers import run\n"
        f"def job(n):\n    (Path({str(tmp_path)!r}) / f'{{n}}.pid').write_text(str(os.getpid()))\n"
        "    time.sleep(0 if n == 0 else 600)\n"
        f"@told\ndef command():\n    with replacing({str(tmp_path / 'whole.txt')!r}) as temporary:\n"
        "        temporary.write_text('half')\n"
        f"        for _ in run([partial(job, n) for n in range(3)], 2):\n            {pause}\n"
        # A shell lets what it starts in the background ignore interrupts, and the tests may be there.
        'if __name__ == "__main__":\n    import signal\n'
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n    typer.run(command)\n"
    )
    ended = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True)
    files = [tmp_path / f"{n}.pid" for n in range(3)]
    try:
        _until(lambda: all(file.is_file() and file.read_text() for file in files))
        time.sleep(0.5)
        ended.send_signal(sign)
        _, told = ended.communicate(timeout=30)
    finally:
        ended.kill()
    assert ended.returncode == code and says in told and "Traceback" not in told
    _until(lambda: not any(_lives(int(file.read_text())) for file in files), seconds=5)
    assert {path.suffix for path in tmp_path.iterdir()} == {".pid", ".py"}


def _until(true, seconds=60):
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last
        time.sleep(0.1)


def _lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/status").is_file() or "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


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
