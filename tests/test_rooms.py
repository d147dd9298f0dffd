"""What each room of the package knows of the others: data flow one way."""

import re
from graphlib import TopologicalSorter

import pytest

from hsa.files import PACKAGE

FILES = {
    ".".join(["hsa", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(name):
    """Modules that a module imports at its top; an import for types, or in a function, stands further in."""
    found = re.findall(r"^from (hsa[\w.]*) import (\([^)]*\)|.*)$", FILES[name].read_text(), re.M)
    pairs = [(package, part) for package, names in found for part in re.findall(r"\w+", names)]
    return {f"{package}.{part}" if f"{package}.{part}" in FILES else package for package, part in pairs} - {name}


ROOMS = {name: imported(name) for name in FILES}


def reached(name):
    known, new = set(), {name}
    while new:
        known |= new
        new = {one for room in new for one in ROOMS[room]} - known
    return {room.removeprefix("hsa.") for room in known - {name}}


def test_no_two_modules_import_each_other():
    assert len(list(TopologicalSorter(ROOMS).static_order())) == len(FILES) > 80


@pytest.mark.parametrize(
    ("room", "knows"),
    [
        ("losses", {"errors"}),
        ("attention", set()),
        ("longnet", {"attention", "errors", "pooling"}),
        ("model", {"attention", "errors", "longnet", "pooling", "settings"}),
        ("settings", set()),
        ("study", {"errors", "files", "paths", "settings"}),
        ("tissue", set()),
        ("bag", {"errors", "files"}),
    ],
)
def test_losses_know_no_model_and_models_no_file(room, knows):
    assert reached(f"hsa.{room}") == knows


@pytest.mark.parametrize("room", ["slide", "tiling", "encoders", "features", "encoding", "batches", "fold", "foreign"])
def test_what_reads_slides_and_bags_knows_no_study(room):
    assert not {"study", "cohort", "steps"} & reached(f"hsa.{room}")


def test_virtual_tissue_is_loaded_by_nothing_but_itself():
    assert not [name for name, known in ROOMS.items() if "virtual" not in name and "virtual" in str(known)]
