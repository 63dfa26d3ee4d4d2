"""Feet eliminated from several equations of a point, against 50 digits."""

from typing import Any

import numpy as np
import pytest
import torch
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


def two_decays(x: Any, a: Any, b: Any, c: Any) -> Any:
    return torch.stack([a * torch.exp(-b * x) + c, a * b * x])


def test_machine_code_keeps_them_too() -> None:
    """Two responses whose errors have two directions, decades apart: chi-square to 12 digits."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(6, 20, 60)
    n = sizes.sum()
    root = rng.standard_normal((n, 3, 3)) * 10.0 ** rng.uniform(-4, -1, (n, 1, 3))
    x = rng.uniform(0.3, 4, n)
    z = np.vstack([x, 4 * np.exp(-0.5 * x) + 0.7, 2 * x])
    z += np.einsum("nij,nj->in", root, rng.standard_normal((n, 3)))
    given = {
        "cov": root @ root.transpose(0, 2, 1),
        "start": {"a": 3.9, "b": 0.48, "c": 0.68},
        "groups": np.repeat(range(60), sizes),
    }
    eager, native = (
        gf.fit(two_decays, z[0], z[1:], backend=b, **given) for b in ("eager", "native")
    )
    assert eager.success.all()
    np.testing.assert_allclose(native.chi2, eager.chi2, rtol=1e-12)
