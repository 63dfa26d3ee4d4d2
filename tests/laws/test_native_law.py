"""Machine code is torch by other means: on any problem the same steps to the same answer."""

import numpy as np
import pytest
from hypothesis import given
from strategies import CURVES, Points, points, simulate

import gradfit as gf
from laws.fits import FEW, errors, quiet, values


def both(p: Points, **options):
    text = CURVES[p.curve][0]
    given = {"start": p.start, **p.errors, **options}
    with quiet():
        eager, native = (gf.fit(text, p.x, p.y, backend=b, **given) for b in ("eager", "native"))
    assert native.backend == "native", native.message
    return eager, native


@FEW
@given(points())
def test_any_fit_takes_the_same_steps_to_the_same_answer(p: Points) -> None:
    eager, native = both(p)
    assert native.success == eager.success
    # A last bit may decide whether one more step is worth its while.
    assert abs(native.n_steps - eager.n_steps) <= 1
    wide = np.maximum(np.abs(values(eager)), errors(eager))
    assert (np.abs(values(native) - values(eager)) <= 1e-9 * wide).all()
    np.testing.assert_allclose(errors(native), errors(eager), rtol=1e-7)
    np.testing.assert_allclose(native.x_hat, eager.x_hat, atol=1e-7 * np.ptp(p.x))


@pytest.mark.parametrize("curve", CURVES)
def test_nearly_all_fits_take_the_very_same_steps(curve: str) -> None:
    """Two hundred fits of each curve, of 8 to 40 points: how many take a step more or less."""
    parts = [simulate(curve, 8 + k % 33, k, correlated=bool(k % 2)) for k in range(200)]
    groups = np.repeat(np.arange(200), [len(p.x) for p in parts])
    x, y, sx, sy = (np.concatenate([getattr(p, n) for p in parts]) for n in ("x", "y", "sx", "sy"))
    rho = np.concatenate([np.zeros(len(p.x)) if p.rho is None else p.rho for p in parts])
    start = {name: np.array([p.start[name] for p in parts]) for name in parts[0].truth}
    given = {"start": start, "sx": sx, "sy": sy, "rho": rho, "groups": groups}
    with quiet():
        eager, native = (
            gf.fit(CURVES[curve][0], x, y, backend=b, **given) for b in ("eager", "native")
        )
    assert native.backend == "native"
    assert np.array_equal(native.success, eager.success)
    assert (native.n_steps != eager.n_steps).mean() <= 0.02
    for name in parts[0].truth:
        a, b, s = native.params[name], eager.params[name], eager.stderr[name]
        ok = eager.success
        assert (np.abs(a - b)[ok] <= 1e-9 * np.maximum(np.abs(b), s)[ok]).all()
