"""The p-by-p systems of a step: what may be trusted of their solutions."""

import numpy as np
import pytest
import torch

from gradfit._engine.solve import solve


@pytest.mark.parametrize("count", [1, 3])
def test_a_matrix_with_a_negative_direction_is_not_safe(count):
    """Its factor stops half way, and holds what was there before behind: pivots that look safe."""
    A = torch.tensor([[4.0, 2.0, 0.0], [2.0, 0.5, 0.0], [0.0, 0.0, 9.0]], dtype=torch.float64)
    assert np.linalg.eigvalsh(A.numpy())[0] < 0
    step = solve(A.expand(count, 3, 3), torch.ones(count, 3, dtype=torch.float64))
    assert not step.safe.any()


@pytest.mark.parametrize("count", [1, 3])
def test_a_positive_matrix_is_solved(count, rng):
    J = rng.normal(size=(9, 3))
    A, g = torch.from_numpy(J.T @ J), torch.from_numpy(rng.normal(size=3))
    step = solve(A.expand(count, 3, 3), g.expand(count, 3))
    assert step.safe.all()
    np.testing.assert_allclose(step.db[0], -np.linalg.solve(A.numpy(), g.numpy()), 1e-10)
