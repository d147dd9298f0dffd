"""Does an H&E embedding lie nearer to the IHC of its own case than to the IHC of others?

All measures are taken inside one test fold, because each fold has its own model and so its own space.
An embeddings frame has a row for each slide and fold: slide_id, case_id, patient_id, stain, fold, split, label
and v0, v1, ... Good alignment is no evidence of prediction: sections of one case share their layout too.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from scipy import stats

from hsa.errors import InputError
from hsa.evaluation.comparison import signed_rank
from hsa.evaluation.metrics import patient_draws
from hsa.evaluation.probe import feature_columns

DIRECTIONS = ("H&E to IHC", "IHC to H&E")


def similarities(embeddings: pd.DataFrame) -> pd.DataFrame:
    """Compare each test case's cosine to its own IHC with its mean cosine to every other IHC of the fold.

    Cases without IHC have no part in it.

    Args:
        embeddings: H&E and IHC embeddings of all folds.

    Returns:
        One row a test pair: case_id, patient_id, fold, label, paired, shuffled, alignment (the difference).

    Raises:
        InputError: an IHC test embedding without one of H&E, a case that has two, or a fold without two pairs.
    """
    parts = []
    for cases, he, ihc in _test_pairs(embeddings):
        cosine = he @ ihc.T  # (n, n): row H&E, column IHC
        paired = np.diag(cosine)
        shuffled = (cosine.sum(axis=1) - paired) / (len(cosine) - 1)
        parts.append(cases.assign(paired=paired, shuffled=shuffled, alignment=paired - shuffled))
    return pd.concat(parts).sort_values("case_id", ignore_index=True)


def mean_over_runs(similar: pd.DataFrame) -> pd.DataFrame:
    """Average `similarities` of several runs, one below the other, case by case."""
    keys = ["case_id", "patient_id", "label"]
    means = similar.groupby(keys, as_index=False)[["paired", "shuffled", "alignment"]].mean()
    return means.sort_values("case_id", ignore_index=True)


def summary(similar: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Average the columns of `similarities` with t-based 95 % intervals, as published.

    Returns:
        paired, shuffled, alignment -> value, low, high, n. The interval takes cases as independent.
    """
    return {name: mean_interval(similar[name]) for name in ("paired", "shuffled", "alignment")}


def mean_interval(values: pd.Series | np.ndarray) -> dict[str, float]:
    """Give the mean of values (n,), n >= 2, and its t-based 95 % interval: value, low, high, n."""
    values = np.asarray(values, float)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    mean = values.mean()
    return {"value": float(mean), "low": float(mean - half), "high": float(mean + half), "n": len(values)}


def alignment_gain(baseline: pd.DataFrame, full: pd.DataFrame) -> dict[str, float]:
    """Test case by case whether `full` aligns better than `baseline`: one-sided Wilcoxon signed-rank.

    Args:
        baseline: `similarities` of one model.
        full: `similarities` of the other, for the same cases.

    Returns:
        statistic, p, n, median (of the differences).

    Raises:
        InputError: the two hold different cases.
    """
    first, second = (frame.set_index("case_id")["alignment"] for frame in (baseline, full))
    if set(first.index) != set(second.index):
        raise InputError("alignment: the two models hold different cases; compare them on the same.")
    return signed_rank(first.to_numpy(), second[first.index].to_numpy())


def recall_hits(embeddings: pd.DataFrame, at: Iterable[int] = (1, 5, 10)) -> pd.DataFrame:
    """Search each test case's partner among the fold's slides of the other stain, nearest first.

    Equal cosines are ranked at random, in expectation: a collapsed encoder scores chance, not 1.

    Args:
        embeddings: H&E and IHC embeddings of all folds.
        at: numbers k of nearest slides looked at.

    Returns:
        A row for each test case, direction and k: case_id, patient_id, direction, k, hit (is the partner among the k
        nearest, 0-1), chance (k / slides in the fold, at most 1).

    Raises:
        InputError: as `similarities`.
    """
    at, parts = list(at), []
    for cases, he, ihc in _test_pairs(embeddings):
        cosine = he @ ihc.T
        for direction, turned in zip(DIRECTIONS, (cosine, cosine.T), strict=True):
            for k, hit in zip(at, _hits(turned, at).T, strict=True):
                found = cases[["case_id", "patient_id"]].assign(direction=direction, k=k, hit=hit)
                parts.append(found.assign(chance=min(1.0, k / len(cosine))))
    return pd.concat(parts, ignore_index=True)


def recall(hits: pd.DataFrame, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Average `recall_hits` over the cases, with intervals of a bootstrap over patients.

    Args:
        hits: of one run, or of several one below the other: a case then counts with its mean over them.
        draws: bootstrap samples.
        seed: seed of the draws.

    Returns:
        A row for each direction and k: direction, k, recall (share of cases whose partner is among the k
        nearest), low, high (95 %), chance, n (cases).
    """
    rows = []
    by_case = hits.groupby(["direction", "k", "case_id"], sort=False)
    means = by_case.agg(patient_id=("patient_id", "first"), hit=("hit", "mean"), chance=("chance", "mean"))
    for (direction, k), cases in means.groupby(["direction", "k"], sort=False):
        weights = np.concatenate(list(patient_draws(cases["patient_id"], draws, seed)))  # (draws, n)
        sampled = weights @ cases["hit"].to_numpy() / weights.sum(axis=1)
        low, high = np.quantile(sampled, [0.025, 0.975])
        row = {"direction": direction, "k": k, "recall": cases["hit"].mean(), "low": low, "high": high}
        rows.append(row | {"chance": cases["chance"].mean(), "n": len(cases)})
    return pd.DataFrame(rows)


def geometry(embeddings: pd.DataFrame) -> pd.DataFrame:
    """Describe the shared space of each fold's model, on the unit sphere of its test slides.

    modality_gap: distance of the centroids of the two stains (Liang et al. 2022). alignment_loss: mean
    squared distance of partners; uniformity_he, uniformity_ihc: log of the mean of exp(-2 d^2) over pairs of
    slides of one stain, lower is more spread (Wang & Isola 2020). cosine_he, cosine_ihc: mean cosine of two
    different slides of one stain; near 1 means that the encoder collapsed.

    Args:
        embeddings: H&E and IHC embeddings of all folds.

    Returns:
        One row a fold: fold, n (cases) and the six measures.

    Raises:
        InputError: as `similarities`.
    """
    rows = []
    for cases, he, ihc in _test_pairs(embeddings):
        row = {"fold": cases["fold"].iloc[0], "n": len(cases)}
        row["modality_gap"] = np.linalg.norm(he.mean(axis=0) - ihc.mean(axis=0))
        row["alignment_loss"] = ((he - ihc) ** 2).sum(axis=1).mean()
        for name, unit in (("he", he), ("ihc", ihc)):
            cosine = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
            row[f"uniformity_{name}"] = np.log(np.exp(-2 * (2 - 2 * cosine)).mean())
            row[f"cosine_{name}"] = cosine.mean()
        rows.append(row)
    return pd.DataFrame(rows)


def umap_coordinates(
    embeddings: pd.DataFrame, seed: int, fold: int = 0, neighbours: int = 15
) -> tuple[pd.DataFrame, float]:
    """Lay all slides of one fold's model out in two dimensions (UMAP on cosine distance).

    One fold, because folds have different spaces; all its cases, because a test fold alone is too few points.
    Train and validation slides are marked as such: the model has seen them, so only test points are evidence.
    Coordinates differ between machines: compute once, store, plot from the file.

    Args:
        embeddings: H&E and IHC embeddings of all folds.
        seed: seed of UMAP.
        fold: the fold whose model is shown.
        neighbours: size of the neighbourhood that UMAP keeps, and of that which trustworthiness judges.

    Returns:
        Frame with slide_id, case_id, stain, split, label, umap1, umap2, and the trustworthiness in 0..1: how
        far neighbours in the picture are neighbours in the space (Venna & Kaski 2001).

    Raises:
        InputError: no such fold, NaN, or fewer than 8 slides.
    """
    names = feature_columns(embeddings)
    rows = embeddings[embeddings["fold"] == fold].sort_values("slide_id", ignore_index=True)
    if len(rows) < 8:
        raise InputError(f"embeddings: fold {fold} holds {len(rows)} slides; UMAP needs 8 or more of an existing fold.")
    from sklearn.manifold import trustworthiness
    from umap import UMAP

    unit = _unit(rows[names].to_numpy(float))
    neighbours = min(neighbours, len(unit) // 2 - 1)
    layout = UMAP(n_neighbors=neighbours, metric="euclidean", init="pca", random_state=seed, n_jobs=1)
    placed = layout.fit_transform(unit)  # on the sphere, euclidean distance orders as cosine does
    frame = rows[["slide_id", "case_id", "stain", "split", "label"]].assign(umap1=placed[:, 0], umap2=placed[:, 1])
    return frame, float(trustworthiness(unit, placed, n_neighbors=neighbours))


def _test_pairs(embeddings: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, np.ndarray, np.ndarray]]:
    """Yield for each fold its test cases and their unit H&E and IHC embeddings (n, D), in one order."""
    names = feature_columns(embeddings)
    test = embeddings[embeddings["split"] == "test"]
    if test.empty:
        raise InputError("embeddings: no test rows; alignment is measured on held-out cases.")
    for fold, rows in test.groupby("fold"):
        ihc = rows[rows["stain"] != "HE"].sort_values("case_id")
        he = rows[(rows["stain"] == "HE") & rows["case_id"].isin(ihc["case_id"])].sort_values("case_id")
        if he["case_id"].tolist() != ihc["case_id"].tolist() or he["case_id"].duplicated().any():
            odd = rows["case_id"].value_counts()
            wrong = sorted(set(ihc["case_id"]) - set(he["case_id"])) or list(odd[odd > 2].index)
            raise InputError(
                f"embeddings: fold {fold}, case {wrong[0]!r} must have one H&E and one IHC test embedding; "
                "give the rows of one marker."
            )
        if len(he) < 2:
            raise InputError(f"embeddings: fold {fold} has {len(he)} test pair: no other IHC to compare with.")
        cases = he[["case_id", "patient_id", "fold", "label"]].reset_index(drop=True)
        yield cases, _unit(he[names].to_numpy(float)), _unit(ihc[names].to_numpy(float))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _hits(cosine: np.ndarray, at: list[int]) -> np.ndarray:
    """Give the chance (n, len(at)) that a row's partner, on the diagonal, is among its k nearest."""
    own = np.diag(cosine)[:, None]
    near = np.isclose(cosine, own, rtol=0, atol=1e-9)
    closer = ((cosine > own) & ~near).sum(axis=1)
    tied = near.sum(axis=1)
    return np.asarray(np.clip((np.array(at) - closer[:, None]) / tied[:, None], 0, 1))
