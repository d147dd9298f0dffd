import numpy as np
import pytest

from hsa.errors import InputError
from hsa.virtual.cells import is_tumour
from hsa.virtual.foci import FOCUS, OTHER, PLAIN, FocalRecipe, specimens
from hsa.virtual.recipe import HE
from hsa.virtual.whole import paint, patch

RECIPE, ONE = FocalRecipe(512, 0.0, 5, "P53", 2.0), specimens(1, 1, 1)[0]


@pytest.fixture(scope="module")
def sections():
    pairs = [(stain, kind) for stain in (HE, "P53") for kind in (PLAIN, FOCUS, OTHER)]
    return {(stain, kind): paint(RECIPE, ONE, stain, 0.3, kind) for stain, kind in pairs}


def far_and_near(whole):
    """Masks of the picture: well outside the patch, and inside it."""
    side = whole.picture.shape[0]
    near = np.kron(whole.focus, np.ones((side // len(whole.focus),) * 2, bool))[:side, :side]
    y, x = np.indices(near.shape)
    rim = np.argwhere(near)
    inside = (y >= rim[:, 0].min() - 30) & (y <= rim[:, 0].max() + 30)
    return ~(inside & (x >= rim[:, 1].min() - 30) & (x <= rim[:, 1].max() + 30)), near


@pytest.mark.parametrize("stain", [HE, "P53"])
@pytest.mark.parametrize("kind", [FOCUS, OTHER])
def test_only_the_patch_is_painted_otherwise(sections, stain, kind):
    plain, changed = sections[stain, PLAIN], sections[stain, kind]
    np.testing.assert_array_equal(plain.focus, changed.focus)
    far, near = far_and_near(changed)
    moved = np.abs(changed.picture.astype(int) - plain.picture).sum(axis=2)
    # The amounts of stain of an H&E section are levelled as a whole, so that a darker patch pales the rest a little.
    assert moved[near].mean() > (3 if stain == HE else 10) * moved[far].mean()


def test_what_stains_is_the_patch_of_the_marker(sections):
    plain, focus, other = (sections["P53", kind].truth.fraction for kind in (PLAIN, FOCUS, OTHER))
    assert plain < 0.45
    assert abs(other - plain) < 0.1
    assert focus > plain + 0.1
    cells = sections["P53", FOCUS].truth
    y, x = (np.clip((cells.cells[a] * len(sections["P53", FOCUS].focus) / 512).astype(int), 0, None) for a in "yx")
    inside = sections["P53", FOCUS].focus[np.minimum(y, 127), np.minimum(x, 127)]
    tumour = is_tumour(cells.cells)
    positive = cells.cells["dab"] > 0
    assert positive[tumour & inside].mean() > 0.75 > 0.5 > positive[tumour & ~inside].mean()
    assert np.isnan(sections[HE, FOCUS].truth.fraction)


@pytest.mark.parametrize("specimen", range(4))
def test_both_sections_of_a_specimen_have_the_patch_at_one_place(specimen):
    one = specimens(1, 1, 4)[specimen]
    places = [np.argwhere(paint(RECIPE, one, stain, 0.2).focus).mean(0) for stain in (HE, "P53")]
    assert np.hypot(*np.subtract(*places)) < 20, "80 px of 512: a turn, a shift, and what the edge cuts off"


def test_the_shares_of_positive_cells_are_those_of_the_patch_and_of_the_rest(sections):
    whole = sections["P53", FOCUS]
    there, elsewhere = whole.positive_shares
    assert there > 0.75 > 0.5 > elsewhere
    cells = whole.truth.cells[is_tumour(whole.truth.cells)]
    y, x = ((cells[axis] * len(whole.focus) / 512).astype(int).clip(0, len(whole.focus) - 1) for axis in "yx")
    share = whole.focus[y, x].mean()
    assert share * there + (1 - share) * elsewhere == pytest.approx(whole.truth.fraction)


def test_the_patch_holds_the_share_of_the_tumour_that_is_asked_for():
    y, x = np.indices((60, 60))
    tumour = np.hypot(y - 30, x - 30) < 25
    for share in (0.1, 0.5, 1.0):
        found = patch(tumour, share, (20.0, 35.0))
        assert (found & tumour).sum() / tumour.sum() == pytest.approx(share, abs=0.03)
    with pytest.raises(InputError, match="no tumour in which a focus could lie"):
        patch(np.zeros((9, 9), bool), 0.2, (4.0, 4.0))
