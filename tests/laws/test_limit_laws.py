"""A point at the edge of a model's domain changes nothing: it is as one a little way inside.

Torch multiplies 0 by infinity there: in second derivatives of a power, in first derivatives of
``(x/tau)**beta`` by tau, or in the value that ``where`` does not choose.
"""

import warnings

import mpmath
import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit._engine.linearize import curve, derive
from gradfit._engine.points import Points
from gradfit._model import as_model
from gradfit.errors import InputError

DOSES = np.array([0.0, 0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.2, 3.0])
INSIDE = np.where(DOSES == 0, 1e-9, DOSES)
CURVES = {
    "4pl": ("d + (a - d)/(1 + (x/c)**b)", {"d": 12.0, "a": 10.0, "c": 0.5, "b": 4.0}),
    "hill": ("hill", {"vmax": 3.0, "half": 0.6, "exponent": 2.3}),
    "power": ("a + c*x**b", {"a": 1.0, "c": 1.0, "b": 2.2}),
    "weibull": ("a*(1 - exp(-(x/l)**k))", {"a": 2.0, "l": 1.0, "k": 2.6}),
}
EXACT = {
    "stretched": ("a*exp(-(x/t)**b) + c", {"a": 2.0, "t": 1.0, "b": 0.6, "c": 0.3}),
    "root": ("a - b*sqrt(x)", {"a": 3.0, "b": 1.2}),
    "root of a product": ("a - b*sqrt(k*x)*exp(-k*x)", {"a": 3.0, "b": 1.2, "k": 0.8}),
    "freundlich": ("q*(k*x)**n/(1 + (k*x)**n)", {"q": 3.0, "k": 1.3, "n": 0.7}),
    "x log x": ("a + b*x*log(x/c)", {"a": 3.0, "b": 0.8, "c": 1.2}),
    "x to the x": ("a + b*x**(k*x)", {"a": 3.0, "b": 0.8, "k": 0.7}),
    "arrhenius": ("a*exp(-b/x) + c", {"a": 3.0, "b": 0.8, "c": 0.1}),
    "sinc": ("a*sinc(k*x)", {"a": 3.0, "k": 0.3}),
    "tanh of a root": ("a*tanh(sqrt(k*x))", {"a": 3.0, "k": 1.3}),
}
COVARIANCES = ("expected", "observed", "propagated", "sandwich")


def _model_values(model, x, start):
    at = torch.from_numpy(x)
    known = as_model(model)
    return known.fn(at, *(torch.full_like(at, start[n]) for n in known.names)).numpy()


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        *((name, "eager") for name in CURVES),
        ("4pl", "native"),
        *(
            pytest.param(name, "native", marks=pytest.mark.slow)
            for name in ("hill", "power", "weibull")
        ),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_a_dose_of_0_is_as_one_of_a_billionth(name, exact, backend):
    """100 draws each: the same verdicts, and all covariances finite and the same."""
    model, start = CURVES[name]
    rng, draws = np.random.default_rng(7), 100
    y = np.concatenate([_model_values(model, INSIDE, start)] * draws)
    y += 0.02 * rng.standard_normal(len(y))
    groups, sx = np.repeat(np.arange(draws), len(DOSES)), 0.01
    if exact:
        sx = np.tile(np.where(DOSES == 0, 0.0, 0.01), draws)
    for kind in COVARIANCES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            at_0, near = (
                gf.fit(model, np.tile(x, draws), y, groups=groups, start=start, sx=sx, sy=0.02,
                       cov_type=kind, backend=backend)
                for x in (DOSES, INSIDE)
            )  # fmt: skip
        assert at_0.success.sum() >= near.success.sum()
        both = at_0.success & near.success
        assert both.sum() >= 95
        for n in near.names:
            assert np.isfinite(at_0.stderr[n][both]).all()
            np.testing.assert_allclose(
                np.median(at_0.stderr[n][both]), np.median(near.stderr[n][both]), rtol=1e-3
            )


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("name", EXACT)
def test_an_exact_0_is_as_a_tiny_x_for_powers_roots_and_their_like(name, backend):
    """The slope by x may be infinite, and is not needed; those by the parameters have limits."""
    model, start = EXACT[name]
    tiny = np.where(DOSES == 0, 1e-60, DOSES)
    sx = np.where(DOSES == 0, 0.0, 0.01)
    y = _model_values(model, tiny, start) + 0.02 * np.cos(9 * DOSES)
    for kind in COVARIANCES:
        at_0, near = (
            gf.fit(model, x, y, start=start, sx=sx, sy=0.02, cov_type=kind, backend=backend)
            for x in (DOSES, tiny)
        )
        assert at_0.success
        names = ("params", "stderr") if name != "sinc" else ("params",)
        for told in names:
            np.testing.assert_allclose(
                list(getattr(at_0, told).values()), list(getattr(near, told).values()), rtol=2e-6
            )
    assert np.isfinite(list(at_0.bias.values())).all()
    found = at_0.influence()
    assert all(np.isfinite(found.y[n]).all() for n in at_0.names)
    assert all(np.isfinite(found.x[n][1:]).all() for n in at_0.names)


def test_influence_of_a_zero_dose_is_that_of_one_near_by():
    x = np.array([0, 0.5, 1, 1.5, 2, 3, 4.0])
    y = 1 + 0.8 * x**2.4 + 0.02 * np.cos(5 * x)
    start = {"a": 1, "c": 1, "b": 2.2}
    at_0, near = (
        gf.fit("a + c*x**b", at, y, sx=0.05, sy=0.05, start=start)
        for at in (x, np.where(x == 0, 1e-9, x))
    )
    for n in at_0.names:
        for source in (
            "x",
            "y",
        ):
            a, b = getattr(at_0.influence(), source)[n], getattr(near.influence(), source)[n]
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7 * np.abs(b).max())


def _guarded(x, a, k):
    return torch.where(x == 0, a, a * torch.sin(k * x) / (k * x))


def test_derivatives_of_guarded_quotients_are_limits():
    """First and second derivatives of sin(k x)/(k x) at 0 in 30 digits, by mpmath."""
    x = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 2.0]], dtype=torch.float64)
    columns = torch.tensor([[5.0], [1.8]], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    points = Points(x, torch.zeros_like(x), (0,), one, one, None, None)

    def fn(x, beta):
        return _guarded(x, *beta)

    with torch.enable_grad():
        u = torch.zeros_like(x)
        d = derive(points, fn, u, columns)
        c = curve(points, fn, u, columns, torch.ones_like(x))
    assert c.lost is None
    mpmath.mp.dps = 30

    def wanted(order):
        return float(mpmath.diff(lambda x, a, k: a * mpmath.sinc(k * x), (0, 5, 1.8), order))

    found = [d.J_u[0, 0], *d.J_beta[0], c.uu[0, 0], c.ub[0, 0], c.ub[0, 1], c.bb[0, 0], c.bb[1, 1]]
    orders = [
        (1, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
        (2, 0, 0),
        (1, 1, 0),
        (1, 0, 1),
        (0, 2, 0),
        (0, 0, 2),
    ]
    for value, order in zip(found, orders, strict=True):
        assert value[2].item() == pytest.approx(wanted(order), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_a_guarded_quotient_is_fitted_as_the_function_that_it_is(backend):
    x = np.linspace(-3, 3, 25)
    y = 5 * np.sinc(1.8 * x / np.pi) + 0.01 * np.cos(9 * x)
    start = {"a": 5, "k": 1.8}
    for kind in ("expected", "observed"):
        guarded, plain = (
            gf.fit(f, x, y, sx=0.02, sy=0.05, start=start, cov_type=kind, backend=backend)
            for f in (_guarded, "a*sinc(k*x/pi)")
        )
        for told in ("params", "stderr"):
            a, b = (list(getattr(fit, told).values()) for fit in (guarded, plain))
            np.testing.assert_allclose(a, b, rtol=1e-7)


def _cut_root(x, a, b):
    return torch.where(x <= 0.75, a + 0 * torch.sqrt(x - 0.75), a * torch.sqrt(x - b))


def test_where_there_is_no_derivative_the_point_is_named_and_not_the_start():
    y = 3 - 1.2 * np.sqrt(DOSES)
    for start in ([3, 1], None):
        with pytest.raises(
            InputError, match=r"index 0, x = 0\.0.*respect to x is infinite"
        ) as told:
            gf.fit("a - b*sqrt(x)", DOSES, y, sx=0.01, sy=0.01, start=start)
        assert "start" not in str(told.value)
    with pytest.raises(InputError, match=r"index 0, x = 0\.75.*torch\.where\(x == 0, 1, x\)"):
        gf.fit(
            _cut_root,
            DOSES[4:], y[4:], sx=0.01, sy=0.01, start=[3, 0.75],
        )  # fmt: skip


def test_what_is_left_out_is_said():
    """The second derivative of x**1.5 is infinite at 0, where an exact y holds the foot."""
    x = np.tile(DOSES, 2)
    y = np.where(x == 0, 1.0, 1 + 1.3 * x**1.5 + 0.02 * np.cos(5 * x))
    with pytest.warns(
        gf.errors.GradfitWarning, match=r"points \[0\] and \[9\] without second-order"
    ):
        fits = gf.fit("1 + b*x**1.5 + a*x", x, y, groups=np.repeat([0, 1], 9), sx=0.02, sy=0.02,
                      start=[0.1, 1], cov_type="observed", backend="eager")  # fmt: skip
    assert all(np.isfinite(fits.stderr[n]).all() for n in fits.names)
