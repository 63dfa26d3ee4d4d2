"""Fits in which single responses were not measured, against odrpack, SciPy and closed forms."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

import gradfit as gf

odrpack = pytest.importorskip("odrpack")

SX, SY = 0.05, 0.1
START = {"a": 1.8, "b": 0.7, "c": 0.4}


def model(x: Any, a: Any, b: Any, c: Any) -> Any:
    return torch.stack([a * torch.exp(-b * x), a + c * x])


def curve(x: Any, b: Any) -> Any:
    return np.stack([b[0] * np.exp(-b[1] * x), b[0] + b[2] * x])


def slopes(x: Any, b: Any) -> Any:
    """By the parameters, (q, p, N)."""
    e, zero = np.exp(-b[1] * x), np.zeros_like(x)
    return np.stack([np.stack([e, -b[0] * x * e, zero]), np.stack([zero + 1, zero, x])])


def along(x: Any, b: Any) -> Any:
    """By x, (q, m, N)."""
    return np.stack([-b[0] * b[1] * np.exp(-b[1] * x), b[2] + 0 * x])[:, None]


def measurements(seed: int = 1, n: int = 25) -> tuple[Any, Any]:
    """Return x and y, about a sixth of whose responses are NaN, but never both of a point."""
    rng = np.random.default_rng(seed)
    truth = np.linspace(0, 3, n)
    x = truth + rng.normal(0, SX, n)
    y = curve(truth, (2.0, 0.8, 0.5)) + rng.normal(0, SY, (2, n))
    y[rng.integers(0, 2, n), np.arange(n)] *= np.where(rng.random(n) < 1 / 3, np.nan, 1)
    return x, y


def numbers(fit: Any) -> Any:
    return np.array([*fit.params.values()])


def errors(fit: Any) -> Any:
    return np.array([*fit.stderr.values()])


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_odrpack_with_weights_of_zero_agrees(seed: int, backend: str) -> None:
    x, y = measurements(seed)
    asked: dict[str, Any] = {"sx": SX, "sy": SY, "start": START, "nan_policy": "omit"}
    fit = gf.fit(model, x, y, backend=backend, **asked)
    peer = odrpack.odr_fit(
        curve,
        x,
        np.nan_to_num(y),
        np.array([*START.values()]),
        weight_x=SX**-2,
        weight_y=np.where(np.isnan(y), 0.0, SY**-2),
        jac_beta=slopes,
        jac_x=along,
        maxit=10_000,
        sstol=1e-15,
        partol=1e-15,
    )
    np.testing.assert_allclose(numbers(fit), peer.beta, rtol=1e-8)
    assert fit.chi2 == pytest.approx(peer.sum_square, rel=1e-12)
    np.testing.assert_allclose(errors(fit), np.sqrt(np.diag(peer.cov_beta)), rtol=1e-7)
    np.testing.assert_allclose(fit.delta, peer.delta, atol=1e-9)
    np.testing.assert_allclose(fit.y_hat, peer.yest, rtol=1e-8)
    # odrpack takes the degrees of freedom from points, where responses are meant.
    assert fit.dof == np.isfinite(y).sum() - 3
    scaled = gf.fit(model, x, y, backend=backend, absolute_sigma=False, **asked)
    np.testing.assert_allclose(
        errors(scaled), peer.sd_beta * np.sqrt((len(x) - 3) / fit.dof), rtol=1e-7
    )


@pytest.mark.parametrize("seed", [5, 6])
def test_dense_least_squares_of_what_was_measured_agrees(seed: int) -> None:
    x, y = measurements(seed)
    fit = gf.fit(model, x, y, sx=SX, sy=SY, start=START, nan_policy="omit")
    seen = np.isfinite(y)

    def residuals(all_of_them: Any) -> Any:
        b, u = all_of_them[:3], all_of_them[3:]
        return np.concatenate([u, (curve(x + SX * u, b) - y)[seen] / SY])

    def jacobian(all_of_them: Any) -> Any:
        b, u = all_of_them[:3], all_of_them[3:]
        at = x + SX * u
        own = np.einsum("qn,nk->qnk", SX * along(at, b)[:, 0], np.eye(len(x)))
        lower = np.concatenate([slopes(at, b).transpose(0, 2, 1), own], 2)[seen] / SY
        return np.concatenate([np.eye(len(x), 3 + len(x), 3), lower])

    start = np.concatenate([[*START.values()], np.zeros(len(x))])
    found = least_squares(residuals, start, jacobian, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    cov = np.linalg.inv(found.jac.T @ found.jac)
    np.testing.assert_allclose(numbers(fit), found.x[:3], rtol=1e-7)
    assert fit.chi2 == pytest.approx(2 * found.cost, rel=1e-12)
    np.testing.assert_allclose(errors(fit), np.sqrt(np.diag(cov)[:3]), rtol=1e-6)
    np.testing.assert_allclose(fit.delta, SX * found.x[3:], atol=1e-8)


def parallel(x: Any, a: Any, b: Any, c: Any) -> Any:
    return torch.stack([a + c * x, b + c * x])


def generalised(x: Any, y: Any, V: Any) -> tuple[Any, Any, float]:
    """Return estimates, covariance and sum of squares of all that is finite, in closed form."""
    seen, n = np.isfinite(y).ravel(), len(x)
    one, zero = np.ones(n), np.zeros(n)
    design = np.concatenate([np.stack([one, zero, x], 1), np.stack([zero, one, x], 1)])[seen]
    weight = np.linalg.inv(V[seen][:, seen])
    cov = np.linalg.inv(design.T @ weight @ design)
    found = cov @ design.T @ weight @ y.ravel()[seen]
    rest = y.ravel()[seen] - design @ found
    return found, cov, float(rest @ weight @ rest)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("common", [True, False])
def test_of_a_joint_covariance_the_marginal_one_is_left(common: bool, backend: str) -> None:
    x, y = measurements(7)
    n = len(x)
    sizes = np.ones(n) if common else np.linspace(0.5, 2, n)
    of_y = sizes[:, None, None] * np.array([[0.01, 0.012], [0.012, 0.04]])
    cov = np.zeros((n, 3, 3))
    cov[:, 1:, 1:] = of_y
    fit = gf.fit(
        parallel,
        x,
        y,
        cov=cov[0] if common else cov,
        start={"a": 1, "b": 1, "c": 0},
        nan_policy="omit",
        backend=backend,
    )
    V = np.block([[np.diag(of_y[:, i, j]) for j in range(2)] for i in range(2)])
    found, spread, chi2 = generalised(x, y, V)
    np.testing.assert_allclose(numbers(fit), found, rtol=1e-12)
    np.testing.assert_allclose(fit.cov, spread, rtol=1e-11)
    assert fit.chi2 == pytest.approx(chi2, rel=1e-12)
    assert fit.dof == np.isfinite(y).sum() - 3


def test_of_a_covariance_over_all_points_the_marginal_one_is_left() -> None:
    x, y = measurements(8)
    n = len(x)
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.05, (4, 2 * n))
    V = 0.01 * np.eye(2 * n) + shared.T @ shared
    joint = np.zeros((3 * n, 3 * n))
    joint[n:, n:] = V
    start = {"a": 1, "b": 1, "c": 0}
    fit = gf.fit(parallel, x, y, cov_joint=joint, start=start, nan_policy="omit")
    found, spread, chi2 = generalised(x, y, V)
    np.testing.assert_allclose(numbers(fit), found, rtol=1e-9)
    np.testing.assert_allclose(fit.cov, spread, rtol=1e-8)
    assert fit.chi2 == pytest.approx(chi2, rel=1e-9)
    assert fit.dof == np.isfinite(y).sum() - 3


def test_scaled_covariance_counts_responses_that_were_measured() -> None:
    x, y = measurements(9)
    fit = gf.fit(parallel, x, y, fix_x=True, start={"a": 1, "b": 1, "c": 0}, nan_policy="omit")
    found, spread, chi2 = generalised(x, y, np.eye(2 * len(x)))
    mswd = chi2 / (np.isfinite(y).sum() - 3)
    np.testing.assert_allclose(numbers(fit), found, rtol=1e-12)
    assert fit.mswd == pytest.approx(mswd, rel=1e-12)
    np.testing.assert_allclose(fit.cov, mswd * spread, rtol=1e-11)


@pytest.mark.parametrize("kind", ["residual", "parametric"])
def test_bootstrap_draws_errors_of_measured_responses_only(kind: str) -> None:
    x, y = measurements(10, 200)
    y[0, ::2], y[1, 1::2] = np.nan, np.nan
    seen = np.isfinite(y)
    y[:, ~seen.any(0)] = 1.0
    seen = np.isfinite(y)
    fit = gf.fit(parallel, x, y, sy=SY, start={"a": 1, "b": 1, "c": 0}, nan_policy="omit")
    _, spread, _ = generalised(x, y, SY**2 * np.eye(2 * len(x)))
    wanted = np.sqrt(np.diag(spread))
    if kind == "residual":
        design = np.zeros((2, len(x), 3))
        design[0, :, 0] = design[1, :, 1] = 1
        design[:, :, 2] = x
        leverage = np.einsum("qnp,pr,qnr->qn", design, spread, design) / SY**2
        h = -fit.eps / SY / np.sqrt(1 - leverage)
        variance = np.nanvar(h, 1)[:, None]
        rows = np.where(seen[..., None], design, 0) / SY
        meat = np.einsum("qnp,qn,qnr->pr", rows, variance + 0 * seen, rows)
        wanted = np.sqrt(np.diag(spread @ meat @ spread))
    found = fit.bootstrap(4000, kind).stderr
    # The spread of 4,000 refits is known to 1.1 %.
    np.testing.assert_allclose([*found.values()], wanted, rtol=0.045)


def test_parametric_bootstrap_of_a_joint_covariance_leaves_its_missing_part_out() -> None:
    x, y = measurements(11, 60)
    cov = np.zeros((3, 3))
    cov[1:, 1:] = [[0.01, 0.012], [0.012, 0.04]]
    start = {"a": 1, "b": 1, "c": 0}
    fit = gf.fit(parallel, x, y, cov=cov, start=start, nan_policy="omit")
    V = np.kron(cov[1:, 1:], np.eye(len(x)))
    wanted = np.sqrt(np.diag(generalised(x, y, V)[1]))
    found = fit.bootstrap(4000, "parametric").stderr
    np.testing.assert_allclose([*found.values()], wanted, rtol=0.045)
