import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hsa.errors import InputError
from hsa.reporting import figures
from hsa.reporting.figures.heat import IMPORTANCE

SLIDE = np.full((100, 200, 3), (200, 120, 180), np.uint8)
COORDS = np.array([[0, 0], [256, 0], [512, 256]])


@pytest.fixture
def ax():
    figures.use_style()
    fig, ax = figures.panels(height=3)
    yield ax
    plt.close(fig)


def overlay(ax, importance, **more):
    return figures.heat_overlay(ax, SLIDE, COORDS, importance, 256, 2.0, 0.5, **more)


def test_tiles_lie_where_they_were_cut(ax):
    overlay(ax, [1.0, -2.0, 0.0])
    boxes = [path.get_extents() for path in ax.collections[0].get_paths()]
    np.testing.assert_allclose([b.min for b in boxes], COORDS / 4 - 0.5)
    np.testing.assert_allclose([b.size for b in boxes], 64)
    assert ax.get_xlim() == (-0.5, 199.5) and ax.get_ylim() == (99.5, -0.5)


def test_colour_is_centred_on_zero_and_strength_shows(ax):
    overlay(ax, [1.0, -2.0, 0.0])
    ax.figure.canvas.draw()
    strong, weak, none = ax.collections[0].get_facecolors()[[1, 0, 2]]
    np.testing.assert_allclose(strong[:3], IMPORTANCE(0.0)[:3])
    np.testing.assert_allclose(weak[:3], IMPORTANCE(0.75)[:3], atol=0.01)
    assert strong[3] > weak[3] > none[3] == 0


def test_one_limit_makes_slides_comparable(ax):
    overlay(ax, [1.0, -2.0, 0.0], limit=1.0)
    assert ax.collections[0].get_clim() == (-1, 1)
    bar = figures.heat_bar(ax, 1.0)
    assert bar.get_ylim() == (-1, 1) and len(ax.figure.axes) == 2
    bar = figures.heat_bar(ax, 1.0, classes=("below 2+", "2+ and above"))
    assert [text.get_text() for text in bar.texts] == ["for below 2+", "for 2+ and above"]


@pytest.mark.parametrize("shape", [(100, 200), (200, 100), (60, 300)])
@pytest.mark.parametrize(
    "classes", [("wild-type", "aberrant"), ("no amplification of it", "amplified, 6 copies or more")]
)
def test_names_at_the_bar_end_on_the_page(shape, classes):
    figures.use_style()
    fig, axes = figures.panels(1, 2, height=1.1 + 3 * shape[0] / shape[1])
    figures.heat_overlay(axes[1], np.full((*shape, 3), 200, np.uint8), COORDS, [1.0, -2, 0], 256, 2.0, 0.5)
    bar = figures.heat_bar(axes[1], 2.0, classes=classes)
    fig.canvas.draw()
    for text in (*bar.texts, bar.yaxis.label):
        box = text.get_window_extent()
        assert fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1, text.get_text()
        assert fig.bbox.y0 <= box.y0 and box.y1 <= fig.bbox.y1, text.get_text()
    plt.close(fig)


def test_a_map_without_importance_is_drawn_and_a_broken_one_refused(ax):
    overlay(ax, np.zeros(3))
    with pytest.raises(InputError, match="for 3 tiles"):
        overlay(ax, [1.0, 2.0])
    with pytest.raises(InputError, match="finite"):
        overlay(ax, [1.0, np.nan, 0])


def test_the_true_tumour_is_outlined_at_any_resolution(ax):
    tumour = np.zeros((50, 100), bool)
    tumour[10:30, 20:60] = True
    before = len(overlay(ax, [1.0, 0, 0]).collections)
    overlay(ax, [1.0, 0, 0], tumour=tumour)
    lines = ax.collections[before + 1 :]
    assert len(lines) == 2
    for line in lines:
        box = line.get_paths()[0].get_extents()
        np.testing.assert_allclose([box.x0, box.x1, box.y0, box.y1], [39.5, 119.5, 19.5, 59.5], atol=1.5)
    count = len(ax.collections)
    overlay(ax, [1.0, 0, 0], tumour=np.zeros((50, 100), bool))
    assert len(ax.collections) == count + 1  # the tiles only
