import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hsa.cli import app
from hsa.files import REPOSITORY
from hsa.study.study import load

HSA = Path(sys.executable).with_name("hsa")


@pytest.fixture
def study(tmp_path):
    """A study file of its own, so that results go to a temporary folder."""
    (tmp_path / "studies").mkdir()
    path = tmp_path / "studies" / "tiny.yml"
    text = (REPOSITORY / "studies/smoke.yml").read_text().replace("name: smoke", "name: tiny")
    path.write_text(text.replace("slide_px: 512", "slide_px: 384").replace("cases: 30", "cases: 20"))
    return path


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_help_lists_the_steps_in_order():
    text = run("--help").output
    steps = ["cohort", "features", "train", "evaluate", "notebook", "stage"]
    places = [text.index(f" {step} ") for step in steps]
    assert places == sorted(places)
    assert "2 wrong input" in text


def test_help_waits_for_no_heavy_package():
    heavy = "{'numpy', 'pandas', 'torch', 'sklearn', 'scipy', 'matplotlib'}"
    asked = f"import sys, hsa.cli; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cohort", "--study", "virtul"], "did you mean 'virtual'"),
        (["train", "--study", "smoke", "--stain", "Ki67"], "did you mean 'Ki-67'"),
        (["train", "--study", "smoke", "--stain", "P53", "--method", "ful"], "did you mean 'full'"),
        (["tune", "--study", "smoke"], "give a seed and candidates"),
        (["features", "--study", "smoke", "--share", "9/8"], "give K/N with K from 1 to N"),
        (["notebook", "09_nothing", "--study", "smoke", "--stain", "P53"], "no such notebook"),
    ],
)
def test_wrong_input_exits_with_2_and_one_message(arguments, told):
    result = run(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr and "Traceback" not in result.output


def test_one_seed_does_not_replace_the_summary_of_all(study, monkeypatch):
    from hsa.pipeline import steps

    made = []
    monkeypatch.setattr(steps, "evaluate", lambda chosen, marker, progress: None)
    monkeypatch.setattr(steps, "summarise", lambda chosen, progress: made.append(chosen.seeds))
    for more in (["--seed", 3], ["--stain", "P53"], []):
        assert run("evaluate", "--study", study, *more).exit_code == 0
    assert made == [[0]]


def test_a_notebook_is_that_of_the_first_seed_where_the_book_looks_for_it(study, monkeypatch):
    from hsa.reporting import notebooks

    ran = []
    monkeypatch.setattr(
        notebooks, "run_notebook", lambda source, target, values, *_: ran.append((target, values["seed"]))
    )
    study.write_text(study.read_text().replace("seeds: [0]", "seeds: [4, 5]"))
    assert run("notebook", "03_baseline_comparison", "--study", study, "--stain", "P53").exit_code == 0
    first = load(study).at(4)
    assert ran == [(first.paths.notebook("P53", "03_baseline_comparison"), 4)]


def test_options_reach_what_they_are_for(monkeypatch, tmp_path):
    from hsa.cohorts.check import Report

    seen = []

    def spy(name, result):
        monkeypatch.setattr(name, lambda *given, **more: seen.append((name, *given, *more.values())) or result)

    made = tmp_path / "m.csv"
    spy("hsa.cohorts.public.import_cohort", made)
    spy("hsa.cohorts.public.join_manifests", made)
    spy("hsa.cohorts.public.convert_large", [])
    spy("hsa.cohorts.check.check", Report([], []))
    spy("hsa.pipeline.plan.plan", None)
    monkeypatch.setattr("hsa.cohorts.public.summary", lambda manifest: "")
    monkeypatch.setattr("hsa.cohorts.check.markers_of", lambda manifest: {})
    monkeypatch.setattr("hsa.pipeline.plan.describe", lambda frame: "")
    smoke = load("smoke")
    monkeypatch.setattr("hsa.cli.study.load", lambda study: smoke)
    spy("hsa.pipeline.steps.make_features", None)
    out, root = tmp_path / "out", ("--root", tmp_path)
    for arguments in (
        ("cohort", "import", "mist", tmp_path, "--out", out, *root, "--mpp", 0.4),
        ("cohort", "join", made, made, "--out", out, *root),
        ("cohort", "convert", tmp_path, "--mpp", 0.4),
        ("cohort", "check", made, *root, "--no-checksums", "--fresh", "--workers", 3),
        ("features", "--study", "smoke", "--share", "2/8", "--workers", 3, "--keep", "--verify", "--quiet"),
        ("plan", "--study", "smoke", "--cases", 7, "--sample", 2, "--no-measure"),
    ):
        assert run(*arguments).exit_code == 0
    *checked, checksums, study, memory, workers = seen.pop(3)
    assert (memory, workers) == (None, 3)
    assert checked == ["hsa.cohorts.check.check", made, {}, tmp_path]
    assert checksums.keywords == {"folder": None, "read": False} and study is None
    assert seen == [
        ("hsa.cohorts.public.import_cohort", "mist", tmp_path, out, tmp_path, 0.4),
        ("hsa.cohorts.public.join_manifests", [made, made], out, tmp_path),
        ("hsa.cohorts.public.convert_large", tmp_path, 0.4),
        ("hsa.pipeline.steps.make_features", smoke, 3, False, (2, 8), True, True),
        ("hsa.pipeline.plan.plan", smoke, 7, 2, False),
    ]


def test_a_broken_manifest_is_told_row_by_row(tmp_path):
    (tmp_path / "m.csv").write_text("patient_id,case_id,slide_id,stain,path,label_P53\np,c,s,H&E,s.tif,2\n")
    text = (REPOSITORY / "studies/smoke.yml").read_text()
    head, tail = text.split("cohort:\n")
    body = tail[tail.index("markers:") :]
    (tmp_path / "own.yml").write_text(f"{head}cohort:\n  kind: manifest\n  manifest: m.csv\n\n{body}")
    result = run("cohort", "--study", tmp_path / "own.yml")
    assert result.exit_code == 2 and "column 'label_PD-L1' is missing" in result.stderr


@pytest.mark.slow
def test_an_interrupted_run_exits_with_130_and_goes_on_later(study):
    command = [HSA, "cohort", "--study", study, "--workers", "1", "--quiet"]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job is born ignoring it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    slides = study.parents[1] / "results" / "tiny" / "cohort" / "slides"
    for _ in range(2400):
        if slides.is_dir() and len(list(slides.glob("[!.]*.tif"))) >= 4:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert "run the same command to go on" in process.stderr.read()
    assert not (slides.parent / "manifest.csv").exists(), "a manifest must not name slides that are not there"
    first = {path.name: path.stat().st_mtime_ns for path in slides.glob("[!.]*.tif")}
    assert 4 <= len(first) < 80
    subprocess.run(command, check=True, env={**os.environ, "TQDM_DISABLE": "1"})
    kept = [name for name, clock in first.items() if (slides / name).stat().st_mtime_ns == clock]
    assert len(kept) >= len(first) - 4, "finished cases are rendered once"
    assert len(list(slides.glob("*.tif"))) == 80
    assert not list(slides.glob(".*")), "no temporary file is left"


def test_the_tiles_of_a_slide_are_drawn_as_a_study_would_cut_them(make_slide, tmp_path):
    path, out = make_slide(mpp=None, covered=0.5), tmp_path / "out" / "tiles.png"
    failed = run("tiles", path, "--out", out)
    assert failed.exit_code and "mpp" in failed.output
    assert not out.exists()
    told = run("tiles", path, "--out", out, "--mpp", "0.5", "--study", "smoke")
    assert not told.exit_code, told.output
    assert out.read_bytes().startswith(b"\x89PNG")
    assert re.search(r"0\.5 um/px: \d+% tissue, \d+ tiles of 256 px at 0\.5 um/px", told.output)
