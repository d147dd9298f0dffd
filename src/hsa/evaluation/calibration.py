"""How far predicted probabilities can be taken at their word."""

import numpy as np
import pandas as pd

from hsa.evaluation.metrics import by_seed


def reliability_bins(predictions: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Compare predicted with observed frequency in bins of about equally many cases.

    Equal scores stay in one bin, so there may be fewer bins than asked. The rows of several seeds are binned
    together, but they are no more cases than one seed's: n, and so the interval, counts a row as 1 / seeds case.

    Args:
        predictions: one row a case, or a row a case and seed.
        bins: number of bins.

    Returns:
        One row a bin: predicted (mean score), observed (share of positives), low and high (95 % Wilson
        interval of observed), n (cases).

    Raises:
        InputError: as `hsa.evaluation.metrics.point`.
    """
    tables = by_seed(predictions)
    table = pd.concat(tables, ignore_index=True)
    edges = np.unique(np.quantile(table["score"], np.linspace(0, 1, bins + 1)[1:-1]))
    groups = table.groupby(np.searchsorted(edges, table["score"], side="left"))
    frame = groups.agg(predicted=("score", "mean"), observed=("label", "mean"), n=("label", "size"))
    frame["n"] /= len(tables)
    frame["low"], frame["high"] = wilson(frame["observed"].to_numpy(), frame["n"].to_numpy())
    return frame.reset_index(drop=True)[["predicted", "observed", "low", "high", "n"]]


def calibration_error(predictions: pd.DataFrame, bins: int = 10) -> float:
    """Compute the expected calibration error: the mean gap of `reliability_bins`, weighted by cases.

    With several seeds it is that of their pooled rows, as in the bins.
    """
    table = reliability_bins(predictions, bins)
    return float(np.average((table["predicted"] - table["observed"]).abs(), weights=table["n"]))


def wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the 95 % Wilson score interval of a share seen in n cases."""
    z2 = 1.959964**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return centre - half, centre + half
