import numpy as np
import pandas as pd
import pytest

from hsa.errors import InputError
from hsa.evaluation import partners


def test_own_partners_are_found_and_others_are_not():
    tiles = np.random.default_rng(0).standard_normal((16, 40))
    assert partners.partners(tiles, tiles)["H&E to IHC"] == {"top1": 1.0, "mrr": 1.0}
    away = partners.partners(tiles, np.roll(tiles, 1, axis=0))
    assert all(found["top1"] == 0 and found["mrr"] < 0.5 for found in away.values())


def test_the_way_back_is_another_search():
    he, ihc = (np.stack([np.cos(turn), np.sin(turn)], axis=1) for turn in ([0.0, 0.3], [0.1, 1.0]))
    found = partners.partners(he, ihc)
    assert found["H&E to IHC"] == {"top1": 0.5, "mrr": 0.75}  # both H&E tiles are nearest to the first of IHC
    assert found["IHC to H&E"] == {"top1": 1.0, "mrr": 1.0}


@pytest.mark.parametrize("tiles", [2, 9, 16])
def test_an_encoder_that_makes_all_tiles_alike_scores_chance(tiles):
    alike = np.ones((tiles, 5))
    for found in partners.partners(alike, alike).values():
        assert found == pytest.approx(partners.chance(tiles))


def test_random_tiles_score_chance_on_average():
    rng = np.random.default_rng(1)
    drawn = [partners.partners(*rng.standard_normal((2, 16, 60)))["H&E to IHC"] for _ in range(400)]
    for measure, expected in partners.chance(16).items():
        assert np.mean([one[measure] for one in drawn]) == pytest.approx(expected, abs=0.01)


def test_sides_of_different_places_are_refused():
    with pytest.raises(InputError, match="same two or more places"):
        partners.partners(np.ones((3, 2)), np.ones((4, 2)))


@pytest.fixture
def found():
    """Two groups of two images; `good` gains .3, .2, .1, .2 over `plain`, one seed each way of its mean."""
    rows = []
    for number, (group, gain) in enumerate(zip("aabb", (0.3, 0.2, 0.1, 0.2), strict=True)):
        told = {"group": group, "image": f"i{number}"}
        rows.append(told | {"arm": "plain", "top1": 0.4})
        rows += [told | {"arm": "good", "top1": 0.4 + gain + off} for off in (-0.05, 0.05)]
    return pd.DataFrame(rows)


def test_a_gain_is_counted_by_images_and_not_by_seeds(found):
    gain = partners.gain(partners.by_image(found, "top1"), "good", "plain")
    assert gain["n"] == 4 and gain["value"] == pytest.approx(0.2) and gain["verdict"] == "higher"
    half = 3.1824 * np.std([0.3, 0.2, 0.1, 0.2], ddof=1) / 2
    assert gain["high"] - gain["value"] == pytest.approx(half, rel=1e-4)
    assert gain["groups"]["n"] == 2 and gain["groups"]["low"] < 0 < gain["groups"]["value"]
    assert partners.gain(partners.by_image(found, "top1"), "plain", "good")["verdict"] == "lower"


def test_an_interval_that_holds_nothing_is_open():
    assert partners.verdict({"low": -0.01, "high": 0.2}) == "open"


def test_an_arm_without_an_image_is_named(found):
    lost = found[(found["arm"] != "good") | (found["image"] != "i2")]
    with pytest.raises(InputError, match="arm good has no value for i2"):
        partners.by_image(lost, "top1")
