import json

import pytest

from hsa import files, fingerprint
from hsa.fingerprint import closure

MODULES = {
    "__init__": "",
    "files": "x = 1",
    "study/__init__": "",
    "study/study": "import hsa.b.deep",
    "a": "from hsa import files\nfrom hsa.study.study import x\nfrom hsa.b import deep\n",
    "b/__init__": '"""B."""\n\n__all__ = ["deep"]\n',
    "b/deep": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hsa.b import typed\n\ndef f():\n"
    "    import hsa.b.late\n",
    "b/late": "y = None\n",
    "b/typed": "z = 3\n",
    "b/other": "from hsa.b.deep import f\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a few modules, and how to change one of them."""
    fingerprint._read.cache_clear()  # what a module imports depends on which modules there are
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path)

    def write(name, text):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        for cached in (fingerprint.closure, fingerprint._looked_into):
            cached.cache_clear()

    for name, text in MODULES.items():
        write(name, text)
    yield write
    write("__init__", "")


# `hsa.a` lies on the ground here, beside files: what is imported from a wing is what is looked at.
ENTRY = "hsa.b.other"


def test_the_code_of_a_result_is_what_its_module_imports_in_functions_too_but_not_for_types(package):
    assert closure(ENTRY) == {"hsa.b", "hsa.b.deep", "hsa.b.late", "hsa.b.other"}


def test_code_ends_at_other_steps(package):
    assert closure(ENTRY, frozenset({"hsa.b.deep"})) == {"hsa.b", "hsa.b.other"}
    assert closure("hsa.b.deep", frozenset({"hsa.b.deep"})) == {"hsa.b", "hsa.b.deep", "hsa.b.late"}


def test_the_ground_and_the_study_wing_count_by_their_settings_alone(package):
    package("b/other", "from hsa import a, files\nfrom hsa.study.study import x\n")
    assert closure(ENTRY) == {"hsa.b.other"}


@pytest.mark.parametrize(
    ("name", "text", "same"),
    [
        ("b/late", "y = None  # a comment\n", True),
        ("b/late", '"""A docstring."""\n\n\ny = (\n    None\n)\n', True),
        ("b/deep", MODULES["b/deep"].replace("def f():\n", 'def f():\n    """Says more."""\n'), True),
        ("b/__init__", '"""B."""\n\n__all__ = ["deep", "late"]\n', True),
        ("b/typed", "z = 4\n", True),
        ("b/late", "y = 0\n", False),
        ("b/late", "y: int = None\n", False),
        ("b/late", 'y = None\n"""no docstring"""\n', False),
        ("b/__init__", '__all__ = []\nw = "B"\n', False),
        ("b/deep", MODULES["b/deep"].replace("late", "typed"), False),
    ],
)
def test_code_counts_and_words_about_it_do_not(package, name, text, same):
    before = fingerprint.fingerprint([1], ENTRY)
    package(name, text)
    assert (fingerprint.fingerprint([1], ENTRY) == before) is same


def test_settings_count(package):
    assert fingerprint.fingerprint({"a": 1}, ENTRY) != fingerprint.fingerprint({"a": 2}, ENTRY)
    assert fingerprint.fingerprint({"a": 1, "b": 2}) == fingerprint.fingerprint({"b": 2, "a": 1})


def test_a_notebook_depends_on_what_its_cells_import(package, tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["from hsa.b import typed"]},
        {"cell_type": "code", "source": ["%pip install x\n", "if 1:\n", "    !ls\n", "from hsa.b import late\n"]},
    ]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert closure(path) == {"hsa.b", "hsa.b.late"}


def test_every_module_of_the_package_can_be_read():
    names = [
        ".".join(["hsa", *path.relative_to(files.PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for path in files.PACKAGE.rglob("*.py")
    ]
    assert len({fingerprint._looked_into(name)[0] for name in names}) > 80
