"""Where cards stand and arrows run: a layered drawing, the same on every run.

Cards are put in layers, inputs just above their first use; arrows that pass a layer get a lane of
their own in it, so that none ever crosses a card. The order within layers is found by barycentres
and exchanges of neighbours, keeping the best of several sweeps; positions are least squares under
minimum gaps, solved exactly by pooling adjacent violators, long arrows pulling hardest so that they
stay straight.

Sugiyama, Tagawa and Toda, IEEE Trans. Syst. Man Cybern. 11 (1981) 109; de Leeuw, Hornik and Mair,
J. Stat. Softw. 32(5) (2009), for the pooling.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import NamedTuple

GAP_X, GAP_Y, LANE = 26.0, 50.0, 14.0
GAP_LANES = 4.0
"""Between arrows that run side by side."""
TIP = 9.0
"""Straight piece before a card, so that arrow heads point down."""
SWEEPS, SETTLING = 12, 8
MANY = 4000
"""Cards and lanes from which fewer sweeps must do."""


class Layout(NamedTuple):
    """A finished drawing, in pixels.

    Attributes
    ----------
    x, y : list of float
        Left and upper edge of each card.
    paths : list of list of (float, float)
        For each link the points it runs through: down from its source, a straight piece through
        each layer it passes, and into its target.
    width, height : float
    """

    x: list[float]
    y: list[float]
    paths: list[list[tuple[float, float]]]
    width: float
    height: float


class _Item(NamedTuple):
    """A card, or the lane of a passing arrow, in a layer."""

    width: float
    card: int | None


def place(sizes: Sequence[tuple[float, float]], links: Sequence[tuple[int, int]]) -> Layout:
    """Lay out cards of the given sizes (width, height); links run from lower to higher numbers."""
    if not sizes:
        return Layout([], [], [], 0.0, 0.0)
    layer = _layers(len(sizes), links)
    items = [_Item(w, i) for i, (w, _) in enumerate(sizes)]
    levels: list[list[int]] = [[] for _ in range(max(layer) + 1)]
    for i, level in enumerate(layer):
        levels[level].append(i)
    chains = _chains(layer, links, items, levels)
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    up, down = _neighbours(len(items), pairs)
    levels = _order(levels, up, down)
    centre = _positions(levels, items, up, down)
    _straighten(levels, items, chains, centre)
    return _finish(sizes, links, layer, levels, chains, items, centre)


def _layers(n: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Longest way from above; what has nothing above it moves down to just above its first use."""
    layer = [0] * n
    fed = [False] * n
    for source, target in sorted(links, key=lambda k: (k[1], k[0])):
        layer[target] = max(layer[target], layer[source] + 1)
        fed[target] = True
    uses: list[list[int]] = [[] for _ in range(n)]
    for source, target in links:
        uses[source].append(target)
    for i in range(n):
        if not fed[i] and uses[i]:
            layer[i] = min(layer[target] for target in uses[i]) - 1
    lowest = min(layer)
    return [level - lowest for level in layer]


def _chains(
    layer: Sequence[int],
    links: Sequence[tuple[int, int]],
    items: list[_Item],
    levels: list[list[int]],
) -> list[list[int]]:
    """Give every link a lane in each layer between its ends; return it as a chain of items."""
    chains: list[list[int]] = []
    for source, target in links:
        chain = [source]
        for level in range(layer[source] + 1, layer[target]):
            chain.append(len(items))
            levels[level].append(len(items))
            items.append(_Item(LANE, None))
        chains.append([*chain, target])
    return chains


def _neighbours(
    n: int, pairs: Sequence[tuple[int, int]]
) -> tuple[list[list[int]], list[list[int]]]:
    up: list[list[int]] = [[] for _ in range(n)]
    down: list[list[int]] = [[] for _ in range(n)]
    for a, b in pairs:
        down[a].append(b)
        up[b].append(a)
    return up, down


def _order(
    levels: list[list[int]], up: Sequence[Sequence[int]], down: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Order each layer so that few arrows cross; the best of several sweeps down and up."""
    best, least = [list(level) for level in levels], None
    current = [list(level) for level in levels]
    for sweep in range(SWEEPS if len(up) < MANY else SWEEPS // 3):
        near = up if sweep % 2 == 0 else down
        turn = range(1, len(current)) if sweep % 2 == 0 else range(len(current) - 2, -1, -1)
        for i in turn:
            other = current[i - 1] if sweep % 2 == 0 else current[i + 1]
            at = {item: k for k, item in enumerate(other)}
            own = {item: k for k, item in enumerate(current[i])}
            current[i].sort(
                key=lambda item: (_mean([at[v] for v in near[item]], own[item]), own[item])
            )
            _exchange(current[i], near, at)
        crossings = sum(_crossings(a, b, down) for a, b in pairwise(current))
        if least is None or crossings < least:
            best, least = [list(level) for level in current], crossings
        if least == 0:
            break
    return best


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _exchange(level: list[int], near: Sequence[Sequence[int]], at: dict[int, int]) -> None:
    """Exchange neighbours as long as that removes crossings."""
    for _ in range(len(level)):
        changed = False
        for k in range(len(level) - 1):
            a = sorted(at[v] for v in near[level[k]])
            b = sorted(at[v] for v in near[level[k + 1]])
            now = sum(p > q for p in a for q in b)
            if now > sum(q > p for p in a for q in b):
                level[k], level[k + 1] = level[k + 1], level[k]
                changed = True
        if not changed:
            return


def _crossings(upper: Sequence[int], lower: Sequence[int], down: Sequence[Sequence[int]]) -> int:
    at = {item: k for k, item in enumerate(lower)}
    ends = [at[v] for item in upper for v in sorted(down[item], key=at.__getitem__)]
    return sum(ends[i] > ends[j] for i in range(len(ends)) for j in range(i + 1, len(ends)))


def _positions(
    levels: Sequence[Sequence[int]],
    items: Sequence[_Item],
    up: Sequence[Sequence[int]],
    down: Sequence[Sequence[int]],
) -> list[float]:
    """Centres of all items: towards their neighbours, under minimum gaps."""
    centre = [0.0] * len(items)
    for level in levels:
        x = 0.0
        for item in level:
            centre[item] = x + items[item].width / 2
            x += items[item].width + GAP_X
        middle = (x - GAP_X) / 2
        for item in level:
            centre[item] -= middle
    for sweep in range(SETTLING):
        downwards = sweep % 2 == 0
        for level in levels if downwards else levels[::-1]:
            near = (up, down) if downwards else (down, up)
            wish, weight = [], []
            for item in level:
                first, second = near[0][item], near[1][item]
                around = first if first and sweep < SETTLING - 2 else [*first, *second]
                straight = items[item].card is None
                wish.append(_mean([centre[v] for v in around], centre[item]))
                weight.append(16.0 if straight else max(0.5, float(len(around))))
            _settle(level, items, centre, wish, weight)
    return centre


def _settle(
    level: Sequence[int],
    items: Sequence[_Item],
    centre: list[float],
    wish: Sequence[float],
    weight: Sequence[float],
) -> None:
    """Least squares with minimum gaps: isotonic regression after taking the gaps out."""
    offset, offsets = 0.0, [0.0]
    for a, b in pairwise(level):
        offset += _apart(items[a], items[b])
        offsets.append(offset)
    blocks: list[list[float]] = []  # value, weight, count
    for w, v, o in zip(wish, weight, offsets, strict=True):
        blocks.append([w - o, v, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value, heavy, count = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + value * heavy) / (last[1] + heavy)
            last[1], last[2] = last[1] + heavy, last[2] + count
    values = [b[0] for b in blocks for _ in range(int(b[2]))]
    for item, value, o in zip(level, values, offsets, strict=True):
        centre[item] = value + o


def _apart(one: _Item, other: _Item) -> float:
    """Return how far apart the centres of two neighbours must be."""
    gap = GAP_LANES if one.card is None and other.card is None else GAP_X
    return (one.width + other.width) / 2 + gap


def _straighten(
    levels: Sequence[Sequence[int]],
    items: Sequence[_Item],
    chains: Sequence[Sequence[int]],
    centre: list[float],
) -> None:
    """Give each long arrow the longest free lanes, so that it bends as seldom as it can."""
    beside: dict[int, tuple[int | None, int | None]] = {}
    for level in levels:
        for k, item in enumerate(level):
            right = level[k + 1] if k + 1 < len(level) else None
            beside[item] = level[k - 1] if k else None, right
    for chain in sorted(chains, key=len, reverse=True):
        lanes = chain[1:-1]
        rooms = [_room(item, beside[item], items, centre) for item in lanes]
        while lanes:
            count, low, high = _together(rooms)
            wanted = sorted(centre[item] for item in lanes[:count])[count // 2]
            for item in lanes[:count]:
                centre[item] = min(max(wanted, low), high)
            lanes, rooms = lanes[count:], rooms[count:]


def _room(
    item: int,
    beside: tuple[int | None, int | None],
    items: Sequence[_Item],
    centre: Sequence[float],
) -> tuple[float, float]:
    """Return how far an item can move to either side."""
    left, right = beside
    low = -inf if left is None else centre[left] + _apart(items[left], items[item])
    high = inf if right is None else centre[right] - _apart(items[item], items[right])
    return min(low, centre[item]), max(high, centre[item])


def _together(rooms: Sequence[tuple[float, float]]) -> tuple[int, float, float]:
    """Return how many lanes from the first on have room in common, and that room."""
    low, high = rooms[0]
    for count, (left, right) in enumerate(rooms):
        if max(low, left) > min(high, right):
            return count, low, high
        low, high = max(low, left), min(high, right)
    return len(rooms), low, high


def _finish(  # noqa: PLR0917 - everything that was decided
    sizes: Sequence[tuple[float, float]],
    links: Sequence[tuple[int, int]],
    layer: Sequence[int],
    levels: Sequence[Sequence[int]],
    chains: Sequence[Sequence[int]],
    items: Sequence[_Item],
    centre: list[float],
) -> Layout:
    left = min(c - i.width / 2 for c, i in zip(centre, items, strict=True))
    centre = [c - left for c in centre]
    heights = [max((sizes[i][1] for i in level if i < len(sizes)), default=0.0) for level in levels]
    tops, y = [], 0.0
    for height in heights:
        tops.append(y)
        y += height + GAP_Y
    card_x = [centre[i] - sizes[i][0] / 2 for i in range(len(sizes))]
    card_y = [tops[layer[i]] + (heights[layer[i]] - sizes[i][1]) / 2 for i in range(len(sizes))]
    port_in, port_out = _ports(sizes, links, chains, centre)
    paths: list[list[tuple[float, float]]] = []
    for k, ((source, target), chain) in enumerate(zip(links, chains, strict=True)):
        a, b = layer[source], layer[target]
        path = [
            (port_out[k], card_y[source] + sizes[source][1]),
            (port_out[k], tops[a] + heights[a]),
        ]
        for level, item in zip(range(a + 1, b), chain[1:-1], strict=True):
            path += [(centre[item], tops[level]), (centre[item], tops[level] + heights[level])]
        paths.append([*path, (port_in[k], tops[b] - TIP), (port_in[k], card_y[target])])
    width = max(c + i.width / 2 for c, i in zip(centre, items, strict=True))
    return Layout(card_x, card_y, paths, width, y - GAP_Y)


def _ports(
    sizes: Sequence[tuple[float, float]],
    links: Sequence[tuple[int, int]],
    chains: Sequence[Sequence[int]],
    centre: Sequence[float],
) -> tuple[list[float], list[float]]:
    """Spread the arrows along the upper and lower edges of each card, in the order they come."""
    into, out = [0.0] * len(links), [0.0] * len(links)
    for ports, end, near in ((into, 1, -2), (out, 0, 1)):
        at: list[list[int]] = [[] for _ in sizes]
        for k, link in enumerate(links):
            at[link[end]].append(k)
        for card, (mine, (width, _)) in enumerate(zip(at, sizes, strict=True)):
            mine.sort(key=lambda k: (centre[chains[k][near]], k))
            step = min(22.0, 0.8 * width / max(1, len(mine)))
            for j, k in enumerate(mine):
                ports[k] = centre[card] + (j - (len(mine) - 1) / 2) * step
    return into, out
