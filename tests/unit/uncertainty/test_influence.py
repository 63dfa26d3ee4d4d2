"""Implicit derivatives of a fit, held against differences of full refits and closed forms."""

from typing import Any

import made
import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit.errors import InputError

RNG = np.random.default_rng(4)
N = 9
T = np.linspace(0.3, 5.0, N)
DATA = {
    "x": T + 0.1 * RNG.normal(size=N),
    "y": 4 * np.exp(-0.6 * T) + 1 + 0.1 * RNG.normal(size=N),
    "sx": RNG.uniform(0.05, 0.15, N),
    "sy": RNG.uniform(0.05, 0.15, N),
    "rho": RNG.uniform(-0.7, 0.7, N),
}


def decay(data: dict[str, Any], **options: Any) -> Any:
    start = {"a": 4.0, "b": 0.6, "c": 1.0}
    start = {n: v for n, v in start.items() if n not in options.get("fixed", {})}
    start |= {n: high for n, (_, high) in options.get("bounds", {}).items()}
    return gf.fit("a*exp(-b*x) + c", start=start, **data, **options)


def two_responses(x, a, b):
    return torch.stack([a * torch.exp(b * x), b * x**2])


def differences(fit: Any, data: dict[str, Any], name: str) -> np.ndarray:
    """Differentiate all parameters by every number of one argument, to fourth order in the step."""
    h = 1e-4
    out = []
    for i in np.ndindex(np.shape(data[name])):
        found = []
        for step in (h, -h, 2 * h, -2 * h):
            changed = np.array(data[name])
            changed[i] += step
            found.append(np.array(list(fit({**data, name: changed}).params.values())))
        out.append((8 * (found[0] - found[1]) - found[2] + found[3]) / (12 * h))
    return np.stack(out, 1).reshape(-1, *np.shape(data[name]))


def agree(fit: Any, data: dict[str, Any], name: str) -> None:
    result = fit(data)
    moved = getattr(result.influence(), name)
    for row, parameter in zip(differences(fit, data, name), result.names, strict=True):
        np.testing.assert_allclose(
            moved[parameter], row, rtol=1e-6, atol=1e-6 * max(1e-3, np.abs(row).max())
        )


@pytest.mark.parametrize("name", list(DATA))
def test_derivatives_by_every_number_agree_with_refits(name):
    agree(decay, DATA, name)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "cauchy"},
        {"loss": ("huber", 0.7)},
        {"systematic": {"x": 0.05, "y": 0.1}},
        {"fixed": {"c": 1.0}},
        {"bounds": {"c": (None, 0.9)}},
    ],
    ids=["cauchy", "huber", "systematic", "fixed", "bound"],
)
@pytest.mark.parametrize("name", ["x", "sy"])
def test_derivatives_agree_with_refits_for_every_kind_of_fit(options, name):
    agree(lambda data: decay(data, **options), DATA, name)


@pytest.mark.parametrize("name", ["x", "sx"])
def test_derivatives_of_an_implicit_fit_agree_with_refits(name):
    rng = np.random.default_rng(2)
    t = np.linspace(0, 5, 8)
    x = np.stack([2 + 3 * np.cos(t), 1 + 3 * np.sin(t)]) + rng.normal(0, 0.1, (2, 8))
    data = {"x": x, "sx": rng.uniform(0.1, 0.2, (2, 8))}
    start = {"u": 2.0, "v": 1.0, "r": 3.0}
    agree(lambda d: gf.fit(made.round_curve, start=start, **d), data, name)


@pytest.mark.parametrize("name", ["x", "y", "sx", "sy"])
def test_derivatives_with_several_responses_agree_with_refits(name):
    rng = np.random.default_rng(3)
    t = np.linspace(0.2, 2, 7)
    y = np.stack([1.5 * np.exp(0.4 * t), 0.4 * t**2]) + rng.normal(0, 0.05, (2, 7))
    data = {"x": t + rng.normal(0, 0.05, 7), "y": y}
    data |= {"sx": np.full(7, 0.05), "sy": rng.uniform(0.04, 0.08, (2, 7))}
    agree(lambda d: gf.fit(two_responses, start={"a": 1.5, "b": 0.4}, **d), data, name)


def test_derivatives_where_some_y_are_exact_agree_with_refits():
    sy = np.where(np.arange(5) % 3 == 0, 0.0, 0.1)
    data = {"x": DATA["x"][::2], "y": DATA["y"][::2], "sx": DATA["sx"][::2], "sy": sy}
    agree(decay, data, "y")
    agree(decay, data, "sx")


def test_derivatives_by_joint_covariances_agree_with_refits():
    V = np.array([[0.01, 0.004], [0.004, 0.02]]) * np.linspace(1, 2, N)[:, None, None]
    start = {"a": 4.0, "b": 0.6, "c": 1.0}

    def refit(V: np.ndarray) -> Any:
        return gf.fit("a*exp(-b*x) + c", DATA["x"], DATA["y"], cov=V, start=start)

    E = np.random.default_rng(0).normal(size=V.shape)
    E = (E + E.mT) * 1e-5
    up, down = (refit(V + step * E).params for step in (1, -1))
    for n, moved in refit(V).influence().cov.items():
        assert np.sum(moved * E) == pytest.approx((up[n] - down[n]) / 2, rel=1e-6)


def test_errors_carried_through_the_derivatives_make_the_propagated_covariance():
    data = {n: DATA[n] for n in ("x", "y", "sx", "sy")}
    fit = decay(data, cov_type="propagated")
    moved = fit.influence()
    J_x, J_y = (np.stack([each[n] for n in fit.names]) for each in (moved.x, moved.y))
    carried = (J_x * data["sx"] ** 2) @ J_x.T + (J_y * data["sy"] ** 2) @ J_y.T
    size = np.sqrt(np.outer(np.diag(carried), np.diag(carried)))
    np.testing.assert_allclose(fit.cov / size, carried / size, atol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_observed_information_of_a_robust_line_is_that_of_its_closed_form(scale):
    x, y = (torch.from_numpy(v) for v in (made.PEARSON_X, made.PEARSON_Y))
    fit = made.york(loss=("cauchy", scale), cov_type="observed")
    sx, sy = (torch.from_numpy(v) for v in (made.YORK_SX, made.YORK_SY))

    def cost(beta: torch.Tensor) -> torch.Tensor:
        a, b = beta
        phi = (y - a - b * x) ** 2 / (sy**2 + b**2 * sx**2)
        return (scale**2 * torch.log1p(phi / scale**2)).sum()

    beta = torch.tensor(list(fit.params.values()), dtype=torch.float64)
    H = torch.autograd.functional.hessian(cost, beta) / 2
    # Huber and Ronchetti (2009), section 7.6: the second of their three, with exact curvature.
    a, b = beta
    phi = (y - a - b * x) ** 2 / (sy**2 + b**2 * sx**2)
    weight = 1 / (1 + phi / scale**2)
    slope = weight - 2 * phi / scale**2 * weight**2
    K = 1 + 2 / 10 * slope.var(correction=0) / slope.mean() ** 2
    size = K * (weight**2 * phi).sum() / (10 - 2) / slope.mean()
    np.testing.assert_allclose(fit.cov, size * torch.linalg.inv(H), rtol=1e-8)


def test_fixed_parameters_do_not_move_and_rows_left_out_move_nothing():
    y = DATA["y"].copy()
    y[3] = np.nan
    fit = decay({**DATA, "y": y}, fixed={"c": 1.0}, nan_policy="omit")
    moved = fit.influence()
    assert np.flatnonzero(np.isnan(moved.y["a"])).tolist() == [3]
    assert np.nansum(np.abs(moved.y["c"])) == 0


def test_what_was_not_given_has_no_derivative():
    moved = gf.fit("a + b*x", DATA["x"], DATA["y"], start={"a": 1, "b": 0}).influence()
    assert moved.sx is None
    assert moved.sy is None
    assert moved.rho is None
    assert moved.cov is None


def test_tensors_come_back_as_tensors():
    data = {n: torch.from_numpy(v) for n, v in DATA.items()}
    moved = decay(data).influence()
    assert isinstance(moved.x["a"], torch.Tensor)
    np.testing.assert_allclose(moved.x["a"], decay(DATA).influence().x["a"], rtol=1e-9)


def test_a_part_of_a_joint_fit_has_no_influence_of_its_own():
    many = gf.fit(
        "a + b*x", np.arange(8.0), np.arange(8.0) ** 1.1, sy=0.1, groups=[0] * 4 + [1] * 4,
        shared="b", start={"a": 0, "b": 1},
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"influence\(\) needs a fit of its own; this one shares b"
    ):
        many[0].influence()
