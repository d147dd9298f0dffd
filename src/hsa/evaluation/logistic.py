"""Logistic regression for many strengths of the penalty at once, solved to the end.

The probes of the experiment compare methods whose differences are small, so neither the strength of the penalty nor the
point at which a solver gives up may decide. A slide cohort has fewer cases than features, or little more; the problem
is solved by Newton's method in the space that the training cases span, for all strengths together.
"""

import numpy as np
from scipy.special import expit

from hsa.errors import InputError

TOLERANCE = 1e-8  # of the gradient's largest entry, relative to the sum of the weighted cases
STEPS = 100
HALVINGS = 40


def fit_logistic(
    x: np.ndarray, y: np.ndarray, strengths: np.ndarray, balanced: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise `w . w / 2 + C sum_i s_i log(1 + exp(-t_i (w . x_i + b)))` over w and b, for each C.

    t is 1 or -1; s weighs the classes equally (scikit-learn's `class_weight="balanced"`) or is 1; the intercept b is
    free of penalty. So this is the objective of scikit-learn's `LogisticRegression`.

    Args:
        x: features (N, D), best standardised.
        y: labels (N,), 0 or 1.
        strengths: values of C (K,), each above 0.
        balanced: weigh the classes equally. A chance of cases as they come wants it off.

    Returns:
        Coefficients (K, D) and intercepts (K,), with a gradient below `TOLERANCE` times C times N.

    Raises:
        InputError: one class alone, a number that is not finite, or no convergence.
    """
    x, y, c = np.asarray(x, float), np.asarray(y, float), np.asarray(strengths, float)[:, None]
    if set(np.unique(y)) != {0.0, 1.0}:
        raise InputError(f"labels: {sorted(set(y.tolist()))}; a logistic regression needs 0 and 1, both of them.")
    if not np.isfinite(x).all():
        raise InputError("features: NaN or infinity among them; train this method again.")
    left, values, right = np.linalg.svd(x, full_matrices=False)
    rank = int((values > 1e-10 * values[0]).sum()) if len(values) else 0
    z = np.column_stack([left[:, :rank] * values[:rank], np.ones(len(y))])  # (N, rank + 1): the intercept comes last
    share = np.where(y == 1, len(y) / (2 * y.sum()), len(y) / (2 * (len(y) - y.sum()))) if balanced else np.ones(len(y))
    penalty = np.append(np.ones(rank), 0.0)
    weights = np.zeros((len(c), rank + 1))

    def cost(w: np.ndarray) -> np.ndarray:
        margin = (w @ z.T) * (2 * y - 1)
        return np.asarray(0.5 * (w**2 * penalty).sum(axis=1) + (c * share * np.logaddexp(0, -margin)).sum(axis=1))

    now = cost(weights)
    for _ in range(STEPS):
        chance = expit(weights @ z.T)
        gradient = weights * penalty + (c * share * (chance - y)) @ z
        open_ = np.abs(gradient).max(axis=1) > TOLERANCE * c[:, 0] * len(y)
        if not open_.any():
            return weights[:, :rank] @ right[:rank], weights[:, rank]
        curve = np.einsum("kn,ni,nj->kij", (c * share * chance * (1 - chance))[open_], z, z, optimize=True)
        curve[:, range(rank + 1), range(rank + 1)] += penalty + 1e-12
        step = np.zeros_like(weights)
        step[open_] = np.linalg.solve(curve, gradient[open_][..., None])[..., 0]
        length = np.ones(len(c))
        for _ in range(HALVINGS):  # a full step overshoots where the classes come apart
            after = cost(weights - length[:, None] * step)
            worse = after > now + 1e-12 * np.abs(now)
            if not worse.any():
                break
            length[worse] /= 2
        weights = weights - length[:, None] * step
        now = cost(weights)
    raise InputError(
        f"logistic regression: no convergence in {STEPS} steps for C = {c[open_, 0].tolist()}; lower the largest C."
    )
