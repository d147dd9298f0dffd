import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from hsa.errors import InputError
from hsa.evaluation.logistic import fit_logistic

STRENGTHS = np.logspace(-3, 2, 6)


def embeddings(cases, features, gap, seed=0):
    rng = np.random.default_rng(seed)
    y = (np.arange(cases) % 4 == 0).astype(int)
    x = rng.normal(size=(cases, features)) + gap * y[:, None] * (np.arange(features) < 3)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def cost(w, b, x, y, c):
    share = np.where(y == 1, len(y) / (2 * y.sum()), len(y) / (2 * (y == 0).sum()))
    return 0.5 * (w**2).sum() + c * (share * np.logaddexp(0, -(x @ w + b) * (2 * y - 1))).sum()


@pytest.mark.parametrize("shape", [(60, 64), (300, 64), (80, 8)])
@pytest.mark.parametrize("gap", [0.0, 0.5, 6.0], ids=["no signal", "signal", "apart"])
def test_every_strength_is_solved_as_a_second_solver_does_it(shape, gap):
    x, y = embeddings(*shape, gap)
    coef, intercept = fit_logistic(x, y, STRENGTHS)
    for c, w, b in zip(STRENGTHS, coef, intercept, strict=True):
        exact = LogisticRegression(
            C=c, class_weight="balanced", solver="newton-cholesky", tol=1e-10, max_iter=1000
        ).fit(x, y)
        np.testing.assert_allclose(x @ w + b, exact.decision_function(x), atol=1e-4)
        start = np.append(w, b)
        better = minimize(lambda v: cost(v[:-1], v[-1], x, y, c), start, method="BFGS", options={"gtol": 1e-9})  # noqa: B023
        assert cost(w, b, x, y, c) <= better.fun + 1e-7 * abs(better.fun)


def test_a_strength_does_not_depend_on_the_others_beside_it():
    x, y = embeddings(100, 32, 0.5)
    together = fit_logistic(x, y, STRENGTHS)[0]
    alone = np.concatenate([fit_logistic(x, y, STRENGTHS[i : i + 1])[0] for i in range(len(STRENGTHS))])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_features_that_say_nothing_get_no_weight():
    x, y = embeddings(50, 4, 1.0)
    coef, _ = fit_logistic(np.column_stack([x, np.zeros(50), x[:, 0]]), y, np.array([1.0]))
    assert coef[0, 4] == pytest.approx(0, abs=1e-12)
    assert coef[0, 0] == pytest.approx(coef[0, 5])


def test_one_class_and_nan_are_told():
    x, y = embeddings(20, 3, 1.0)
    with pytest.raises(InputError, match="needs 0 and 1, both"):
        fit_logistic(x, np.zeros(20), STRENGTHS)
    x[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        fit_logistic(x, y, STRENGTHS)
