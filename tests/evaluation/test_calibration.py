import numpy as np
import pandas as pd
import pytest
from test_metrics import predictions, seeds

from hsa.evaluation.calibration import calibration_error, reliability_bins


def test_reliability_bins_hold_every_case_and_their_means():
    frame = predictions(cases=200, digits=6)
    table = reliability_bins(frame, bins=5)
    assert table["n"].tolist() == [40] * 5
    first = frame.nsmallest(40, "score")
    assert table.loc[0, "predicted"] == pytest.approx(first["score"].mean())
    assert table.loc[0, "observed"] == pytest.approx(first["label"].mean())
    assert ((table["low"] <= table["observed"]) & (table["observed"] <= table["high"])).all()
    assert (table["low"] >= 0).all() and (table["high"] <= 1).all()
    equal = reliability_bins(frame.assign(score=0.3))
    assert equal["n"].tolist() == [200]


def test_reliability_bins_of_seeds_count_cases_not_rows():
    frame = predictions(cases=200, digits=6)
    once, copies = reliability_bins(frame, 5), reliability_bins(seeds(frame, 4, spread=0.0), 5)
    pd.testing.assert_frame_equal(once, copies)
    assert calibration_error(seeds(frame, 4, spread=0.0)) == pytest.approx(calibration_error(frame))
    many = reliability_bins(seeds(frame, 4), 5)
    assert many["n"].sum() == pytest.approx(200)


def test_wilson_interval_by_hand():
    frame = predictions(cases=10).assign(score=0.3, pred=0, label=[1] + [0] * 9)
    row = reliability_bins(frame).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((0.0179, 0.4042), abs=1e-4)  # Newcombe 1998, method 3


def test_calibration_error_sees_overconfidence():
    rng = np.random.default_rng(0)
    score = rng.random(20_000)
    label = (rng.random(20_000) < score).astype(int)
    frame = predictions(cases=20_000).assign(label=label, score=score, pred=(score > 0.5).astype(int))
    assert calibration_error(frame) < 0.02
    assert calibration_error(frame.assign(score=(score > 0.5) * 1.0)) == pytest.approx(0.25, abs=0.02)
