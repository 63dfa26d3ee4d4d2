"""Automatic steps: they need no learning rate, and arrive."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from descents import START, line

from gradfit import descend
from gradfit.errors import InputError


def rosenbrock(a, b):
    return (1 - a) ** 2 + 100 * (b - a * a) ** 2


def himmelblau(a, b):
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


def beale(a, b):
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def gaussian_hole(a, b):
    return -torch.exp(-(a**2) - 4 * (b - 0.3) ** 2)


def barrier(a, b):
    return a + b - torch.log(a) - torch.log(b) - torch.log(4 - a - b)


@pytest.mark.parametrize("seed", range(5))
def test_the_closed_form_of_the_perpendicular_distance_is_reached(seed):
    points = line(seed)
    run = descend(points.loss, START)
    assert run.success
    assert run.params["a"] == pytest.approx(points.a, rel=1e-10)
    assert run.params["b"] == pytest.approx(points.b, rel=1e-10)
    assert run.n_eval < 400


def test_no_learning_rate_means_automatic_steps():
    run = descend(rosenbrock, START)
    assert (run.schedule, run.optimizer) == ("auto", "sgd")
    assert math.isnan(run.lr)
    assert descend(rosenbrock, START, schedule="auto").params == run.params
    assert descend(rosenbrock, START, schedule="auto", lr=1e-3).lr == 1e-3


@pytest.mark.parametrize(
    ("loss", "start"),
    [
        (rosenbrock, {"a": -1.2, "b": 1.0}),
        (himmelblau, {"a": 0.0, "b": 0.0}),
        (beale, {"a": 1.0, "b": 0.5}),
        (gaussian_hole, {"a": 0.7, "b": -0.2}),
        (barrier, {"a": 0.01, "b": 0.01}),
    ],
)
def test_hard_losses_end_where_scipy_ends(loss, start):
    def number(p):
        return loss(*torch.as_tensor(p)).item()

    run = descend(loss, start)
    assert run.success
    theirs = scipy.optimize.minimize(number, [run.params["a"], run.params["b"]], tol=1e-12)
    assert run.loss <= theirs.fun + 1e-12 * abs(theirs.fun) + 1e-20
    at = [torch.tensor(run.params[n], dtype=torch.float64, requires_grad=True) for n in "ab"]
    slopes = torch.autograd.grad(loss(*at), at)
    assert max(abs(s.item()) for s in slopes) < 1e-7 * run.grad_norms.max()


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
def test_a_quadratic_ends_in_about_as_many_steps_as_it_has_parameters(condition):
    curvatures = torch.logspace(0, math.log10(condition), 6, dtype=torch.float64)
    run = descend(lambda w: (curvatures * (w - 1) ** 2).sum(), {"w": np.zeros(6)})
    assert run.success
    np.testing.assert_allclose(run.params["w"], 1, rtol=1e-9)
    assert run.n_steps < 40
    constant = run.valley.steps(run.valley.best_lr)
    assert constant > 2.2 * condition


def test_units_of_the_loss_do_not_change_the_way():
    points = line()
    plain = descend(points.loss, START)
    scaled = descend(lambda a, b: 2.0**30 * points.loss(a, b), START)
    np.testing.assert_array_equal(scaled.path["a"], plain.path["a"])
    np.testing.assert_array_equal(scaled.path["b"], plain.path["b"])


def test_a_constant_added_to_the_loss_leaves_the_minimum():
    points = line()
    run = descend(lambda a, b: points.loss(a, b) + 1e6, START)
    # The loss knows its sixteenth digit only; slopes know more.
    assert run.params["a"] == pytest.approx(points.a, rel=1e-8)
    assert run.params["b"] == pytest.approx(points.b, rel=1e-4)


def test_the_loss_never_rises_beyond_rounding():
    run = descend(rosenbrock, {"a": -1.2, "b": 1.0})
    assert (np.diff(run.losses) <= 1e-13 * run.losses[:-1]).all()


def test_a_start_near_the_minimum_is_left_alone():
    run = descend(rosenbrock, {"a": 1.0, "b": 1.0})
    assert (run.status.name, run.n_steps) == ("CONVERGED", 0)


def test_places_where_the_loss_does_not_exist_are_stepped_back_from():
    run = descend(lambda a: torch.log(a) ** 2, {"a": 100.0})
    assert run.success
    assert run.params["a"] == pytest.approx(1, rel=1e-10)
    run = descend(lambda a: a - torch.log(a), {"a": 1e-3}, schedule="auto", lr=1e6)
    assert run.params["a"] == pytest.approx(1, rel=1e-9)


def test_float32_parameters_arrive_within_their_rounding():
    start = {"w": torch.zeros(3)}
    run = descend(lambda w: ((w - torch.tensor([1.0, 2.0, 3.0])) ** 2 * 50).sum() + 1, start)
    assert run.success
    assert run.params["w"].dtype == torch.float32
    np.testing.assert_allclose(run.params["w"], [1, 2, 3], rtol=1e-6)


def test_a_kink_is_a_stall_and_no_convergence():
    def loss(a, b):
        return 3 * (3 * a - b - 0.1).abs() + (a + 3 * b - 4) ** 2

    run = descend(loss, {"a": 0.0, "b": 0.3})
    assert run.status.name == "STALLED"
    assert "kink" in run.diagnosis


def test_a_valley_too_narrow_for_double_precision_is_said_to_be_one():
    x = torch.tensor([77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8], dtype=torch.float64)

    def loss(a, b):  # a times 1e-7 and b times 1e7: the same curve, worlds apart in scale
        return ((1e7 * a * (1 - torch.exp(-1e-9 * b * x)) - 0.13 * x) ** 2).sum()

    run = descend(loss, {"a": 5e-5, "b": 1e5})
    assert run.condition > 1e10
    if not run.success:
        assert "lost in the rounding error" in run.diagnosis


def test_a_loss_without_a_floor_ends_and_says_so():
    run = descend(lambda a: a * 1.0, {"a": 0.0})
    assert not run.success
    assert run.verdict == "unbounded"
    assert "falls without end" in run.diagnosis


def test_evaluations_are_counted():
    calls = []

    def loss(a, b):
        calls.append(None)
        return rosenbrock(a, b)

    run = descend(loss, START)
    # Two more for the curvature where it arrived, and two for that at the best step.
    assert len(calls) - 4 == run.n_eval


def test_step_sizes_tell_how_long_each_step_was():
    run = descend(rosenbrock, START)
    assert math.isnan(run.lrs[0])
    assert (run.lrs[1:] > 0).all()
    # The first step goes straight down.
    assert run.path["a"][1] == pytest.approx(-run.lrs[1] * run.grads["a"][0], rel=1e-12)


def test_parameters_of_two_kinds_have_no_common_direction():
    with pytest.raises(InputError, match="needs all parameters of one dtype on one device; 2"):
        descend(lambda a, w: a**2 + (w**2).sum(), {"a": 1.0, "w": torch.ones(2)})


def test_a_trial_beyond_the_edge_of_the_loss_only_shortens_the_step():
    failed = []

    def loss(a):
        try:
            root = torch.linalg.cholesky(a * torch.eye(2, dtype=torch.float64))
        except torch.linalg.LinAlgError:
            failed.append(a.item())
            raise
        return 4 * a - 2 * root.diagonal().log().sum()

    # 4 a - 2 log a, least at one half; for a <= 0 there is no such matrix.
    run = descend(loss, {"a": 3.0})
    assert run.success, run.diagnosis
    assert run.params["a"] == pytest.approx(0.5, rel=1e-10)
    assert failed
    assert max(failed) <= 0
