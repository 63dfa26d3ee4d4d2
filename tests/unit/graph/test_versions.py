"""One node for each version of a tensor, also when it is written through a view."""

import numpy as np
import torch

from gradfit.graph import trace


def leaf(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def ids(node):
    return [edge.source for edge in node.inputs]


def test_write_in_place_is_a_new_node_below_the_old_one():
    def fn(x):
        y = x * 2
        y.mul_(3)
        return y.sum()

    graph = trace(fn, leaf([1.0, 2.0]))
    old, new = graph.find("y")
    assert (old.op, new.op, new.writes) == ("*", "mul_", old.id)
    np.testing.assert_array_equal(old.value, [2, 4])
    np.testing.assert_array_equal(new.value, [6, 12])
    np.testing.assert_array_equal(old.grad, [3, 3])
    assert new.version > old.version


def test_write_through_a_view_reaches_what_the_view_looks_into():
    def fn(x, s):
        h = x * 2
        v = h.view(-1)
        v[0] = s
        return (h * x).sum()

    x, s = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf(5.0)
    graph = trace(fn, x, s)
    write = graph["v[0] = s"]
    assert write.name == "h"
    assert ids(graph["h * x"])[0] == write.id
    np.testing.assert_array_equal(write.value, [[5, 4], [6, 8]])
    assert float(graph["s"].grad) == 1
    np.testing.assert_array_equal(graph["x"].grad, [[5, 8], [12, 16]])


def test_a_view_used_after_a_write_to_its_owner_is_a_node_of_its_own():
    def fn(x):
        h = x * 2
        v = h[0]
        h.add_(1)
        return v * 3

    graph = trace(fn, leaf([1.0, 2.0]))
    old, new = graph.find("v")
    assert new.writes == old.id
    assert ids(new) == [graph["h.add_(1)"].id]
    assert float(new.value) == 3
    np.testing.assert_array_equal(graph["x"].grad, [6, 0])


def test_writes_behind_the_back_of_autograd_are_shown():
    def fn(x):
        y = x * 2
        y.data.mul_(10)
        return (y * x).sum()

    graph = trace(fn, leaf([1.0, 2.0]))
    changed = graph.find("y")[-1]
    assert changed.op == "changed"
    assert "changed through another name" in changed.reason
    np.testing.assert_array_equal(changed.value, [20, 40])
    np.testing.assert_array_equal(graph["x"].grad, [22, 44])


def test_write_while_nothing_is_recorded_sends_the_gradient_straight_through():
    def fn(x):
        h = x * 2
        with torch.no_grad():
            h[0] = 0
        return (h * x).sum()

    x = leaf([1.0, 2.0])
    graph = trace(fn, x)
    (expected,) = torch.autograd.grad(fn(x), x)
    np.testing.assert_array_equal(graph["x"].grad, expected)
    parts = [np.asarray(part) for part in graph["x"].parts.values()]
    np.testing.assert_array_equal(sum(parts), expected)


def test_operation_with_an_out_argument_writes_it():
    def fn(x):
        out = torch.zeros(2, dtype=x.dtype)
        torch.add(x, 1, out=out)
        return out * 2

    graph = trace(fn, torch.ones(2, dtype=torch.float64))
    assert graph.find("out")[-1].op == "add"
    np.testing.assert_array_equal(graph["out * 2"].value, [4, 4])


def test_outputs_of_one_operation_are_nodes_of_their_own():
    def fn(x):
        q, r = torch.linalg.qr(x)
        return q.sum() + r.sum()

    x = leaf([[2.0, 1.0], [1.0, 3.0]])
    graph = trace(fn, x)
    head = graph["torch.linalg.qr(x)"]
    assert head.value is None
    assert [graph["q"].output, graph["r"].output] == [0, 1]
    assert ids(graph["q"]) == ids(graph["r"]) == [head.id]
    (expected,) = torch.autograd.grad(fn(x), x)
    np.testing.assert_array_equal(graph["x"].grad, expected)


def test_several_tensors_written_at_once_are_each_a_new_version():
    def fn(p, q):
        with torch.no_grad():
            torch._foreach_add_([p, q], 1.0)
        return p * q

    graph = trace(fn, leaf(1.0), leaf(2.0))
    assert [float(node.value) for node in graph.find("p")] == [1, 2]
    assert [float(node.value) for node in graph.find("q")] == [2, 3]
    assert float(graph["p * q"].value) == 6


def test_optimizers_are_seen_to_move_the_parameters():
    p = leaf([1.0, 2.0])
    optimizer = torch.optim.Adam([p], lr=0.1)

    def step(p):
        optimizer.zero_grad()
        (p**2).sum().backward()
        optimizer.step()

    graph = trace(step, p)
    first, last = graph.find("p")[0], graph.find("p")[-1]
    np.testing.assert_array_equal(first.grad, [2, 4])
    np.testing.assert_allclose(last.value, [0.9, 1.9])
    assert last.source.statement == "optimizer.step()"
