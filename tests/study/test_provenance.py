import subprocess

import pytest

from hsa.study import provenance as told
from hsa.study.provenance import Clock, commit, provenance, run_record
from hsa.study.study import load


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout that the package seems to be installed from, and what runs git in it."""
    package = tmp_path / "src" / "hsa"
    package.mkdir(parents=True)
    monkeypatch.setattr(told, "REPOSITORY", tmp_path)
    monkeypatch.setattr(told, "PACKAGE", package)
    commit.cache_clear()

    def git(*words):
        who = ["-c", "user.name=A", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    yield tmp_path, git
    commit.cache_clear()


def test_provenance_is_the_same_for_equal_runs_and_names_no_date_and_no_path():
    stamp = provenance(load("smoke", seed=3), stain="P53")
    assert stamp["study"] == "smoke" and stamp["seeds"] == [3] and stamp["stain"] == "P53"
    assert stamp == provenance(load("smoke", seed=3), stain="P53")
    assert not any("/" in str(value) for value in stamp.values())
    assert {"torch", "numpy", "scikit-learn", "hsa", "python", "commit", "clean", "constraints"} <= set(stamp)
    assert not {"date", "minutes", "peak_memory_mb"} & set(stamp)


def test_the_commit_and_whether_the_checkout_was_clean(checkout):
    folder, git = checkout
    assert commit() == {"commit": None, "clean": None}
    git("init", "-q")
    (folder / "a.txt").write_text("1")
    git("add", "-A")
    git("commit", "-qm", "One")
    commit.cache_clear()
    assert commit() == {"commit": git("rev-parse", "HEAD").strip(), "clean": True}
    (folder / "a.txt").write_text("2")
    commit.cache_clear()
    assert commit()["clean"] is False


def test_a_package_that_is_installed_elsewhere_tells_no_commit_of_the_folder_around_it(checkout, monkeypatch):
    folder, git = checkout
    git("init", "-q")
    git("commit", "-qm", "One", "--allow-empty")
    monkeypatch.setattr(told, "PACKAGE", folder / "lib" / "hsa")
    assert commit() == {"commit": None, "clean": None}


def test_without_git_nothing_is_told_of_the_commit(checkout, monkeypatch):
    _, git = checkout
    git("init", "-q")
    monkeypatch.setenv("PATH", "")
    assert commit() == {"commit": None, "clean": None}


def test_the_constraints_count_by_their_bytes(checkout):
    folder, _ = checkout
    study = load("smoke")
    assert provenance(study)["constraints"] is None
    found = set()
    for text in ("a==1\n", "a==2\n"):
        (folder / "constraints.txt").write_text(text)
        found.add(provenance(study)["constraints"])
    assert len(found) == 2 and None not in found


def test_a_run_record_tells_date_minutes_memory_and_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    record = run_record(load("smoke"), Clock(), step="fit")
    assert record["date"].endswith("+00:00") and record["step"] == "fit"
    assert 0 <= record["minutes"] < 1 and 0 <= record["cpu_minutes"] < 1
    assert record["peak_memory_mb"]["process"] > 50
    assert record["cores"] >= 1 and record["device"] and record["threads"]["OMP_NUM_THREADS"] == "3"
