"""Custom Functions are one operation, with their own forward and backward."""

import numpy as np
import pytest
import torch
from graph_programs import Cube, ScaledSine, cube

from gradfit.graph import trace


def leaf(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("call", [lambda x: Cube.apply(x).sum(), lambda x: cube(x).sum()])
def test_custom_function_is_one_node_by_its_name(call):
    graph = trace(call, leaf([1.0, 2.0]))
    (node,) = [node for node in graph if node.custom]
    assert node.op == "Cube.apply"
    assert graph["Cube.apply"] is node
    assert len(graph) == 3
    np.testing.assert_array_equal(graph["x"].grad, [3, 12])
    assert "grad * 3 * x**2" in node.custom.backward
    assert "return x**3" in node.custom.forward
    assert node.custom.backward_line > node.custom.forward_line


def test_each_input_of_a_new_style_function_gets_its_part():
    graph = trace(lambda x, s: ScaledSine.apply(x, s).sum(), leaf([0.3, 0.4]), leaf(2.0))
    np.testing.assert_allclose(graph["x"].grad, 2 * np.cos([0.3, 0.4]), rtol=1e-15)
    np.testing.assert_allclose(graph["s"].grad, np.sin([0.3, 0.4]).sum(), rtol=1e-15)
    assert "torch.cos(x)" in graph.explain("ScaledSine.apply(x, s)")


def test_two_calls_through_an_alias_are_told_apart():
    def fn(x):
        first = cube(x)
        second = cube(x * 2)
        return second - first

    graph = trace(fn, leaf(1.5))
    assert float(graph["first"].value) == 1.5**3
    assert float(graph["second"].value) == 27
    assert float(graph["x"].grad) == pytest.approx(2 * 3 * 9 - 3 * 1.5**2)


def test_functions_applied_by_other_threads_are_left_alone():
    import threading

    found = []

    def fn(x):
        other = leaf(2.0)
        worker = threading.Thread(target=lambda: found.append(Cube.apply(other)))
        worker.start()
        worker.join()
        return x * 2

    graph = trace(fn, leaf(1.0))
    assert not [node for node in graph if node.custom]
    assert float(found[0].detach()) == 8


def test_a_function_that_fails_leaves_the_trace_in_order():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            raise ArithmeticError("no")

    def fn(x):
        try:
            return Broken.apply(x)
        except ArithmeticError:
            return x * 2

    graph = trace(fn, leaf(1.0))
    assert [node.op for node in graph] == ["", "*"]
