"""What a descent says of itself: that it swings, crawls or lies in a valley, and what to do."""

import math

import numpy as np
import pytest
import torch
from descents import START, bowl, line

from gradfit import descend

LINE = line()


def test_steps_that_are_too_long_are_called_an_oscillation():
    # The curvature along b grows outwards, so that a step too long for the minimum stays bounded.
    def loss(b):
        return torch.log(torch.cosh(3 * b))

    run = descend(loss, {"b": 1.0}, lr=0.4, epochs=100)
    assert run.verdict == "oscillating"
    assert "jump across the valley" in run.diagnosis


def test_a_descent_on_its_way_is_told_to_go_on():
    run = descend(bowl, START, lr=0.01, epochs=40)
    assert run.verdict == "improving"
    assert "more `epochs`" in run.diagnosis


def test_a_crawl_is_explained_with_the_condition_number_and_steps():
    run = descend(LINE.loss, START, lr=1e-5, epochs=1000)
    curvatures = np.linalg.eigvalsh(run.hessian)
    assert run.condition == pytest.approx(curvatures[1] / curvatures[0], rel=1e-12)
    expected = math.log(100) / (1e-5 * curvatures[0])
    assert "6,700,000 steps" in run.diagnosis
    assert expected == pytest.approx(6.7e6, rel=0.01)
    assert "1.36e4 times more across the valley than along it" in run.diagnosis
    assert "the direction along it is mostly `b`" in run.diagnosis


def test_steps_to_one_percent_are_what_the_words_say():
    k = 400.0

    def valley(a, b):
        return 0.5 * (k * a**2 + b**2)

    run = descend(valley, {"a": 1.0, "b": 1.0}, lr=1 / k, epochs=30)
    steps = run.valley.steps(1 / k)
    arrived = descend(valley, {"a": 1.0, "b": 1.0}, lr=1 / k, epochs=round(steps))
    assert arrived.path["b"][-1] == pytest.approx(0.01, rel=0.01)
    assert run.valley.best_lr == pytest.approx(2 / (k + 1), rel=1e-12)


def test_the_gain_still_to_come_is_exact_for_a_quadratic():
    run = descend(bowl, START, lr=0.001, epochs=10)
    assert run.valley.gain == pytest.approx(run.loss, rel=1e-12)
    np.testing.assert_allclose(
        run.valley.move, [1 - run.params["a"], -2 - run.params["b"]], rtol=1e-12
    )


def test_curvature_is_the_hessian_of_autograd():
    run = descend(LINE.loss, START, lr=1e-5, epochs=100)
    at = tuple(torch.tensor(run.params[n], dtype=torch.float64) for n in "ab")
    rows = torch.autograd.functional.hessian(LINE.loss, at)
    np.testing.assert_allclose(run.hessian, [[h.item() for h in row] for row in rows], rtol=1e-12)


def test_a_saddle_is_no_minimum():
    run = descend(lambda a, b: a**2 - b**2 + b**4, {"a": 1.0, "b": 0.0}, lr=0.1)
    assert (run.verdict, run.status.name, run.success) == ("saddle", "SADDLE", False)
    assert "bends down along `b`" in run.diagnosis
    assert run.condition == math.inf


def test_a_flat_direction_is_named():
    run = descend(lambda a, b: (a - 1) ** 2 + 0 * b, {"a": 0.0, "b": 3.0}, lr=0.1)
    assert (run.verdict, run.status.name, run.success) == ("flat", "SINGULAR", False)
    assert "mostly `b`" in run.diagnosis


def once(backward):
    """Return a square whose backward is the given function."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a * a

    Square.backward = staticmethod(backward)
    return Square


def leaves_torch(ctx, g):
    (a,) = ctx.saved_tensors
    return g * torch.from_numpy(np.asarray(2 * a.detach().numpy()))


@torch.autograd.function.once_differentiable
def forbids(ctx, g):
    (a,) = ctx.saved_tensors
    return 2 * a * g


@pytest.mark.parametrize("backward", [leaves_torch, forbids])
@pytest.mark.parametrize("outer", [torch.exp, torch.Tensor.clone])
def test_a_loss_without_second_derivatives_has_no_condition_number(backward, outer):
    square = once(backward).apply
    run = descend(lambda a: outer(square(a - 1)), {"a": 0.3}, lr=0.1, epochs=5)
    assert math.isnan(run.condition)
    assert run.verdict == "improving"
