"""Special functions of one number, in Python that can be compiled.

Everything is plain arithmetic over :mod:`numpy` and :mod:`math`, so that the same text runs as
Python, as machine code and on a device. Results at NaN, infinity and poles are torch's.

The Bessel functions are Chebyshev series; their coefficients were computed with mpmath to 50 digits
(``cos`` transform on 80 nodes) and cut where they fall below 1e-18 of the largest.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

_EULER = np.array(
    [
        0.08333333333333333,
        -0.001388888888888889,
        3.306878306878307e-05,
        -8.267195767195768e-07,
        2.08767569878681e-08,
        -5.284190138687493e-10,
        1.3382536530684679e-11,
        -3.3896802963225827e-13,
    ]
)
"""Bernoulli numbers ``B_2k / (2k)!``."""
I0_SMALL = np.array(
    [
        0.33839763720473803,
        -0.3046826723431984,
        0.17162090152220877,
        -0.09490109704804764,
        0.04930528423967071,
        -0.02373741480589947,
        0.010546460394594998,
        -0.004324309995050576,
        0.0016394756169413357,
        -0.0005763755745385824,
        0.00018850288509584165,
        -5.754195010082104e-05,
        1.6448448070728896e-05,
        -4.4167383584587505e-06,
        1.1173875391201037e-06,
        -2.670793853940612e-07,
        6.046995022541919e-08,
        -1.300025009986248e-08,
        2.6598237246823866e-09,
        -5.189795601635263e-10,
        9.675809035373237e-11,
        -1.726826291441556e-11,
        2.95505266312964e-12,
        -4.856446783111929e-13,
        7.676185498604936e-14,
        -1.1685332877993451e-14,
        1.715391285555133e-15,
        -2.431279846547955e-16,
        3.3307945188222384e-17,
        -4.4153416464793395e-18,
        5.669178006921496e-19,
    ]
)
I0_LARGE = np.array(
    [
        0.4022452055070544,
        0.0033691164782556943,
        6.889758346916825e-05,
        2.8913705208347567e-06,
        2.0489185894690638e-07,
        2.266668990498178e-08,
        3.3962320257083865e-09,
        4.94060238822497e-10,
        1.1889147107846439e-11,
        -3.1499165279632416e-11,
        -1.3215811840447713e-11,
        -1.7941785315068062e-12,
        7.180124451383666e-13,
        3.8527783827421426e-13,
        1.54008621752141e-14,
        -4.150569347287222e-14,
        -9.554846698828307e-15,
        3.8116806693526224e-15,
        1.7725601330565263e-15,
        -3.425485619677219e-16,
        -2.8276239805165836e-16,
        3.461222867697461e-17,
        4.46562142029676e-17,
        -4.830504485944182e-18,
        -7.233180487874754e-18,
        9.921475412173699e-19,
        1.193650890845982e-18,
    ]
)
I1_SMALL = np.array(
    [
        0.12629359322181682,
        -0.17641651835783406,
        0.1026436586898471,
        -0.05294598120809499,
        0.024726449030626516,
        -0.010564084894626197,
        0.004156422944312888,
        -0.0015135724506312532,
        0.0005122859561685758,
        -0.00016176081582589674,
        4.781565107550054e-05,
        -1.3273163656039436e-05,
        3.4702513081376785e-06,
        -8.568720264695455e-07,
        2.0032947535521353e-07,
        -4.445059128796328e-08,
        9.381537386495773e-09,
        -1.8872497517228294e-09,
        3.625590281552117e-10,
        -6.663489723502027e-11,
        1.1736186298890901e-11,
        -1.9839743977649436e-12,
        3.223793365945575e-13,
        -5.042185504727912e-14,
        7.600684294735408e-15,
        -1.1055969477353862e-15,
        1.5536319577362005e-16,
        -2.111421214358166e-17,
        2.7779141127610464e-18,
        -3.541581772542136e-19,
    ]
)
I1_LARGE = np.array(
    [
        0.38928811750914005,
        -0.009761097491361469,
        -0.00011058893876262371,
        -3.882564808877691e-06,
        -2.512236237870209e-07,
        -2.6314688468895196e-08,
        -3.835380385964237e-09,
        -5.589743462196584e-10,
        -1.8974958123505413e-11,
        3.2526035830154884e-11,
        1.4125807436613782e-11,
        2.0356285441470896e-12,
        -7.198551776245908e-13,
        -4.0835511110921974e-13,
        -2.1015418427726643e-14,
        4.272440016711951e-14,
        1.0420276984128802e-14,
        -3.8144030724370075e-15,
        -1.8803547755107825e-15,
        3.3082023109209285e-16,
        2.96262899764595e-16,
        -3.209525921993424e-17,
        -4.6503053684893586e-17,
        4.414348323071708e-18,
        7.517296310842105e-18,
        -9.314178867326884e-19,
        -1.242193275194891e-18,
    ]
)


SINC_SLOPE = np.array(
    [
        -0.3333333333333333,
        0.03333333333333333,
        -0.0011904761904761906,
        2.2045855379188714e-05,
        -2.505210838544172e-07,
        1.9270852604185937e-09,
        -1.0706029224547743e-11,
        4.498331606952833e-14,
        -1.4797143443923793e-16,
        3.9145882126782523e-19,
    ]
)
"""Taylor coefficients in powers of ``z**2`` of :func:`sinc_slope`."""


def chebyshev(t: float, c: Any, count: int) -> float:
    """Return the sum of ``c[k] * T_k(t)`` (Clenshaw 1955)."""
    b0 = 0.0
    b1 = 0.0
    for k in range(count - 1, 0, -1):
        b0, b1 = c[k] + 2.0 * t * b0 - b1, b0
    return c[0] + t * b0 - b1


# Machine code has versions of its own of these, which fill vector registers.


def exp(x: float) -> float:
    """Return ``e**x``."""
    return np.exp(x)


def expm1(x: float) -> float:
    """Return ``e**x - 1``."""
    return np.expm1(x)


def sinh(x: float) -> float:
    """Return the hyperbolic sine."""
    return np.sinh(x)


def cosh(x: float) -> float:
    """Return the hyperbolic cosine."""
    return np.cosh(x)


def tanh(x: float) -> float:
    """Return the hyperbolic tangent."""
    return np.tanh(x)


def log(x: float) -> float:
    """Return the natural logarithm."""
    return np.log(x)


def log1p(x: float) -> float:
    """Return ``log(1 + x)``."""
    return np.log1p(x)


def power(x: float, y: float) -> float:
    """Return ``x**y``."""
    return x**y


def sin(x: float) -> float:
    """Return the sine."""
    return np.sin(x)


def cos(x: float) -> float:
    """Return the cosine."""
    return np.cos(x)


def near_sin(x: float) -> float:
    """Return the sine of a number that is not far from 0."""
    return np.sin(x)


def near_cos(x: float) -> float:
    """Return its cosine."""
    return np.cos(x)


def is_far(x: float) -> float:
    """Return 1 where a number is too far from 0 for these, else 0."""
    return 0.0


def arctan(x: float) -> float:
    """Return the angle whose tangent is ``x``."""
    return np.arctan(x)


# Everywhere the same ------------------------------------------------------------------------------


def three_halves(x: float) -> float:
    """Return ``x**1.5``, which C says is inf at -inf."""
    return np.inf if x == -np.inf else x * np.sqrt(x)


def maximum(a: float, b: float) -> float:
    """Return the larger; NaN if either is."""
    return a if a >= b or a != a else b


def minimum(a: float, b: float) -> float:
    """Return the smaller; NaN if either is."""
    return a if a <= b or a != a else b


def sign(x: float) -> float:
    """Return -1, 0 or 1; 0 for NaN."""
    return np.float64(1.0) if x > 0.0 else (np.float64(-1.0) if x < 0.0 else np.float64(0.0))


def remainder(a: float, b: float) -> float:
    """Return what division leaves, with the sign of the divisor."""
    rest = np.fmod(a, b)
    return rest + b if rest != 0.0 and (rest < 0.0) != (b < 0.0) else rest


def floor_divide(a: float, b: float) -> float:
    """Return the whole number of times that ``b`` fits into ``a``, rounded down."""
    if b == 0.0:
        return a / b
    rest = np.fmod(a, b)
    whole = (a - rest) / b
    if rest != 0.0 and (b < 0.0) != (rest < 0.0):
        whole = whole - 1.0
    return np.rint(whole)


def logaddexp(a: float, b: float) -> float:
    """Return ``log(exp(a) + exp(b))``."""
    if a == b and np.isinf(a):
        return a
    return maximum(a, b) + log1p(exp(-abs(a - b)))


def xlogy(a: float, b: float) -> float:
    """Return ``a*log(b)``, 0 where ``a`` is."""
    if b != b:
        return b
    return np.float64(0.0) if a == 0.0 else a * log(b)


def sinc(x: float) -> float:
    """Return ``sin(pi*x) / (pi*x)``."""
    return np.float64(1.0) if x == 0.0 else sin(math.pi * x) / (math.pi * x)


def sinc_slope(x: float) -> float:
    """Return ``(z cos z - sin z) / z**3`` at ``z = pi*x``: that of ``sin(z)/z``, over z."""
    z = math.pi * x
    s = z * z
    if s < 1.0:
        total = SINC_SLOPE[9]
        for k in range(8, -1, -1):
            total = total * s + SINC_SLOPE[k]
        return total
    return (z * cos(z) - sin(z)) / (z * s)


def log_sigmoid(x: float) -> float:
    """Return ``log(1 / (1 + exp(-x)))``."""
    return minimum(np.float64(0.0), x) - log1p(exp(-abs(x)))


def softplus(x: float, beta: float, threshold: float) -> float:
    """Return ``log(1 + exp(beta*x)) / beta``, or x where ``beta*x`` passes the threshold."""
    return x if x * beta > threshold else log1p(exp(x * beta)) / beta


def erfinv(y: float) -> float:
    """Return the inverse error function: a guess (Winitzki 2008) and two steps of Halley."""
    size = abs(y)
    if not size < 1.0:
        return y * np.inf if size == 1.0 else np.nan
    if size == 0.0:
        return y
    rest = np.log1p(-y * y)
    half = 2.0 / (math.pi * 0.147) + 0.5 * rest
    x = np.sqrt(np.sqrt(half * half - rest / 0.147) - half)
    for _ in range(2):
        # Near 1 the complement keeps the digits.
        gap = (1.0 - size) - math.erfc(x) if size > 0.5 else math.erf(x) - size
        gap = gap * 0.5 * math.sqrt(math.pi) * np.exp(x * x)
        x = x - gap / (1.0 + x * gap)
    return x if y > 0.0 else -x


def lgamma(x: float) -> float:
    """Return the logarithm of the absolute gamma function; inf at its poles."""
    if x <= 0.0 and (x == np.floor(x) or np.isinf(x)):
        return np.inf
    return math.lgamma(x)


def digamma(x: float) -> float:
    """Return the derivative of ``lgamma``: reflection, recurrence, asymptotic series."""
    if x == 0.0:
        return -np.inf if math.copysign(1.0, x) > 0.0 else np.inf
    total = 0.0
    if x < 0.0:
        if x == np.floor(x):
            return np.nan
        total = -math.pi / np.tan(math.pi * (x - np.rint(x)))
        x = 1.0 - x
    while x < 10.0:
        total -= 1.0 / x
        x = x + 1.0
    z = 1.0 / (x * x)
    tail = 1.0 / 12.0 - z * (
        1.0 / 120.0
        - z
        * (1.0 / 252.0 - z * (1.0 / 240.0 - z * (1.0 / 132.0 - z * (691.0 / 32760.0 - z / 12.0))))
    )
    return total + (np.log(x) - 0.5 / x - z * tail)


def zeta(s: float, x: float) -> float:
    """Return the Hurwitz zeta function for whole ``s > 1``, by Euler and Maclaurin."""
    if x <= 0.0 and x == np.floor(x):
        return np.inf
    total = 0.0
    while x < 12.0:
        total += x**-s
        x = x + 1.0
    total += x ** (1.0 - s) / (s - 1.0) + 0.5 * x**-s
    term = x ** (-s - 1.0) * s
    k = s + 1.0
    for b in _EULER:
        total += b * term
        term = term * k * (k + 1.0) / (x * x)
        k = k + 2.0
    return total


def polygamma(n: float, x: float) -> float:
    """Return the n-th derivative of ``digamma``, n = 1, 2, ..."""
    factorial = 1.0
    for k in range(2, int(n) + 1):
        factorial *= k
    value = factorial * zeta(n + 1.0, x)
    return value if int(n) % 2 == 1 else -value


def i0e(x: float) -> float:
    """Return ``exp(-|x|) * I_0(x)``."""
    x = abs(x)
    if x <= 8.0:
        return chebyshev(x / 4.0 - 1.0, I0_SMALL, len(I0_SMALL))
    return chebyshev(16.0 / x - 1.0, I0_LARGE, len(I0_LARGE)) / np.sqrt(x)


def i0(x: float) -> float:
    """Return the modified Bessel function ``I_0``."""
    half = np.exp(0.5 * abs(x))
    return i0e(x) * half * half


def i1e(x: float) -> float:
    """Return ``exp(-|x|) * I_1(x)``."""
    size = abs(x)
    if size <= 8.0:
        return chebyshev(size / 4.0 - 1.0, I1_SMALL, len(I1_SMALL)) * x
    value = chebyshev(16.0 / size - 1.0, I1_LARGE, len(I1_LARGE)) / np.sqrt(size)
    return value if x > 0.0 else -value


def i1(x: float) -> float:
    """Return the modified Bessel function ``I_1``."""
    half = np.exp(0.5 * abs(x))
    return i1e(x) * half * half


FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        chebyshev,
        exp,
        expm1,
        sinh,
        cosh,
        tanh,
        log,
        log1p,
        power,
        sin,
        cos,
        near_sin,
        near_cos,
        is_far,
        arctan,
        three_halves,
        maximum,
        minimum,
        sign,
        remainder,
        floor_divide,
        logaddexp,
        xlogy,
        sinc,
        sinc_slope,
        log_sigmoid,
        softplus,
        erfinv,
        lgamma,
        digamma,
        zeta,
        polygamma,
        i0e,
        i0,
        i1e,
        i1,
    )
}
"""Every function by name."""
