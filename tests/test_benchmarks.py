"""Every benchmark at its smallest size, each of its parts: that it runs and prints, not how fast it is."""

import re
import runpy
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import immunohistochemistry

from hsa.files import REPOSITORY
from hsa.training.fit import fit

FOLDER = REPOSITORY / "benchmarks"
# File -> the calls that go through all of it; <name> stands for what the fixture of this name gives.
CALLS = {
    "bags": [
        ["--rounds", "1", "--tiles", "50", "--dim", "8", "--bags", "3"],
        ["--memory", "--slides", "4", "--px", "600"],
    ],
    "bootstrap": [["--timed", "100", "--replicates", "1", "--draws", "100", "--cases", "60"]],
    "cohorts": [["--slides", "8", "--rounds", "2"]],
    "drift": [["--study", "<smallest>", "--only", "openblas", "nudged 1", "--work", "<pictures>"]],
    "encoding": [["<images>", "--rounds", "1", "--batches", "1", "--tiles", "48", "--px", "1024"]],
    "every": [["--repeats", "1", "--only", "--to", "<results>"]],
    "mask_artefacts": [["--quick"]],
    "mask_speed": [["--side", "2048", "--repeats", "1"]],
    "masks": [["--stains", "haematoxylin, pale", "--pictures", "<pictures>"]],
    "readers": [["--repeats", "1", "--side", "1024"]],
    "reading": [["<slide>", "--rounds", "1"]],
    "real_pairs": [["<pairs>", "--to", "<results>", "--seeds", "1", "--few", "0"]],
    "rendering": [["--px", "256", "--cases", "1"]],
    "verdict_null": [["--studies", "1", "--cases", "60", "--seeds", "2", "--contrasts", "2"]],
    "slide_encoders": [["step", "--rounds", "1"], ["long", "--tiles", "20"], ["fit", "--cases", "20", "--epochs", "2"]],
}


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for k in range(2):
        Image.fromarray(np.rot90(immunohistochemistry(), k)).save(tmp_path / "images" / f"{k}.png")
    return tmp_path / "images"


@pytest.fixture
def pictures(tmp_path):
    return tmp_path / "pictures"


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results.json"


@pytest.fixture
def pairs(make_pairs):
    return make_pairs()


@pytest.fixture
def slide(make_slide):
    return make_slide(covered=0.8)


@pytest.fixture
def smallest(tiny_study):
    text = tiny_study.file.read_text().replace("slide_px: 512", "slide_px: 384").replace("epochs: 3", "epochs: 1")
    text = re.sub(r"  (untrained|abmil): .*\n", "", text).replace("folds: 3}", "folds: 3, bootstrap: 100}")
    tiny_study.file.write_text(f"{text}tiles: {{min_tissue: 0.25}}\n")
    return tiny_study.file


@pytest.fixture
def study(tiny_study, tiny_cohort):
    for method in tiny_study.methods:
        folder = tiny_study.paths.method("P53", method)
        fit(tiny_study, tiny_cohort, "P53", method, folder, progress=False)
    return tiny_study.file


def run(name, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
    monkeypatch.syspath_prepend(FOLDER)  # they know each other
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    return capsys.readouterr().out


@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in CALLS.items() for call in calls], ids=str)
def test_a_benchmark_runs(name, call, monkeypatch, capsys, request):
    words = [str(request.getfixturevalue(word[1:-1])) if word[0] == "<" else word for word in call]
    assert re.search(r"\d", run(name, words, monkeypatch, capsys))


@pytest.mark.parametrize(("name", "smaller"), [("bags", {}), ("encoding", {"sides": (1024, 2048)})])
def test_the_rows_of_a_benchmark_can_be_collected(name, smaller):
    found = runpy.run_path(str(FOLDER / f"{name}.py"))["rows"](1, **smaller)
    for row in found:
        assert list(row) == ["benchmark", "row", "value", "unit", "against", "ratio", "spread"]
        assert (
            row["benchmark"] == name
            and row["value"] > 0
            and row["ratio"] > 0
            and row["spread"][0] <= row["ratio"] <= row["spread"][1]
        )
    assert len({row["row"] for row in found}) == len(found) > 1


def test_every_benchmark_and_each_part_is_called(monkeypatch, capsys):
    assert {path.stem for path in FOLDER.glob("*.py")} == set(CALLS)
    for name, calls in CALLS.items():
        with pytest.raises(SystemExit):
            run(name, ["--help"], monkeypatch, capsys)
        parts = re.search(r"^  \{(.*)\}", capsys.readouterr().out, re.M)
        if parts:
            assert set(parts[1].split(",")) == {call[0] for call in calls}, name


@pytest.mark.slow
def test_rows_of_masks_can_be_collected(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import mask_speed
    import masks

    monkeypatch.setattr(mask_speed, "SIDE_PX", 2048)
    monkeypatch.setattr(masks, "STAINS", {"H&E, pale": masks.STAINS["H&E, pale"]})
    found = masks.rows(1)
    assert len({row["row"] for row in found}) == len(found) == 6
    for row in found:
        assert set(row) == {"benchmark", "row", "value", "unit", "against", "ratio", "spread"}
        assert row["value"] > 0 and (row["ratio"] is None or row["ratio"] > 0)
