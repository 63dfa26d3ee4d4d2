"""Where a descent may say that it arrived: what the curvature can judge, and what is left to go."""

import numpy as np
import pytest
import torch

from gradfit import descend


def squares(matrix, values, dtype=torch.float64):
    """Return the sum of squares of a linear model."""
    A, y = torch.as_tensor(matrix, dtype=dtype), torch.as_tensor(values, dtype=dtype)
    return lambda w: ((y - A @ w) ** 2).sum()


def far_from(zero, width=1.0):
    """Return a straight line's matrix with x far from zero."""
    return np.c_[np.ones(12), zero + width * np.linspace(0, 1, 12)]


# -- a loss that ends at zero ----------------------------------------------------------------------


@pytest.mark.parametrize("zero", [1e1, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("start", [0.0, 1e3, 1e8])
@pytest.mark.parametrize("order", [1, -1])
def test_a_loss_that_vanished_beside_a_high_start_is_no_convergence(zero, start, order):
    A = far_from(zero)[::order].copy()
    run = descend(squares(A, A.sum(1)), {"w": np.array([start, -start])})
    if run.success:
        np.testing.assert_allclose(run.params["w"], 1, rtol=2e-5)
    else:
        assert "rounding error" in run.diagnosis


@pytest.mark.parametrize("zero", [1e1, 1e3, 1e5])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_single_precision_judges_what_it_can_see_only(zero, noise):
    A = far_from(zero)
    y = A.sum(1) + noise * np.cos(np.arange(12) ** 2)
    run = descend(squares(A, y, torch.float32), {"w": torch.zeros(2)})
    if run.success:
        np.testing.assert_allclose(run.params["w"], np.linalg.lstsq(A, y)[0], rtol=1e-3)
    if zero == 1e5:
        assert (run.verdict, run.condition) == ("flat", np.inf)


@pytest.mark.parametrize("zero", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("start", [-0.6, -0.3, 0.0, 0.5])
def test_points_on_the_curve_are_reached_whatever_rounding_leaves_of_the_loss(zero, start):
    A = far_from(zero)
    run = descend(squares(A, A.sum(1)), {"w": np.full(2, start)})
    assert run.success, run.diagnosis
    np.testing.assert_allclose(run.params["w"], 1, rtol=1e-9)


def coupled(a, b):
    return (a - 1) ** 2 + 10 * (b - a + 1) ** 2


def curved(a, b):
    return (a - 1) ** 2 + 100 * (b - a * a + 1) ** 2


def nowhere(a, b):
    return a**2 + (a + b) ** 2


@pytest.mark.parametrize("loss", [coupled, curved, nowhere])
@pytest.mark.parametrize("asked", [{}, {"optimizer": "adam", "lr": 0.05, "epochs": 5000}])
def test_parameters_that_end_at_zero_have_arrived_there(loss, asked):
    # They have no size of their own to compare a last step with.
    run = descend(loss, {"a": -1.2, "b": 0.0}, **asked)
    assert run.success, run.diagnosis
    assert abs(run.params["b"]) < 1e-5


def test_an_optimizer_of_its_own_steps_arrives_at_zero():
    run = descend(coupled, {"a": 0.0, "b": 0.0}, optimizer="lbfgs")
    assert run.success, run.diagnosis
    assert abs(run.params["b"]) < 1e-5


# -- curvature ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e-6])
def test_a_saddle_is_one_in_any_unit(scale):
    def loss(a, b):
        return (a - 1) ** 2 * 1e6 - (b * scale) ** 2 + (b * scale) ** 4

    run = descend(loss, {"a": 0.0, "b": 0.0}, lr=2e-7, epochs=2000)
    assert (run.verdict, run.valley.slow) == ("saddle", "b")
    assert run.valley.flattest == pytest.approx(-2 * scale**2, rel=1e-6)


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_the_unit_of_the_loss_does_not_hide_its_curvature(unit):
    run = descend(lambda a, b: unit * coupled(a, b), {"a": 3.0, "b": 1.0})
    assert run.success
    assert run.condition == pytest.approx(descend(coupled, {"a": 3.0, "b": 1.0}).condition)


def test_directions_below_rounding_are_told_while_it_still_falls():
    x = torch.linspace(5, 9, 40, dtype=torch.float64)
    A = x[:, None] ** torch.arange(11)
    loss = squares(A / A.max(0).values, torch.sin(x))
    for epochs in (15, 60, 240):
        run = descend(loss, {"w": np.zeros(11)}, epochs=epochs)
        assert not run.success
        assert "flat along a direction" in run.diagnosis


def test_steps_that_follow_rounding_end_when_nothing_is_left_to_gain():
    # A slope that is wrong in its sixth digit, another way at every point.
    def loss(a, b):
        blur = 3e-6 * torch.sin(1e9 * (a + 2 * b).detach())
        return 1 + coupled(a, b) + (a - a.detach() + b - b.detach()) * blur

    for k in range(10):
        run = descend(loss, {"a": 3 * np.cos(k), "b": 3 * np.sin(2 * k)})
        assert run.success, run.diagnosis
        assert run.params["a"] == pytest.approx(1, abs=1e-5)
