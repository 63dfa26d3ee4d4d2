"""Units written into a formula: wherever a factor stands, no start values are needed."""

import warnings

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit._model import as_model

UNITS = (1e-15, 1e-9, 1e-6, 1e-3, 60.0, 3600.0, 86400.0, 1e6, 3.156e7, 1e9)
"""Femto to giga, minutes to years: how many units of x make one of the parameter."""

SHAPES = {
    "a*exp(-x/(tau*S)) + c": ((0, 4), {"a": 3, "tau": 1.3, "c": 0.5}),
    "a*exp(-b*x/S) + c": ((0, 4), {"a": 3, "b": 0.8, "c": 0.5}),
    "a*exp(-x/(t1*S)) + b*exp(-x/(t2*S))": ((0, 4), {"a": 3, "t1": 0.2, "b": 2, "t2": 1.7}),
    "a*(1 - exp(-(x/(t*S))**n))": ((0.1, 4), {"a": 2, "t": 1.4, "n": 1.6}),
    "a*sin(2*pi*f*x/S + p) + c": ((0, 4), {"a": 1.5, "f": 1.1, "p": 0.4, "c": 2}),
    "a*sin(2*pi*x/(T*S) + p) + c": ((0, 4), {"a": 1.5, "T": 0.9, "p": 0.4, "c": 2}),
    "a*exp(-x/(tau*S))*cos(2*pi*f*x/S + p)": ((0, 4), {"a": 3, "tau": 2, "f": 1.3, "p": 0.7}),
    "a*exp(-((x/S - m)/s)**2) + c": ((0, 4), {"a": 3, "m": 1.8, "s": 0.4, "c": 1}),
    "a/(1 + ((x - m*S)/(g*S))**2) + c": ((0, 4), {"a": 3, "m": 1.8, "g": 0.4, "c": 1}),
    "a/(1 + exp(-k*(x/S - m))) + c": ((0, 4), {"a": 3, "k": 4, "m": 1.8, "c": 1}),
    "a*tanh((x/S - m)/w) + c": ((0, 4), {"a": 3, "m": 1.8, "w": 0.6, "c": 1}),
    "a*atan((x - m*S)/(w*S)) + c": ((0, 4), {"a": 3, "m": 1.8, "w": 0.3, "c": 1}),
    "a*erf((x/S - m)/w) + c": ((0, 4), {"a": 3, "m": 1.8, "w": 0.6, "c": 1}),
    "v*x/(k*S + x)": ((0.05, 4), {"v": 3, "k": 0.7}),
    "v*x**n/((h*S)**n + x**n)": ((0.05, 4), {"v": 3, "h": 1.1, "n": 2.3}),
    "a*log(1 + b*x/S)": ((0, 4), {"a": 2, "b": 3}),
    "a + b/(x/S + c)": ((0, 4), {"a": 1, "b": 2, "c": 0.5}),
    "a*sqrt(1 + (x/(z*S))**2)": ((0, 4), {"a": 1, "z": 0.9}),
    "a*sinc(b*x/S)**2": ((-4, 4), {"a": 3, "b": 0.6}),
    "a*(x/S)**n + c": ((0.1, 4), {"a": 2, "n": 1.7, "c": 1}),
    "where(x < b*S, a*x/S, a*b) + c": ((0, 4), {"a": 2, "b": 1.7, "c": 1}),
}
"""Formula in x and a unit S, range of x/S, true parameters."""

NAMED = {
    "kelvin": ("a*exp(-E/(8.617e-5*x))", (300, 420), {"a": 2e6, "E": 0.35}),
    "celsius": ("a*exp(-E/(8.617e-5*(x + 273.15)))", (20, 120), {"a": 2e6, "E": 0.35}),
    "joules": ("a*exp(-E*1e3/(8.314*(x + 273.15)))", (20, 120), {"a": 5e4, "E": 34}),
    "thermistor": ("R*exp(B*(1/(x + 273.15) - 1/298.15))", (0, 90), {"R": 1e4, "B": 3900}),
    "diode": ("i*1e-12*(exp(x/(n*0.02585)) - 1)", (0.3, 0.55), {"i": 3, "n": 1.4}),
    "nm to eV": (
        "a*exp(-((1239.84/x - E)/s)**2/2) + c", (400, 700), {"a": 5, "E": 2.3, "s": 0.12, "c": 1}
    ),
    "nm to 1/cm": (
        "a/(1 + ((1e7/x - m)/g)**2)", (500, 600), {"a": 5, "m": 18200, "g": 250}
    ),
    "planck": ("a/(x**5*(exp(14388/(x*T)) - 1))", (0.4, 3), {"a": 1e5, "T": 4200}),
    "malus": ("a*cos((x - p)*pi/180)**2 + c", (0, 350), {"a": 4, "p": 37, "c": 0.3}),
    "degrees": ("a*sin(w*x*pi/180 + p*pi/180) + c", (0, 900), {"a": 2, "w": 1.2, "p": 40, "c": 1}),
    "hours of a day": ("a*cos(2*pi*(x - h)/24) + c", (0, 72), {"a": 4, "h": 15, "c": 12}),
    "pH": ("a/(1 + 10**(k - x)) + c", (2, 12), {"a": 3, "k": 6.8, "c": 0.4}),
    "absorbance": ("a*10**(-k*x*1e-3)", (0, 900), {"a": 2, "k": 1.1}),
    "half-life": ("a*0.5**(x/(h*3600)) + c", (0, 9e4), {"a": 900, "h": 6.01, "c": 20}),
    "julian date": (
        "a*exp(-(x - 2450000 - m)**2/(2*s**2)) + c", (2450000, 2450060),
        {"a": 3, "m": 22, "s": 4, "c": 1},
    ),
    "nanofarad": ("U*(1 - exp(-x/(R*47e-9)))", (0, 0.002), {"U": 5, "R": 9e3}),
    "vogel": ("a*exp(B/(x - T))", (280, 400), {"a": 0.02, "B": 700, "T": 180}),
    "curie-weiss": ("C/(x - T) + k*1e-4", (150, 300), {"C": 2.5, "T": 90, "k": 3}),
    "double slit": (
        "I*sinc(b*x/647e-9)**2*cos(pi*g*x/647e-9)**2", (-0.045, 0.045),
        {"I": 1.1, "b": 2.3e-5, "g": 5.2e-5},
    ),
    "resonance": (
        "a/sqrt((f**2 - (x/1e3)**2)**2 + (x/1e3*g)**2)", (2e3, 9e3), {"a": 30, "f": 5, "g": 0.8}
    ),
    "drag": ("v*tanh(9.81*x/(v*1e2))", (0, 30), {"v": 0.5}),
    "parsec": ("a*1e3*exp(-x/(h*3.0857e16))", (0, 2e20), {"a": 4, "h": 2300}),
    "small y": ("1e-15*(a*exp(-b*x) + c)", (0, 4), {"a": 3, "b": 0.8, "c": 0.5}),
    "log of y": ("exp(a + b*x)", (0, 4), {"a": -31, "b": 0.9}),
    "decades of y": ("10**(a - x/b)", (0, 4), {"a": 9.2, "b": 1.7}),
    "decibel": ("20*log10(a/sqrt(1 + (x/(f*1e3))**2))", (50, 5e4), {"a": 4, "f": 2.1}),
}  # fmt: skip


def gap(text, ends, truth, *, n=40, noise=0.02, seed=1):
    """Return how much higher a search ends than a fit from the truth, as a share."""
    rng = np.random.default_rng(seed)
    low, high = ends
    x0 = np.linspace(low, high, n)
    x, y = gf.simulate(text, truth, x0)
    size = np.ptp(y)
    x = x + 0.003 * (high - low) * rng.normal(size=n) if low < 0 else x
    y = y + noise * size * rng.normal(size=n)
    given = {"sx": 0.003 * (high - low), "sy": noise * size}
    with warnings.catch_warnings():
        # A kink is no place where a gradient vanishes.
        warnings.simplefilter("ignore", gf.errors.ConvergenceWarning)
        led, alone = gf.fit(text, x, y, start=truth, **given), gf.fit(text, x, y, **given)
    return alone.chi2 / led.chi2 - 1


def of_unit(text, unit):
    (low, high), truth = SHAPES[text]
    return text.replace("S", repr(unit)), (low * unit, high * unit), truth


@pytest.mark.parametrize("text", SHAPES)
def test_a_unit_in_a_formula_does_not_matter(text):
    for unit in (UNITS[len(text) % 4], UNITS[4 + len(text) % 6]):
        assert gap(*of_unit(text, unit)) <= 1e-3, unit


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("text", SHAPES)
def test_no_unit_in_any_formula_matters(text, unit):
    assert sum(gap(*of_unit(text, unit), seed=seed) <= 1e-3 for seed in range(2, 5)) == 3


@pytest.mark.parametrize("name", NAMED)
def test_constants_of_nature_and_of_instruments_do_not_matter(name):
    assert gap(*NAMED[name]) <= 1e-3


def hides(x, a, tau, c):
    """Has a branch on its data, so that it cannot be written down."""
    value = a * torch.exp(-x / (tau * 86400)) + c
    return value * 2 if float(x.detach().sum()) > 1e99 else value


def bump(x, a, m, s):
    """Another one."""
    value = a * torch.exp(-(((x / 1e-6 - m) / s) ** 2))
    return value * 2 if float(x.detach().sum()) > 1e99 else value


@pytest.mark.parametrize(
    ("fn", "unit", "truth"),
    [(hides, 86400.0, {"a": 3, "tau": 1.3, "c": 0.5}), (bump, 1e-6, {"a": 3, "m": 1.8, "s": 0.4})],
)
def test_units_are_sought_over_decades_where_a_function_cannot_be_written_down(fn, unit, truth):
    assert gap(fn, (0.0, 4 * unit), truth) <= 1e-3


BUILT_IN = {
    "decay": [3, 0.8, 0.5],
    "double_decay": [3, 0.5, 2, 5, 0.2],
    "gaussian": [3, 1.8, 0.4, 1],
    "gaussian_on_line": [3, 1.8, 0.4, 0.4, 1],
    "lorentzian": [3, 1.8, 0.3, 1],
    "sine": [2, 1.1, 0.4, 1],
    "damped_sine": [3, 0.5, 1.3, 0.7, 1],
    "logistic": [3, 1.8, 4, 1],
    "michaelis_menten": [3, 0.7],
    "hill": [3, 1.1, 2.3],
    "power_law": [3, 1.6],
    "resonance": [3, 1.8, 4],
}
"""Parameters, in the order of the model."""


@pytest.mark.parametrize("name", BUILT_IN)
def test_data_in_any_unit_have_the_same_minimum(name):
    truth = dict(zip(as_model(name).names, BUILT_IN[name], strict=True))
    x, y = gf.simulate(name, truth, np.linspace(0.05, 4, 40))
    sy = 0.02 * np.ptp(y)
    y = y + sy * np.random.default_rng(3).normal(size=40)
    units = [(1, 1), (1e-15, 1), (1e9, 1), (1, 1e-15), (1, 1e9), (1e-15, 1e9), (1e9, 1e-15)]
    found = [gf.fit(name, x * k, y * c, sx=0.005 * k, sy=sy * c).chi2 for k, c in units]
    np.testing.assert_allclose(found, found[0], rtol=1e-6)
