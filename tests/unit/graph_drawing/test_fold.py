"""Long graphs fold: by statement, by line of a loop, by layer of a module."""

import re

import pytest
import torch
from torch import nn

from gradfit.graph import Graph, trace
from gradfit.graph.fold import Card, fold
from gradfit.graph.svg import rows_of

X = torch.linspace(0, 1, 4, dtype=torch.float64)


def leaf(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def descent(a, b):
    for _ in range(100):
        r = a * X + b
        c = torch.mean(r**2)
        a = a - 0.1 * c
    return c


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(30))

    def forward(self, v):
        for layer in self.layers:
            v = torch.relu(layer(v)) + v
        return v.sum()


def card(graph: Graph, start: str) -> Card:
    (found,) = [c for c in fold(graph).cards if c.title.startswith(start)]
    return found


def width(graph: Graph) -> float:
    found = re.search(r'width="(\d+)"', graph.to_svg())
    assert found
    return float(found.group(1))


def test_loop_of_a_hundred_steps_folds_to_its_lines() -> None:
    graph = trace(descent, leaf(0.5), leaf(0.1))
    assert len(graph.nodes) > 500
    assert [(c.title, c.times) for c in fold(graph).cards if c.times > 1] == [
        ("r = a * X + b", 100),
        ("c = torch.mean(r**2)", 100),
        ("a = a - 0.1 * c", 100),
    ]


def test_a_line_that_ran_often_shows_its_first_and_its_last_number() -> None:
    graph = trace(descent, leaf(0.5), leaf(0.1))
    losses = [node for node in graph if node.name == "c"]
    rows = rows_of(card(graph, "c ="))
    first, last = losses[0], losses[-1]
    assert first.value is not None
    assert last.value is not None
    assert ("value", f"= {first.value.brief} → {last.value.brief}") in rows
    assert ("note", "2 operations") in rows


def test_what_goes_round_in_a_loop_is_said() -> None:
    graph = trace(descent, leaf(0.5), leaf(0.1))
    assert card(graph, "a =").rounds == ("r", "a")
    assert card(graph, "r =").rounds == ()


def test_thirty_layers_of_a_loop_are_one_line_and_two_stacks_of_weights() -> None:
    torch.manual_seed(0)
    graph = trace(Residual(), torch.ones(4))
    cards = fold(graph).cards
    assert [(c.title, c.times) for c in cards if c.kind == "leaf"] == [
        ("layers.0 … 29.weight", 30),
        ("layers.0 … 29.bias", 30),
    ]
    assert card(graph, "v = torch.relu(layer(v)) + v").times == 30
    assert len(cards) == 5
    assert width(graph) < 700


def test_weights_of_many_layers_show_the_span_of_all() -> None:
    torch.manual_seed(0)
    graph = trace(Residual(), torch.ones(4))
    weights = [n for n in graph.leaves if n.label.endswith("weight")]
    shown = card(graph, "layers.0 … 29.weight").node
    assert shown.value is not None
    assert shown.grad is not None
    assert shown.value.stats.low == min(n.value.stats.low for n in weights if n.value is not None)
    assert shown.grad.stats.high == max(n.grad.stats.high for n in weights if n.grad is not None)


def test_a_sequence_of_thirty_modules_folds_to_what_repeats() -> None:
    net = nn.Sequential(*(m for _ in range(30) for m in (nn.Linear(4, 4), nn.Tanh())))
    titles = [(c.title, c.times) for c in fold(trace(lambda v: net(v).sum(), X.float())).cards]
    assert ("net.0 … 58: linear", 30) in titles
    assert ("net.1 … 59: tanh", 30) in titles
    assert len(titles) <= 7


def test_a_transformer_of_thirty_layers_folds_to_one_layer() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 30, enable_nested_tensor=False)
    graph = trace(lambda v: encoder(v).sum(), torch.ones(1, 3, 8))
    titles = [(c.title, c.times) for c in fold(graph).cards]
    assert ("encoder.layers.0 … 29.linear1: linear", 30) in titles
    assert ("encoder.layers.0 … 29.norm2: layer_norm", 30) in titles
    assert len(titles) <= 30


def test_a_few_modules_are_left_in_their_statement() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    graph = trace(lambda v: net(v).sum(), X.float())
    assert [c.title for c in fold(graph, "statement").cards if c.kind == "result"] == [
        "net(v).sum()"
    ]


def test_layers_of_another_kind_are_not_joined() -> None:
    net = nn.Sequential(*(m for _ in range(20) for m in (nn.Linear(4, 4), nn.Tanh(), nn.ReLU())))
    titles = [c.title for c in fold(trace(lambda v: net(v).sum(), X.float())).cards]
    assert "net.1 … 58: tanh" in titles
    assert "net.2 … 59: relu" in titles


def test_constants_made_in_a_loop_stand_beside_it_once() -> None:
    def noisy(a):
        for _ in range(40):
            a = a + torch.ones(2, dtype=torch.float64) * a
        return a.sum()

    cards = fold(trace(noisy, leaf(0.5))).cards
    assert [(c.title, c.times) for c in cards if c.kind == "constant"] == [
        ("torch.ones(2, dtype=torch.float64)", 40)
    ]


def test_statement_shows_names_and_writes_as_they_were_written() -> None:
    def writes(a):
        h = a * 2
        h.mul_(3)
        v = h.view(-1)
        h += 1
        return v.sum()

    titles = {c.title: c.note for c in fold(trace(writes, leaf(0.5))).cards}
    assert titles["h = a * 2"] == ""
    assert titles["h.mul_(3)"] == "a new version of h"
    assert titles["h += 1"] == "a new version of h"


def test_an_arrow_carries_all_that_comes_back_along_it() -> None:
    def loss(a, b):
        p = a * b
        q = p**2 + p * X
        r = p + b
        return q.sum() + r

    graph = trace(loss, leaf(0.5), leaf(2.0))
    picture = fold(graph, "statement")
    titles = [c.title for c in picture.cards]
    p, q, r = (titles.index(t) for t in ("p = a * b", "q = p**2 + p * X", "r = p + b"))
    parts = {(k.source, k.target): k.part for k in picture.links}
    assert parts[p, q] == pytest.approx(float(2 * 4 * 1.0 + X.sum()))
    assert parts[p, r] == pytest.approx(1.0)
    assert parts[q, len(titles) - 1] is None  # its only way on: the card says it


class Block(nn.Module):
    def forward(self, v):
        return torch.relu(v) * 2


@pytest.mark.parametrize("n", [1, 3, 40])
def test_a_statement_is_split_around_what_it_calls(n: int) -> None:
    net = nn.Sequential(*(m for _ in range(n) for m in (nn.Linear(4, 4), Block())))
    graph = trace(lambda v: net(v).sum(), X.float())
    picture = fold(graph, "statement")
    place = {m: k for k, c in enumerate(picture.cards) for m in c.members}
    links = {(k.source, k.target) for k in picture.links}
    ways = [(e.source, n) for n in graph for e in n.inputs if graph[e.source].kind == "op"]
    drawn = {(place[a], place[b.id]) for a, b in ways if place[a] != place[b.id]}
    rounds = {pair for pair in drawn if pair[0] > pair[1]}
    assert drawn - rounds <= links
    assert len(rounds) <= (n > 20)  # only what goes round in a folded loop is left out
    assert len(picture.cards) <= 130
