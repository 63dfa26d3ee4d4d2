r"""Tails and quantiles of the normal, chi-square and Student's t distributions, in float64.

PyTorch lacks the incomplete beta function, which Student's t needs: here it is evaluated by its
continued fraction (DLMF 8.17.22). Its incomplete gamma functions serve where they hold 13 digits.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradfit._format import shown
from gradfit._types import FloatArray
from gradfit.errors import InputError

NORMAL_LIMIT = 10_000
"""Degrees of freedom from which the expansion of t about the normal is exact to rounding."""
FEW, FAR = 80, 600
"""Degrees of freedom, and half a chi-square, up to which a tail is a short sum."""
PART = 1 << 14
"""Numbers that are worked on together, where they are walked over many times."""
NEAR = 0.1
"""Up to this much, log(1 + m) - m is a short series."""
TINY = 1e-300
"""Below this a density is 0, whatever it is divided by."""


def check_level(level: float) -> None:
    """Raise an InputError unless ``level``, the share an interval is to hold, is a probability."""
    given: Any = level
    real = isinstance(given, float | int | np.floating) and not isinstance(given, bool)
    if not (real and 0 < given < 1):
        raise InputError(f"`level` must lie between 0 and 1, for example 0.95; got {shown(level)}.")


def chi2_sf(chi2: Tensor, dof: Tensor) -> Tensor:
    """Return the probability of a larger chi-square, element by element; NaN where ``dof < 1``.

    Parameters
    ----------
    chi2, dof : Tensor
        Of equal shape, float64.

    Examples
    --------
    >>> chi2_sf(torch.tensor([9.487729036781154]).double(), torch.tensor([4.0]).double())
    tensor([0.0500], dtype=torch.float64)
    """
    a, x = (part.detach().cpu().flatten() for part in (dof, chi2))
    alike = _short_alike(a, x)
    if alike:
        return _poisson_sums(alike, x).reshape(chi2.shape).to(chi2.device)
    a, x = a / 2, x / 2
    short = (a >= 0.5) & (a <= FEW / 2) & (x >= 0) & (x <= FAR)
    count = torch.where(short, 2 * a, 0).to(torch.int64)
    above = torch.full_like(x, torch.nan)
    for each in torch.bincount(count).nonzero()[:, 0].tolist():
        if each:
            rows = (count == each).nonzero()[:, 0]
            above[rows] = _poisson_sums(each, 2 * x[rows])
    rest = (~short & (a > 0) & (x >= 0)).nonzero()[:, 0]
    above[rest] = torch.from_numpy(_gamma_tails(a[rest].numpy(), x[rest].numpy())[1])
    return above.reshape(chi2.shape).to(chi2.device)


def _short_alike(dof: Tensor, chi2: Tensor) -> int:
    """Return the degrees of freedom that all have, where every tail is a short sum; else 0."""
    if not len(dof):
        return 0
    (least, most), (low, high) = (tuple(v.item() for v in t.aminmax()) for t in (dof, chi2))
    short = 1 <= least == most <= FEW and low >= 0 and high <= 2 * FAR
    return int(least) if short else 0


def chi2_sf_one(chi2: float, dof: int) -> float:
    """Return :func:`chi2_sf` of two numbers, fifty times faster than of arrays with one element.

    The tail is a sum of Poisson's probabilities: from the first up where they are few, else from
    the density down; below the mode, one less the series of the other tail.

    Examples
    --------
    >>> chi2_sf_one(9.487729036781154, 4)
    0.05000000000000...
    """
    a, x = dof / 2, chi2 / 2
    if 1 <= dof <= FEW and 0 <= x <= FAR:
        return _poisson_sum(a, x)
    if dof <= FEW or not 0 < x < math.inf:
        numbers = torch.tensor([[chi2], [dof]], dtype=torch.float64, device="cpu")
        return float(chi2_sf(numbers[0], numbers[1])[0])
    upper = x >= a
    # Beyond so many terms each is a share of less than exp(-(9.2^2)/2) of the first.
    steps = np.arange(1.0, 30 + 9.2 * math.sqrt(a))
    ratios = np.maximum(a - steps, 0.0) / x if upper else x / (a + steps)
    total = 1.0 + float(np.cumprod(ratios).sum())
    density = _gamma_density_one(a, x)
    return density * total if upper else 1 - density * total * x / a


def _poisson_sum(a: float, x: float) -> float:
    whole = a == int(a)
    total, k = 0.0, 0.0 if whole else 0.5
    term = math.exp(-x) * (1.0 if whole else 2 * math.sqrt(x / math.pi))
    while k < a:
        total += term
        k += 1
        term *= x / k
    return total + (0.0 if whole else math.erfc(math.sqrt(x)))


def _poisson_sums(dof: int, chi2: Tensor) -> Tensor:
    """Return the same sum for many chi-squares, by Horner's rule."""
    given, found, half = chi2.numpy(), np.empty(len(chi2)), dof % 2 / 2
    terms = np.cumprod([1.0, *(1 / (k + half) for k in range(1, dof // 2))])[: dof // 2]
    # What is walked over so often had better stay in the cache. Threads of torch would wait for
    # each other at every turn.
    for start in range(0, len(found), PART):
        x, total = given[start : start + PART] / 2, found[start : start + PART]
        total.fill(0.0)
        for term in terms[::-1]:
            total *= x
            total += term
        total *= np.exp(-x)
        if half:
            total *= np.sqrt(x) * (2 / math.sqrt(math.pi))
    tails = torch.from_numpy(found)
    return tails + torch.erfc((chi2 / 2).sqrt()) if half else tails


def chi2_quantile(level: float, dof: int) -> float:
    """Return the value that a chi-square stays below with probability ``level``.

    Newton's method from the mode, where the distribution function turns: left of it that function
    is convex, right of it its complement is log-concave, so that no step overshoots twice.

    Examples
    --------
    >>> chi2_quantile(0.95, 4)
    9.487729036781154
    """
    if dof == 1:
        return 2 * float(torch.erfinv(torch.tensor(level, dtype=torch.float64, device="cpu"))) ** 2
    if dof == 2:
        return -2 * math.log1p(-level)
    a = np.array([dof / 2])
    x = a - 1
    left = _gamma_tails(a, x)[0][0] > level
    for _ in range(200):
        below, above = _gamma_tails(a, x)
        missed = below - level if left else above * np.log((1 - level) / above)
        step = missed / _gamma_density(a, x)
        x = x - step
        if abs(step[0]) <= 4e-16 * x[0]:
            break
    return 2 * float(x[0])


def _gamma_tails(a: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the regularized incomplete gamma functions, P(a, x) and Q(a, x)."""
    # The asymptotic series that PyTorch uses from here on is wrong in the ninth digit.
    large = a > 20
    shape, at = torch.from_numpy(a), torch.from_numpy(x)
    below = torch.special.gammainc(shape, at).numpy()
    above = torch.special.gammaincc(shape, at).numpy()
    where = np.flatnonzero(large)
    for first in range(0, len(where), 4096):
        rows = where[first : first + 4096]
        below[rows], above[rows] = _large_tails(a[rows], x[rows])
    return below, above


def _large_tails(a: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Return P(a, x) and Q(a, x) for large ``a``.

    The tail beyond ``x`` is the density times :math:`\int e^{-d(u)} du`, where ``d`` is how far the
    log-density has dropped at a distance ``u``: one Gauss-Legendre rule over a drop of 40.
    """
    x = np.clip(x, 1e-3, 1e150)  # in double precision P is 0 there as at 0, and Q as at infinity
    upper = x >= a
    sign = np.where(upper, 1.0, -1.0)
    slope = sign * (x - a + 1) / x
    bend = (a - 1) / (x * x)
    reach = 80 / (slope + np.sqrt(slope * slope + 80 * bend))
    # Beyond x the log-density bends less and less; once around is enough for a > 20.
    wide = 80 / (slope + np.sqrt(slope * slope + 80 * bend / (1 + reach / x)))
    reach = np.where(upper, wide, np.minimum(reach, x))
    nodes, weights = _legendre()
    u = np.multiply.outer(nodes, sign * reach)
    total = weights @ np.exp((a - 1) * np.log1p(u / x) - u)
    tail = _gamma_density(a, x) * reach * total
    return np.where(upper, 1 - tail, tail), np.where(upper, tail, 1 - tail)


@lru_cache(maxsize=1)
def _legendre() -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights of Gauss and Legendre's rule on 0..1."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    return (nodes + 1) / 2, weights / 2


def _gamma_density(a: FloatArray, x: FloatArray) -> FloatArray:
    """Return ``x^(a-1) exp(-x) / Gamma(a)``."""
    if a[0] <= 20:
        return np.exp((a - 1) * np.log(x) - x - math.lgamma(a[0]))
    m = (x - a) / a
    drop = np.where(abs(m) < NEAR, _drop_near(m), np.log1p(m) - m)
    return np.sqrt(a / (2 * math.pi)) / x * np.exp(a * drop - _stirling(a))


def _gamma_density_one(a: float, x: float) -> float:
    """Return the same of two numbers, for ``a > 20``."""
    m = (x - a) / a
    # Of the smallest x nothing but -1 is left in m.
    drop = _drop_near(m) if abs(m) < NEAR else math.log(x / a) - m
    return math.sqrt(a / (2 * math.pi)) / max(x, TINY) * math.exp(a * drop - _stirling(a))


def _drop_near(m: Any) -> Any:
    """Return ``log(1 + m) - m`` for small ``m``, where the two cancel."""
    s = m / (2 + m)
    return 2 * s * _horner(s * s, (0, 1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11, 1 / 13)) - m * s


def _stirling(a: Any) -> Any:
    """Return what Stirling's formula lacks of the logarithm of Gamma(a)."""
    return _horner(1 / (a * a), (1 / 12, -1 / 360, 1 / 1260, -1 / 1680)) / a


def normal_quantile(level: float) -> float:
    """Return the value that a standard normal variable stays below with probability ``level``."""
    return float(torch.special.ndtri(torch.tensor(level, dtype=torch.float64, device="cpu")))


def t_quantile(level: float, dof: float) -> float:
    r"""Return the value that Student's t stays below with probability ``level``.

    Newton's method from the normal quantile. The upper tail is convex and heavier than the normal
    one, so that every step comes nearer from the left.

    Parameters
    ----------
    level : float
        In 0..1.
    dof : float
        Degrees of freedom, at least 1; ``inf`` gives the normal quantile.

    Examples
    --------
    >>> t_quantile(0.975, 10)
    2.228138851986275
    """
    tail = min(level, 1 - level)
    sign = 1 if level > 0.5 else -1
    z = -normal_quantile(tail)
    if math.isinf(dof) or tail in (0, 0.5):
        return sign * z
    if dof > NORMAL_LIMIT:
        return sign * _about_normal(z, dof)
    t = z
    for _ in range(2000):
        step = (t_sf(t, dof) - tail) / _t_density(t, dof)
        t += step
        if step <= 2e-16 * t:
            break
    return sign * t


def _about_normal(z: float, dof: float) -> float:
    """Expand the quantile in 1/dof (Abramowitz and Stegun 26.7.5)."""
    s = z * z
    terms = (
        1,
        _horner(s, (1, 1)) / 4,
        _horner(s, (3, 16, 5)) / 96,
        _horner(s, (-15, 17, 19, 3)) / 384,
        _horner(s, (-945, -1920, 1482, 776, 79)) / 92160,
    )
    return z * _horner(1 / dof, terms)


def t_sf(t: float, dof: float) -> float:
    """Return the probability that Student's t exceeds ``t``.

    Examples
    --------
    >>> t_sf(1.0, 1)
    0.25
    """
    if t < 0:
        return 1 - t_sf(-t, dof)
    ratio = t * t / dof
    if ratio * (dof + 2) > 3:
        # Density times a continued fraction in dof / (dof + t^2): exact far out in the tail.
        return _t_density(t, dof) * t / dof * _fraction(dof / 2, 0.5, 1 / (1 + ratio))
    return 0.5 - _t_density(t, dof) * t * _fraction(0.5, dof / 2, ratio / (1 + ratio))


def _t_density(t: float, dof: float) -> float:
    return (
        _gamma_step(dof / 2)
        / math.sqrt(dof * math.pi)
        * math.exp(-(dof + 1) / 2 * math.log1p(t * t / dof))
    )


def _gamma_step(a: float) -> float:
    """Return Gamma(a + 1/2) / Gamma(a) without the digits that two log-gammas would lose."""
    if a < 100:
        return math.exp(math.lgamma(a + 0.5) - math.lgamma(a))
    return math.sqrt(a) * _horner(1 / a, (1, -1 / 8, 1 / 128, 5 / 1024, -21 / 32768, -399 / 262144))


def _horner(x: Any, coefficients: Sequence[float]) -> Any:
    """Evaluate a polynomial; the constant comes first."""
    value = 0.0
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value


def _fraction(a: float, b: float, x: float) -> float:
    """Evaluate the continued fraction of the incomplete beta function by Lentz's method."""
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d or tiny)
    value = d
    for k in range(1, 20_000):
        even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k))
        odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return value
