"""Pictures of traced functions: what stands on the cards, how they fold, what other tools get."""

import re
import sys
import time
import xml.etree.ElementTree as ET
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gradfit.errors import TraceError
from gradfit.graph import Film, trace
from gradfit.graph.fold import fold
from gradfit.graph.html import page
from gradfit.graph.svg import draw, rows_of, shorten, size_of, text_width

X = torch.linspace(0, 10, 11, dtype=torch.float64)
Y = 2.5 * X + 1


def leaf(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def loss(a, b):
    return torch.mean((a * X - Y + b) ** 2 / (a**2 + 1))


def descent(a, b):
    for _ in range(100):
        r = a * X - Y + b
        c = torch.mean(r**2)
        a = a - 1e-3 * c
    return c


def texts(svg: str) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]


def test_cards_carry_expression_value_and_gradient() -> None:
    graph = trace(loss, leaf(0.5), leaf(0.0))
    words = texts(draw(graph))
    assert "a" in words
    assert "= 0.5" in words
    assert "(a * X - Y + b) ** 2" in words
    assert any(w.startswith("grad ") for w in words)
    assert f"grad {graph['a'].grad.brief}" in words


def test_parts_of_a_gradient_stand_on_the_arrows() -> None:
    graph = trace(loss, leaf(0.5), leaf(0.0))
    words = texts(draw(graph))
    parts = [p.brief for p in graph["a"].parts.values()]
    assert len(parts) == 2
    assert set(parts) <= set(words)


def test_picture_is_the_same_every_time() -> None:
    graph = trace(loss, leaf(0.5), leaf(0.0))
    assert draw(graph) == draw(graph)


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
def test_every_theme_is_well_formed(theme: str) -> None:
    graph = trace(loss, leaf(0.5), leaf(0.0))
    assert ET.fromstring(draw(graph, theme=theme)).tag.endswith("svg")


def test_names_are_escaped() -> None:
    def tricky(a):
        return torch.where(a < 1, a * 2, a) & 0 if False else (a < 1).to(a.dtype) * a

    svg = draw(trace(tricky, leaf(0.5)))
    ET.fromstring(svg)
    assert "a &lt; 1" in svg


def test_statement_folds_the_operations_of_a_line() -> None:
    graph = trace(loss, leaf(0.5), leaf(0.0))
    cards = fold(graph, "statement").cards
    assert [c.title for c in cards if len(c.members) > 1] == [
        "return torch.mean((a * X - Y + b) ** 2 / (a**2 + 1))"
    ]
    assert len(fold(graph, "operation").cards) > len(cards)


def test_links_point_forward_and_every_member_is_drawn_once() -> None:
    for fn in (loss, descent):
        picture = fold(trace(fn, leaf(0.5), leaf(0.0)))
        assert all(k.source < k.target for k in picture.links)
        members = [m for c in picture.cards if c.kind != "constant" for m in c.members]
        assert len(members) == len(set(members))


def test_kernel_detail_tells_what_backward_runs() -> None:
    graph = trace(loss, leaf(0.5), leaf(0.0))
    assert any("backward:" in c.note for c in fold(graph, "kernel").cards)


def test_dot_and_mermaid_name_every_card() -> None:
    graph = trace(loss, leaf(0.5), leaf(0.0))
    n = len(fold(graph).cards)
    assert len(re.findall(r"^  n\d+ \[", graph.to_dot(), re.MULTILINE)) == n
    assert len(re.findall(r'^  n\d+\["', graph.to_mermaid(), re.MULTILINE)) == n


def test_text_exports_carry_what_was_written_value_and_gradient() -> None:
    graph = trace(loss, leaf(0.5), leaf(0.0))
    value, grad = (each.brief for each in (graph["a**2"].value, graph["a**2"].grad) if each)
    assert f'"a**2\\n= {value}\\ngrad {grad}"' in graph.to_dot()
    part = graph["a"].parts["a**2"].brief
    assert f'-->|"{part}"| ' in graph.to_mermaid()
    assert f'["a#42;#42;2<br/>= {value}<br/>grad {grad}"]' in graph.to_mermaid()


def test_page_is_small_and_asks_nothing_of_the_network() -> None:
    film = Film.of(loss, [(leaf(0.25 * i), leaf(0.0)) for i in range(10)])
    text = page(film)
    assert len(text.encode()) < 100_000
    assert not re.search(r"(src|href)\s*=|@import|url\((?!#)|https?://(?!www\.w3\.org)", text)


@pytest.mark.slow
def test_sixty_cards_are_drawn_within_a_tenth_of_a_second() -> None:
    def chain(a, b):
        for _ in range(10):
            a, b = torch.sin(a * b) + a, torch.cos(b) * a
        return a + b

    graph = trace(chain, leaf(0.5), leaf(0.1))
    assert len(fold(graph, "operation").cards) >= 50
    times = []
    for _ in range(3):
        started = time.thread_time()
        graph.to_svg(detail="operation")
        times.append(time.thread_time() - started)
    assert min(times) < 0.1


def test_cards_of_a_film_have_room_for_the_widest_number() -> None:
    film = Film.of(loss, [(leaf(v), leaf(0.0)) for v in (2.5, 1.23456e-7)])
    alone, together = (page(graph) for graph in (film[0], film))
    width = re.compile(r'<rect width="([0-9.]+)"')
    first = [float(w) for w in width.findall(alone)]
    shared = [float(w) for w in width.findall(together)]
    assert all(a <= b for a, b in zip(first, shared, strict=True))
    assert sum(first) < sum(shared)


def test_every_text_fits_its_card() -> None:
    for fn, detail in ((loss, "operation"), (loss, "kernel"), (descent, "statement")):
        for card in fold(trace(fn, leaf(0.5), leaf(0.0)), detail).cards:
            width = size_of(card)[0]
            texts = dict(rows_of(card))
            head = text_width(texts["title"], 13.0) + text_width(texts.get("op", ""), 11.0)
            assert head + 20 <= width + 1e-9
            assert all(text_width(t, 11.0) + 20 <= width + 1e-9 for t in texts.values())


def test_page_draws_a_frame_anew_where_its_structure_changed() -> None:
    def branch(a):
        return (a * 2 if a > 1 else a + 3 * a).sum()

    film = Film.of(branch, [(leaf(0.5),), (leaf(2.0),)])
    assert film.changes == (1,)
    assert page(film).count('"changed":true') == 1


def test_text_is_measured_and_cut_in_the_middle() -> None:
    assert text_width("图") == pytest.approx(2 * text_width("a"))
    cut = shorten("abcdefghijklmnopqrstuvwxyz", text_width("abcdefghij"))
    assert cut.startswith("abc")
    assert cut.endswith("z")
    assert "…" in cut
    assert text_width(cut) <= text_width("abcdefghij") + 1


def test_show_opens_the_page_in_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr("webbrowser.open", opened.append)
    graph = trace(loss, leaf(0.5), leaf(0.0))
    graph.show()
    (address,) = opened
    file = Path(address.removeprefix("file://"))
    assert file.read_text(encoding="utf-8") == page(graph)
    file.unlink()


def test_show_shows_the_page_inside_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    shell = SimpleNamespace(kernel=None)
    display = SimpleNamespace(display=shown.append, HTML=str)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    film = Film.of(loss, [(leaf(0.25 * i), leaf(0.0)) for i in range(2)])
    film.show()
    (frame,) = shown
    assert frame.startswith("<div><iframe")
    assert unescape(frame).count("<!doctype html>") == 1


@pytest.mark.parametrize("draw", ["to_svg", "to_html"])
def test_an_unknown_detail_or_theme_is_told_with_those_that_there_are(draw: str) -> None:
    graph = trace(loss, leaf(0.5), leaf(0.0))
    with pytest.raises(TraceError, match="`detail` must be one of 'statement', .* got 'kernels'"):
        getattr(graph, draw)(detail="kernels")
    with pytest.raises(TraceError, match="`theme` must be one of 'auto', 'light', 'dark'"):
        graph.to_svg(theme="black")  # pyright: ignore[reportArgumentType]
