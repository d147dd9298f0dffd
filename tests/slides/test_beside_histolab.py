import pytest

from hsa.slides.beside_histolab import beside_histolab
from hsa.slides.examples import real_slides

pytest.importorskip("histolab")


def test_histolab_reads_the_same_pixels_at_our_corners_and_tiles_with_our_mask(tmp_path):
    path, mpp = real_slides(tmp_path)["HE"]
    table = beside_histolab(path, mpp, 256, 0.5).set_index("way")
    ours = table.loc["hsa"]
    assert ours["tiles"] > 20
    assert table.loc["histolab, our corners", "same"] == ours["tiles"]
    tilers = table[table.index.str.contains("Tiler")]
    assert len(tilers) == 2
    assert tilers["tiles"].between(0.5 * ours["tiles"], 1.5 * ours["tiles"]).all()
    assert (table["seconds"] > 0).all()


def test_a_slide_whose_resolution_is_given_by_hand_can_be_compared_too(make_slide):
    table = beside_histolab(make_slide(mpp=None, covered=0.9), 0.5, 256, 0.5).set_index("way")
    read = table.loc["histolab, our corners"]
    assert 0 < read["same"] == read["tiles"] < table.loc["hsa", "tiles"]  # it gives none at the far edges
