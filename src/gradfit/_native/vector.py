"""Elementary functions without a branch, so that loops over points fill vector registers.

A call of the C library ends vectorisation of the loop around it. These are polynomials after an
argument reduction (as in Muller, Elementary Functions, 2016), right to two units in the last place,
most to one. The polynomials interpolate at Chebyshev's nodes; their coefficients were computed with
mpmath to 60 digits. Where a reduction would need more digits than these have, the C library is
asked for the points that need it.
"""

import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from gradfit._native import special

_LOG2E = 1.4426950408889634
# log(2) in two parts: multiples up to 2**11 of the first are exact.
_LN2_HIGH = 0.693147180369123816490
_LN2_LOW = 1.90821492927058770002e-10
# Adding this rounds to a whole number and leaves it in the low bits.
_ROUND = 6755399441055744.0
_TWO_OVER_PI = 0.6366197723675814
# pi/2 in three parts.
_QUARTER_1 = 1.5707963267948966
_QUARTER_2 = 6.123233995736766e-17
_QUARTER_3 = -1.4973849048591698e-33
# Up to here three parts of pi/2 suffice.
_FAR = 1099511627776.0
_THIRD = 0.3333333333333333
_THIRD_LOW = 1.850371707708594e-17
_LEAST = 2.2250738585072014e-308
_UP = 18014398509481984.0
_ROOT_HALF = 0x3FE6A09E667F3BCD


def bits(x: float) -> int:
    """Return the bits of a float64 as an int64."""
    return struct.unpack("q", struct.pack("d", x))[0]


def number(i: int) -> float:
    """Return the float64 that has these bits."""
    return struct.unpack("d", struct.pack("Q", i & 0xFFFFFFFFFFFFFFFF))[0]


def fma(a: float, b: float, c: float) -> float:
    """Return ``a*b + c``, rounded once."""
    plain = a * b + c
    if plain - plain != 0.0:
        return plain
    return float(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


# Exponentials -------------------------------------------------------------------------------------


def series(r: float) -> float:
    """Return ``e**r - 1`` for ``|r| <= log(2)/2``, by its series."""
    # In pairs, and pairs of pairs (Estrin): no term waits for more than four others.
    r2 = r * r
    r4 = r2 * r2
    a = (0.5 + r * 0.16666666666666666) + r2 * (0.041666666666666664 + r * 0.008333333333333333)
    b = (0.001388888888888889 + r * 0.0001984126984126984) + r2 * (
        2.48015873015873e-05 + r * 2.7557319223985893e-06
    )
    c = (2.755731922398589e-07 + r * 2.505210838544172e-08) + r2 * (
        2.08767569878681e-09 + r * 1.6059043836821613e-10
    )
    return r + r2 * (a + r4 * (b + r4 * c))


def scaled(y: float, whole: int) -> float:
    """Return ``y * 2**whole``, in two factors, since one of them may be out of range."""
    half = whole >> 1
    found = number(bits(y) + (half << 52)) * number((whole - half + 1023) << 52)
    return found if y == y else y


def halves(x: float) -> float:
    """Return how often log(2) is in ``x``, a whole number plus what leaves it in the low bits."""
    # Beyond these an exponential is inf, and 0; NaN is neither.
    x = 712.0 if x > 712.0 else x
    x = -746.0 if x < -746.0 else x
    return x * _LOG2E + _ROUND


def beyond(x: float, shifted: float) -> float:
    """Return what is left of ``x``, within its limits, without the multiple of log(2)."""
    x = 712.0 if x > 712.0 else x
    x = -746.0 if x < -746.0 else x
    k = shifted - _ROUND
    return (x - k * _LN2_HIGH) - k * _LN2_LOW


def exp(x: float) -> float:
    """Return ``e**x``: ``2**k * e**r`` with ``|r| <= log(2)/2``."""
    shifted = halves(x)
    y = 1.0 + series(beyond(x, shifted))
    return scaled(y, bits(shifted) - bits(_ROUND))


def expm1(x: float) -> float:
    """Return ``e**x - 1``: ``(2**k - 1) + 2**k * (e**r - 1)``."""
    shifted = halves(x)
    # Where the sum would cancel the series serves as it is, with two terms more.
    shifted = _ROUND if abs(x) < 0.45 else shifted
    r = beyond(x, shifted)
    r2 = r * r
    r4 = r2 * r2
    p = series(r) + (r4 * r4) * (r4 * r2) * (1.1470745597729725e-11 + r * 7.647163731819816e-13)
    whole, k = bits(shifted) - bits(_ROUND), shifted - _ROUND
    power = number((whole + 1023) << 52)
    near, far = (power - 1.0) + power * p, scaled(1.0 + p, whole) - 1.0
    return near if abs(k) < 60.0 else far


def half_exp(x: float) -> float:
    """Return ``e**x / 2``, which is in range for longer than ``e**x``."""
    shifted = halves(x)
    return scaled(1.0 + series(beyond(x, shifted)), bits(shifted) - bits(_ROUND) - 1)


def sinh(x: float) -> float:
    """Return the hyperbolic sine."""
    size = abs(x)
    e = expm1(size)
    far = half_exp(size)
    near = 0.5 * (e + e / (e + 1.0))
    return np.copysign(near if size < 22.0 else far, x)


def cosh(x: float) -> float:
    """Return the hyperbolic cosine."""
    size = abs(x)
    e = exp(size)
    far = half_exp(size)
    near = 0.5 * e + 0.5 / e
    return near if size < 22.0 else far


def tanh(x: float) -> float:
    """Return the hyperbolic tangent."""
    size = abs(x)
    e = expm1(44.0 if size > 22.0 else 2.0 * size)
    return np.copysign(e / (e + 2.0), x)


# Logarithms and powers ----------------------------------------------------------------------------


def exponent_of(x: float) -> float:
    """Return ``k`` of ``x = 2**k * m`` with ``m`` from sqrt(1/2) to sqrt(2), for ``x > 0``."""
    small = x < _LEAST
    y = x * _UP if small else x
    k = float((bits(y) - _ROOT_HALF) >> 52)
    less = k - 54.0
    return less if small else k


def fraction_of(x: float) -> float:
    """Return ``m`` of the same."""
    small = x < _LEAST
    y = x * _UP if small else x
    i = bits(y)
    return number(i - ((i - _ROOT_HALF) >> 52 << 52))


def logarithm(k: float, f: float, rest: float) -> float:
    """Return ``k*log(2) + log(1 + f) + rest``, where ``rest`` is small beside it."""
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    odd = w * (0.39999999999899505 + w * (0.2222221113479508 + w * 0.15331721600556042))
    even = z * (
        0.666666666666667
        + w * (0.28571428625975487 + w * (0.18182889125261723 + w * 0.14616449685043406))
    )
    half = 0.5 * f * f
    return k * _LN2_HIGH - ((half - (s * (half + (odd + even)) + (k * _LN2_LOW + rest))) - f)


def log(x: float) -> float:
    """Return the natural logarithm."""
    y = logarithm(exponent_of(x), fraction_of(x) - 1.0, 0.0)
    y = y if x < np.inf else x
    edge = -np.inf if x == 0.0 else np.nan
    return y if x > 0.0 else edge


def log1p(x: float) -> float:
    """Return ``log(1 + x)``: of what ``1 + x`` is rounded to, and what that leaves."""
    u = 1.0 + x
    left, right = x - (u - 1.0), 1.0 - (u - x)
    rest = (right if x > 1.0 else left) / u
    y = logarithm(exponent_of(u), fraction_of(u) - 1.0, rest)
    y = y if x < np.inf else x
    edge = -np.inf if x == -1.0 else np.nan
    return y if x > -1.0 else edge


def positive_power(x: float, y: float) -> float:
    """Return ``x**y`` as ``e**(y*log(x))``, the logarithm to 20 digits, for ``x > 0``."""
    k, f = exponent_of(x), fraction_of(x) - 1.0
    g = 2.0 + f
    s = f / g
    s_low = (fma(-s, g, f) - s * (f - (g - 2.0))) / g
    z = s * s
    z_low = fma(s, s, -z) + 2.0 * s * s_low
    # log(1 + f) = 2 (s + s z/3 + s z**2 q).
    w = z * z
    even = 0.2 + w * (
        0.11111111111114212
        + w * (0.07692307880488732 + w * (0.058834062330574734 + w * 0.05381145709314322))
    )
    odd = 0.14285714285714282 + w * (
        0.09090909089829123 + w * (0.06666648274786181 + w * 0.052281709727126424)
    )
    third = fma(z, _THIRD, 0.0)
    third_low = fma(z, _THIRD, -third) + z * _THIRD_LOW + z_low * _THIRD
    more = w * (even + z * odd)
    t = third + more
    t_low = third_low + (more - (t - third))
    u = fma(s, t, 0.0)
    u_low = fma(s, t, -u) + s * t_low + s_low * t
    h = s + u
    h_low = (u - (h - s)) + u_low + s_low
    whole = k * _LN2_HIGH
    first = whole + 2.0 * h
    rest = (2.0 * h - (first - whole)) + (2.0 * h_low + k * _LN2_LOW)
    high = first + rest
    low = rest - (high - first)
    # Times the exponent, and back; beyond these limits the power is inf, or 0.
    a = fma(y, high, 0.0)
    inside = abs(a) < 750.0
    a_low = fma(y, high, -a) + y * low
    a_low = a_low if inside else 0.0
    a = 750.0 if a > 750.0 else a
    a = -750.0 if a < -750.0 else a
    shifted = a * _LOG2E + _ROUND
    n = shifted - _ROUND
    b, c = fma(-n, _LN2_HIGH, a), fma(n, _LN2_LOW, 0.0)
    r = b - c
    p = series(r)
    p = p + ((b - r) - c + a_low) * (1.0 + p)
    return scaled(1.0 + p, bits(shifted) - bits(_ROUND))


def power(x: float, y: float) -> float:
    """Return ``x**y`` as C has it, with all that is said of 0, infinity and negative numbers."""
    size = abs(x)
    p = positive_power(size, y)
    rises = (size > 1.0) == (y > 0.0)
    edge = (size == 0.0) | (size == np.inf) | (abs(y) == np.inf)
    extreme = np.inf if rises else 0.0
    extreme = 1.0 if size == 1.0 else extreme
    p = extreme if edge else p
    half = 0.5 * y
    whole, even = np.floor(y) == y, np.floor(half) == half
    odd = whole & (abs(y) < np.inf) & (even == 0)
    negative = np.copysign(1.0, x) < 0.0
    p = -p if negative & odd else p
    p = np.nan if (x < 0.0) & (size < np.inf) & (whole == 0) else p
    p = np.nan if (x != x) | (y != y) else p
    return 1.0 if (y == 0.0) | (x == 1.0) else p


# Angles -------------------------------------------------------------------------------------------


def turns(x: float) -> float:
    """Return how many quarters of a turn are in ``x``, plus what leaves them in the low bits."""
    return x * _TWO_OVER_PI + _ROUND


def angle(x: float, shifted: float) -> tuple[float, float]:
    """Return what is left of ``x`` without them, as a sum of two numbers."""
    n = shifted - _ROUND
    t, w = fma(-n, _QUARTER_1, x), fma(n, _QUARTER_2, 0.0)
    e = fma(n, _QUARTER_2, -w)
    r = t - w
    part = r - t
    # What rounding took off the difference (Knuth).
    lost = (t - (r - part)) - (w + part)
    return r, (lost - e) - n * _QUARTER_3


def sine(r: float, low: float) -> float:
    """Return the sine of ``r + low`` within an eighth of a turn."""
    z = r * r
    w = z * z
    even = -0.16666666666666666 + w * (-0.00019841269836385435 + w * -2.5051092308431318e-08)
    odd = 0.0083333333333307 + w * (2.7557315910939e-06 + w * 1.5915309183057952e-10)
    return r + (r * z * (even + z * odd) + low * (1.0 - 0.5 * z))


def cosine(r: float, low: float) -> float:
    """Return the cosine of ``r + low`` within an eighth of a turn."""
    z = r * r
    w = z * z
    even = 0.041666666666666664 + w * (2.480158729853226e-05 + w * 2.0876121534608454e-09)
    odd = -0.0013888888888887241 + w * (-2.7557317151858866e-07 + w * -1.1380868171449914e-11)
    half = 0.5 * z
    rest = 1.0 - half
    return rest + (((1.0 - rest) - half) + (w * (even + z * odd) - r * low))


def wave(x: float, ahead: int) -> float:
    """Return the sine of a number that is not far from 0, so many quarters of a turn ahead."""
    shifted = turns(x)
    r, low = angle(x, shifted)
    quarter = bits(shifted) + ahead
    s, c = sine(r, low), cosine(r, low)
    y = s if (quarter & 1) == 0 else c
    return y if (quarter & 2) == 0 else -y


def near_sin(x: float) -> float:
    """Return the sine of a number that is not far from 0."""
    return wave(x, 0)


def near_cos(x: float) -> float:
    """Return its cosine."""
    return wave(x, 1)


def is_far(x: float) -> float:
    """Return 1 where a number is too far from 0 for these, else 0."""
    return 0.0 if abs(x) <= _FAR else 1.0


def sin(x: float) -> float:
    """Return the sine of any number."""
    return near_sin(x) if abs(x) <= _FAR else np.sin(x)


def cos(x: float) -> float:
    """Return the cosine of any number."""
    return near_cos(x) if abs(x) <= _FAR else np.cos(x)


def arctan(x: float) -> float:
    """Return the angle whose tangent is ``x``: the nearest eighth of a turn, and what is left."""
    size = abs(x)
    middle, far = size > 0.4142135623730951, size > 2.414213562373095
    above, below = size - 1.0 if middle else size, size + 1.0 if middle else 1.0
    top, bottom = -1.0 if far else above, size if far else below
    base = 0.7853981633974483 if middle else 0.0
    base = 1.5707963267948966 if far else base
    base_low = 3.061616997868383e-17 if middle else 0.0
    base_low = 6.123233995736766e-17 if far else base_low
    u = top / bottom
    z = u * u
    w = z * z
    v = w * w
    a = (-0.3333333333333333 + z * 0.19999999999999804) + w * (
        -0.14285714285659779 + z * 0.11111111105150588
    )
    b = (-0.09090908753259112 + z * 0.07692296368042296) + w * (
        -0.0666642476020052 + z * 0.05878927554473807
    )
    c = (-0.05230443640686948 + z * 0.045515447340221615) + w * (
        -0.03456931506332609 + z * 0.016284375050043393
    )
    y = base + (u + (u * z * (a + v * (b + v * c)) + base_low))
    return np.copysign(y, x)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    special.exp: exp,
    special.expm1: expm1,
    special.sinh: sinh,
    special.cosh: cosh,
    special.tanh: tanh,
    special.log: log,
    special.log1p: log1p,
    special.power: power,
    special.sin: sin,
    special.cos: cos,
    special.near_sin: near_sin,
    special.near_cos: near_cos,
    special.is_far: is_far,
    special.arctan: arctan,
}
"""What takes the place of functions of :mod:`gradfit._native.special` in machine code."""
