"""A graph is plain data: look up, print, store, line up as a film."""

import json
import pickle

import numpy as np
import pytest
import torch
from graph_programs import TWENTY

from gradfit.errors import TraceError
from gradfit.graph import Film, Snapshot, trace


def leaf(value):
    return torch.tensor(value, requires_grad=True)


def loss(a, b, x, y):
    r = a * x - y + b
    return torch.mean(r**2 / (a**2 + 1))


@pytest.fixture
def graph():
    return trace(loss, leaf(0.5), leaf(0.0), torch.arange(4.0), torch.arange(4.0) * 2)


def branch(x):
    if x > 0:
        return x * 2
    return x - 1


def test_nodes_are_found_by_name_expression_operation_and_number(graph):
    assert graph["a"] is graph[0]
    assert graph["a*x - y"] is graph["(a * x - y)"] is graph[5]
    assert graph["r"].expr == "a * x - y + b"
    assert graph["a * x - y + b"] is graph["r"]
    assert graph["mean"].is_result
    assert graph[-1].id == len(graph) - 1
    with pytest.raises(TraceError, match=r"no node is called or written `q`.*`a`, `b`"):
        graph["q"]


def test_of_several_with_one_name_the_leaf_comes_first_then_the_last():
    def fn(p):
        for _ in range(3):
            p = p * 2
        return p

    graph = trace(fn, leaf(1.0))
    assert graph["p"].kind == "leaf"
    assert [float(node.value) for node in graph.find("p")] == [1, 2, 4, 8]
    assert float(graph["p * 2"].value) == 8


def test_uses_and_leaves_are_listed(graph):
    assert [graph[use].label for use in graph.uses[graph["a"].id]] == ["a * x", "a**2"]
    assert [node.name for node in graph.leaves] == ["a", "b"]
    assert graph.names == ("a", "b", "x", "y", "r")


def test_table_has_one_row_per_node_and_prints_aligned(graph):
    table = graph.table()
    assert len(table) == len(graph)
    row = table[graph["r"].id]
    assert (row["name"], row["op"], row["line"]) == ("r", "+", graph["r"].source.line)
    assert row["requires_grad"]
    lines = str(table).splitlines()
    assert len(lines) == len(graph) + 2
    assert lines[0].split()[:4] == ["#", "name", "expression", "op"]
    assert repr(graph) == str(table)
    html = trace(lambda x: x < 1, torch.ones(()))._repr_html_ and graph.table()._repr_html_()
    assert html.count("<tr>") == len(graph) + 1


def test_table_escapes_what_html_would_read():
    table = trace(lambda x: (x < 1).sum(), torch.ones(())).table()
    assert "x &lt; 1" in table._repr_html_()


def test_explain_says_where_the_gradient_comes_from(graph):
    text = graph.explain("a")
    assert "`a` is a leaf that requires grad" in text
    assert "It is used twice: in `a * x` (line" in text
    assert "through a**2" in text
    assert f"= {float(graph['a'].grad):.4g}" in text
    assert "central differences agree to" in text


def test_explain_says_why_there_is_no_gradient():
    graph = trace(lambda x, y: x.detach() * y, leaf(1.0), leaf(2.0))
    assert "`detach` cuts the graph" in graph.explain("x.detach()")
    assert "Its gradient is None" in graph.explain("x")
    read = trace(branch, leaf(1.0))
    assert "Python looked at the number here and got True" in read.explain(2)


def test_a_graph_survives_being_stored(graph):
    again = pickle.loads(pickle.dumps(graph))
    assert again == graph
    assert again["a"].grad == graph["a"].grad
    assert str(again.table()) == str(graph.table())
    assert again.check()
    assert again.to_numpy().source == graph.to_numpy().source
    with pytest.raises(TraceError, match="a loaded graph has no function to run"):
        again.compare("export")


def test_a_loaded_graph_runs_every_operation_that_torch_names():
    fn, inputs = TWENTY["in_place_and_views"]
    graph = trace(fn, *inputs)
    again = pickle.loads(pickle.dumps(graph))
    verdicts = again.check().operations
    assert len(verdicts) > 10
    assert {v.outcome for v in verdicts} == {"agrees"}


def test_arguments_that_cannot_be_stored_are_left_out():
    graph = trace(lambda x, f: f(x), leaf(1.0), lambda x: x * 2)
    again = pickle.loads(pickle.dumps(graph))
    assert again == graph
    assert again.call.args == ()


def test_graphs_of_the_same_run_are_equal_and_of_another_are_not(graph):
    inputs = (leaf(0.0), torch.arange(4.0), torch.arange(4.0) * 2)
    assert trace(loss, leaf(0.5), *inputs) == graph
    assert trace(loss, leaf(0.6), *inputs) != graph


def test_json_is_strict_and_complete(tmp_path, graph):
    text = graph.to_json(tmp_path / "graph.json")
    assert (tmp_path / "graph.json").read_text(encoding="utf-8") == text
    data = json.loads(text)
    assert len(data["nodes"]) == len(graph)
    node = data["nodes"][graph["a"].id]
    assert node["parts"]["a**2"]["values"] == [float(graph["a"].parts["a**2"])]
    bad = trace(lambda x: torch.log(x), leaf([-1.0, 0.0])).to_json()
    assert json.loads(bad)["nodes"][1]["value"]["values"] == ["nan", "-inf"]


def test_nothing_in_a_graph_needs_a_gradient(graph):
    tensors = [v for node in graph for v in (node.value, node.grad) if v is not None]
    assert all(isinstance(v, Snapshot) for v in tensors)
    assert not graph.result.requires_grad


@pytest.mark.parametrize(
    ("value", "brief"),
    [
        (torch.tensor(0.5), "0.5"),
        (torch.tensor([1, 2, 3]), "[1, 2, 3]"),
        (torch.arange(5.0), "0 .. 4"),
        (torch.tensor([1.0, float("nan"), 2.0, 3.0]), "1 .. 3 (1 not finite)"),
        (torch.full((4,), float("inf")), "4 not finite"),
        (torch.tensor([True, False, True, True]), "3 of 4 true"),
        (torch.zeros(0), "empty"),
        (torch.tensor(1 + 2j), "1+2j"),
    ],
)
def test_snapshots_are_brief(value, brief):
    assert trace(lambda v: v, value)["v"].value.brief == brief


def test_snapshots_read_like_numbers_and_arrays(graph):
    value = graph["x"].value
    np.testing.assert_array_equal(value, [0, 1, 2, 3])
    assert value.stats == (0, 3, 1.5, 0)
    assert float(graph["a"].value) == graph["a"].value.item() == 0.5
    assert value != graph["y"].value
    assert repr(value) == "float32 (4,): 0 .. 3"


def test_a_film_shows_where_the_structure_changed():
    film = Film.of(branch, [(leaf(v),) for v in (2.0, 1.0, -1.0)])
    assert len(film) == 3
    assert film.changes == (2,)
    assert film.labels == ("step 0", "step 1", "step 2")
    assert [float(frame["x"].grad) for frame in film] == [2, 2, 1]
    assert "structure changes at [2]" in repr(film)


def test_a_film_refuses_what_does_not_fit(graph):
    with pytest.raises(TraceError, match="at least one graph"):
        Film(())
    with pytest.raises(TraceError, match="1 came for 2 frames"):
        Film((graph, graph), ("only",))


def test_explain_says_what_the_backward_runs():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    graph = trace(lambda x: torch.sin(x).sum(), x)
    assert "Its backward runs `cos` and `mul`." in graph.explain("torch.sin(x)")
    assert "Its backward runs" not in graph.explain("x")
