"""A trace changes nothing, agrees with autograd everywhere, and so does its NumPy program."""

import inspect
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from graph_programs import TWENTY
from hypothesis import given, settings
from torch import Tensor

import gradfit as gf
from gradfit import models
from gradfit.errors import TraceError
from gradfit.graph import Graph, trace
from gradfit.graph.operations import outputs
from laws.programs import Step, leaves, steps, written


def gradients(results: list[Tensor], inputs: list[Tensor]) -> list[Tensor | None]:
    roots = [result for result in results if result.requires_grad]
    return list(
        torch.autograd.grad(roots, inputs, [torch.ones_like(r) for r in roots], allow_unused=True)
    )


def assert_equals_autograd(graph: Graph, fn, inputs) -> None:
    """Outputs and leaf gradients are equal bit for bit; no ``.grad`` is touched."""
    plain = [tensor for _, tensor in outputs(fn(*inputs))]
    traced = [tensor for _, tensor in outputs(graph.result)]
    assert all(torch.equal(one, two) for one, two in zip(plain, traced, strict=True))
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    nodes = [node for node in graph.nodes[: len(inputs)] if node.kind == "leaf"]
    for node, gradient in zip(nodes, gradients(plain, wanted), strict=True):
        if gradient is None:
            assert node.grad is None
        else:
            np.testing.assert_array_equal(np.asarray(node.grad), gradient.numpy())
    assert all(tensor.grad is None for tensor in inputs)


def assert_parts_add_up(graph: Graph, rounding: float) -> None:
    for node in graph:
        if node.grad is None:
            continue
        total = np.ones(node.grad.shape) if node.is_result else np.zeros(node.grad.shape)
        for part in node.parts.values():
            total = total + np.asarray(part)
        scale = max(np.abs(total).max(initial=0), 1e-30)
        assert np.abs(total - np.asarray(node.grad)).max(initial=0) <= rounding * scale, node.label


@settings(max_examples=200)
@given(steps)
def test_random_programs_agree_with_autograd_and_with_numpy(program: list[Step]) -> None:
    _, fn = written(program)
    inputs = leaves()
    graph = trace(fn, *inputs)
    assert_equals_autograd(graph, fn, inputs)
    assert_parts_add_up(graph, 1e-13)
    results, found = graph.to_numpy().run()
    assert abs(results[0] - float(graph.result)) <= 1e-12 * max(1, abs(float(graph.result)))
    for node in graph.leaves:
        if node.grad is not None:
            recorded = np.asarray(node.grad)
            scale = max(np.abs(recorded).max(), 1e-3)
            assert np.abs(found[node.name] - recorded).max() <= 1e-12 * scale, node.name


@settings(max_examples=25)
@given(steps)
def test_every_operation_of_a_random_program_passes_its_check(program: list[Step]) -> None:
    _, fn = written(program)
    report = trace(fn, *leaves()).check()
    allowed = {"cut"} if any(step[0] == "unrecorded" for step in program) else set()
    assert {verdict.outcome for verdict in report.wrong} <= allowed, str(report)


@pytest.mark.parametrize("name", TWENTY)
def test_the_twenty_functions_agree_with_autograd(name: str) -> None:
    fn, inputs = TWENTY[name]
    graph = trace(fn, *inputs)
    assert_equals_autograd(graph, fn, inputs)
    assert_parts_add_up(graph, 1e-5)
    assert not [node for node in graph if node.kind == "hidden"]


@pytest.mark.parametrize("name", TWENTY)
def test_the_twenty_functions_pass_their_checks(name: str) -> None:
    fn, inputs = TWENTY[name]
    report = trace(fn, *inputs).check()
    allowed = {"cut"} if name == "without_recording" else set()
    assert {verdict.outcome for verdict in report.wrong} == allowed, str(report)
    judged = [v for v in report.operations if v.outcome in ("agrees", "kink")]
    assert len(judged) >= len(report.operations) - 1


NO_RULE = {"custom_functions": "Cube.apply", "alias_of_apply": "Cube.apply", "twice": "grad"}


@pytest.fixture
def in_double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("name", [name for name in TWENTY if name not in NO_RULE])
@pytest.mark.usefixtures("in_double_precision")
def test_the_twenty_functions_agree_with_numpy(name: str) -> None:
    fn, given = TWENTY[name]
    inputs = [t.detach().double().requires_grad_(t.requires_grad) for t in given]
    graph = trace(fn, *inputs)
    results, found = graph.to_numpy().run()
    plain = [tensor.detach().numpy() for _, tensor in outputs(fn(*inputs))]
    for result, wanted in zip(results, plain, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-12)
    for node in graph.leaves:
        recorded = np.asarray(node.grad)
        scale = np.abs(recorded).max()
        np.testing.assert_allclose(found[node.label], recorded, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("name", NO_RULE)
def test_an_operation_without_a_numpy_rule_is_named(name: str) -> None:
    fn, inputs = TWENTY[name]
    with pytest.raises(TraceError, match=rf"no NumPy rule for .*{NO_RULE[name]}"):
        trace(fn, *inputs).to_numpy()


@pytest.mark.parametrize("name", models.names())
def test_the_graph_of_every_model_passes_its_checks_at_the_solution(name: str) -> None:
    fn = models.get(name)
    names = [*inspect.signature(fn).parameters][1:]
    start = {each: 1 + 0.3 * k for k, each in enumerate(names)}
    x = torch.linspace(0.6, 5, 20, dtype=torch.float64)
    values = [torch.tensor(v, dtype=torch.float64) for v in start.values()]
    noise = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fit = gf.fit(name, x, fn(x, *values) + 0.002 * noise, sx=0.002, sy=0.002, start=start)
    graph = fit.graph()
    assert float(graph.result) == pytest.approx(fit.chi2, rel=1e-9)
    for against in ("differences", "numpy"):  # gradients vanish here, and are judged all the same
        report = graph.check(against)
        assert report, str(report)
        assert {v.outcome for v in (*report.operations, *report.leaves)} == {"agrees"}
