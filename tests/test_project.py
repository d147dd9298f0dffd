"""What the repository says of itself, and the habits it holds its contributors to."""

import copy
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest
import yaml

import hsa
from hsa.files import PACKAGE, REPOSITORY


def test_one_version_everywhere():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    newest, day = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", changes, re.M)[0]
    assert newest == hsa.__version__ == project["version"] == citation["version"]
    assert day == str(citation["date-released"])
    assert f"`v{newest}`" in changes and f"[{newest}]: " in changes


def test_versions_in_the_changelog_fall_below_what_is_not_released():
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", changes, re.M)
    headings = headings[headings[0] == "[Unreleased]" :]
    versions = [tuple(map(int, re.fullmatch(r"\[(.*)\] - .*", heading)[1].split("."))) for heading in headings]
    assert versions == sorted(set(versions), reverse=True)


@pytest.fixture
def clone(tmp_path):
    """A repository with the hooks of this one, and a function that gives a command to its git."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / ".git/info").mkdir(parents=True)
    (tmp_path / ".git/info/exclude").write_text(".venv\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    named = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"), "a@b.c")
    own = {"PRE_COMMIT_HOME": str(tmp_path.parent / f"{tmp_path.name}_hooks"), "GIT_CONFIG_GLOBAL": os.devnull}

    def call(*command):
        run = subprocess.run(command, cwd=tmp_path, env=kept | named | own, capture_output=True, text=True)
        return run.returncode, run.stdout + run.stderr

    assert call("git", "init", "-q")[0] == 0
    assert call(".venv/bin/python", "-m", "pre_commit", "install")[0] == 0
    return tmp_path, call


def test_a_commit_strips_a_notebook_of_its_outputs_and_keeps_its_tags(clone):
    folder, call = clone
    metadata = {"tags": ["parameters", "hide-input"], "mystnb": {"figure": {"name": "fig-a"}}}
    clean = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("study = 1", metadata=metadata)])
    notebook = copy.deepcopy(clean)
    notebook.cells[0].execution_count = 1
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="a number")]
    notebook.cells[0].metadata["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00Z"}
    nbformat.write(notebook, folder / "a.ipynb")
    call("git", "add", "-A")
    failed, said = call("git", "commit", "-qm", "with outputs")
    assert failed and "stripped" in said
    assert nbformat.read(folder / "a.ipynb", as_version=4) == clean
    call("git", "add", "-A")
    failed, said = call("git", "commit", "-qm", "without outputs")
    assert not failed, said


@pytest.mark.parametrize(
    ("name", "text", "hook"),
    [
        ("a.py", "import os\n", "ruff"),
        ("b.py", "x = {  'a':1 }\n", "ruff-format-check"),
        ("c.bin", "x" * 1_100_000, "large-files"),
    ],
)
def test_lint_refuses_what_a_commit_would_and_changes_nothing(clone, name, text, hook):
    folder, call = clone
    (folder / name).write_text(text)
    call("git", "add", "-A")
    failed, said = call(".venv/bin/python", "-m", "pre_commit", "run", "--all-files", "--hook-stage", "manual")
    assert failed and f"hook id: {hook}" in said
    assert (folder / name).read_text() == text
    assert call("git", "commit", "-qm", "no")[0] != 0


def test_what_the_tests_need_is_pinned():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    plain = {re.split(r"[<>=\[]", one)[0].lower().replace("_", "-") for one in wanted} - {"hsa"}
    pins = (REPOSITORY / "constraints.txt").read_text()
    pinned = {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)==[\w.]+$", pins, re.M)}
    assert not plain - pinned


def test_types_are_checked_but_for_a_list_that_only_shrinks():
    mypy = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["mypy"]
    assert mypy["files"] == ["src/hsa"] and (PACKAGE / "py.typed").is_file()
    loose = [part for part in mypy["overrides"] if "ignore_errors" in part or "disable_error_code" in part]
    (exceptions,) = (part["module"] for part in loose)
    assert len(exceptions) <= 1, "mend the types; the list only shrinks"
    strict = next(part["module"] for part in mypy["overrides"] if part.get("disallow_untyped_defs"))
    for name in exceptions:
        path = PACKAGE.parent / name.replace(".", "/")
        assert path.with_suffix(".py").is_file(), f"{name} is no module: take it off the list"
        assert name not in strict and f"{name.rpartition('.')[0]}.*" not in strict
    ground = {f"hsa.{path.stem}" for path in PACKAGE.glob("*.py")} - {"hsa.__init__"}
    assert ground | {"hsa.study.*", "hsa.models.*", "hsa.evaluation.*"} <= set(strict)


def test_what_contributors_are_told_to_open_and_to_run_is_there():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"(?<![\w.])(?:src|tests|book|studies)/[\w./-]*\w", text)
    assert len(set(paths)) >= 15
    assert not [path for path in paths if not (REPOSITORY / path).exists()]
    targets = re.findall(r"^(\w+):.*##", (REPOSITORY / "Makefile").read_text(), re.M)
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= set(targets)
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    assert set(re.findall(r"not (\w+)", text)) & {"smoke", "slow"} == {line.split(":")[0] for line in known}
    assert len(text.splitlines()) <= 66, "it is one page"


def test_what_tests_share_comes_from_modules_with_names_of_their_own():
    # Every conftest.py is the module `conftest`: which one is imported depends on what was collected before.
    paths = sorted((REPOSITORY / "tests").rglob("*.py"))
    assert not [path.name for path in paths if re.search(r"^(from|import) conftest\b", path.read_text(), re.M)]
    shared = [path.name for path in paths if path.name != "conftest.py"]
    assert len(set(shared)) == len(shared), "two test files have one name"
