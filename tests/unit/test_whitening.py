"""Covariances of which some directions are exact, in any units."""

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit._whitening import factor

UNITS = [1.0, 1e-4, 1e-9, 1e12]


def singular(n: int, rank: int, unit: float) -> np.ndarray:
    """Covariances (n, 3, 3) of so many independent errors, with the second variable in `unit`."""
    root = np.random.default_rng(rank).standard_normal((n, 3, rank)) * [[1.0], [unit], [1.0]]
    return root @ root.transpose(0, 2, 1)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_factor_keeps_every_digit_and_the_rank(rank: int, unit: float) -> None:
    V = singular(200, rank, unit)
    L = factor(torch.tensor(V)).numpy()
    size = np.sqrt(np.einsum("nii->ni", V))
    error = (L @ L.transpose(0, 2, 1) - V) / (size[:, :, None] * size[:, None, :])
    assert abs(error).max() < 1e-14
    assert ((abs(L).max(1) > 0).sum(-1) == rank).all()


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("unit", UNITS)
def test_units_change_nothing_where_a_direction_is_exact(unit: float, backend: str) -> None:
    """Points of a plane with errors in two directions each."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 4, (2, 20))
    z = np.vstack([x, 1 + 3 * x[0] - 2 * x[1]])
    root = 0.05 * rng.standard_normal((20, 3, 2))
    z += np.einsum("nij,nj->in", root, rng.standard_normal((20, 2)))

    def fit(unit: float) -> gf.FitResult:
        scale = np.array([1.0, unit, 1.0])
        cov = root @ root.transpose(0, 2, 1) * scale[:, None] * scale
        start = {"a": 1.0, "b": 2.0, "c": -1.0 / unit}
        return gf.fit(
            lambda x, a, b, c: a + b * x[0] + c * x[1],
            z[:2] * scale[:2, None],
            z[2],
            cov=cov,
            start=start,
            backend=backend,
        )

    found, plain = fit(unit), fit(1.0)
    assert found.success
    assert found.chi2 == pytest.approx(plain.chi2, rel=1e-9)
    expected = [*list(plain.params.values())[:2], plain.params["c"] / unit]
    np.testing.assert_allclose(list(found.params.values()), expected, rtol=1e-9)
