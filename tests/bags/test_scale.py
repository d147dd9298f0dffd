import numpy as np
import pytest

from hsa.bags.scale import check_scale
from hsa.errors import InputError

GRID_OF_100 = np.stack([np.arange(100) % 10, np.arange(100) // 10], 1) * 512
BIOPSY = np.stack([np.arange(40), np.zeros(40, int)], 1) * 512


@pytest.mark.parametrize(
    "coords", [GRID_OF_100, GRID_OF_100[:1], BIOPSY, BIOPSY + 300, GRID_OF_100 * 99, BIOPSY * 7 // 8]
)
def test_check_scale_takes_tiles_with_a_cell_each(coords):
    check_scale(coords, 512, "slide", grid=1000)


@pytest.mark.parametrize(
    ("coords", "told"),
    [
        (GRID_OF_100 // 2, "100 tiles fall into 25 grid cells of 512 px.* 256 apart, expected 512"),  # um at 0.5
        (GRID_OF_100 // 4, "100 tiles fall into 9 grid cells.* 128 apart"),
        (GRID_OF_100 // 16, "100 tiles fall into 1 grid cells.* 32 apart"),  # px of level 2
        (GRID_OF_100 // 512, "100 tiles fall into 1 grid cells.* 1 apart"),  # tile numbers
        (GRID_OF_100 * 0, "all stand at one place"),
        (BIOPSY // 2, "40 tiles fall into 20 grid cells"),
        (BIOPSY[:2] // 2, "2 tiles fall into 1 grid cells"),
        (GRID_OF_100 * 128, r"a tile lies at \(524288, 0\), expected 0 to 512000"),
        (GRID_OF_100 - 512, r"a tile lies at \(-512, -512\), expected 0 to"),
    ],
)
def test_check_scale_refuses_another_scale(coords, told):
    with pytest.raises(InputError, match=f"slide: .*{told}"):
        check_scale(coords, 512, "slide", grid=1000)


def test_without_a_grid_a_slide_may_be_of_any_size_but_begins_at_its_corner():
    check_scale(GRID_OF_100 * 128, 512, "slide")
    with pytest.raises(InputError, match="expected 0 or more"):
        check_scale(GRID_OF_100 - 512, 512, "slide")
