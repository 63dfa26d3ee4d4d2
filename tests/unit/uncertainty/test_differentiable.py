"""Gradients through a fit: checked by PyTorch itself, and shaped like what was given."""

import made
import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit.errors import InputError

RNG = np.random.default_rng(4)
N = 7
T = np.linspace(0.3, 5.0, N)
START = {"a": 4.0, "b": 0.6, "c": 1.0}


def numbers(values, grad=True):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def points():
    return {
        "x": numbers(T + 0.1 * RNG.normal(size=N)),
        "y": numbers(4 * np.exp(-0.6 * T) + 1 + 0.1 * RNG.normal(size=N)),
        "sx": numbers(RNG.uniform(0.05, 0.15, N)),
        "sy": numbers(RNG.uniform(0.05, 0.15, N)),
        "rho": numbers(RNG.uniform(-0.7, 0.7, N)),
    }


def solution(*tensors, names=("x", "y", "sx", "sy", "rho"), **options):
    found = gf.differentiable(
        "a*exp(-b*x) + c", start=START, **dict(zip(names, tensors, strict=True)), **options
    )
    return torch.stack(list(found.params.values()))


def test_gradients_by_data_sigmas_and_correlations_pass_the_check_of_pytorch():
    assert torch.autograd.gradcheck(solution, tuple(points().values()))


def test_gradients_by_one_number_for_all_points_pass_the_check():
    data = points()
    given = (data["x"], data["y"], numbers(0.1), numbers(0.12), numbers([0.3]))
    assert torch.autograd.gradcheck(solution, given)


def test_gradients_by_a_covariance_pass_the_check():
    data = points()

    def joint(width):
        V = torch.stack([torch.stack([width[0], width[1]]), torch.stack([width[1], width[2]])])
        return solution(data["x"].detach(), data["y"].detach(), V, names=("x", "y", "cov"))

    assert torch.autograd.gradcheck(joint, (numbers([0.01, 0.004, 0.02]),))

    def per_point(size):
        V = size[:, None, None] * numbers([[0.01, 0.004], [0.004, 0.02]], False)
        return solution(data["x"].detach(), data["y"].detach(), V, names=("x", "y", "cov"))

    assert torch.autograd.gradcheck(per_point, (numbers(np.linspace(1, 2, N)),))


def two_responses(x, a, b):
    return torch.stack([a * torch.exp(b * x[0]), b * x[0] ** 2 + x[1]])


@pytest.mark.parametrize("shape", [(), (2,), (2, 1), (1, 7), (7,), (2, 7)])
def test_sigmas_of_every_shape_get_gradients_of_their_shape(shape):
    t = np.linspace(0.2, 2, 7)
    x = np.stack([t, np.cos(t)]) + RNG.normal(0, 0.05, (2, 7))
    y = np.stack([1.5 * np.exp(0.4 * t), 0.4 * t**2 + np.cos(t)]) + RNG.normal(0, 0.05, (2, 7))

    def fitted(sy):
        found = gf.differentiable(
            two_responses, numbers(x, False), numbers(y, False), sx=0.05, sy=sy,
            start={"a": 1.5, "b": 0.4},
        )  # fmt: skip
        return torch.stack(list(found.params.values()))

    assert torch.autograd.gradcheck(fitted, (numbers(RNG.uniform(0.04, 0.08, shape)),))


def test_gradients_of_an_implicit_fit_pass_the_check():
    t = np.linspace(0, 5, 8)
    x = np.stack([2 + 3 * np.cos(t), 1 + 3 * np.sin(t)]) + RNG.normal(0, 0.1, (2, 8))

    def centre(x):
        found = gf.differentiable(made.round_curve, x, start={"u": 2.0, "v": 1.0, "r": 3.0})
        return torch.stack(list(found.params.values()))

    assert torch.autograd.gradcheck(centre, (numbers(x),))


def test_single_precision_data_get_single_precision_gradients_and_rows_left_out_none():
    x = torch.arange(5.0, requires_grad=True)
    y = torch.tensor([0.1, 1.0, torch.nan, 2.9, 4.1], requires_grad=True)
    params, fit = gf.differentiable(
        "a + b*x", x, y, sy=0.1, start={"a": 0, "b": 1}, nan_policy="omit"
    )
    params["b"].backward()
    assert y.grad.dtype == torch.float32
    assert y.grad[2] == 0
    np.testing.assert_allclose(y.grad[[0, 1, 3, 4]], [-0.2, -0.1, 0.1, 0.2], rtol=1e-6)
    assert params["b"].item() == fit.params["b"]


def test_a_fit_within_a_loss_is_trained_through():
    shift = numbers(0.3)
    x = numbers(T, False)
    for _ in range(20):
        params, _ = gf.differentiable("a + b*x", x, 2 * x + shift, sy=0.1, start={"a": 0, "b": 1})
        loss = (params["a"] - 1) ** 2
        (grad,) = torch.autograd.grad(loss, shift)
        shift = (shift - 0.3 * grad).detach().requires_grad_()
    assert shift.item() == pytest.approx(1, abs=1e-6)


def test_second_derivatives_are_refused_not_wrong():
    data = points()
    found = solution(*data.values())
    (grad,) = torch.autograd.grad(found[0] ** 2, data["y"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_groups_and_tables_are_refused():
    with pytest.raises(InputError, match="leave `groups` out"):
        gf.differentiable("a + b*x", numbers(T), numbers(T), groups=[0] * N)
