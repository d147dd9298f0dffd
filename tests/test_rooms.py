"""The house: which wing stands above which, what each says of itself, and that imports run one way."""

import ast
import importlib
import re
from graphlib import TopologicalSorter

import pytest

from hsa.files import PACKAGE, REPOSITORY

# From the ground up. A wing imports from its own rooms and from what stands before it in this row.
WINGS = (
    *("ground", "study", "slides", "virtual", "cohorts", "encoders", "bags", "models", "evaluation", "training"),
    *("pipeline", "reporting", "screening", "cli"),
)
FILES = {
    ".".join(["hsa", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def wing_of(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else "ground"


def imports(name):
    """Modules of this package that a module imports anywhere: at its top, in functions, for types."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{name}: relative import"
            found |= {one if (one := f"{node.module}.{a.name}") in FILES else node.module for a in node.names}
    return {one for one in found if one.split(".")[0] == "hsa"} - {name}


ROOMS = {name: imports(name) for name in FILES}


def test_every_wing_stands_in_the_row():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(WINGS) - {"ground"}
    assert {path.name for path in PACKAGE.glob("*.py")} == {
        "__init__.py",
        "errors.py",
        "files.py",
        "fingerprint.py",
        "workers.py",
    }


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_run_down_the_row_of_wings(name):
    own = WINGS.index(wing_of(name))
    for other in ROOMS[name]:
        assert other in FILES, f"{name} imports {other}, which is no module"
        assert WINGS.index(wing_of(other)) <= own, f"{name} imports {other}, of a wing that stands after its own"


def test_no_two_modules_import_each_other():
    # `hsa` itself holds the version; a wing's __init__ imports nothing.
    graph = {name: known - {"hsa"} for name, known in ROOMS.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(FILES) > 80


@pytest.mark.parametrize("wing", [wing for wing in WINGS if wing not in ("ground", "cli")])
def test_a_wing_says_what_others_may_use_and_nothing_else(wing):
    path = PACKAGE / wing / "__init__.py"
    docstring, *rest = ast.parse(path.read_text()).body
    assert len(re.findall(r"[.:;]\s", docstring.value.value)) >= 2
    assert [ast.unparse(node.targets[0]) for node in rest] == ["__all__"], f"{path}: a docstring and __all__ only"
    public = importlib.import_module(f"hsa.{wing}").__all__
    rooms = {p.stem for p in path.parent.glob("*.py")} | {p.parent.name for p in path.parent.glob("*/__init__.py")}
    assert set(public) <= rooms - {"__init__"}
    for name, known in ROOMS.items():
        if wing_of(name) != wing:
            used = {one.split(".")[2] for one in known if one.startswith(f"hsa.{wing}.")}
            assert used <= set(public), f"{name} uses what hsa.{wing} keeps to itself"


def test_what_begins_with_an_underscore_stays_in_its_module():
    for name, path in FILES.items():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        taken = [node for node in nodes if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hsa")]
        private = [a.name for node in taken for a in node.names if a.name.startswith("_") and a.name != "__version__"]
        rooms = {alias.asname or alias.name for node in taken for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in rooms:
                private += [node.attr] * (node.attr.startswith("_") and not node.attr.startswith("__"))
        assert not private, f"{name} uses {private} of another module"


def test_losses_know_no_model_and_models_no_files_of_a_study():
    assert ROOMS["hsa.models.losses"] == {"hsa.errors"}
    for name in ("longnet", "attention", "pooling", "model"):
        assert not {one for one in ROOMS[f"hsa.models.{name}"] if wing_of(one) == "study"} - {"hsa.study.settings"}
        assert "hsa.files" not in ROOMS[f"hsa.models.{name}"]


def test_virtual_tissue_is_loaded_only_where_a_study_has_it():
    at_top = [
        name
        for name, path in FILES.items()
        if wing_of(name) != "virtual" and re.search(r"^from hsa\.virtual", path.read_text(), re.M)
    ]
    assert not at_top


def test_the_pages_on_the_package_have_every_wing_and_all_that_is_public():
    everything = []
    for wing in WINGS[:-1]:
        text = (REPOSITORY / "book/api" / f"{wing}.md").read_text()
        listed = re.findall(r"^\.\. automodule:: (\S+)$", text, re.M)
        assert re.findall(r"^## (\S+)$", text, re.M) == [
            name.removeprefix(f"hsa.{wing}.").removeprefix("hsa.") for name in listed if name != f"hsa.{wing}"
        ]
        if wing == "ground":
            assert {f"hsa.{path.stem}" for path in PACKAGE.glob("[!_]*.py")} == set(listed)
        else:
            assert listed[0] == f"hsa.{wing}"
            for room in importlib.import_module(f"hsa.{wing}").__all__:
                assert f"hsa.{wing}.{room}" in listed, f"hsa.{wing}.{room} is public, and on no page"
            assert all(name.startswith(f"hsa.{wing}") for name in listed)
        everything += listed
    assert len(set(everything)) == len(everything)


def test_the_map_of_the_package_is_drawn_from_its_imports(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "book/_ext")
    wings = importlib.import_module("wings")
    known = {wing: set() for wing in WINGS[1:]}
    for name, others in ROOMS.items():
        if wing_of(name) != "ground":
            known[wing_of(name)] |= {wing_of(other) for other in others} - {wing_of(name), "ground"}
    assert wings.uses() == known
    order = [wing for row in wings.wings_picture.rows(wings.uses()) for wing in row]
    toc = (REPOSITORY / "book/_toc.yml").read_text()
    assert re.findall(r"file: book/api/(\w+)", toc) == [*order[: order.index("cli")], "ground"]
    told = wings.docstrings()
    assert set(told) == set(WINGS) and all(told.values())
    assert set(re.findall(r"`(\w+)`", importlib.import_module("hsa").__doc__)) == set(order)
