"""The few words that all laws use: fit simulated points, and compare two results."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from strategies import Points

import gradfit as gf

FEW = settings(max_examples=15)


def fit(p: Points, **options: Any) -> Any:
    """Fit the curve of simulated points with their errors, from a start near the truth."""
    options = {"start": p.start} | p.errors | options
    return gf.fit(options.pop("model", p.formula.model()), p.x, p.y, **options)


def values(result: Any) -> np.ndarray:
    """Parameters in order."""
    return np.array(list(result.params.values()))


def errors(result: Any) -> np.ndarray:
    """Standard errors in order."""
    return np.array(list(result.stderr.values()))


def assert_same_fit(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    """Two results agree to a fraction of a standard error."""
    assert a.success
    assert b.success
    assert (np.abs(values(a) - values(b)) <= tolerance * errors(b)).all()
    assert a.chi2 == pytest.approx(b.chi2, rel=1e-10)
    np.testing.assert_allclose(errors(a), errors(b), rtol=1e-8)


@contextmanager
def quiet() -> Iterator[None]:
    """Let fits fail without a warning, where the failure itself is looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.errors.GradfitWarning)
        yield
