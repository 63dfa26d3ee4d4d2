"""Random expressions: the text as Python, as machine code and torch agree."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from .compare import assert_close, by_kernel, by_torch, kernel_of

SMOOTH = [
    torch.sin,
    torch.cos,
    torch.tanh,
    torch.atan,
    torch.sigmoid,
    torch.neg,
    lambda v: torch.exp(-v * v),
    lambda v: torch.sqrt(1 + v * v),
    lambda v: torch.log1p(v * v),
    lambda v: v**2,
    lambda v: 2 / (1 + v**2),
    lambda v: torch.where(v > 0.2, v, 0.5 * v),
]
PAIRS = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / (2 + b * b),
    # Kinks stand where no two ways of writing the same number meet: at such a tie the last bit of a
    # sine or an exponential, which differs between machines, would choose the branch.
    lambda a, b: torch.hypot(a, b + 0.123),
    lambda a, b: torch.maximum(a, b + 0.123),
    lambda a, b: torch.where(a < b + 0.123, a, b * b),
]
LARGEST = 100.0
"""Size of intermediate numbers up to which a sine keeps the digits that are compared."""


@st.composite
def expressions(draw):
    """Steps of a small program: each makes a new value of one or two that are there."""
    steps = []
    for size in range(4, 4 + draw(st.integers(1, 10))):
        index = st.integers(0, size - 1)
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(SMOOTH)), draw(index)))
        else:
            steps.append((draw(st.sampled_from(PAIRS)), draw(index), draw(index)))
    return steps


def values_of(steps, x, beta):
    values = [x[0], x[1], *beta]
    for fn, *at in steps:
        values.append(fn(*(values[i] for i in at)))
    return values


def model_of(steps):
    def model(x, beta):
        *_, before, last = values_of(steps, x, beta)
        return torch.stack([last + 0 * x[0], before * 1.5])

    return model


@given(steps=expressions(), seed=st.integers(0, 100))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("as_python")
def test_random_expression_is_that_of_torch(steps, seed):
    rng = np.random.default_rng(seed)
    x, beta, nu = rng.normal(size=(2, 9)), rng.normal(size=2), rng.normal(size=(2, 9))
    values = values_of(steps, torch.tensor(x), torch.tensor(beta))
    assume(max(float(v.abs().max()) for v in values) <= LARGEST)
    model = model_of(steps)
    found = by_kernel(kernel_of(model, 2, 2), x, beta, nu)
    wanted = by_torch(model, x, beta, nu)
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b, 1e-12, max(1.0, np.abs(b).max()))
