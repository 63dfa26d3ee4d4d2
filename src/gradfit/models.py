"""Models that need no start values.

Every model is a function of ``x`` and named parameters in torch operations. Its name does as well:
``gf.fit("gaussian", x, y)`` is ``gf.fit(gf.models.gaussian, x, y)``. The units of the parameters
follow from the formula; ``[x]`` and ``[y]`` stand for the units of the data. A parameter that is
known is held with ``fixed``, as in ``fixed={"offset": 0.0}``.
"""

import difflib
import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from gradfit._format import shown
from gradfit.errors import InputError

GAS_CONSTANT = 8.31446261815324
"""Molar gas constant in J/(mol K), exact since 2019."""

_Function = TypeVar("_Function", bound=Callable[..., Tensor])
_CATALOGUE: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {}
_POLYNOMIAL = re.compile(r"polynomial(\d{1,2})")


def names() -> tuple[str, ...]:
    """Return the names of the models; polynomials have any degree, such as ``polynomial7``."""
    return (*_CATALOGUE, "polynomial2", "polynomial3")


def known(name: str) -> bool:
    """Return whether there is a model of that name."""
    return name in _CATALOGUE or _POLYNOMIAL.fullmatch(name) is not None


def get(name: str) -> Callable[..., Tensor]:
    """Return the model of that name.

    Raises
    ------
    InputError
        There is none.

    Examples
    --------
    >>> get("polynomial2") is polynomial(2)
    True
    """
    if not isinstance(cast(object, name), str):
        raise InputError(f"`name` must be the name of a model, got {shown(name)}.")
    if name in _CATALOGUE:
        return _CATALOGUE[name][0]
    match = _POLYNOMIAL.fullmatch(name)
    if match is None:
        raise InputError(f"there is no model {shown(name)}. Known are {', '.join(names())}.")
    return polynomial(int(match[1]))


def meant(name: str) -> str | None:
    """Return the model that somebody may mean by another name, None if there is none near.

    Examples
    --------
    >>> meant("gausian"), meant("Lorentz"), meant("min")
    ('gaussian', 'lorentzian', None)
    """
    small = name.lower().replace("-", "_")
    if small in _OTHER_NAMES:
        return _OTHER_NAMES[small]
    close = difflib.get_close_matches(small, names(), 1, 0.75)
    return close[0] if close else None


_OTHER_NAMES = {
    "linear": "line",
    "straight_line": "line",
    "quadratic": "polynomial2",
    "parabola": "polynomial2",
    "cubic": "polynomial3",
    "exponential": "decay",
    "exp": "decay",
    "exp_decay": "decay",
    "relaxation": "decay",
    "gauss": "gaussian",
    "normal": "gaussian",
    "lorentz": "lorentzian",
    "cauchy": "lorentzian",
    "power": "power_law",
    "sin": "sine",
    "cos": "sine",
    "cosine": "sine",
    "sigmoid": "logistic",
    "langmuir": "michaelis_menten",
    "dose_response": "hill",
}
"""Names that other programs and fields give to models."""


def positive_of(fn: object) -> tuple[str, ...]:
    """Return the parameters of a model that are positive by convention, none for other functions.

    A search for start values keeps to it; a fit need not.
    """
    entry = _CATALOGUE.get(getattr(fn, "__name__", ""))
    return entry[1] if entry is not None and entry[0] is fn else ()


def __getattr__(name: str) -> Any:
    """Find ``models.polynomial3``, also when unpickling it."""
    if _POLYNOMIAL.fullmatch(name):
        return get(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _listed(*positive: str) -> Callable[[_Function], _Function]:
    """Enter a model in the catalogue, with the parameters that are positive by convention."""

    def enter(fn: _Function) -> _Function:
        _CATALOGUE[fn.__name__] = fn, positive
        return fn

    return enter


# Straight lines and powers -----------------------------------------------------------------------


@_listed()
def line(x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """Return ``slope*x + intercept``.

    Parameters: ``slope`` [y]/[x], ``intercept`` [y].
    """
    return slope * x + intercept


@_listed()
def proportional(x: Tensor, slope: Tensor) -> Tensor:
    """Return ``slope*x``, the line through the origin.

    Parameters: ``slope`` [y]/[x].
    """
    return slope * x


def polynomial(degree: int) -> Callable[..., Tensor]:
    """Return the model ``c0 + c1*x + ... + cn*x**n`` of the given degree, 0 to 30.

    Its parameters are ``c0`` [y] to ``cn`` [y]/[x]^n, its name ``polynomial<degree>``.

    Raises
    ------
    InputError
        The degree is no whole number from 0 to 30.

    Examples
    --------
    >>> cubic = polynomial(3)
    >>> cubic.__name__, cubic(2.0, 1.0, 0.0, 0.0, 1.0)
    ('polynomial3', 9.0)
    """
    given: Any = degree
    whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not (whole and 0 <= degree <= 30):
        raise InputError(f"the degree of a polynomial must be 0 to 30, got {shown(degree)}.")
    return _polynomial(int(degree))


@functools.cache
def _polynomial(degree: int) -> Callable[..., Tensor]:
    """Return the model of a degree, the same one at every call."""

    def curve(x: Tensor, *c: Tensor) -> Tensor:
        *rest, value = c
        for term in reversed(rest):
            value = value * x + term
        return value if rest else value + 0 * x

    arguments = ["x", *(f"c{k}" for k in range(degree + 1))]
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    curve.__name__ = curve.__qualname__ = f"polynomial{degree}"
    curve.__doc__ = f"Return the polynomial of degree {degree} with coefficients c0, c1, ..."
    curve.__signature__ = inspect.Signature([inspect.Parameter(a, positional) for a in arguments])
    return curve


@_listed()
def power_law(x: Tensor, amplitude: Tensor, exponent: Tensor) -> Tensor:
    """Return ``amplitude * x**exponent`` for x > 0.

    Parameters: ``amplitude`` [y] at x = 1, ``exponent``.
    """
    return amplitude * x**exponent


@_listed()
def power_law_offset(x: Tensor, amplitude: Tensor, exponent: Tensor, offset: Tensor) -> Tensor:
    """Return ``amplitude * x**exponent + offset`` for x > 0.

    Parameters: ``amplitude`` [y] at x = 1 above the offset, ``exponent``, ``offset`` [y].
    """
    return amplitude * x**exponent + offset


# Exponentials ------------------------------------------------------------------------------------


@_listed()
def decay(x: Tensor, amplitude: Tensor, rate: Tensor, offset: Tensor) -> Tensor:
    """Return ``amplitude * exp(-rate*x) + offset``: decay, discharge, relaxation to ``offset``.

    Parameters: ``amplitude`` [y] at x = 0 above the offset, ``rate`` 1/[x] (the inverse of the life
    time), ``offset`` [y].
    """
    return amplitude * torch.exp(-rate * x) + offset


@_listed()
def growth(x: Tensor, amplitude: Tensor, rate: Tensor, offset: Tensor) -> Tensor:
    """Return ``amplitude * exp(rate*x) + offset``.

    Parameters: ``amplitude`` [y] at x = 0 above the offset, ``rate`` 1/[x], ``offset`` [y].
    """
    return amplitude * torch.exp(rate * x) + offset


@_listed("rate1", "rate2")
def double_decay(
    x: Tensor, amplitude1: Tensor, rate1: Tensor, amplitude2: Tensor, rate2: Tensor, offset: Tensor
) -> Tensor:
    """Return ``amplitude1 * exp(-rate1*x) + amplitude2 * exp(-rate2*x) + offset``.

    Parameters: ``amplitude1`` and ``amplitude2`` [y] at x = 0, ``rate1`` and ``rate2`` 1/[x], in
    either order, ``offset`` [y].
    """
    return amplitude1 * torch.exp(-rate1 * x) + amplitude2 * torch.exp(-rate2 * x) + offset


@_listed("energy")
def arrhenius(x: Tensor, prefactor: Tensor, energy: Tensor) -> Tensor:
    """Return ``prefactor * exp(-energy / (R*x))``, a rate at the temperature x in kelvin.

    Parameters: ``prefactor`` [y], ``energy`` J/mol; R is the molar gas constant.
    """
    return prefactor * torch.exp(-energy / (GAS_CONSTANT * x))


# Peaks -------------------------------------------------------------------------------------------


def _gauss(x: Tensor, center: Tensor, sigma: Tensor) -> Tensor:
    return torch.exp(-0.5 * ((x - center) / sigma) ** 2)


def _lorentz(x: Tensor, center: Tensor, gamma: Tensor) -> Tensor:
    return 1 / (1 + ((x - center) / gamma) ** 2)


@_listed("sigma")
def gaussian(x: Tensor, amplitude: Tensor, center: Tensor, sigma: Tensor, offset: Tensor) -> Tensor:
    """Return ``amplitude * exp(-(x - center)**2 / (2*sigma**2)) + offset``.

    Parameters: ``amplitude`` [y], the height; ``center`` [x]; ``sigma`` [x], the standard deviation
    (full width at half maximum: 2.3548 sigma); ``offset`` [y].
    """
    return amplitude * _gauss(x, center, sigma) + offset


@_listed("sigma")
def gaussian_on_line(
    x: Tensor, amplitude: Tensor, center: Tensor, sigma: Tensor, slope: Tensor, intercept: Tensor
) -> Tensor:
    """Return ``amplitude * exp(-(x - center)**2 / (2*sigma**2)) + slope*x + intercept``.

    Parameters: ``amplitude``, ``center`` and ``sigma`` as of ``gaussian``; ``slope`` [y]/[x] and
    ``intercept`` [y] of the background.
    """
    return amplitude * _gauss(x, center, sigma) + slope * x + intercept


@_listed("gamma")
def lorentzian(
    x: Tensor, amplitude: Tensor, center: Tensor, gamma: Tensor, offset: Tensor
) -> Tensor:
    """Return ``amplitude / (1 + ((x - center)/gamma)**2) + offset``.

    Parameters: ``amplitude`` [y], the height; ``center`` [x]; ``gamma`` [x], half the width at half
    maximum; ``offset`` [y].
    """
    return amplitude * _lorentz(x, center, gamma) + offset


@_listed("gamma")
def lorentzian_on_line(
    x: Tensor, amplitude: Tensor, center: Tensor, gamma: Tensor, slope: Tensor, intercept: Tensor
) -> Tensor:
    """Return ``amplitude / (1 + ((x - center)/gamma)**2) + slope*x + intercept``.

    Parameters: ``amplitude``, ``center`` and ``gamma`` as of ``lorentzian``; ``slope`` [y]/[x] and
    ``intercept`` [y] of the background.
    """
    return amplitude * _lorentz(x, center, gamma) + slope * x + intercept


def _resonate(x: Tensor, center: Tensor, quality: Tensor) -> Tensor:
    ratio = x / center
    return 1 / torch.sqrt((1 - ratio**2) ** 2 + (ratio / quality) ** 2)


@_listed("center", "quality")
def resonance(x: Tensor, amplitude: Tensor, center: Tensor, quality: Tensor) -> Tensor:
    """Return ``amplitude / sqrt((1 - (x/center)**2)**2 + (x/(center*quality))**2)``.

    The amplitude of a driven oscillator at the frequency x. Parameters: ``amplitude`` [y], the
    response to a slow drive; ``center`` [x], the undamped frequency; ``quality``, the factor Q.
    """
    return amplitude * _resonate(x, center, quality)


# Saturation --------------------------------------------------------------------------------------


@_listed("rate")
def logistic(x: Tensor, amplitude: Tensor, center: Tensor, rate: Tensor, offset: Tensor) -> Tensor:
    """Return ``amplitude / (1 + exp(-rate*(x - center))) + offset``.

    Parameters: ``amplitude`` [y], the whole rise (fall, if negative); ``center`` [x], where half of
    it is done; ``rate`` 1/[x]; ``offset`` [y], the level before.
    """
    return amplitude * torch.sigmoid(rate * (x - center)) + offset


@_listed("km")
def michaelis_menten(x: Tensor, vmax: Tensor, km: Tensor) -> Tensor:
    """Return ``vmax * x / (km + x)``: enzyme kinetics, Langmuir's isotherm, saturation.

    Parameters: ``vmax`` [y], the limit for large x; ``km`` [x], where half of it is reached.
    """
    return vmax * x / (km + x)


@_listed("half", "exponent")
def hill(x: Tensor, vmax: Tensor, half: Tensor, exponent: Tensor) -> Tensor:
    """Return ``vmax * x**exponent / (half**exponent + x**exponent)`` for x >= 0.

    Parameters: ``vmax`` [y], the limit for large x; ``half`` [x], where half of it is reached;
    ``exponent``, the steepness.
    """
    power = x**exponent
    return vmax * power / (half**exponent + power)


# Oscillations ------------------------------------------------------------------------------------


@_listed("amplitude", "frequency")
def sine(x: Tensor, amplitude: Tensor, frequency: Tensor, phase: Tensor, offset: Tensor) -> Tensor:
    """Return ``amplitude * sin(2*pi*frequency*x + phase) + offset``.

    Parameters: ``amplitude`` [y]; ``frequency`` 1/[x], in cycles; ``phase`` in radians at x = 0;
    ``offset`` [y]. A search looks up to where half the median spacing of x is half a turn.
    """
    return amplitude * torch.sin(2 * math.pi * frequency * x + phase) + offset


@_listed("amplitude", "rate", "frequency")
def damped_sine(
    x: Tensor, amplitude: Tensor, rate: Tensor, frequency: Tensor, phase: Tensor, offset: Tensor
) -> Tensor:
    """Return ``amplitude * exp(-rate*x) * sin(2*pi*frequency*x + phase) + offset``.

    Parameters: ``amplitude`` [y] at x = 0, which falls with ``rate`` 1/[x]; ``frequency``,
    ``phase`` and ``offset`` as of ``sine``.
    """
    wave = torch.sin(2 * math.pi * frequency * x + phase)
    return amplitude * torch.exp(-rate * x) * wave + offset
