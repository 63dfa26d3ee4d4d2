"""Feet eliminated from several equations of a point, against 50 digits."""

import numpy as np
import pytest
import torch
from made import decades_apart, two_decays
from mpmath import lu_solve, matrix, mp

import gradfit as gf
from gradfit._engine.eliminate import eliminate
from gradfit._engine.linearize import Derivatives
from gradfit._engine.points import Points


def squared(J: np.ndarray, h: np.ndarray, slack: float) -> float:
    """``h^T (s + J J^T)^-1 h`` of one point."""
    with mp.workdps(50):
        S = matrix(J.tolist()) * matrix(J.T.tolist())
        for k in range(len(h)):
            S[k, k] += slack
        column = matrix(h.tolist())
        return float((column.T * lu_solve(S, column))[0])


@pytest.mark.parametrize(("slack", "mu"), [(1.0, 1), (1.0, 2), (0.0, 3)])
def test_nearly_parallel_equations_keep_their_digits(slack: float, mu: int) -> None:
    """The rows of ``J_u`` differ by a thousandth; from their products it would cost six digits."""
    rng = np.random.default_rng(0)
    q, n = 2, 40
    J = 1e4 * (rng.standard_normal((1, mu, n)) + 1e-3 * rng.standard_normal((q, mu, n)))
    h = rng.standard_normal((q, n))
    u, y = torch.zeros(mu, n).double(), torch.zeros(q, n).double() if slack else None
    ones = torch.ones(mu, 1).double()
    points = Points(u, y, tuple(range(mu)), ones, None, None, None)
    nothing = torch.zeros(q, 0, n).double()
    found = eliminate(points, u, Derivatives(torch.tensor(h), torch.tensor(J), nothing)).h
    expected = [squared(J[..., i], h[:, i], slack) for i in range(n)]
    np.testing.assert_allclose(found.square().sum(0), expected, rtol=1e-11)


def test_machine_code_keeps_them_too() -> None:
    """Two responses whose errors have two directions, decades apart: chi-square to 12 digits."""
    x, y, given = decades_apart(4, 60, 20, -4)
    eager, native = (gf.fit(two_decays, x, y, backend=b, **given) for b in ("eager", "native"))
    assert eager.success.all()
    np.testing.assert_allclose(native.chi2, eager.chi2, rtol=1e-12)
