import numpy as np
import pandas as pd
import pytest

from hsa.errors import InputError
from hsa.virtual.composing import TUMOUR, compose
from hsa.virtual.foci import FocalRecipe, Specimen, index_of, specimens, tile_shares

TILES, SHARE = 60, 0.1


@pytest.fixture(scope="module")
def bank():
    """Specimens of 8 x 8 tiles, three of four of which hold tumour."""
    rng, rows = np.random.default_rng(0), []
    for one in specimens(3, 2, {"background": 6, "focus": 3, "other": 3}):
        for place in range(64):
            tumour = rng.random() if place % 4 else 0.0
            told = {"specimen": one.number, "part": one.part, "lab": one.lab, "kind": one.kind, "in_bag": place}
            rows.append(told | {"column": place % 8, "row": place // 8, "tumour": tumour})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def cases(bank):
    return compose(bank, 120, TILES, SHARE, seed=3)


def test_no_specimen_serves_two_parts_or_laboratories(bank, cases):
    for case in cases:
        own = bank.iloc[case.rows]
        assert set(own["part"]) == {case.part}
        assert set(own["lab"]) == {case.lab}


def test_labels_are_dealt_evenly_in_each_part_and_laboratory(cases):
    table = pd.DataFrame([(case.part, case.lab, case.label) for case in cases])
    assert table.groupby([0, 1])[2].mean().eq(0.5).all()


def test_positive_cases_have_the_focus_of_the_marker_and_negative_ones_another(bank, cases):
    for case in cases:
        kinds = bank.iloc[case.rows]["kind"].to_numpy()
        assert set(kinds[case.focus]) == {"focus" if case.label else "other"}
        assert set(kinds[~case.focus]) == {"background"}
        assert case.focus.sum() == SHARE * TILES
        assert len(case.rows) == TILES == len(np.unique(case.coords, axis=0))


def test_a_focus_takes_the_place_of_tumour_and_is_tumour(bank, cases):
    for case in cases:
        assert (bank.iloc[case.rows[case.focus]]["tumour"] > TUMOUR).all()
    share = pd.DataFrame([(case.label, bank.iloc[case.rows]["tumour"].mean()) for case in cases]).groupby(0)[1]
    assert abs(share.mean().diff().iloc[1]) < 2 * np.sqrt((share.var() / share.size()).sum())


def test_a_focus_is_a_patch(cases):
    for case in cases:
        x, y = (case.coords[case.focus] // 256).T
        other = case.coords[~case.focus] // 256
        assert (
            np.hypot(*(case.coords[case.focus] // 256 - [x.mean(), y.mean()]).T).mean()
            < np.hypot(*(other - [x.mean(), y.mean()]).T).mean()
        )


def test_places_tell_nothing_of_the_label(cases):
    rows = pd.DataFrame([(c.label, *c.coords.mean(axis=0), *c.coords[c.focus].mean(axis=0)) for c in cases])
    groups = rows.groupby(0)
    error = np.sqrt((groups.var() / 60).sum())
    assert (groups.mean().diff().iloc[1].abs() < 3 * error).all()


def test_a_case_is_the_same_however_many_there_are_and_another_with_another_seed(bank, cases):
    fewer, other = (compose(bank, 30, TILES, SHARE, seed) for seed in (3, 4))
    assert all((a.rows == b.rows).all() and (a.coords == b.coords).all() for a, b in zip(fewer, cases, strict=False))
    assert any((a.rows != b.rows).any() for a, b in zip(fewer, other, strict=True))


def test_a_larger_share_changes_the_focus_alone(bank, cases):
    wider = compose(bank, 30, TILES, 0.3, seed=3)
    for few, many in zip(cases, wider, strict=False):
        assert few.focus.sum() == 6
        assert many.focus.sum() == 18
        assert many.focus[few.focus].all()
        outside = ~few.focus & ~many.focus
        assert (few.rows[outside] == many.rows[outside]).all()


def test_a_bank_that_is_too_small_says_so(bank):
    with pytest.raises(InputError, match=r"0 background specimens of 100 tiles"):
        compose(bank, 10, 400, SHARE, seed=0)
    few = bank[(bank["kind"] == "background") | (bank["in_bag"] < 4)].reset_index(drop=True)
    with pytest.raises(InputError, match=r"\d tumour tiles of a focus .* and \d+ are needed"):
        compose(few, 10, 60, 0.5, seed=0)


def test_a_focus_raises_the_latents_of_its_programme_and_no_other():
    listed = tuple(specimens(1, 1, {"background": 1, "focus": 1, "other": 1}))
    plain, raised = (FocalRecipe(512, 0.0, 5, "P53", shift, listed) for shift in (0.0, 2.0))
    moved = {}
    for one in listed:
        before, after = plain.case(index_of(one)), raised.case(index_of(one))
        moved[one.kind] = {k: after.latents[k] - v for k, v in before.latents.items() if after.latents[k] != v}
        assert (after.fractions["P53"] > 0.6) == (one.kind == "focus")
    assert moved["background"] == {}
    assert moved["focus"] == pytest.approx({"pleomorphism": 2.0, "nuclear_size": 2 / 1.2, "nucleoli": 2.0})
    assert moved["other"]
    assert not set(moved["other"]) & set(moved["focus"])


def test_specimens_of_a_laboratory_share_stains_and_are_patients_of_their_own():
    listed = specimens(2, 2, {"background": 2, "focus": 1, "other": 1})
    recipe = FocalRecipe(512, 0.0, 5, "P53", 2.0, tuple(listed))
    first = Specimen(0, 0, 0, "background")
    for one in listed:
        same = np.array_equal(recipe.batch(one, "HE").vectors, recipe.batch(first, "HE").vectors)
        assert same == (one.lab == 0)
    assert len({index_of(one) for one in listed}) == len(listed)


def test_the_share_of_each_tile_is_its_own():
    picture = np.zeros((8, 8))
    picture[:4, 4:] = 1
    picture[4:6, :2] = 1
    assert tile_shares(picture, 2).tolist() == [0, 1, 0.25, 0]
