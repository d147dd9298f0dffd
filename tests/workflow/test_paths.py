"""The workflow in a folder whose name a shell would take apart: what it runs there, and that every line quotes."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from hsa.files import PACKAGE, REPOSITORY

NAMES = ["my dir", """it's "a" $HOME `id` & (c); é #1 *?[d]|\\\\"""]
# What a shell may take apart: constants of the Makefile that are no paths of the user's, and assignments.
PLAIN = (
    *("$(RUN)", "$(SNAKEMAKE)", "$(EXPERIMENTS)", "$(MAKEFILE_LIST)", "$@", "?= $(shell "),
    *("torch=$(grep", "HSA_REAL_PAIRS=$(cd"),
)


@pytest.fixture
def checkout(tmp_path, request, small):
    """A copy of package and workflow in a folder of that name; its interpreter has a path through there, too."""
    folder = tmp_path / request.param
    shutil.copytree(PACKAGE, folder / "src" / "hsa")  # a link would lead out again
    for name in ("workflow", "notebooks", "_config.yml"):
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "studies").mkdir()
    (folder / "studies" / "small.yml").write_text(small)
    return folder


def snakemake(folder, *more):
    command = [folder / ".venv/bin/python", "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--cores", "1"]
    command += ["--nolock", *more, "--config", "study=small"]
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize("checkout", NAMES, indirect=True)
def test_every_command_gets_its_paths_whole(checkout):
    code, told = snakemake(checkout, "--dry-run", "--printshellcmds", "--forceall")
    assert code == 0, told[-3000:]
    commands = [shlex.split(line) for line in re.findall(r"^Shell command: (?!None$)(.*)$", told, re.M)]
    python, build = str(checkout / ".venv/bin/python"), checkout / "build"
    steps = [words[3] for words in commands if words[:3] == [python, "-m", "hsa.cli"]]
    assert set(steps) == {"cohort", "features", "train", "evaluate", "notebook", "stage"}
    (html,) = [words for words in commands if words[:3] != [python, "-m", "hsa.cli"]]
    assert {python, f"{build}/_build", str(build), f"{build}/stage", f"{build}/stage/book/_toc.yml"} <= set(html)


@pytest.mark.parametrize("checkout", ["it's my $dir"], indirect=True)
@pytest.mark.slow
def test_it_runs_there(checkout):
    code, told = snakemake(checkout, "cohort")
    assert code == 0, told[-3000:]
    assert len(list((checkout / "results/small/cohort/slides").iterdir())) == 40


@pytest.mark.parametrize("checkout", ["a {b}", "a <b>"], indirect=True)
def test_signs_that_snakemake_keeps_for_itself_are_refused(checkout):
    code, told = snakemake(checkout, "features")
    assert code and "move to a folder without" in told


def test_every_command_of_the_graph_quotes_all_that_it_is_given():
    text = (REPOSITORY / "workflow/Snakefile").read_text()
    commands = re.findall(r"^    shell:((?:\s*\"[^\"\n]*\")+)", text, re.M)
    assert len(commands) == text.count("shell:") > 8
    for command in commands:
        assert all(field.endswith(":q}") for field in re.findall(r"\{[^}]*\}", command)), command


def bare(text):
    """What a line of shell expands outside of double quotes: there, a value with a space becomes two words."""
    found, inside, k = [], [], 0
    while k < len(text):
        sign, top = text[k], inside[-1] if inside else ""
        if top == "'":
            inside = inside[:-1] if sign == "'" else inside
        elif sign == "'" and top != '"':
            inside.append(sign)
        elif sign == '"':
            inside = inside[:-1] if top == '"' else [*inside, sign]
        elif sign == "$":
            if top != '"':
                found.append(text[k : k + 20])
            if text[k + 1 : k + 2] == "(":
                inside.append("(")
                k += 1
        elif sign == ")" and top == "(":
            inside.pop()
        k += 1
    return found


def test_the_reader_of_shell_lines_sees_what_is_bare():
    assert bare('cp "$a" "$(b "$c")/d" \'$e\'') == []
    assert bare('cp "$a"$b') == ["$b"] and bare('"$(b $c)"') == ['$c)"'] and bare("x $(y)") == ["$(y)"]


@pytest.mark.parametrize("name", ["Makefile", ".ci/run", "postBuild"])
def test_every_line_of_shell_quotes_all_that_it_is_given(name):
    text = (REPOSITORY / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.lstrip("\t ").startswith("#")]
    for line in lines:
        line = line.partition("  ## ")[0].replace("$$", "$")
        for plain in PLAIN:
            line = line.replace(plain, "")
        assert not bare(line), f"{name}: {line}"


def test_make_calls_modules_and_no_console_script():
    assert not re.findall(r"\.venv/bin/(?!python\b)\w+", (REPOSITORY / "Makefile").read_text())
    run = subprocess.run([sys.executable, "-m", "hsa.cli", "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "Usage: hsa " in run.stdout
