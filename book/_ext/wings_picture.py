"""Draw what uses what as rows of boxes, the used above its users, in an SVG that a phone shows at full size.

The picture stands in the page itself, so that it takes the colours of the page, light or dark, and its boxes are links.
"""

import textwrap
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from html import escape
from itertools import combinations, permutations

Graph = Mapping[str, set[str]]  # a name -> the names that it uses
Row = list[str]  # names in order: that of a box in its own row; in a later row, where the box's arrows pass

WIDTH, WIDEST, GAP, LANE = 352.0, 250.0, 8.0, 10.0  # px: the picture; a box; between boxes; a passing arrow
TITLE, LINE, CHARACTER, PADDING = 18.0, 15.0, 6.1, 8.0  # px: a name; a line of the label; its letters; around them
BETWEEN, PORT = 28.0, 18.0  # px: between rows; between arrows on one side of a box


def draw(uses: Graph, labels: Mapping[str, str], links: Mapping[str, str], floor: str) -> str:
    """Draw the picture.

    Args:
        uses: each box, and the boxes that it uses.
        labels: a few words for each box and for the floor.
        links: pages that boxes open, for those that have one.
        floor: name of what every box uses: it lies under all of them, without arrows.

    Returns:
        A figure element. What a box uses through another box too has no arrow of its own.
    """
    kept, boxes = reduced(uses), rows(uses)
    home = {name: i for i, row in enumerate(boxes) for name in row}
    shapes, y = [], 1.0
    place: dict[tuple[str, int], tuple[float, float, float, float]] = {}  # of a box or lane: x, y, width, height
    for i, row in enumerate(_lanes(boxes, kept)):
        spans = _spans(row, home, i)
        text = {name: _wrapped(labels[name], spans[name][1]) for name in row if home[name] == i}
        height = TITLE + LINE * max(len(lines) for lines in text.values()) + 2 * PADDING
        for name, (x, width) in spans.items():
            place[name, i] = (x, y, width, height)
            if name in text:
                shapes.append(_box(name, text[name], place[name, i], links.get(name)))
        y += height + BETWEEN
    lines = _wrapped(labels[floor], WIDTH)
    under = (1.0, y - BETWEEN / 2, WIDTH - 2, TITLE + LINE * len(lines) + 2 * PADDING)
    shapes.append(_box(floor, lines, under, links.get(floor)))
    arrows = "".join(f'<path class="arrow" marker-end="url(#arrow)" d="{path}"/>' for path in _paths(home, kept, place))
    told = ". ".join(f"{name} uses {_listed(kept[name])}" for row in boxes for name in row if kept[name])
    high = under[1] + under[3] + 1
    return (
        f'<figure class="wings"><svg viewBox="0 0 {WIDTH:g} {high:g}" role="group" '
        f'aria-label="{len(uses)} boxes, one a wing, and arrows from what is used to what uses it. {escape(told)}.">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z"/></marker></defs>{arrows}{"".join(shapes)}</svg></figure>'
    )


def reduced(uses: Graph) -> dict[str, set[str]]:
    """Leave out what is also used through another."""
    reach: dict[str, set[str]] = {}
    for name in TopologicalSorter(uses).static_order():
        reach[name] = uses[name].union(*(reach[other] for other in uses[name]))
    return {name: {one for one in own if not any(one in reach[other] for other in own)} for name, own in uses.items()}


def rows(uses: Graph) -> list[Row]:
    """Arrange names in rows, each below all that it uses; one that uses none stands just above its first user.

    As few arrows cross as can be; then a row keeps the order in which the names were given.
    """
    level: dict[str, int] = {}
    for name in TopologicalSorter(uses).static_order():
        level[name] = 1 + max((level[other] for other in uses[name]), default=-1)
    users = {name: [user for user, others in uses.items() if name in others] for name in uses}
    for name in uses:
        if users[name] and not uses[name]:
            level[name] = min(level[user] for user in users[name]) - 1
    found = [[name for name in uses if level[name] == i] for i in range(max(level.values()) + 1)]
    return [[name for name in row if level[name] == i] for i, row in enumerate(_lanes(found, reduced(uses)))]


def _segments(home: Mapping[str, int], kept: Graph) -> Iterator[tuple[int, str, str]]:
    """Cut every arrow at the rows that it passes: row of its start, name there, name in the next row."""
    for user, others in kept.items():
        for other in others:
            for i in range(home[other], home[user]):
                yield i, other, user if i + 1 == home[user] else other


def _lanes(found: list[Row], kept: Graph) -> list[Row]:
    """Add to each row the arrows that pass it; order it for few crossings, then as given, then for short arrows."""
    home = {name: i for i, row in enumerate(found) for name in row}
    segments = sorted(set(_segments(home, kept)))
    order = [[*(a for j, a, b in segments if j == i and home[a] < i), *row] for i, row in enumerate(found)]
    order = [list(dict.fromkeys(row)) for row in order]

    def cost(order: list[Row]) -> tuple[int, int, float]:
        middle = [{n: x + w / 2 for n, (x, w) in _spans(row, home, i).items()} for i, row in enumerate(order)]
        ends = [(i, middle[i][a], middle[i + 1][b]) for i, a, b in segments]
        crossed = sum(p[0] == q[0] and (p[1] - q[1]) * (p[2] - q[2]) < 0 for p, q in combinations(ends, 2))
        turned = sum(
            row.index(a) > row.index(b)
            for row, given in zip(order, found, strict=True)
            for a, b in combinations(given, 2)
        )
        return crossed, turned, round(sum(abs(start - end) for _, start, end in ends), 3)

    def settled(first: tuple[str, ...]) -> list[Row]:
        now = [list(first), *order[1:]]
        for i in [*range(1, len(now)), *range(1, len(now))]:
            now[i] = list(min(permutations(now[i]), key=lambda row: cost([*now[:i], list(row), *now[i + 1 :]])))
        return now

    return min((settled(first) for first in permutations(order[0])), key=cost)


def _spans(row: Row, home: Mapping[str, int], i: int) -> dict[str, tuple[float, float]]:
    """Share the width among the boxes of a row: name -> x and width, px."""
    boxes = sum(home[name] == i for name in row)
    free = WIDTH - 2 - GAP * (len(row) - 1) - LANE * (len(row) - boxes)
    wide = min(WIDEST, free / boxes)
    x = 1 + (free - wide * boxes) / 2
    spans = {}
    for name in row:
        spans[name] = (x, wide if home[name] == i else LANE)
        x += spans[name][1] + GAP
    return spans


def _wrapped(label: str, width: float) -> list[str]:
    return textwrap.wrap(label, int((width - 2 * PADDING) / CHARACTER))


def _listed(names: set[str]) -> str:
    *most, last = sorted(names)
    return f"{', '.join(most)} and {last}" if most else last


def _box(name: str, lines: list[str], place: tuple[float, float, float, float], link: str | None) -> str:
    x, y, width, height = place
    middle, top = x + width / 2, y + PADDING + TITLE - 5
    text = "".join(
        f'<tspan x="{middle:g}" y="{top + LINE * (i + 1):g}">{escape(line)}</tspan>' for i, line in enumerate(lines)
    )
    shape = (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"/>'
        f'<text x="{middle:g}" y="{top:g}" class="name">{escape(name)}</text><text>{text}</text>'
    )
    return f'<a href="{escape(link)}">{shape}</a>' if link else f"<g>{shape}</g>"


def _paths(home: Mapping[str, int], kept: Graph, place: Mapping[tuple[str, int], tuple]) -> Iterator[str]:
    """Give the path of each arrow; arrows that leave or reach one side of a box are spread along it."""
    segments = set(_segments(home, kept))

    def middle(name: str, i: int) -> float:
        return place[name, i][0] + place[name, i][2] / 2

    def port(name: str, i: int, other: str, down: bool) -> float:
        if home[name] != i:
            return middle(name, i)
        j = i + 1 if down else i - 1
        others = sorted(
            {b if down else a for k, a, b in segments if k == min(i, j) and name == (a if down else b)},
            key=lambda one: middle(one, j),
        )
        return middle(name, i) + PORT * (others.index(other) - (len(others) - 1) / 2)

    for user, others in kept.items():
        for other in sorted(others):
            path = ""
            for i, a, b in _segments(home, {user: {other}}):
                start, end = place[a, i], place[b, i + 1]
                x, y = port(a, i, b, down=True), start[1] + start[3]
                to, low = port(b, i + 1, a, down=False), end[1]
                half = (y + low) / 2
                path += f"{'L' if path else 'M'}{x:g} {y:g} C{x:g} {half:g} {to:g} {half:g} {to:g} {low:g} "
            yield path.strip()
