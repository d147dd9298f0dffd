"""Two summaries number by number."""

import copy
import math

import numpy as np
import pytest

from hsa.errors import InputError
from hsa.pipeline.agreement import FLOOR, compare, counts, deviations, family, names_of

SUMMARY = {
    "prediction": {"P53": {"full": {"roc_auc": {"value": 0.75, "n": 30, "seed_sd": None}}, "mean": {}}},
    "maps": {"P53": {"full": [0.5, 0.25]}},
    "holm": {"delong": {"P53": 0.5}},
    "published": {"P53": "yes"},
    "provenance": {"study": "tiny", "torch": "2"},
    "stamp": "1",
}
AUC = ("prediction", "P53", "full", "roc_auc", "value")


def changed(value, *keys):
    """The summary with one value put in the place of another."""
    found = copy.deepcopy(SUMMARY)
    part = found
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return found


def row_of(again, largest=None):
    """The one row that does not match."""
    (row,) = [row for row in compare(SUMMARY, again, largest or {}) if row.verdict != "match"]
    return row


def test_a_summary_matches_itself_whatever_made_it():
    again = changed({"study": "tiny", "torch": "3"}, "provenance") | {"stamp": "2"}
    rows = compare(SUMMARY, again, {})
    assert {row.verdict for row in rows} == {"match"}
    assert [row.place for row in rows] == [
        *("/".join(AUC), "prediction/P53/full/roc_auc/n", "prediction/P53/full/roc_auc/seed_sd"),
        *("prediction/P53/mean", "maps/P53/full/0", "maps/P53/full/1", "holm/delong/P53", "published/P53"),
    ]


def test_a_changed_last_bit_has_drifted():
    row = row_of(changed(float(np.nextafter(0.75, 1)), *AUC))
    assert (row.place, row.verdict) == ("/".join(AUC), "drift")
    assert 0 < row.apart < 1e-15 and row.tolerance == FLOOR


def test_a_changed_number_differs_and_its_place_is_named():
    row = row_of(changed(0.76, *AUC), {"roc_auc/value": 0.004, "roc_auc/n": 1.0})
    assert (row.place, row.verdict, row.kept, row.again) == ("/".join(AUC), "differ", 0.75, 0.76)
    assert row.tolerance == 0.008 and row.apart == pytest.approx(0.01)


def test_within_twice_what_was_seen_a_number_has_drifted():
    largest = {"roc_auc/value": 0.0051}
    assert row_of(changed(0.76, *AUC), largest).verdict == "drift"
    assert row_of(changed(29, *AUC[:-1], "n"), largest).verdict == "differ"  # another family


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.75", True, [], {}])
def test_what_is_no_finite_number_in_place_of_one_differs(value):
    row = row_of(changed(value, *AUC), {"roc_auc/value": 1e9})
    assert (row.place, row.verdict, row.why) == ("/".join(AUC), "differ", "no two finite numbers")


def test_nan_matches_nothing_not_even_itself():
    broken = changed(math.nan, *AUC)
    assert [row.place for row in compare(broken, broken, {}) if row.verdict != "match"] == ["/".join(AUC)]


@pytest.mark.parametrize(("value", "keys"), [("no", ("published", "P53")), (0.5, ("prediction", "P53", "mean"))])
def test_another_word_and_a_number_where_none_was_differ(value, keys):
    assert row_of(changed(value, *keys)).verdict == "differ"


def test_a_missing_and_a_new_key_differ():
    fewer, more = changed({}, "holm"), changed({"delong": {"P53": 0.5, "HER2": 0.5}}, "holm")
    found = [row for row in compare(SUMMARY, fewer, {}) if row.verdict == "differ"]
    assert [(row.place, row.why) for row in found] == [("holm/delong/P53", "missing in this run"), ("holm", "not kept")]
    row = row_of(more)
    assert (row.place, row.kept, row.again, row.why) == ("holm/delong/HER2", None, 0.5, "not kept")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("prediction/P53/full/roc_auc/value", "roc_auc/value"),
        ("difference/HER2/metrics/roc_auc/value", "roc_auc/value"),
        ("prediction/P53/full/roc_auc/n", "roc_auc/n"),
        ("cases/P53/n", "cases/n"),
        ("maps/P53/full/0", "maps/*"),
        ("difference/P53/wilcoxon/positives/median", "wilcoxon/median"),
        ("difference/P53/wilcoxon/negatives/statistic", "statistic"),
        ("difference/P53/wilcoxon/positives/p", "p"),
        ("against_baseline/P53/full/p", "p"),
        ("holm/wilcoxon_negatives/P53", "p"),
        ("prediction/P53", "prediction"),
        ("full/P53", "full"),
    ],
)
def test_a_family_is_what_is_measured_in_whatever_part_of_whatever_marker_and_method(place, told):
    assert family(place, names_of(SUMMARY) | {"HER2"}) == told


def test_names_are_those_of_markers_and_methods():
    assert names_of(SUMMARY) == {"P53", "full", "mean"}


def test_parts_of_another_form_than_a_summary_has_give_no_names():
    assert names_of({"prediction": [1, 2], "maps": {"P53": None}}) == {"P53"}


def test_deviations_are_the_largest_between_any_two_runs():
    runs = [SUMMARY, changed(0.76, *AUC), changed(0.74, *AUC), changed(0.5 + 1e-9, "maps", "P53", "full", 0)]
    found = deviations(runs)
    assert found["roc_auc/value"] == pytest.approx(0.02)
    assert found["maps/*"] == pytest.approx(1e-9) and found["p"] == 0
    with pytest.raises(InputError, match="published/P53: yes, no"):
        deviations([SUMMARY, changed("no", "published", "P53")])


def test_verdicts_are_counted_by_part():
    found = counts(compare(SUMMARY, changed(0.7, *AUC), {}))
    assert found["prediction"] == {"match": 3, "differ": 1} and found["maps"] == {"match": 2}
