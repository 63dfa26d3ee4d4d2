"""The layout on random graphs: nothing overlaps, nothing runs through a card, always the same."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfit.graph.layout import GAP_X, place


def random_graph(seed: int, n: int) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    rng = np.random.default_rng(seed)
    sizes = [(float(w), float(h)) for w, h in rng.uniform((60, 30), (300, 90), (n, 2))]
    links = {
        (int(s), t) for t in range(1, n) for s in rng.integers(0, t, rng.integers(0, 4)) if s < t
    }
    return sizes, sorted(links)


def boxes(sizes, layout):
    return [(x, y, x + w, y + h) for x, y, (w, h) in zip(layout.x, layout.y, sizes, strict=True)]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_cards_keep_their_distance(seed: int, n: int) -> None:
    sizes, links = random_graph(seed, n)
    layout = place(sizes, links)
    cards = boxes(sizes, layout)
    for i, a in enumerate(cards):
        for b in cards[:i]:
            beside = a[2] + GAP_X <= b[0] + 1e-6 or b[2] + GAP_X <= a[0] + 1e-6
            assert beside or a[3] < b[1] or b[3] < a[1]
    assert min(c[0] for c in cards) >= -1e-9
    assert max(c[2] for c in cards) <= layout.width + 1e-9
    assert max(c[3] for c in cards) <= layout.height + 1e-9


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(2, 60))
def test_no_arrow_runs_through_a_card(seed: int, n: int) -> None:
    sizes, links = random_graph(seed, n)
    layout = place(sizes, links)
    cards = boxes(sizes, layout)
    for (source, target), path in zip(links, layout.paths, strict=True):
        for (x0, y0), (x1, y1) in pairwise(path):
            # The curve between two points is an S whose height and breadth rise together.
            for t in np.linspace(0, 1, 21):
                bend = t**2 * (3 - 2 * t)
                x, y = x0 + bend * (x1 - x0), y0 + t * (y1 - y0)
                for k, (left, top, right, bottom) in enumerate(cards):
                    if k not in (source, target):
                        inside = left < x < right and top + 1e-6 < y < bottom - 1e-6
                        assert not inside, (source, target, k)


def test_arrows_begin_and_end_at_their_cards() -> None:
    sizes, links = random_graph(1, 30)
    layout = place(sizes, links)
    for (source, target), path in zip(links, layout.paths, strict=True):
        x, y = path[0]
        assert layout.x[source] <= x <= layout.x[source] + sizes[source][0]
        assert y == pytest.approx(layout.y[source] + sizes[source][1])
        x, y = path[-1]
        assert layout.x[target] <= x <= layout.x[target] + sizes[target][0]
        assert y == pytest.approx(layout.y[target])
        assert all(a[1] <= b[1] for a, b in pairwise(path))


def test_same_graph_gives_the_same_drawing() -> None:
    sizes, links = random_graph(7, 50)
    assert place(sizes, links) == place(list(sizes), list(links))


def test_a_long_arrow_beside_a_chain_runs_straight() -> None:
    # 0 -> 1 -> ... -> 9 in a row of cards of many widths, and one arrow past them all
    sizes = [(60.0 + 37 * (k % 4), 40.0) for k in range(10)]
    links = [*pairwise(range(10)), (0, 9)]
    path = place(sizes, links).paths[-1]
    lanes = {round(x, 6) for x, _ in path[2:-2]}
    assert len(lanes) == 1


def test_leaf_stands_just_above_its_first_use() -> None:
    # 0 -> 1 -> 2 -> 3, and a leaf 4 that only 3... is used by 5, after 3
    sizes = [(80.0, 40.0)] * 6
    layout = place(sizes, [(0, 1), (1, 2), (2, 3), (4, 5), (3, 5)])
    assert layout.y[4] == layout.y[3]


def test_nothing_to_draw_is_an_empty_drawing() -> None:
    assert place([], []) == ([], [], [], 0.0, 0.0)
