"""What cannot be seen is one honest card, and gradients flow through it."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from gradfit.graph import autograd_private as private
from gradfit.graph import trace


def leaf(value):
    return torch.tensor(value, requires_grad=True)


def hidden(graph):
    return [node for node in graph if node.kind == "hidden"]


def test_vmap_is_one_card():
    def fn(x):
        return torch.vmap(lambda t: t.sin() * 2)(x).sum()

    graph = trace(fn, leaf([1.0, 2.0]))
    (card,) = hidden(graph)
    assert card.label == "torch.vmap(lambda t: t.sin() * 2)(x)"
    assert card.reason == "not seen by the trace: 2 autograd nodes"
    np.testing.assert_allclose(graph["x"].grad, 2 * np.cos([1.0, 2.0]), rtol=1e-6)
    np.testing.assert_array_equal(card.grad, [1, 1])


def test_functional_gradient_is_one_card_that_knows_its_leaves():
    y = leaf(2.0)

    def fn(x):
        return (torch.func.grad(lambda t: (t**3 * y).sum())(x) * x).sum()

    graph = trace(fn, leaf([1.0, 2.0]))
    (card,) = hidden(graph)
    assert {graph[edge.source].label for edge in card.inputs} == {"x", graph.leaves[1].label}
    assert float(graph.leaves[1].grad) == pytest.approx(3 * (1 + 8))


def test_what_was_computed_before_hangs_on_the_leaves_it_came_from():
    a = leaf([1.0, 2.0])
    h = a * 3
    graph = trace(lambda h, a: (h * a).sum(), h, a)
    assert "before the trace" in graph["h"].reason
    np.testing.assert_array_equal(graph["a"].grad, [6, 12])
    assert {k: np.asarray(v).tolist() for k, v in graph["a"].parts.items()} == {
        "h": [3, 6],
        "h * a": [3, 6],
    }


def test_what_another_thread_computed_is_one_card():
    def fn(x):
        found = []
        worker = threading.Thread(target=lambda: found.append(x * 5))
        worker.start()
        worker.join()
        return (found[0] * x).sum()

    graph = trace(fn, leaf([1.0, 2.0]))
    assert len(hidden(graph)) == 1
    np.testing.assert_array_equal(graph["x"].grad, [10, 20])


@pytest.mark.slow
def test_compiled_functions_run_as_they_were_written():
    compiled = torch.compile(lambda x: torch.sin(x) * 2, backend="eager")
    compiled(leaf(1.0))
    graph = trace(lambda x: compiled(x).sum(), leaf([1.0, 2.0]))
    assert not hidden(graph)
    assert [node.op for node in graph] == ["", "sin", "*", "sum"]


# -- private names of torch ------------------------------------------------------------------------


def test_every_private_name_is_there():
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    assert private.version(y) == 0
    assert private.version(y.add_(1)) == 1
    assert private.base(y.view(-1)) is y
    assert private.memory(y.view(-1)) == private.memory(y)
    assert private.memory(y) != private.memory(x)
    assert private.sequence(y.grad_fn) is not None
    assert private.sequence_now() > private.sequence(y.grad_fn)
    assert not private.in_transform()
    assert private.is_accumulator(y.grad_fn.next_functions[0][0].next_functions[0][0])
    assert not private.is_accumulator(y.grad_fn)
    assert private.APPLY_CODE is not None
    assert private.MODULE_CALL_CODE is not None
    assert all(Path(file).exists() for file in private.TRANSFORM_FILES)


def test_private_names_find_what_was_overwritten():
    x = torch.ones(2, requires_grad=True)
    y = x.exp()
    assert private.overwritten(y.grad_fn) == ()
    node = y.grad_fn
    y.mul_(3)
    assert private.overwritten(node) == ("result",)


def test_private_names_see_transforms_and_custom_functions():
    from graph_programs import Cube

    seen = []

    def inner(t):
        seen.append(private.in_transform())
        return t * 2

    torch.vmap(inner)(torch.ones(2))
    assert seen == [True]
    assert private.forward_class(Cube.apply(torch.ones(1, requires_grad=True)).grad_fn) is Cube


def test_tensors_that_count_no_writes_are_taken_as_never_written():
    with torch.inference_mode():
        x = torch.ones(2)
    assert private.version(x) == 0


def test_the_compiler_is_not_loaded_for_a_trace():
    import subprocess

    code = (
        "import sys, torch\nfrom gradfit.graph import trace\n"
        "trace(lambda x: x * 2, torch.ones(1, requires_grad=True)).check()\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
