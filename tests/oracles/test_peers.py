"""Random problems against odrpack, scipy.odr and scipy's curve_fit, all at tight tolerances."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import Points, points

import gradfit as gf

odrpack = pytest.importorskip("odrpack")
optimize = pytest.importorskip("scipy.optimize")


def slopes(p: Points):
    """Derivatives of the curve by parameters (p, N) and by x, to rounding, as peers want them."""
    h = 1e-30

    def by_beta(x, beta):
        steps = beta + 1j * h * np.eye(len(beta))
        return np.array([p.f(x + 0j, b).imag / h for b in steps])

    def by_x(x, beta):
        return p.f(x + 1j * h, np.asarray(beta, complex)).imag / h

    return by_beta, by_x


def odrpack_fit(p: Points, beta0, delta0):
    by_beta, by_x = slopes(p)
    return odrpack.odr_fit(
        lambda x, beta: p.f(x, beta).real,
        p.x,
        p.y,
        beta0,
        delta0=delta0,
        weight_x=p.sx**-2,
        weight_y=p.sy**-2,
        jac_beta=by_beta,
        jac_x=by_x,
        maxit=20_000,
        sstol=1e-15,
        partol=1e-15,
    )


def scipy_fit(p: Points, beta0, delta0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the module itself is on its way out
        from scipy import odr
    by_beta, by_x = slopes(p)
    model = odr.Model(
        lambda beta, x: p.f(x, beta).real,
        fjacb=lambda beta, x: by_beta(x, beta),
        fjacd=lambda beta, x: by_x(x, beta),
    )
    task = odr.ODR(
        odr.RealData(p.x, p.y, sx=p.sx, sy=p.sy),
        model,
        beta0=beta0,
        delta0=delta0,
        maxit=20_000,
        sstol=1e-15,
        partol=1e-15,
    )
    task.set_job(deriv=3, del_init=1)
    return task.run()


def compare(p: Points, solve) -> None:
    """Hold ours against a peer's, up to what the peer's own chi2 shows that it left undone."""
    got = gf.fit(p.formula.model(), p.x, p.y, start=p.start, sx=p.sx, sy=p.sy)
    assert got.success
    beta = np.array(list(got.params.values()))
    peer = solve(p, np.array(list(p.start.values())), np.zeros_like(p.x))
    if peer.sum_square > got.chi2 * (1 + 1e-9):
        # Ours found a nearer foot point on another branch; from there the peer finds no better.
        peer = solve(p, beta, got.delta)
    left = peer.sum_square - got.chi2
    assert -1e-12 * got.chi2 <= left <= 1e-9 * got.chi2
    se = np.array(list(got.stderr.values()))
    # Near its minimum chi2 is a parabola: an excess d is a distance of sqrt(d) standard errors.
    assert (np.abs(beta - peer.beta) / se <= 1e-6 + 2 * np.sqrt(max(left, 0.0))).all()
    # Peers take the Jacobians one step before the end.
    scale = np.outer(se, se)
    np.testing.assert_allclose(got.cov / scale, peer.cov_beta / scale, atol=1e-4)


@settings(max_examples=40)
@given(points(correlated=False))
def test_random_problems_equal_odrpack(p: Points) -> None:
    compare(p, odrpack_fit)


@settings(max_examples=40)
@given(points(correlated=False))
def test_random_problems_equal_scipy_odr(p: Points) -> None:
    compare(p, scipy_fit)


@settings(max_examples=40)
@given(points(correlated=False))
def test_exact_x_equals_curve_fit(p: Points) -> None:
    by_beta, _ = slopes(p)
    beta, cov = optimize.curve_fit(
        lambda x, *beta: p.f(x, beta).real,
        p.x,
        p.y,
        p0=list(p.start.values()),
        sigma=p.sy,
        absolute_sigma=True,
        jac=lambda x, *beta: by_beta(x, np.array(beta)).T,
        ftol=1e-15,
        xtol=1e-15,
        gtol=1e-15,
        maxfev=5000,
    )
    got = gf.fit(p.formula.model(), p.x, p.y, start=p.start, sy=p.sy)
    assert got.success
    se = np.sqrt(np.diag(cov))
    assert (np.abs(np.array(list(got.params.values())) - beta) <= 1e-6 * se).all()
    np.testing.assert_allclose(got.cov / np.outer(se, se), cov / np.outer(se, se), atol=1e-6)
