"""The graph on an executor that hands every job to a script, as a cluster's does: what it asks for and makes."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from hsa.files import REPOSITORY
from hsa.study.study import load

ODD = re.search(r"[^\w./+-]", str(REPOSITORY)) is not None
SUBMIT = """#!/bin/sh
echo "$@" >> "{asked}"
sh "$5" > /dev/null 2>> "{told}" &
"""


@pytest.fixture
def study(tmp_path, small):
    path = tmp_path / "studies" / "small.yml"
    path.parent.mkdir()
    path.write_text(small)
    return path


def snakemake(path, *more, config=()):
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--nolock", *more]
    command += ["--config", f"study={path}", f"build={path.parents[1] / 'build'}", *config]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.fixture
def cluster(tmp_path):
    """The options that hand the jobs to a script, and the file of what was asked for each."""
    script, asked, told = (tmp_path / name for name in ("submit.sh", "asked.txt", "told.txt"))
    script.write_text(SUBMIT.format(asked=asked, told=told))
    told.touch()
    submit = f"sh {script} {{rule}} {{threads}} {{resources.mem_mb}} {{resources.runtime}}"
    options = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", submit, "--jobs", "4"]
    return [*options, "--seconds-between-status-checks", "1"], asked, told


@pytest.mark.smoke
@pytest.mark.skipif(
    re.search(r"[^\w./+-]", str(REPOSITORY)) is not None, reason="no cluster starts jobs from such a path"
)
def test_the_study_runs_on_a_cluster(study, cluster):
    options, asked, told = cluster
    few = ["shares=2", "threads=1"]
    run = snakemake(study, *options, "numbers", config=few)
    assert run.returncode == 0, run.stderr[-3000:] + told.read_text()[-3000:]
    results = study.parents[1] / "results" / "small"
    assert set(json.loads((results / "summary.json").read_text())["prediction"]) == {"P53"}
    jobs = [line.split()[:-1] for line in asked.read_text().splitlines()]
    assert sorted(name for name, *_ in jobs) == [
        *("cohort", "evaluate", "features", "share", "share", "summary", "train", "train")
    ]
    assert all(int(threads) == 1 and int(mb) >= 1000 and int(minutes) >= 30 for _, threads, mb, minutes in jobs)
    assert len(list((results / "bags").glob("*.h5"))) == 40 and not list(results.glob("shares/*"))
    again = snakemake(study, *options, "numbers", "--dry-run", config=few)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_path_from_which_no_job_can_start_is_told_at_once_and_not_waited_for(study, cluster, tmp_path):
    options, asked, _ = cluster
    odd = tmp_path / "it's odd (é)"
    for part in ("workflow", "src", "studies"):
        shutil.copytree(REPOSITORY / part, odd / part)
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--nolock", *options, "numbers"]
    command += ["--config", f"study={study}", f"build={tmp_path / 'build'}"]
    env = os.environ | {"PYTHONPATH": str(odd / "src")}
    run = subprocess.run(command, cwd=odd, env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode
    assert "cannot be started from a path with a space, a quote or another sign" in run.stderr
    assert not asked.exists()


def test_on_one_machine_one_job_renders_and_one_encodes_on_all_cores(study):
    book = ["make", "--dry-run", "--old-file=environment", "book", "CORES=3", f"STUDY={study}"]
    told = subprocess.run(book, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert '--cores "3"' in told and '"threads=3"' in told
    run = snakemake(study, "--cores", "3", "numbers", "--dry-run", "--printshellcmds", config=["threads=3"])
    workers = re.findall(r"hsa\.cli (cohort|features) .* --workers (\d+)", run.stdout)
    assert workers == [("cohort", "3"), ("features", "3")]
    assert "--share" not in run.stdout


def test_a_job_trains_several_methods_where_asked_to_and_each_of_them_once(study):
    ways = list(load(study).methods)
    for each, jobs in (("1", len(ways)), ("2", -(-len(ways) // 2)), ("50", 1)):
        run = snakemake(study, "--cores", "2", "numbers", "--dry-run", "--printshellcmds", config=[f"methods={each}"])
        told = [line for line in run.stdout.splitlines() if "hsa.cli train " in line]
        assert len(told) == jobs, run.stderr[-2000:]
        assert sorted(re.findall(r"--method (\w+)", " ".join(told))) == sorted(ways)


@pytest.mark.parametrize("wrong", ["shares=0", "threads=1.5", "methods=0"])
def test_a_wrong_number_is_told(study, wrong):
    run = snakemake(study, "--cores", "1", "numbers", "--dry-run", config=[wrong])
    assert run.returncode and f"--config {wrong}: give a whole number" in run.stdout + run.stderr
