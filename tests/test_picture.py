"""The picture of the wings: what is drawn of what uses what, and where."""

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from hsa.files import REPOSITORY

USES = {"oven": set(), "salt": set(), "dough": {"salt"}, "bread": {"dough", "oven", "salt"}, "meal": {"bread", "salt"}}
LABELS = {name: f"What <{name}> & others are" for name in (*USES, "kitchen")}


@pytest.fixture
def picture(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "book/_ext")
    import wings_picture

    return wings_picture


def test_what_is_used_through_another_has_no_arrow(picture):
    kept = picture.reduced(USES)
    assert kept == {"oven": set(), "salt": set(), "dough": {"salt"}, "bread": {"dough", "oven"}, "meal": {"bread"}}


def test_each_stands_below_what_it_uses_and_what_uses_none_just_above_its_first_user(picture):
    assert picture.rows(USES) == [["salt"], ["oven", "dough"], ["bread"], ["meal"]]


def test_a_row_turns_for_fewer_crossings_and_else_keeps_the_order_given(picture):
    straight = {"a": set(), "b": set(), "over": {"a"}, "under": {"b"}}
    assert picture.rows(straight) == [["a", "b"], ["over", "under"]]
    crossed = {"a": set(), "b": set(), "over": {"b"}, "under": {"a"}}
    assert picture.rows(crossed) in ([["a", "b"], ["under", "over"]], [["b", "a"], ["over", "under"]])


def test_boxes_lie_apart_and_arrows_run_from_the_used_to_the_user_past_other_boxes(picture):
    figure = ElementTree.fromstring(picture.draw(USES, LABELS, {"dough": "dough.html"}, floor="kitchen"))
    svg = figure.find("svg")
    width, height = map(float, svg.get("viewBox").split()[2:])
    boxes = {}
    for group in [*svg.findall("a"), *svg.findall("g")]:
        x, y, w, h = (float(group.find("rect").get(key)) for key in ("x", "y", "width", "height"))
        boxes[group.find("text").text] = (x, y, x + w, y + h)
        assert (group.get("href") == "dough.html") == (group.find("text").text == "dough")
        assert 0 <= x < x + w <= width and 0 <= y < y + h <= height
    assert boxes.keys() == LABELS.keys()
    for a, b in combinations(boxes.values(), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    arrows = set()
    for path in svg.findall("path"):
        points = [tuple(map(float, point)) for point in re.findall(r"([\d.]+) ([\d.]+)", path.get("d"))]
        start = [name for name, box in boxes.items() if box[0] < points[0][0] < box[2] and box[3] == points[0][1]]
        end = [name for name, box in boxes.items() if box[0] < points[-1][0] < box[2] and box[1] == points[-1][1]]
        arrows |= {(start[0], end[0])}
        for x, y in points:
            assert not [name for name, box in boxes.items() if box[0] < x < box[2] and box[1] < y < box[3]]
    assert arrows == {(other, name) for name, others in picture.reduced(USES).items() for other in others}
    assert "bread uses dough and oven" in svg.get("aria-label")
