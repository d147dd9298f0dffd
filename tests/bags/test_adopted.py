"""Bags that outlive an upgrade."""

import logging

import pandas as pd
import pytest

from hsa import files
from hsa.bags import adopted, encoding
from hsa.bags.bag import attributes
from hsa.study.settings import Encoder, Tiles

TILES = Tiles(size_px=256, mpp=0.5, min_tissue=0.25)


@pytest.fixture
def cohort(make_slide, tmp_path):
    """Two slides, and how to encode them: with which stamp, settings and version."""
    slides = [
        {"slide_id": name, "path": make_slide(f"{name}.tif", size=512, covered=0.9), "mpp": None} for name in "ab"
    ]

    def encode(stamp, settings="s", **how):
        frame = pd.DataFrame(slides).astype({"mpp": float})
        made = encoding.encode_cohort(
            frame, tmp_path / "bags", Encoder(), TILES, stamp=stamp, settings=settings, progress=False, **how
        )
        return made["status"].tolist()

    return encode


KEPT, MADE = ["kept"] * 2, ["encoded"] * 2


def test_bags_of_other_code_with_the_same_features_are_kept_where_that_is_asked_for(cohort, tmp_path, caplog):
    assert cohort("old") == MADE
    with caplog.at_level(logging.WARNING):
        assert cohort("new", keep=True) == KEPT
    assert "2 bags of other code kept: same settings, same features (version 1)" in caplog.text
    assert attributes(tmp_path / "bags/a.h5")["stamp"] == "old"  # the bag itself stays as it is
    assert cohort("new") == KEPT  # from then on it is of today
    assert cohort("newer", keep=True) == KEPT
    assert files.read_json(tmp_path / "bags/adopted.json") == {"new": ["old"], "newer": ["old"]}
    assert cohort("newest") == MADE


def test_other_settings_or_other_features_are_made_again(cohort, monkeypatch):
    assert cohort("old") == MADE
    assert cohort("new", settings="other", keep=True) == MADE
    for room in (adopted, encoding):
        monkeypatch.setattr(room, "VERSION", 2)
    assert cohort("newer", settings="other", keep=True) == MADE


def test_a_slide_that_changed_is_made_again_all_the_same(cohort, tmp_path, make_slide):
    assert cohort("old") == MADE
    make_slide("a.tif", size=768, covered=0.9)
    assert sorted(cohort("new", keep=True)) == ["encoded", "kept"]


def test_bags_of_before_there_were_versions_are_made_again(cohort, tmp_path, monkeypatch):
    import h5py

    assert cohort("old") == MADE
    for name in "ab":
        with h5py.File(tmp_path / f"bags/{name}.h5", "a") as file:
            del file.attrs["features_version"]
    assert cohort("new", keep=True) == MADE
