"""The virtual cohort: readable slides, honest labels, nothing in the colour, the same bytes each time."""

import hashlib
import json
import shutil

import numpy as np
import openslide
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hsa.errors import InputError
from hsa.virtual.cells import is_tumour
from hsa.virtual.markers import LATENTS, MARKERS, mix
from hsa.virtual.optics import draw_batch, expose, titrate
from hsa.virtual.recipe import Recipe, is_second, photograph, section_truth
from hsa.virtual.render import render
from hsa.virtual.scan import make_cohort

MARKER_NAMES = ["P53", "PD-L1", "Ki-67"]
SMALL = {"cases": 3, "slide_px": 384, "markers": MARKER_NAMES, "strength": 1.0, "seed": 5}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"), **SMALL)


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.tif"))}


def cross_validated_auc(x, y):
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return roc_auc_score(y, cross_val_predict(model, x, y, cv=10, method="predict_proba")[:, 1])


def test_manifest_names_every_slide_and_openslide_reads_its_scale(cohort):
    manifest = pd.read_csv(cohort)
    labels = [f"label_{name}" for name in MARKER_NAMES]
    assert list(manifest) == ["patient_id", "case_id", "slide_id", "stain", "path", "mpp", *labels]
    assert manifest.slide_id.is_unique and len(manifest) == 3 * 4
    assert set(manifest.stain) == {"HE", *MARKER_NAMES}
    for path in manifest.path:
        with openslide.OpenSlide(cohort.parent / path) as slide:
            assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
            assert slide.level_dimensions == ((384, 384), (192, 192), (96, 96))
            image = np.asarray(slide.read_region((0, 0), 1, (192, 192)).convert("RGB"))
            # Glass in one place, tissue in at least a third of the slide.
            assert image.max() > 220
            assert (image.min(2) < image.max() - 12).mean() > 0.33


def test_truth_holds_the_labels_of_the_manifest(cohort):
    manifest = pd.read_csv(cohort).drop_duplicates("case_id").set_index("case_id")
    truth = pd.read_csv(cohort.parent / "truth.csv").set_index("case_id")
    for name in MARKER_NAMES:
        assert truth[f"label_{name}"].equals(manifest[f"label_{name}"])
        called = [MARKERS[name].call(f) for f in truth[f"fraction_{name}"]]
        assert called == truth[f"true_{name}"].tolist()
        assert truth[f"fraction_{name}"].between(0, 1).all()
    assert {f"latent_{name}" for name in LATENTS} <= set(truth)


def test_same_seed_gives_same_bytes_whatever_the_workers(cohort, tmp_path):
    make_cohort(tmp_path, **SMALL, workers=2)
    assert digests(tmp_path) == digests(cohort.parent)
    for name in ("manifest.csv", "truth.csv"):
        assert (tmp_path / name).read_bytes() == (cohort.parent / name).read_bytes()


def test_a_case_depends_neither_on_cohort_size_nor_on_other_markers(cohort, tmp_path):
    make_cohort(tmp_path, **SMALL | {"cases": 1, "markers": ["PD-L1"]})
    few, all_ = digests(tmp_path), digests(cohort.parent)
    assert len(few) == 2
    assert all(all_[name] == digest for name, digest in few.items())


@pytest.mark.parametrize("kept", [[0], [2], [0, 1, 2]])
def test_a_resumed_cohort_is_one_that_was_not_interrupted(cohort, tmp_path, kept):
    for index in kept:
        make_cohort(tmp_path / "one", **SMALL | {"cases": index + 1})
    shutil.copytree(tmp_path / "one/slides", tmp_path / "two/slides")
    (tmp_path / "two/records").mkdir()
    for index in kept:
        shutil.copy(tmp_path / f"one/records/C{index:04}.json", tmp_path / "two/records")
    make_cohort(tmp_path / "two", **SMALL)
    for name in ("manifest.csv", "truth.csv", *(path.relative_to(cohort.parent) for path in _records(cohort))):
        assert (tmp_path / "two" / name).read_bytes() == (cohort.parent / name).read_bytes()


def _records(cohort):
    return sorted((cohort.parent / "records").iterdir())


def test_run_goes_on_where_it_stopped(tmp_path):
    settings = SMALL | {"cases": 2, "markers": ["P53"]}
    make_cohort(tmp_path, **settings)
    before = digests(tmp_path)
    slides = sorted((tmp_path / "slides").iterdir())
    times = {p.name: p.stat().st_mtime_ns for p in slides}
    slides[-1].write_bytes(slides[-1].read_bytes()[:100])
    make_cohort(tmp_path, **settings)
    after = {p.name: p.stat().st_mtime_ns for p in slides}
    assert digests(tmp_path) == before
    assert [name for name in times if after[name] == times[name]] == [p.name for p in slides[:2]]
    record = tmp_path / "records" / "C0000.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"stamp": "older"}))
    make_cohort(tmp_path, **settings)
    assert slides[0].stat().st_mtime_ns > after[slides[0].name]
    make_cohort(tmp_path, **settings | {"seed": 6})
    assert not set(digests(tmp_path).values()) & set(before.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"markers": ["HER2"]}, "known markers: Ki-67, P53, PD-L1"),
        ({"markers": ["P53", "P53"]}, "each once"),
        ({"cases": 0}, "cohort.cases"),
        ({"slide_px": 250}, "cohort.slide_px"),
        ({"strength": -1.0}, "cohort.strength"),
    ],
)
def test_wrong_settings_are_refused_and_nothing_is_written(tmp_path, change, says):
    with pytest.raises(InputError, match=says):
        make_cohort(tmp_path / "new", **SMALL | change)
    assert not (tmp_path / "new").exists()


def test_imprint_keeps_the_marginals_and_grows_with_strength():
    rng = np.random.default_rng(0)
    scores = {name: rng.standard_normal(20_000) for name in MARKERS}
    noise = {name: rng.standard_normal(20_000) for name in LATENTS}
    assert set(LATENTS) == {name for programme in MARKERS.values() for name in programme.imprint}
    for strength in (0.0, 0.5, 1.0, 3.0):
        latents = mix(strength, scores, noise, MARKERS)
        for marker, programme in MARKERS.items():
            for name, weight in programme.imprint.items():
                r = np.corrcoef(latents[name], scores[marker])[0, 1]
                expected = strength * weight / np.hypot(strength * weight, 1)
                assert r == pytest.approx(expected, abs=0.03)
                assert latents[name].std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_latents_tell_the_class_only_where_markers_imprint(strength):
    cases = [Recipe(384, strength, 1).case(i) for i in range(1500)]
    x = np.array([[case.latents[name] for name in LATENTS] for case in cases])
    for marker, programme in MARKERS.items():
        y = np.array([programme.call(case.fractions[marker]) for case in cases])
        assert 0.12 < y.mean() < 0.65
        auc = cross_validated_auc(x, y)
        assert auc > 0.82 if strength else auc < 0.57


def test_cases_of_one_patient_are_alike():
    recipe = Recipe(384, 1.0, 2)
    seconds = [i for i in range(3300) if is_second(i)]
    names = [*LATENTS, "differentiation"]
    first, second = (
        np.array([[recipe.case(i - back).latents[name] for name in names] for i in seconds]).ravel() for back in (1, 0)
    )
    stranger = np.roll(second.reshape(-1, len(names)), 1, 0).ravel()
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.6, abs=0.06)
    assert abs(np.corrcoef(first, stranger)[0, 1]) < 0.06


def test_sections_share_layout_but_no_cells(monkeypatch):
    recipe = Recipe(512, 1.0, 3)
    layout = recipe.layout(0)
    he, ihc = (section_truth(recipe, 0, name, layout) for name in ("HE", "Ki-67"))
    a, b = he.section.at("tissue") > 0, ihc.section.at("tissue") > 0
    assert (a & b).sum() / (a | b).sum() > 0.8
    # Even in one and the same cut, the second draw has its own cells.
    monkeypatch.setattr("hsa.virtual.recipe.cut_section", lambda *_: he.section)
    twin, other = (section_truth(recipe, 0, name, layout).cells for name in ("HE", "Ki-67"))
    near = np.hypot(twin["x"][:, None] - other["x"], twin["y"][:, None] - other["y"]).min(1)
    assert (near < 0.5).mean() < 0.05
    assert np.isnan(he.fraction) and not he.cells["dab"].any()


def test_realised_fraction_is_what_is_painted_and_follows_the_latent():
    recipe = Recipe(512, 1.0, 4)
    expected, realised = [], []
    for index in range(10):
        truth = section_truth(recipe, index, "PD-L1")
        assert len(truth.positive) / is_tumour(truth.cells).sum() == pytest.approx(truth.fraction)
        expected.append(recipe.case(index).fractions["PD-L1"])
        realised.append(truth.fraction)
    assert np.corrcoef(expected, realised)[0, 1] > 0.9


def test_p53_null_keeps_its_internal_control_and_dab_stays_out_of_lumina():
    recipe = Recipe(512, 1.0, 0)
    null = next(i for i in range(200) if recipe.case(i).fractions["P53"] == 0)
    truth = section_truth(recipe, null, "P53")
    assert truth.fraction == 0 and not truth.cells["dab"][is_tumour(truth.cells)].any()
    assert (truth.cells["dab"] > 0).sum() >= 3
    high = max(range(40), key=lambda i: recipe.case(i).fractions["PD-L1"])
    truth = section_truth(recipe, high, "PD-L1")
    dab = render(np.random.default_rng(0), truth.section, truth.cells, True)[2]
    at = truth.section.at
    empty = (np.maximum(at("lumen"), -at("tissue")) > 6)[:128, :128]
    assert empty.sum() > 100
    assert dab.max() > 0.3 and dab[::4, ::4][empty].max() < 0.02


def test_every_section_holds_tissue_and_tumour():
    recipe = Recipe(384, 1.0, 7)
    for index in range(25):
        truth = section_truth(recipe, index, "HE")
        assert (truth.section.at("tissue") > 0).mean() > 0.4
        assert truth.tumour.mean() > 0.1
        assert is_tumour(truth.cells).sum() >= 30


def test_titration_meets_its_target():
    recipe = Recipe(384, 1.0, 8)
    for index in range(6):
        truth = section_truth(recipe, index, "HE")
        rng = np.random.default_rng(index)
        batch = draw_batch(rng, False)
        planes = render(rng, truth.section, truth.cells, False)
        footprint = truth.section.at("tissue")[:96, :96] > 0
        image = expose(rng, planes, titrate(planes, footprint, batch), batch)
        seen = (image / batch.white)[::4, ::4][footprint].mean(0)
        assert seen[:2] == pytest.approx(batch.target, abs=0.02)


def test_mean_colour_does_not_tell_the_label():
    recipe, n = Recipe(256, 3.0, 9), 120
    colour = np.empty((n, 3))
    for index in range(n):
        colour[index] = photograph(recipe, index, "HE", section_truth(recipe, index, "HE")).mean((0, 1))
    for marker, programme in MARKERS.items():
        y = np.array([programme.call(recipe.case(i).fractions[marker]) for i in range(n)])
        # Null SD of an AUC at 60 against 60 is 0.053; at strength 3 a leak would be plain.
        assert cross_validated_auc(colour, y) < 0.5 + 3 * 0.053
