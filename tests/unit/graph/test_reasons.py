"""Each tensor says why it requires grad, or why not."""

import numpy as np
import pytest
import torch
from torch import nn

from gradfit.graph import trace


def leaf(value):
    return torch.tensor(value, requires_grad=True)


CUTS = {
    "detach": (lambda x: x.detach() * 1, "x.detach()", "`detach` cuts the graph here"),
    "data": (lambda x: x.data * 1, "x.data", "`.data` cuts the graph here"),
    "argmax": (lambda x: x.argmax() * 1, "x.argmax()", "int64 values have no derivative"),
    "compare": (lambda x: (x > 1) * 1, "x > 1", "bool values have no derivative"),
    "zeros_like": (
        lambda x: torch.zeros_like(x) * 1,
        "torch.zeros_like(x)",
        "`zeros_like` has no derivative",
    ),
}


@pytest.mark.parametrize("name", CUTS)
def test_reason_names_what_cuts_the_graph(name):
    fn, text, reason = CUTS[name]
    node = trace(fn, leaf([1.0, 2.0]))[text]
    assert not node.requires_grad
    assert reason in node.reason


def test_reason_tells_recording_that_was_off_from_inference_mode():
    off = trace(torch.no_grad()(lambda x: x * 2), leaf(1.0))["x*2"]
    assert off.reason == "no_grad: `x` requires grad, but recording was off"
    assert off.in_no_grad
    inference = trace(torch.inference_mode()(lambda x: x * 2), leaf(1.0))["x*2"]
    assert inference.reason.startswith("inference mode: `x` requires grad")


def test_reason_of_a_leaf_says_who_set_it():
    def fn(x, p):
        made = torch.ones(1, requires_grad=True)
        later = torch.zeros(1)
        later.requires_grad_()
        return x * p * made + later

    graph = trace(fn, leaf(1.0), nn.Parameter(torch.ones(1)))
    assert "you set requires_grad=True" in graph["x"].reason
    assert "nn.Parameter sets" in graph["p"].reason
    assert "made here with" in graph["made"].reason
    assert "switched on here" in graph["later"].reason
    assert {n.name for n in graph.leaves} == {"x", "p", "made", "later"}
    assert all(n.grad is not None for n in graph.leaves)


def test_reason_of_a_constant_says_that_it_came_without():
    graph = trace(lambda x, y: x * y, leaf(1.0), torch.ones(()))
    assert graph["y"].kind == "constant"
    assert graph["y"].reason == "came in without requires_grad=True"
    made = trace(lambda x: x * torch.ones(()), leaf(1.0))["torch.ones(())"]
    assert made.reason == "made here without requires_grad=True"


def test_gradient_read_inside_the_function_is_no_part_of_the_graph():
    def fn(x):
        (x**2).backward()
        return x.grad * 2

    graph = trace(fn, leaf(3.0))
    node = graph["x.grad"]
    np.testing.assert_array_equal(node.value, 6)
    assert "finished gradient" in node.reason
