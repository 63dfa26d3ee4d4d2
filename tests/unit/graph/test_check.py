"""Each operation is held against central differences; a wrong backward is named."""

import numpy as np
import pytest
import torch
from torch import nn

from gradfit.errors import TraceError
from gradfit.graph import trace


def leaf(value, dtype=torch.float64):
    return torch.tensor(value, dtype=dtype, requires_grad=True)


class BadCube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x**2  # should be 3


class Single(torch.autograd.Function):
    """Right, but in single precision whatever comes in."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x.float() ** 3).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2


class OnlySingle(torch.autograd.Function):
    """Refuses double precision."""

    @staticmethod
    def forward(ctx, x):
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.cos(x)


def outcomes(report):
    return {verdict.label: verdict.outcome for verdict in report.operations}


def test_the_operation_with_the_wrong_backward_is_named():
    def fn(x):
        return torch.log(torch.sin(BadCube.apply(x * 2)) + 2).sum()

    report = trace(fn, leaf([0.3, 0.4], torch.float32)).check()
    assert not report
    (wrong,) = [verdict for verdict in report.operations if verdict.outcome == "wrong"]
    assert wrong.label == "BadCube.apply(x * 2)"
    assert wrong.worst == pytest.approx(1 / 3, rel=1e-6)
    assert [verdict.label for verdict in report.leaves if verdict.outcome == "wrong"] == ["x"]
    assert set(outcomes(report).values()) == {"agrees", "wrong"}
    assert "wrong" in str(report)
    assert f"line {wrong.line}" in str(report)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_correct_function_is_not_accused_of_low_precision(dtype):
    def fn(x):
        return torch.exp(-(torch.sin(x) ** 2) / 3).mean()

    report = trace(fn, leaf([0.3, 1.4, -2.0], dtype)).check()
    assert report
    assert all(verdict.worst < 1e-8 for verdict in report.operations)


@pytest.mark.parametrize("function", [Single, OnlySingle])
def test_a_correct_custom_function_in_single_precision_is_not_accused(function):
    report = trace(lambda x: (1 / function.apply(x)).sum(), leaf([1.0, 2.0], torch.float32)).check()
    assert report, str(report)
    assert outcomes(report)["function.apply(x)"] == "agrees"


def test_operations_that_read_a_triangle_are_moved_symmetrically():
    values = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])

    def fn(a):
        vectors = torch.linalg.eigh(a).eigenvalues
        return torch.linalg.cholesky(a).sum() + (vectors * torch.arange(3.0)).sum()

    report = trace(fn, leaf(values)).check()
    assert report, str(report)
    assert outcomes(report)["torch.linalg.cholesky(a)"] == "agrees"
    assert report.leaves[0].outcome == "agrees"


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: torch.relu(x).sum(),
        lambda x: torch.max(x, torch.zeros(3)).sum(),
        lambda x: torch.clamp(x, 0, 1).sum(),
    ],
)
def test_a_kink_is_called_a_kink(fn):
    report = trace(fn, leaf([0.0, 0.5, -2.0])).check()
    assert report
    assert "kink" in outcomes(report).values()
    assert report.leaves[0].outcome == "kink"
    assert "slopes" in str(report)


def test_a_gradient_outside_the_slopes_of_a_kink_is_wrong():
    class BadRelu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, grad):
            return grad * 7

    assert not trace(lambda x: BadRelu.apply(x).sum(), leaf([0.0])).check()


def test_random_operations_are_run_with_the_same_numbers():
    report = trace(
        lambda x: (nn.functional.dropout(x, 0.5) * torch.rand(20)).sum(),
        torch.ones(20, requires_grad=True),
    ).check()
    assert report
    assert all(verdict.outcome == "agrees" for verdict in report.operations)


def test_the_check_leaves_the_random_numbers_of_the_user_alone():
    graph = trace(lambda x: nn.functional.dropout(x, 0.5).sum(), torch.ones(20, requires_grad=True))
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    graph.check()
    assert torch.equal(torch.rand(()), expected)


def test_tiny_and_huge_inputs_are_moved_by_steps_that_fit():
    report = trace(lambda x: (1 / x + torch.sqrt(x)).sum(), leaf([1e-9, 2e-5, 1e6])).check()
    assert report, str(report)


def test_what_was_cut_stays_where_it_was():
    def fn(x):
        scale = x.detach().abs().max()
        return (x / scale).sum()

    (verdict,) = trace(fn, leaf([1.0, -3.0])).check().leaves
    assert verdict.outcome == "cut"
    assert "it agrees while what is detached is held fixed" in verdict.note


def test_what_cannot_be_run_again_is_skipped_with_the_reason():
    report = trace(lambda x: torch.vmap(torch.sin)(x).sum(), leaf([1.0, 2.0])).check()
    assert report
    assert "not seen by the trace" in str(report)
    assert report.leaves[0].outcome == "skipped"

    def overwritten(x):
        h = x * 2
        with torch.no_grad():
            h[0] = 0
        return (h * x).sum()

    unrecorded = trace(overwritten, leaf([1.0, 2.0])).check()
    assert unrecorded.leaves[0].outcome == "skipped"
    assert "overwritten where nothing is recorded" in unrecorded.leaves[0].note
    big = trace(lambda x: (x**2).sum(), leaf([1.0, 2.0]), keep=1).check()
    assert {verdict.outcome for verdict in big.leaves} == {"skipped"}
    assert "too big to keep" in str(big)


def test_what_came_in_already_computed_is_checked_like_a_leaf():
    h = leaf([1.0, 2.0]) * 3
    graph = trace(lambda h: (h**2).sum(), h)
    report = graph.check()
    assert [(v.label, v.outcome) for v in report.leaves] == [("h", "agrees")]
    assert graph.check("numpy")


def test_a_backward_that_was_given_its_start_is_not_judged_as_a_whole():
    def fn(x):
        (x * x).backward(torch.tensor([1.0, 3.0], dtype=x.dtype))

    graph = trace(fn, leaf([1.0, 2.0]))
    np.testing.assert_array_equal(graph["x"].grad, [2, 12])
    (verdict,) = graph.check().leaves
    assert verdict.outcome == "skipped"
    with pytest.raises(TraceError, match="was given what to start from"):
        graph.to_numpy()


def test_gradients_that_a_hook_changed_are_not_held_against_the_program():
    def hooked(x):
        y = x * 2
        y.register_hook(lambda gradient: gradient * 10)
        return y * x

    report = trace(hooked, leaf(3.0)).check("numpy")
    assert report
    assert "a hook changed gradients" in str(report)


def test_gradients_that_are_not_finite_are_left_to_problems():
    report = trace(lambda x: torch.sqrt(x).sum(), leaf([0.0])).check()
    assert "see problems()" in str(report)


def test_complex_gradients_are_checked_in_both_directions():
    x = torch.tensor([1 + 2j, 0.5 - 1j], dtype=torch.complex128, requires_grad=True)
    report = trace(lambda x: (x * x.conj() * (2 + 1j)).real.sum(), x).check()
    assert report
    assert {verdict.outcome for verdict in report.operations} == {"agrees"}


def test_a_question_that_does_not_exist_is_refused():
    with pytest.raises(TraceError, match='must be "differences" or "numpy"'):
        trace(lambda x: x * 2, leaf(1.0)).check("magic")


def test_kernels_of_each_backward_are_listed():
    graph = trace(lambda x, y: torch.sin(x * y).sum(), leaf([1.0, 2.0]), leaf(3.0)).with_kernels()
    assert graph["x * y"].kernels.count("mul") == 2
    assert "sum" in graph["x * y"].kernels
    assert graph["torch.sin(x * y)"].kernels == ("cos", "mul")
    assert graph["x"].kernels == ()


def test_a_vanishing_gradient_at_a_minimum_is_not_accused():
    x = torch.linspace(0, 4, 30, dtype=torch.float64)

    def loss(rate):
        return (torch.exp(-rate * x) - torch.exp(-0.7 * x)).square().sum() * 1e4 + 3

    graph = trace(loss, torch.tensor(0.7, dtype=torch.float64, requires_grad=True))
    assert graph.check()
    assert graph.check("numpy")


@pytest.mark.parametrize("offset", [1e-3, 1e-1])
def test_a_wrong_backward_close_to_a_minimum_is_still_named(offset):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx, grad):
            return 1.9 * ctx.saved_tensors[0] * grad

    start = torch.tensor(3.0 + offset, dtype=torch.float64, requires_grad=True)
    report = trace(lambda a: Square.apply(a - 3), start).check()
    assert report.wrong[0].label == "Square.apply(a - 3)"
    assert {v.outcome for v in report.leaves} == {"wrong"}
