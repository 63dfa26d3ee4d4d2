"""The fourth example of ODRPACK95, the only one that is no formula; the others are reference sets.

Zwolak, Tyson and Watson (2001): the lag of cell division after cyclin C was given, in minutes, is
the time in which active MPF grows from 0 to C/2,

    dM/dt = kwee M + (k25 + k25p M^2) (C - M),

which is an integral over M. ODRPACK's driver integrates by Runge-Kutta with steps of 0.1, is "only
intended to be good enough", and its printed report ends at the limit of 20 iterations.
"""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import least_squares

import gradfit as gf
from oracles import refsets

C = np.array([0.15, 0.20, 0.25, 0.30, 0.50])
LAG = np.array([55.0, 45.0, 40.0, 30.0, 20.0])
START = {"kwee": 1.1, "k25": 3.3, "k25p": 8.7}
BOUNDS = dict.fromkeys(START, (0, 1000))
PRINTED = {
    "chi2": 8.22031194e-04,
    "delta": [4.88624225e-03, 1.23039797e-04, -1.95180021e-02, 1.97422669e-02, -5.22110584e-03],
}
NODES, WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(100))


def lag(c: Any, kwee: Any, k25: Any, k25p: Any) -> Any:
    M = (NODES[:, None] + 1) / 2 * (c / 2)
    return (WEIGHTS[:, None] / (kwee * M + (k25 + k25p * M**2) * (c - M))).sum(0) * c / 4


@pytest.fixture(scope="module")
def fit() -> Any:
    return gf.fit(lag, C, LAG, start=START, bounds=BOUNDS)


def test_fourth_example_ends_below_the_printed_sum_of_squares(fit: Any) -> None:
    assert fit.success, fit.message
    assert fit.dof == 2
    assert fit.chi2 < PRINTED["chi2"]
    # ODRPACK was stopped on its way along a flat valley, where a step still gained 4e-5 of the sum.
    assert fit.chi2 == pytest.approx(PRINTED["chi2"], rel=1e-2)
    np.testing.assert_allclose(fit.delta, PRINTED["delta"], atol=2e-3)


def test_fourth_example_is_the_minimum_that_dense_least_squares_finds(fit: Any) -> None:
    def exact(c: float, b: np.ndarray) -> float:
        def slowness(M: float) -> float:
            return 1 / (b[0] * M + (b[1] + b[2] * M**2) * (c - M))

        return quad(slowness, 0, c / 2, epsabs=1e-13, epsrel=1e-13)[0]

    size = np.array([*fit.params.values()])

    def residuals(z: np.ndarray) -> np.ndarray:
        at = C + z[3:]
        return np.append([exact(c, z[:3] * size) for c in at] - LAG, z[3:])

    found = least_squares(
        residuals, np.append(np.ones(3), fit.delta), xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    assert fit.chi2 == pytest.approx(2 * found.cost, rel=1e-7)
    np.testing.assert_allclose(found.x[:3], 1, rtol=1e-4)
    np.testing.assert_allclose(fit.delta, found.x[3:], atol=1e-6)


def test_conventions_at_a_bound_are_those_the_documentation_sets_side_by_side() -> None:
    import odrpack

    problem = refsets.load("odrpack_ex5_bounded")
    x, y, start = problem.x[0], problem.y[0], problem.start("guide")
    bounds = ([problem.bounds[n][i] for n in start] for i in (0, 1))
    lower, upper = (np.array(each) for each in bounds)
    peer = odrpack.odr_fit(
        lambda x, b: b[0] * np.exp(b[1] * x),
        x,
        y,
        np.array([*start.values()]),
        bounds=(lower, upper),
    )
    ours = gf.fit("b1*exp(b2*x)", x, y, start=start, bounds=problem.bounds)
    held = gf.fit("b1*exp(b2*x)", x, y, start={"b1": 1.4}, fixed={"b2": 0.9})
    # Theirs: all parameters vary, and the sum of squares is not at its minimum.
    assert peer.beta[1] == 0.9
    assert peer.sd_beta[1] == pytest.approx(0.074, abs=5e-4)
    assert peer.sum_square == pytest.approx(0.267, abs=5e-4)
    assert peer.sum_square == pytest.approx(peer.res_var * 2)
    # Ours: as if the parameter had been fixed there.
    assert ours.chi2 == pytest.approx(problem.chi2, rel=1e-10)
    assert ours.chi2 == pytest.approx(0.192, abs=5e-4)
    assert ours.at_bound == ("b2",)
    assert ours.stderr["b1"] == pytest.approx(held.stderr["b1"], rel=1e-8)
    assert np.isnan(ours.stderr["b2"])  # its interval goes to the end of its profile
    assert ours.stderr["b1"] == pytest.approx(0.17, abs=5e-3)
    assert ours.dof == held.dof == 3
