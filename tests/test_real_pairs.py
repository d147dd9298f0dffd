"""The experiment on real tissue: what it reads and refuses, and what it keeps."""

import runpy

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hsa.encoders.encoder import TileEncoder
from hsa.errors import InputError
from hsa.files import REPOSITORY


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(REPOSITORY / "benchmarks" / "real_pairs.py"))


def means(tiles):
    blocks = tiles.reshape(len(tiles), 4, 64, 4, 64, 3).mean(axis=(2, 4))
    return blocks.reshape(len(tiles), -1).astype(np.float32)


ENCODER = TileEncoder("means", 48, 256, 0.5, means)


def test_patches_are_read_and_whole_sections_left_out(script, make_pairs):
    assert [entry["id"] for entry in script["read_entries"](make_pairs())] == ["p0", "p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"p1": {"he": {"file": "gone.png", "sha256": ""}}}, "entry p1: gone.png is not there"),
        ({"p2": {"he": {"file": "p2_he.png", "sha256": "0"}}}, "entry p2: p2_he.png has another SHA-256"),
        ({"p0": {"label": None}}, "entry p0: label is empty: folds need the score"),
        ({"p0": {"label": "3+"}, "p1": {"label": "3+"}}, "4 patches of 1 scores"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_by_entry(script, make_pairs, changes, said):
    with pytest.raises(InputError, match=said.replace("+", r"\+")):
        script["read_entries"](make_pairs(**changes))


def test_a_folder_without_manifest_says_how_to_name_one(script, tmp_path):
    with pytest.raises(InputError, match="set HSA_REAL_PAIRS"):
        script["read_entries"](tmp_path)


def test_pictures_of_different_size_are_refused(script, make_pairs):
    folder = make_pairs()
    Image.new("RGB", (512, 600)).save(folder / "p0_ihc.png")
    entry = {"id": "p0", "he": {"file": "p0_he.png"}, "ihc": {"file": "p0_ihc.png"}}
    with pytest.raises(InputError, match=r"entry p0: pictures of .* give registered squares"):
        script["grids"](folder, entry, ENCODER)


def test_tiles_of_both_stains_are_cut_at_the_same_places(script, make_pairs):
    folder = make_pairs()
    picture = np.asarray(Image.open(folder / "p0_he.png"))
    entry = {"id": "p0", "he": {"file": "p0_he.png"}, "ihc": {"file": "p0_he.png"}}
    made = script["grids"](folder, entry, ENCODER)
    assert [len(he) for he, _ in made] == [4, 2, 2]
    np.testing.assert_array_equal(made[0][0][1], means(picture[None, :256, 256:])[0])
    assert all((he == ihc).all() for he, ihc in made)


def test_the_scale_is_of_training_pictures_and_the_centre_of_each_picture(script):
    rng = np.random.default_rng(0)
    images = [[tuple(rng.normal(shift, wide, (2, 50, 3)))] for shift, wide in ((0, 1), (5, 1), (9, 100))]
    ready = script["standardised"](images, [0, 1])
    for one in ready:
        np.testing.assert_allclose([side.mean(axis=0) for side in one[0]], 0, atol=1e-6)
    spread = np.concatenate([ready[0][0][0], ready[1][0][0]]).std(axis=0)
    np.testing.assert_allclose(spread, 1, rtol=1e-4)
    assert ready[2][0][0].std() > 50


def test_no_score_lies_in_training_and_test(script, monkeypatch):
    """Every picture holds its own number; what is trained on is looked at for those of the picture that is tested."""
    entries = [{"id": f"p{i}", "label": label} for i, label in enumerate(("0", "0", "1", "1"))]
    rng = np.random.default_rng(0)
    images = [[tuple(rng.standard_normal((2, 4, 6)))] for _ in entries]
    seen = []
    ready = script["standardised"]

    def noted(given, training):
        seen.append(training)
        return ready(given, training)

    monkeypatch.setitem(script["retrieval"].__globals__, "standardised", noted)
    found = script["retrieval"](entries, images, 1, 0)
    assert seen == [[2, 3], [0, 1]]
    assert list(found) == script["COLUMNS"]
    rows = found.groupby(["image", "arm"]).size()
    assert (rows == 2).all() and len(rows) == 4 * 4


def test_settings_that_decide_nothing_are_tried_with_few_seeds(script):
    told = [(seed, how.temperature, at) for seed, how, at in script["runs"](3, 1)]
    assert told == [(0, t, (5, 20, 60)) for t in (0.03, 0.1, 0.3)] + [(1, 0.1, (20,)), (2, 0.1, (20,))]
    plain = script["PLAIN"]
    assert plain.temperature in script["TEMPERATURES"] and plain.epochs in script["EPOCHS"]


def test_the_real_pairs_at_hand_are_what_was_kept(script):
    """Skips where the pictures are not at hand."""
    import os
    from pathlib import Path

    folder = os.environ.get("HSA_REAL_PAIRS")
    if not folder or not (Path(folder) / "manifest.json").is_file():
        pytest.skip("HSA_REAL_PAIRS names no folder of real pairs")
    kept = pd.read_csv(REPOSITORY / "book/reference/real/retrieval.csv", dtype={"group": str})
    assert {entry["id"]: entry["label"] for entry in script["read_entries"](Path(folder))} == dict(
        zip(kept["image"], kept["group"], strict=True)
    )
