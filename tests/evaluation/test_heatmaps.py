import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hsa.bags.bag import Bag, write_bag
from hsa.bags.batches import collate
from hsa.errors import InputError
from hsa.evaluation import pointing
from hsa.evaluation.heatmaps import attention, occlusion, slide_map
from hsa.evaluation.pointing import evaluate_maps, score_map, summarise_maps, tile_truth
from hsa.evaluation.scoring import Probe, probe_score
from hsa.models.checkpoints import save_fold
from hsa.models.model import SlideModel
from hsa.study import study
from hsa.study.settings import Model
from hsa.virtual.recipe import Recipe, section_truth

SIZES = Model(dim=8, depth=1, heads=2, segment_lengths=[8], dilated_ratios=[1])
WIDTH = 5
GRID = np.stack(np.meshgrid(np.arange(2), np.arange(2)), -1).reshape(-1, 2) * 256


def tiles_of(count=6, seed=0):
    rng = np.random.default_rng(seed)
    coords = np.stack([np.arange(count) % 3, np.arange(count) // 3], 1) * 256
    return rng.standard_normal((count, WIDTH)).astype(np.float16), coords


def model_of(encoder, mean=None):
    torch.manual_seed(0)
    model = SlideModel(WIDTH, encoder, SIZES)
    if mean is not None:
        model.set_scale("he", torch.as_tensor(mean, dtype=torch.float32), torch.full((WIDTH,), 2.0))
    return model.eval()


def probe_of(width, seed=1, fold=0):
    rng = np.random.default_rng(seed)
    return {
        "fold": fold,
        "mean": rng.standard_normal(width).tolist(),
        "scale": rng.uniform(0.5, 2, width).tolist(),
        "coef": rng.standard_normal(width).tolist(),
        "intercept": 0.7,
        "c": 1.0,
    }


def scored(model, probe):
    return probe_score(model, Probe(**probe), Path("m"))


def test_occlusion_of_mean_pooling_is_the_share_of_each_tile_and_adds_up():
    mean = np.linspace(-1, 1, WIDTH)
    model, probe, tiles = model_of("mean", mean), probe_of(WIDTH), tiles_of()
    score = scored(model, probe)
    found = occlusion(score, tiles, mean)
    share = (tiles[0].astype(float) - mean) / 2 / np.array(probe["scale"]) @ np.array(probe["coef"]) / 6
    np.testing.assert_allclose(found, share, atol=1e-6)
    average = np.tile(mean, (6, 1)), tiles[1]
    np.testing.assert_allclose(found.sum(), score(collate([tiles]))[0] - score(collate([average]))[0], atol=1e-6)


def test_a_slide_of_one_tile_has_a_map_of_one_value():
    mean = np.linspace(-1, 1, WIDTH)
    model, probe, tiles = model_of("mean", mean), probe_of(WIDTH), tiles_of(1)
    score = scored(model, probe)
    average = mean[None].astype(np.float16), tiles[1]
    expected = score(collate([tiles])) - score(collate([average]))
    np.testing.assert_allclose(occlusion(score, tiles, mean), expected, atol=1e-3, strict=True)
    assert attention(model_of("abmil"), tiles).shape == (1,)


def test_an_occluded_tile_is_a_masked_tile_of_training():
    mean = np.linspace(-1, 1, WIDTH)
    model, probe, tiles = model_of("longnet", mean), probe_of(8), tiles_of()
    found = occlusion(scored(model, probe), tiles, model.he_mean.numpy())
    batch = collate([tiles])
    masked = torch.zeros(1, 6, dtype=torch.bool)
    masked[0, 3] = True
    with torch.no_grad():
        z = torch.cat([model.embed(batch, "he"), model.embed(batch, "he", masked)]).double().numpy()
    logit = (z - probe["mean"]) / probe["scale"] @ probe["coef"]
    assert found[3] == pytest.approx(logit[0] - logit[1], abs=1e-6)


def test_occlusion_is_the_same_in_small_batches_and_they_are_small():
    model, probe, tiles = model_of("longnet"), probe_of(8), tiles_of()
    sizes, inner = [], scored(model, probe)

    def score(batch):
        sizes.append(batch.features.shape[0])
        return inner(batch)

    small = occlusion(score, tiles, np.zeros(WIDTH), tokens=13)
    assert max(sizes) == 2
    np.testing.assert_allclose(small, occlusion(inner, tiles, np.zeros(WIDTH)), atol=1e-6)
    with pytest.raises(InputError, match=r"shape \(3,\), tiles have 5 features"):
        occlusion(score, tiles, np.zeros(3))


def test_of_a_large_slide_square_blocks_of_neighbours_are_occluded_together():
    rng, mean = np.random.default_rng(5), np.linspace(-1, 1, WIDTH)
    coords = 256 * np.stack([np.arange(64) % 8, np.arange(64) // 8], axis=1)
    model, probe, tiles = model_of("mean", mean), probe_of(WIDTH), (rng.normal(size=(64, WIDTH)), coords)
    passes, inner = [], scored(model, probe)

    def score(batch):
        passes.append(len(batch.features))
        return inner(batch)

    found = occlusion(score, tiles, mean, passes=20)
    assert sum(passes) == 16 + 1  # blocks of 2 x 2, and the whole
    each = occlusion(inner, tiles, mean).reshape(4, 2, 4, 2)
    expected = np.broadcast_to(each.mean(axis=(1, 3), keepdims=True), each.shape).ravel()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(occlusion(inner, tiles, mean, passes=64), each.ravel(), atol=1e-6)


def test_attention_weights_make_the_embedding():
    model, tiles = model_of("abmil", np.ones(WIDTH)), tiles_of()
    weights = attention(model, tiles)
    assert weights.sum() == pytest.approx(1)
    batch = collate([tiles])
    with torch.no_grad():
        h = model.encoder.embed(model.standardise(batch, "he"))[0].numpy()
        np.testing.assert_allclose(weights @ h, model.embed(batch, "he")[0].numpy(), rtol=1e-5)
    with pytest.raises(InputError, match="LongNet has no attention weights"):
        attention(model_of("longnet"), tiles)


def test_truth_counts_the_tumour_and_the_positive_cells_below_each_tile():
    recipe = Recipe(512, 1.0, 0)
    truth = tile_truth(recipe, 3, GRID, 256, "P53")
    he, ihc = section_truth(recipe, 3, "HE"), section_truth(recipe, 3, "P53")
    assert truth["tumour"].mean() == pytest.approx(he.tumour.mean())
    assert truth["tumour"][1] == pytest.approx(he.tumour[:64, 64:].mean())  # x = 256, y = 0
    x, y = ihc.positive.T
    assert truth["positive"].tolist()[:2] == [
        int(((x >= left) & (x < left + 256) & (y >= 0) & (y < 256)).sum()) for left in (0, 256)
    ]
    # The same area, in pixels of twice the size.
    pd.testing.assert_frame_equal(tile_truth(recipe, 3, GRID // 2, 128, "P53", mpp=1.0), truth)
    with pytest.raises(InputError, match="outside the slide of 512 px"):
        tile_truth(recipe, 3, GRID + 512, 256, "P53")


def test_a_map_is_scored_against_the_truth():
    truth = pd.DataFrame({"tumour": [0.6, 0.25, 0.2, 0.0], "positive": [9, 0, 0, 3]})
    found = score_map(np.array([-4.0, 2.0, 3.0, 1.0]), truth)
    assert found == {"pointed": 1.0, "chance": 0.5, "auc_tumour": 0.75, "auc_positive": 0.0}
    assert score_map(np.array([1.0, 0, 0, -1]), truth)["pointed"] == 0.5  # a tie for the top


def test_a_flat_map_scores_chance_and_a_slide_of_one_kind_of_tile_nothing():
    truth = pd.DataFrame({"tumour": [0.6, 0.1, 0.1], "positive": [1, 0, 0]})
    flat = score_map(np.zeros(3), truth)
    assert flat == {
        "pointed": pytest.approx(1 / 3),
        "chance": pytest.approx(1 / 3),
        "auc_tumour": 0.5,
        "auc_positive": 0.5,
    }
    one = pd.DataFrame({"tumour": [0.6, 0.6, 0.6], "positive": [2, 2, 2]})
    assert all(np.isnan(value) for value in score_map(np.arange(3.0), one).values())


def frame_of(**columns):
    size = len(columns["pointed"])
    case = [f"C{i:04d}" for i in range(size)]
    base = {"case_id": case, "patient_id": case, "label": np.arange(size) % 2, "chance": 0.25}
    return pd.DataFrame(base | {"auc_tumour": np.nan, "auc_positive": np.nan} | columns)


def test_summary_averages_over_slides_and_counts_those_left_out():
    frame = frame_of(pointed=[1, 0, 1, np.nan], chance=[0.5, 0.25, 0.75, np.nan], auc_positive=[0.2, 0.9, 0.4, 0.7])
    table = summarise_maps(frame)
    assert table["pointed"]["value"] == pytest.approx(2 / 3) and table["pointed"]["chance"] == pytest.approx(0.5)
    assert (table["pointed"]["n"], table["pointed"]["left_out"]) == (3, 1)
    assert table["auc_positive"]["value"] == pytest.approx(0.8) and table["auc_positive"]["n"] == 2
    assert table["auc_control"]["value"] == pytest.approx(0.3) and table["auc_control"]["chance"] == 0.5
    assert table["auc_tumour"] == dict.fromkeys(("value", "low", "high", "chance")) | {"n": 0, "left_out": 4}
    json.dumps(table, allow_nan=False)


def test_interval_draws_patients_and_a_second_seed_is_not_a_second_slide():
    rng = np.random.default_rng(0)
    frame = frame_of(pointed=rng.integers(0, 2, 200).astype(float))
    found = summarise_maps(frame)["pointed"]
    error = 1.96 * frame["pointed"].std() / np.sqrt(200)
    assert found["high"] - found["low"] == pytest.approx(2 * error, rel=0.15)
    assert summarise_maps(pd.concat([frame, frame]))["pointed"] == found
    pairs = frame.assign(pointed=np.repeat(frame["pointed"][:100], 2).to_numpy())
    alone = summarise_maps(pairs)["pointed"]
    patients = np.repeat(frame["patient_id"][:100], 2).to_numpy()
    together = summarise_maps(pairs.assign(patient_id=patients))["pointed"]
    assert together["high"] - together["low"] > 1.2 * (alone["high"] - alone["low"])


@pytest.fixture
def evaluated(smoke_file):
    """A study whose mean_pool method knows tumour: feature 0 of a tile is its share, and the probe reads that."""
    chosen = study.load(smoke_file)
    folder = chosen.paths.method("P53", "mean_pool")
    recipe = Recipe(512, 1.0, 0)
    rng = np.random.default_rng(0)
    rows = []
    for index in range(6):
        case = f"C{index:04d}"
        features = rng.standard_normal((4, WIDTH)) * 0.01
        features[:, 0] = tile_truth(recipe, index, GRID, 256, "P53")["tumour"]
        write_bag(
            chosen.paths.bags / f"{case}-HE.h5", Bag(features, GRID, attrs={"tile_px": 256, "tile_px_level0": 256})
        )
        row = {"case_id": case, "patient_id": case.replace("C", "P"), "label": index % 2, "score": 0.5, "pred": 0}
        rows += [row | {"fold": index % 2, "split": "test"}, row | {"fold": 1 - index % 2, "split": "val"}]
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "predictions.csv", index=False)
    coef = [3.0, 0, 0, 0, 0]
    flat = {"mean": [0.0] * WIDTH, "scale": [1.0] * WIDTH, "intercept": 0.0, "c": 1.0}
    # The probe of fold 1 has the other sign: a map made with the wrong fold's shows.
    probes = [{"fold": 0, "coef": coef, **flat}, {"fold": 1, "coef": [-3.0, 0, 0, 0, 0], **flat}]
    (folder / "probe.json").write_text(json.dumps({"folds": probes}))
    settings = {
        "input": {"in_dim": WIDTH, "encoder": "mean"},
        "model": SIZES.model_dump(),
    }
    for fold in (0, 1):
        save_fold(folder, fold, model_of("mean"), "s", {"settings": settings, "history": []})
    return chosen


def test_a_model_that_sees_tumour_is_found_to_look_there(evaluated):
    found = evaluate_maps(evaluated, "P53", "mean_pool", cases=None)
    assert found["case_id"].tolist() == [f"C{i:04d}" for i in range(6)]
    assert found["patient_id"][2] == "P0002" and found["fold"].tolist() == [0, 1] * 3 and set(found["n_tiles"]) == {4}
    mixed = found.dropna(subset=["pointed"])
    assert len(mixed) >= 2 and (mixed["pointed"] == 1).all() and (mixed["auc_tumour"] == 1).all()
    assert (mixed["chance"] < 1).all()
    # Positive cells of a section lie in its tumour; the probes of the two folds say opposite things of it.
    means = found.groupby("fold")["auc_positive"].mean()
    assert means[0] > 0.7 and means[1] < 0.3


def test_the_cases_drawn_are_the_same_for_each_method_and_as_many_as_asked(evaluated):
    drawn = evaluate_maps(evaluated, "P53", "mean_pool", cases=3, seed=0)
    assert len(drawn) == 3
    whole = evaluate_maps(evaluated, "P53", "mean_pool", cases=60)
    pd.testing.assert_frame_equal(drawn, whole[whole["case_id"].isin(drawn["case_id"])].reset_index(drop=True))
    pd.testing.assert_frame_equal(drawn, evaluate_maps(evaluated, "P53", "mean_pool", cases=3))


def test_the_map_of_one_slide_is_that_which_is_scored(evaluated):
    coords, importance = slide_map(evaluated, "P53", "mean_pool", "C0002-HE", fold=0)
    assert coords.tolist() == GRID.tolist()
    tumour = tile_truth(Recipe(512, 1.0, 0), 2, coords, 256, "P53")["tumour"]
    np.testing.assert_allclose(importance, 3 * (tumour - model_of("mean").he_mean[0].item()) / 4, atol=1e-3)
    whole = pointing.true_tumour(evaluated, "P53", "C0002")
    assert whole.mean() == pytest.approx(tumour.mean(), abs=0.01)  # four tiles cover the slide


def test_of_several_slides_of_a_case_the_first_is_mapped(evaluated):
    coords, importance = slide_map(evaluated, "P53", "mean_pool", "C0002-HE+C0004-HE", fold=0)
    assert coords.tolist() == GRID.tolist()
    alone = slide_map(evaluated, "P53", "mean_pool", "C0002-HE", fold=0)[1]
    np.testing.assert_allclose(importance, alone / 2, atol=1e-3)  # the mean is now over twice as many tiles


def test_what_cannot_be_mapped_is_told(evaluated):
    folder = evaluated.paths.method("P53", "mean_pool")
    with pytest.raises(InputError, match="MeanPool has no attention"):
        evaluate_maps(evaluated, "P53", "mean_pool", kind="attention")
    with pytest.raises(InputError, match=r"full.predictions\.csv: no such file"):
        evaluate_maps(evaluated, "P53", "full")
    probes = json.loads((folder / "probe.json").read_text())["folds"]
    (folder / "probe.json").write_text(json.dumps({"folds": probes[:1]}))
    with pytest.raises(InputError, match=r"probe\.json: no probe of fold 1"):
        evaluate_maps(evaluated, "P53", "mean_pool")
    with pytest.raises(InputError, match="'case7': virtual cases are called C0000"):
        pointing.case_index("case7")
    assert pointing.case_index("C0012") == 12 and pointing.case_index("C12345") == 12345


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda probe: probe | {"intercept": None}, r"probe\.json: folds\.1\.intercept"),
        (lambda probe: probe | {"mean": [1.0]}, r"probe\.json: folds\.1: mean has 1 numbers"),
    ],
)
def test_no_map_is_made_with_a_damaged_probe(evaluated, damage, told):
    path = evaluated.paths.method("P53", "mean_pool") / "probe.json"
    first, second = json.loads(path.read_text())["folds"]
    path.write_text(json.dumps({"folds": [first, damage(second)]}))
    with pytest.raises(InputError, match=told):
        slide_map(evaluated, "P53", "mean_pool", "C0002-HE", fold=1)
    with pytest.raises(InputError, match=told):
        evaluate_maps(evaluated, "P53", "mean_pool")


def test_no_map_is_scored_over_damaged_predictions(evaluated):
    path = evaluated.paths.method("P53", "mean_pool") / "predictions.csv"
    path.write_text(path.read_text().replace(",1,test", ",,test"))
    with pytest.raises(InputError, match=r"predictions\.csv: row 4: fold .*, expected"):
        evaluate_maps(evaluated, "P53", "mean_pool")


def test_importance_that_is_not_finite_is_no_map():
    with pytest.raises(InputError, match="importance of a tile is not a finite number"):
        occlusion(lambda batch: np.full(len(batch.features), np.nan), tiles_of(), np.zeros(WIDTH))
    steep = [1e308, *[-1e308] * 6]  # finite scores, and no finite difference between them
    with np.errstate(over="ignore"), pytest.raises(InputError, match="importance of a tile is not a finite number"):
        occlusion(lambda batch: np.array([steep.pop() for _ in batch.features]), tiles_of(), np.zeros(WIDTH), tokens=1)
    model = model_of("abmil", np.ones(WIDTH))
    with torch.no_grad():
        model.encoder.score.weight.fill_(torch.inf)
    with pytest.raises(InputError, match="importance of a tile is not a finite number"):
        attention(model, tiles_of())
