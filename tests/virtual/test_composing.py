import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from hsa.errors import InputError
from hsa.virtual.composing import TUMOUR, compose
from hsa.virtual.foci import FOCUS, KINDS, OTHER, PLAIN, FocalRecipe, index_of, specimens, tile_shares
from hsa.virtual.recipe import HE, photograph, section_truth

TILES, SHARE = 60, 0.1


@pytest.fixture(scope="module")
def bank():
    """Specimens of 8 x 8 tiles, three of four of which hold tumour."""
    rng, rows = np.random.default_rng(0), []
    for one in specimens(3, 2, 6):
        for place in range(64):
            tumour = rng.random() if place % 4 else 0.0
            told = {"specimen": one.number, "part": one.part, "lab": one.lab}
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


def test_a_focus_lies_in_tumour_and_tells_nothing_of_the_label_by_its_place(bank, cases):
    for case in cases:
        assert (bank.iloc[case.rows[case.focus]]["tumour"] > TUMOUR).all()
        assert case.focus.sum() == SHARE * TILES
        assert len(case.rows) == TILES == len(np.unique(case.coords, axis=0)) == len(np.unique(case.rows))
    told = pd.DataFrame(
        [(c.label, bank.iloc[c.rows]["tumour"].mean(), bank.iloc[c.rows[c.focus]]["tumour"].mean()) for c in cases]
    ).groupby(0)
    assert (told.mean().diff().iloc[1].abs() < 3 * np.sqrt((told.var() / 60).sum())).all()


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
    with pytest.raises(InputError, match=r"0 specimens of 100 tiles"):
        compose(bank, 10, 400, SHARE, seed=0)
    with pytest.raises(InputError, match="without tumour, where no focus can lie"):
        compose(bank.assign(tumour=0.0), 10, TILES, SHARE, seed=0)


def test_a_focus_raises_the_latents_of_its_programme_and_no_other():
    plain, moved = FocalRecipe(512, 0.0, 5, "P53", 2.0).case(0), {}
    for kind in KINDS:
        after = FocalRecipe(512, 0.0, 5, "P53", 2.0, kind).case(0)
        moved[kind] = {k: after.latents[k] - v for k, v in plain.latents.items() if after.latents[k] != v}
        assert (after.fractions["P53"] > 0.6) == (kind == FOCUS)
    assert moved[PLAIN] == {}
    assert moved[FOCUS] == pytest.approx({"pleomorphism": 2.0, "nuclear_size": 2 / 1.2, "nucleoli": 2.0})
    assert moved[OTHER]
    assert not set(moved[OTHER]) & set(moved[FOCUS])


@pytest.mark.parametrize("stain", [HE, "P53"])
def test_however_it_is_painted_a_specimen_has_the_same_tissue_and_stains_so_that_no_seam_shows(stain):
    one, pictures, layouts = specimens(1, 1, 1)[0], {}, {}
    for kind in KINDS:
        recipe = FocalRecipe(512, 0.0, 5, "P53", 2.0, kind)
        truth = section_truth(recipe, index_of(one), stain)
        layouts[kind], tumour = truth.section.fields, np.kron(truth.tumour, np.ones((4, 4), bool))[:512, :512]
        pictures[kind] = photograph(recipe, index_of(one), stain, truth, recipe.batch(one, stain)).astype(float)
    far = ~ndimage.binary_dilation(tumour, iterations=24)
    assert far.any()
    for kind in (FOCUS, OTHER):
        np.testing.assert_array_equal(layouts[kind], layouts[PLAIN])
        change = np.abs(pictures[kind] - pictures[PLAIN]).mean(axis=2)
        assert change[tumour].mean() > 2 * change[far].mean(), kind


def test_a_marker_that_moves_the_tissue_is_refused_and_the_others_are_named():
    FocalRecipe(512, 0.0, 5, "Ki-67").check()
    with pytest.raises(InputError, match=r"PD-L1 changes how the tissue is laid out.*can have Ki-67 or P53"):
        FocalRecipe(512, 0.0, 5, "PD-L1").check()


def test_specimens_of_a_laboratory_share_stains_and_are_patients_of_their_own():
    listed, recipe = specimens(2, 2, 3), FocalRecipe(512, 0.0, 5, "P53", 2.0)
    for one in listed:
        same = np.array_equal(recipe.batch(one, "HE").vectors, recipe.batch(listed[0], "HE").vectors)
        assert same == (one.lab == 0)
    assert len({index_of(one) for one in listed}) == len(listed)


def test_the_share_of_each_tile_is_its_own():
    picture = np.zeros((8, 8))
    picture[:4, 4:] = 1
    picture[4:6, :2] = 1
    assert tile_shares(picture, 2).tolist() == [0, 1, 0.25, 0]
