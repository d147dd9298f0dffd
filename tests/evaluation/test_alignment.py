import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hsa.errors import InputError
from hsa.evaluation.alignment import (
    alignment_gain,
    geometry,
    mean_interval,
    mean_over_runs,
    recall,
    recall_hits,
    similarities,
    summary,
    umap_coordinates,
)


def embeddings(cases=40, dim=16, noise=0.3, folds=2, offset=0.0, seed=0):
    """Pairs of slides that share a direction, IHC moved by `offset` along one axis."""
    rng = np.random.default_rng(seed)
    case = [f"c{i:02d}" for i in range(cases)]
    shared = rng.standard_normal((cases, dim))
    frames = []
    for fold in range(folds):
        for stain in ("HE", "P53"):
            vectors = shared + noise * rng.standard_normal((cases, dim))
            vectors[:, 0] += offset * (stain == "P53")
            frame = pd.DataFrame(vectors, columns=[f"v{i}" for i in range(dim)])
            frame = frame.assign(case_id=case, patient_id=case, stain=stain, fold=fold)
            frame["slide_id"] = [f"{name}_{stain}" for name in case]
            frame["label"] = np.arange(cases) % 2
            frame["split"] = np.where(np.arange(cases) % folds == fold, "test", "train")
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def cos(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_similarities_are_the_cosines_written_out():
    frame = embeddings()
    result = similarities(frame).set_index("case_id")
    assert len(result) == 40
    names = [f"v{i}" for i in range(16)]
    fold = frame[(frame["fold"] == 1) & (frame["split"] == "test")]
    he = fold[fold["stain"] == "HE"].set_index("case_id")[names]
    ihc = fold[fold["stain"] == "P53"].set_index("case_id")[names]
    for case in ("c01", "c33"):
        paired = cos(he.loc[case].to_numpy(), ihc.loc[case].to_numpy())
        others = [cos(he.loc[case].to_numpy(), ihc.loc[other].to_numpy()) for other in ihc.index if other != case]
        assert len(others) == 19
        assert result.loc[case, "paired"] == pytest.approx(paired)
        assert result.loc[case, "shuffled"] == pytest.approx(np.mean(others))
        assert result.loc[case, "alignment"] == pytest.approx(paired - np.mean(others))


def test_train_rows_are_not_read():
    frame = embeddings()
    changed = frame.copy()
    changed.loc[changed["split"] == "train", "v0"] = 1e6
    pd.testing.assert_frame_equal(similarities(changed), similarities(frame))


def test_mean_interval_is_scipys():
    values = np.array([0.1, 0.4, 0.35, 0.8])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx({"value": values.mean(), "low": low, "high": high, "n": 4})


def test_permuted_pairs_have_no_alignment():
    frame = embeddings(cases=80, folds=1)
    assert summary(similarities(frame))["alignment"]["low"] > 0.5
    ihc = frame["stain"] == "P53"
    names = [f"v{i}" for i in range(16)]
    frame.loc[ihc, names] = np.random.default_rng(1).permutation(frame.loc[ihc, names].to_numpy())
    shuffled = summary(similarities(frame))["alignment"]
    assert shuffled["low"] < 0 < shuffled["high"]


def test_gain_is_one_sided_and_matches_cases_by_name():
    weak, strong = similarities(embeddings(noise=1.0)), similarities(embeddings(noise=0.8, seed=1))
    expected = stats.wilcoxon(weak["alignment"], strong["alignment"], alternative="less")
    assert alignment_gain(weak, strong.sample(frac=1, random_state=0))["p"] == pytest.approx(expected.pvalue)
    assert 0.001 < expected.pvalue < 0.9  # so that a wrong match would show
    backwards = stats.wilcoxon(strong["alignment"], weak["alignment"], alternative="less")
    assert alignment_gain(strong, weak)["p"] == pytest.approx(backwards.pvalue)
    with pytest.raises(InputError, match="different cases"):
        alignment_gain(weak, strong.iloc[1:])


def test_recall_by_hand_in_both_directions():
    # Three cases on a circle: cosines H&E (rows) to IHC (columns) decided by the angle between them.
    angles = {"HE": [0, 90, 200], "P53": [10, 30, 210]}
    rows = []
    for stain, degrees in angles.items():
        for i, angle in enumerate(np.radians(degrees)):
            case = f"c{i}"
            row = {"slide_id": case + stain, "case_id": case, "patient_id": case, "stain": stain, "label": 0}
            rows.append(row | {"fold": 0, "split": "test", "v0": np.cos(angle), "v1": np.sin(angle)})
    table = recall(recall_hits(pd.DataFrame(rows), at=(1, 2, 5))).set_index(["direction", "k"])
    # H&E: c0 -> c0, c1 (90) -> 30 = c1, c2 -> c2. IHC: c0 (10) -> 0, c1 (30) -> 0 before 90, c2 -> 200.
    assert table.loc[("H&E to IHC", 1), "recall"] == 1
    assert table.loc[("IHC to H&E", 1), "recall"] == pytest.approx(2 / 3)
    assert table.loc[("IHC to H&E", 2), "recall"] == 1
    assert table["chance"].tolist() == pytest.approx([1 / 3, 2 / 3, 1] * 2)
    assert (table["n"] == 3).all()
    assert (table["low"] <= table["recall"]).all() and (table["recall"] <= table["high"]).all()


def test_runs_of_several_seeds_count_each_case_once():
    one, other = embeddings(cases=30, folds=3), embeddings(cases=30, folds=3)
    other[["v0", "v1"]] = 1.0
    similar = mean_over_runs(pd.concat([similarities(one), similarities(other)]))
    assert len(similar) == 30
    both = [similarities(frame).set_index("case_id")["paired"] for frame in (one, other)]
    assert similar.set_index("case_id")["paired"].to_numpy() == pytest.approx((both[0] + both[1]).to_numpy() / 2)
    hits = [recall_hits(frame, at=(1,)) for frame in (one, other)]
    together, single = recall(pd.concat(hits)), [recall(hit) for hit in hits]
    assert (together["n"] == 30).all()
    assert together["recall"].to_numpy() == pytest.approx((single[0]["recall"] + single[1]["recall"]).to_numpy() / 2)


def test_a_collapsed_encoder_scores_chance():
    frame = embeddings(cases=30, folds=3)
    frame[[f"v{i}" for i in range(16)]] = 1.0
    table = recall(recall_hits(frame, at=(1, 5)))
    assert table["recall"].tolist() == pytest.approx(table["chance"].tolist())
    space = geometry(frame)
    assert space["cosine_he"].tolist() == pytest.approx([1] * 3)
    assert space["uniformity_he"].tolist() == pytest.approx([0] * 3)


def test_geometry_written_out():
    frame = embeddings(cases=6, dim=3, folds=1)
    row = geometry(frame).iloc[0]
    vectors = frame[["v0", "v1", "v2"]].to_numpy()
    unit = np.array([v / np.sqrt((v**2).sum()) for v in vectors])
    he, ihc = unit[:6], unit[6:]
    pairs = [(i, j) for i in range(6) for j in range(i)]
    spread = [np.exp(-2 * ((he[i] - he[j]) ** 2).sum()) for i, j in pairs]
    assert row["uniformity_he"] == pytest.approx(np.log(np.mean(spread)))
    assert row["cosine_ihc"] == pytest.approx(np.mean([ihc[i] @ ihc[j] for i, j in pairs]))
    assert row["alignment_loss"] == pytest.approx(np.mean([((he[i] - ihc[i]) ** 2).sum() for i in range(6)]))
    assert row["modality_gap"] == pytest.approx(np.sqrt(((he.mean(0) - ihc.mean(0)) ** 2).sum()))
    assert row["n"] == 6


def test_modality_gap_sees_a_moved_stain():
    near, far = (geometry(embeddings(offset=offset))["modality_gap"].mean() for offset in (0.0, 5.0))
    assert near < 0.2
    assert far > 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[f["slide_id"] != "c00_HE"], "'c00' must have one H&E and one IHC"),
        (lambda f: pd.concat([f, f.iloc[[0]], f.iloc[[40]]]), "'c00' must have one H&E and one IHC"),
        (lambda f: f[f["split"] == "train"], "no test rows"),
        (lambda f: f[f["case_id"] == "c00"], "has 1 test pair"),
        (lambda f: f.assign(v3=np.nan), "NaN"),
    ],
)
def test_incomplete_pairs_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        similarities(change(embeddings()))


@pytest.mark.slow
def test_umap_keeps_clusters_is_seeded_and_silent():
    frame = embeddings(cases=30)
    centre = 8 * (frame["label"] - 0.5)
    frame["v1"] = frame["v1"] + centre
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ImportWarning)  # umap on its own optional part, hidden by default
        placed, trust = umap_coordinates(frame, seed=1, fold=1)
    assert list(placed.columns) == ["slide_id", "case_id", "stain", "split", "label", "umap1", "umap2"]
    assert len(placed) == 60
    assert set(placed["split"]) == {"train", "test"}
    assert 0.8 < trust <= 1
    middle = placed.groupby("label")[["umap1", "umap2"]].mean().to_numpy()
    spread = placed.groupby("label")[["umap1", "umap2"]].std().to_numpy().mean()
    assert np.linalg.norm(middle[0] - middle[1]) > 2 * spread
    again, _ = umap_coordinates(frame.sample(frac=1, random_state=0), seed=1, fold=1)
    pd.testing.assert_frame_equal(placed, again)
    with pytest.raises(InputError, match="fold 9 holds 0 slides"):
        umap_coordinates(frame, seed=1, fold=9)


def test_cases_without_ihc_have_no_part_in_it():
    frame = embeddings()
    lacking = [f"c{i:02d}" for i in range(0, 40, 5)]
    partial = frame[~(frame["case_id"].isin(lacking) & (frame["stain"] == "P53"))]
    both = frame[~frame["case_id"].isin(lacking)]
    for measure in (similarities, recall_hits, geometry):
        pd.testing.assert_frame_equal(measure(partial), measure(both))
    assert len(similarities(partial)) == 32
