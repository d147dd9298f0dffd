import json

import matplotlib

matplotlib.use("Agg")

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.image import imread
from sklearn.metrics import roc_auc_score

from hsa.errors import InputError
from hsa.evaluation import categories
from hsa.evaluation.calibration import reliability_bins
from hsa.reporting import figures
from hsa.reporting.figures import style
from hsa.study.settings import Marker


@pytest.fixture
def ax():
    figures.use_style()
    fig, ax = figures.panels(height=3)
    yield ax
    plt.close(fig)


def predictions(cases=80, gap=1.5, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(cases) % 2)
    score = 1 / (1 + np.exp(-(gap * (label - 0.5) + rng.standard_normal(cases))))
    case = [f"c{i}" for i in range(cases)]
    frame = pd.DataFrame({"case_id": case, "patient_id": case, "fold": 0, "label": label, "score": score})
    return frame.assign(pred=(score > 0.5).astype(int))


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def check_texts(fig):
    """No text below 9 pt, none cut off by the edge of the figure."""
    fig.canvas.draw()
    texts = [text for text in fig.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in texts) >= 9
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1, text.get_text()


def written(ax):
    return [text.get_text() for text in ax.texts]


def test_label_balance_counts_each_class_and_the_unlabelled(ax):
    labels = pd.DataFrame({"P53": [0, 0, 1, 1.0], "HER2": [0, 2, 2, np.nan]})
    her2 = Marker(classes=["0", "low expression", "3+"], positive_from="low expression")
    figures.label_balance(ax, labels, {"P53": Marker(negative="wild-type", positive="aberrant"), "HER2": her2})
    assert [bar.get_width() for bar in ax.patches] == [2, 2, 0, 1, 0, 2, 1]
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "P53\nwild-type, aberrant",
        "HER2\n0, low\N{NO-BREAK SPACE}expression, 3+",
    ]
    assert legend(ax) == ["negative", "positive", "no label"]
    assert [text for text in written(ax) if text] == ["2", "2", "1", "2", "1"]
    fills = [to_hex(bar.get_facecolor()) for bar in ax.patches]
    negative, positive = (style.CLASSES[k].lower() for k in (0, 1))
    assert fills[:2] == [negative, positive] and fills[3] == negative and fills[5] == positive


def test_shades_of_classes_differ_and_pale_towards_what_divides_them():
    def redness(fill):
        return to_rgba(fill)[0] - to_rgba(fill)[1]

    shades = style.class_colours(5, 2)
    assert len(set(shades)) == 5
    assert [redness(shade) > 0 for shade in shades] == [False, False, True, True, True]
    assert redness(shades[0]) < redness(shades[1]) and redness(shades[2]) < redness(shades[3]) < redness(shades[4])


def test_fold_map_orders_cases_by_their_test_fold(ax):
    folds = pd.DataFrame({"case_id": list("abc") * 3, "fold": np.repeat([0, 1, 2], 3)})
    folds["split"] = ["train", "test", "val", "val", "train", "test", "test", "val", "train"]
    figures.fold_map(ax, folds)
    cells = ax.collections[0].get_array().reshape(3, 3)
    np.testing.assert_array_equal(cells, [[2, 1, 0], [0, 2, 1], [1, 0, 2]])  # cases b, c, a
    assert legend(ax) == ["train", "val", "test"]


def test_loss_curves_draw_each_fold_the_mean_and_the_chosen_epoch(ax):
    rows = [(f, e, s, v + f) for f in (0, 1) for e, v in enumerate((5, 2, 3)) for s in ("train", "val")]
    figures.loss_curves(ax, pd.DataFrame(rows, columns=["fold", "epoch", "split", "total"]))
    assert len(ax.lines) == 2 * (2 + 1) + 1
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), [5.5, 2.5, 3.5])
    np.testing.assert_array_equal(ax.lines[-1].get_xydata(), [[1, 2], [1, 3]])
    assert legend(ax) == ["train", "validation", "chosen epoch of a fold"]


@pytest.mark.parametrize("loss", ["total", "classification", "info_nce", "intra_modality"])
def test_the_dot_of_every_loss_stands_at_the_epoch_that_the_fold_kept(loss):
    rng = np.random.default_rng(3)
    rows = [{"fold": f, "epoch": e, "split": s} for f in range(5) for s in ("train", "val") for e in range(9)]
    history = pd.DataFrame(rows, index=np.repeat([7, 8], len(rows) // 2))  # an index that repeats, as after a concat
    history[["classification", "info_nce", "intra_modality"]] = rng.random((len(rows), 3))
    history["total"] = history[["classification", "info_nce", "intra_modality"]].sum(axis=1)
    validation = history[history["split"] == "val"].reset_index(drop=True)
    kept = validation.loc[validation.groupby("fold")["total"].idxmin()]
    assert (kept["epoch"] != validation.loc[validation.groupby("fold")["classification"].idxmin(), "epoch"].array).any()
    dots = figures.loss_curves(figures.panels()[1], history.sample(frac=1, random_state=0), loss).lines[-1]
    np.testing.assert_array_equal(dots.get_xydata(), kept[["epoch", loss]])


def test_roc_draws_the_curve_whose_area_is_the_auc(ax):
    methods = {"classification_only": predictions(gap=0.8), "full": predictions()}
    interval = {"full": {"value": 0.8, "low": 0.7, "high": 0.9}}
    figures.roc(ax, methods, {"full": "Full"}, interval)
    assert len(ax.lines) == 3
    x, y = ax.lines[2].get_data()
    auc = roc_auc_score(methods["full"]["label"], methods["full"]["score"])
    assert np.trapezoid(y, x) == pytest.approx(auc)
    assert to_hex(ax.lines[2].get_color()) == style.METHODS["full"].lower()
    first = roc_auc_score(methods["classification_only"]["label"], methods["classification_only"]["score"])
    assert legend(ax) == [f"classification_only\n{first:.3f}", "Full\n0.800 [0.700, 0.900]"]


def test_confusion_writes_cases_and_share_of_the_true_class(ax):
    frame = predictions(cases=8).assign(label=[0, 0, 0, 0, 1, 1, 1, 1], pred=[0, 0, 0, 1, 1, 1, 0, 0])
    figures.confusion(ax, categories.confusion(frame, ["wild-type", "aberrant"]))
    assert written(ax) == ["3\n75%", "1\n25%", "2\n50%", "2\n50%"]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[0.75, 0.25], [0.5, 0.5]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [text.get_text() for text in labels] == ["wild-type", "aberrant"]
    assert not ax.lines


def test_confusion_of_ordered_classes_parts_the_positive_ones(ax):
    counts = pd.DataFrame([[3.5, 0.5, 0], [1, 2, 1], [0, 0, 0]], index=list("abc"), columns=list("abc"))
    figures.confusion(ax, counts, first_positive=2)
    assert written(ax)[:3] == ["3.5\n88%", "0.5\n12%", "0.0\n0%"]
    assert written(ax)[6:] == ["0.0\n0%"] * 3
    assert [line.get_ydata()[0] for line in ax.lines[:1]] == [1.5] and ax.lines[1].get_xdata()[0] == 1.5


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_confusion_is_readable_with_long_names(count):
    figures.use_style()
    names = ["not interpretable", "borderline", "low expression", "intermediate", "strongly positive"][:count]
    counts = pd.DataFrame(np.full((count, count), 100.5), index=names, columns=names)
    fig, axes = figures.panels(1, 2, height=3.4 if count < 4 else 4.6, sharey=True)
    for ax in axes:
        figures.confusion(ax, counts)
        ax.set_title("HistoStainAlign (full)")
    check_texts(fig)
    for ax in axes:
        cell = ax.get_window_extent().width / count
        assert all(text.get_window_extent().width < cell for text in (*ax.texts, *ax.get_xticklabels()))
        assert all(text.get_window_extent().height < cell for text in ax.texts)


def test_forest_shows_every_method_and_the_published_value(ax):
    table = pd.DataFrame({"method": ["full", "no_mask"], "value": [0.7, 0.6], "low": [0.6, 0.5], "high": [0.8, 0.7]})
    figures.forest(ax, table, (0.735, 0.670, 0.799), {"full": "Full"}, label="weighted F1")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Full", "no_mask", "published"]
    assert written(ax) == ["0.700 [0.600, 0.800]", "0.600 [0.500, 0.700]", "0.735 [0.670, 0.799]"]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0.6, 0.8])
    assert len(ax.patches) == 1
    assert ax.get_xlabel() == "weighted F1 (95 % CI)"


def test_forest_of_differences_has_signs_and_a_line_at_zero_and_no_published_row(ax):
    table = pd.DataFrame({"method": ["full"], "value": [0.02], "low": [-0.01], "high": [0.05]})
    figures.forest(ax, table, reference=0)
    assert written(ax) == ["+0.020 [\N{MINUS SIGN}0.010, +0.050]"]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 0])
    assert len(ax.get_yticks()) == 1 and not ax.patches


def test_reliability_draws_the_bins(ax):
    frame = predictions()
    figures.reliability(ax, frame, bins=4)
    table = reliability_bins(frame, 4)
    np.testing.assert_allclose(ax.containers[0].lines[0].get_xydata(), table[["predicted", "observed"]])
    bars = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], table[["low", "high"]])
    assert "perfect calibration" in legend(ax)
    assert ax.get_xlabel() == "predicted probability of positive"
    figures.reliability(ax, frame, bins=4, positive="aberrant")
    assert ax.get_xlabel() == "predicted probability of aberrant"


def test_paired_shuffled_draws_two_halves_and_means_for_each_method(ax):
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"method": m, "case_id": range(30), "paired": rng.normal(c, 0.1, 30), "shuffled": 0.1})
        for m, c in (("classification_only", 0.3), ("full", 0.6))
    ]
    similar = pd.concat(parts)
    similar["shuffled"] += rng.normal(0, 0.05, len(similar))
    figures.paired_shuffled(ax, similar, {"full": "Full"})
    assert len(ax.collections) == 4
    means = similar.groupby("method")[["paired", "shuffled"]].mean().to_numpy().ravel()
    np.testing.assert_allclose([line.get_ydata()[0] for line in ax.lines], means)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["classification_only", "Full"]


def test_names_of_five_methods_stand_apart():
    fig, ax = figures.panels(height=3.6)
    titles = {"mean": "Mean-pooled tiles", "untrained": "Untrained slide encoder", "base": "Classification only"}
    titles |= {"info": "Contrastive only", "full": "HistoStainAlign (full)"}
    similar = pd.DataFrame({"method": list(titles) * 3, "case_id": range(15), "paired": 0.5, "shuffled": 0.1})
    figures.paired_shuffled(ax, similar.assign(paired=np.linspace(0.4, 0.6, 15)), titles)
    fig.canvas.draw()
    places = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(places))
    plt.close(fig)


def test_recall_bars_show_chance_and_refuse_to_mix_directions(ax):
    rows = [(d, k, k / 20, k / 30, k / 15, k / 24) for d in ("H&E to IHC", "IHC to H&E") for k in (1, 5)]
    table = pd.DataFrame(rows, columns=["direction", "k", "recall", "low", "high", "chance"])
    figures.recall_bars(ax, table)
    assert [bar.get_height() for bar in ax.patches] == [0.05, 0.25, 0.05, 0.25]
    assert [line.get_ydata()[0] for line in ax.lines] == [1 / 24, 5 / 24]
    assert legend(ax) == ["H&E to IHC", "IHC to H&E", "chance"]
    with pytest.raises(ValueError, match="choose one direction"):
        figures.recall_bars(ax, table.assign(method="full"))


@pytest.mark.parametrize(
    ("hue", "names"), [("label", ["negative", "positive", "H&E", "IHC"]), ("stain", ["H&E", "IHC"])]
)
def test_umap_scatter_links_the_two_slides_of_each_test_case(ax, hue, names):
    rng = np.random.default_rng(0)
    case = np.tile([f"c{i}" for i in range(10)], 2)
    placed = pd.DataFrame({"case_id": case, "stain": np.repeat(["HE", "P53"], 10), "label": np.tile([0, 1], 10)})
    placed["slide_id"] = placed["case_id"] + placed["stain"]
    placed["split"] = np.where(np.isin(case, ["c0", "c1", "c2"]), "test", "train")
    placed[["umap1", "umap2"]] = rng.standard_normal((20, 2))
    figures.umap_scatter(ax, placed, hue, trust=0.913)
    links, *points = ax.collections
    assert len(links.get_segments()) == 3
    np.testing.assert_allclose(links.get_segments()[1], placed.loc[[1, 11], ["umap1", "umap2"]])
    assert [len(p.get_offsets()) for p in points] == [7, 3, 7, 3]  # H&E not test, test; IHC not test, test
    wanted = style.CLASSES[0] if hue == "label" else style.STAINS["HE"]
    np.testing.assert_allclose(points[1].get_facecolors()[0], to_rgba(wanted))
    assert legend(ax) == [*names, "not test", "one test case"]
    assert written(ax) == ["trustworthiness 0.91"]
    ax.clear()
    figures.umap_scatter(ax, placed.assign(label=placed["label"].where(placed["case_id"] != "c1", -1)), hue)
    assert legend(ax) == [*names[:2], *["no label"] * (hue == "label"), *names[2:], "not test", "one test case"]


def test_umap_scatter_names_the_classes_and_shows_slides_without_a_label(ax):
    placed = pd.DataFrame({"case_id": list("abc"), "stain": "HE", "label": [0, 1, -1], "split": "test"})
    placed = placed.assign(umap1=[0.0, 1, 2], umap2=0.0)
    figures.umap_scatter(ax, placed, links=False, classes=("below 2+", "2+ and above"))
    assert legend(ax) == ["below 2+", "2+ and above", "no label", "H&E", "IHC"]
    np.testing.assert_allclose(ax.collections[1].get_facecolors()[2], to_rgba(style.FAINT))


def test_overlay_dims_glass_only_and_outlines_the_tissue(ax):
    thumbnail = np.full((40, 60, 3), 200, np.uint8)
    mask = np.zeros((20, 30), bool)  # coarser than the picture, same area
    mask[5:15, 5:15] = True
    figures.overlay(ax, thumbnail, mask, mpp=8.0)
    veil = ax.images[1]
    np.testing.assert_array_equal(veil.get_array()[..., 3] == 0, mask)
    assert veil.get_extent() == [-0.5, 59.5, 39.5, -0.5]
    outline = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    np.testing.assert_allclose(outline.min(axis=0), [9.5, 9.5], atol=1.1)
    np.testing.assert_allclose(outline.max(axis=0), [29.5, 29.5], atol=1.1)
    assert written(ax) == ["100 \N{MICRO SIGN}m"]
    np.testing.assert_allclose(np.ptp(ax.lines[0].get_xdata()), 100 / 8)


def test_tile_strip_puts_tiles_in_reading_order_with_a_scale_bar(ax):
    tiles = np.stack([np.full((48, 48, 3), 10 * i, np.uint8) for i in range(5)])
    figures.tile_strip(ax, tiles, mpp=0.5, columns=3)
    sheet = ax.images[0].get_array()
    assert sheet.shape == (2 * 48 + 2, 3 * 48 + 4, 3)
    assert [sheet[0, 0, 0], sheet[0, 50, 0], sheet[0, 100, 0], sheet[50, 0, 0], sheet[50, 50, 0]] == [0, 10, 20, 30, 40]
    assert (sheet[50:, 100:] == 255).all() and (sheet[48:50] == 255).all()
    assert written(ax) == ["5 \N{MICRO SIGN}m"]
    assert np.ptp(ax.lines[0].get_xdata()) == 10
    with pytest.raises(InputError, match="no tiles"):
        figures.tile_strip(ax, tiles[:0], mpp=0.5)


def test_section_pair_names_both_stains():
    fig, axes = figures.panels(1, 2)
    he, ihc = np.zeros((20, 400, 3), np.uint8), np.full((30, 400, 3), 9, np.uint8)
    figures.section_pair(axes, he, ihc, "Ki-67", mpp=8.0)
    assert [ax.get_title(loc="left") for ax in axes] == ["H&E", "Ki-67"]
    assert [ax.images[0].get_array().shape[0] for ax in axes] == [20, 30]
    assert written(axes[0]) == ["1 mm"] and written(axes[1]) == []
    plt.close(fig)


def test_colours_are_distinct_and_stay_with_their_method():
    known = list(style.METHODS)
    assert len({figures.colour(name) for name in known}) == len(known)
    mine = ["full", "no_mask", "no_classification"]
    assert figures.colour("full", mine) == figures.colour("full")
    assert len({figures.colour(name, mine) for name in mine}) == 3


def test_save_writes_picture_data_and_provenance(ax, tmp_path):
    ax.plot([0, 1])
    data = pd.DataFrame({"x": [0, 1], "y": [0.0, 1.0]})
    made = {"study": "virtual", "seed": 1}
    figures.save(ax.figure, tmp_path / "deep" / "roc.png", data, made, svg=True)
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["roc.csv", "roc.png", "roc.svg"]
    assert imread(tmp_path / "deep" / "roc.png").shape == (600, 1400, 4)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "deep" / "roc.csv"), data)
    assert json.dumps(made, sort_keys=True).encode() in (tmp_path / "deep" / "roc.png").read_bytes()


def test_saving_twice_gives_the_same_bytes(ax, tmp_path):
    ax.plot([0, 1], label="a line")
    ax.legend()
    for name in ("one", "two"):
        figures.save(ax.figure, tmp_path / f"{name}.png", svg=True)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_text_is_readable_and_inside_the_figure():
    """No text below 9 pt on a figure 7 inches wide, none cut off by its edge."""
    figures.use_style()
    fig, ax = figures.panels(height=3.6)
    figures.roc(ax, {"majority": predictions(), "full": predictions()}, {"full": "HistoStainAlign (all losses)"})
    check_texts(fig)
    plt.close(fig)
