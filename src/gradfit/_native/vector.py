"""Elementary functions without a branch, so that loops over points fill vector registers.

A call of the C library ends vectorisation of the loop around it. These are polynomials after an
argument reduction, right to one unit in the last place.
"""

import struct

import numpy as np

_LOG2E = 1.4426950408889634
# log(2) in two parts: multiples up to 2**11 of the first are exact.
_LN2_HIGH = 0.693147180369123816490
_LN2_LOW = 1.90821492927058770002e-10
# Adding this rounds to a whole number and leaves it in the low bits.
_ROUND = 6755399441055744.0


def bits(x: float) -> int:
    """Return the bits of a float64 as an int64."""
    return struct.unpack("q", struct.pack("d", x))[0]


def number(i: int) -> float:
    """Return the float64 that has these bits."""
    return struct.unpack("d", struct.pack("q", i))[0]


def exp(x: float) -> float:
    """Return ``e**x``: ``2**k * e**r`` with ``|r| <= log(2)/2``, the second by its series."""
    shifted = x * _LOG2E + _ROUND
    k = shifted - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = 1.6059043836821613e-10
    p = p * r + 2.08767569878681e-09
    p = p * r + 2.505210838544172e-08
    p = p * r + 2.755731922398589e-07
    p = p * r + 2.7557319223985893e-06
    p = p * r + 2.48015873015873e-05
    p = p * r + 0.0001984126984126984
    p = p * r + 0.001388888888888889
    p = p * r + 0.008333333333333333
    p = p * r + 0.041666666666666664
    p = p * r + 0.16666666666666666
    p = p * r + 0.5
    y = 1.0 + (r + r * r * p)
    # In two factors, since 2**k alone is out of range where y*2**k is not.
    whole = bits(shifted) - bits(_ROUND)
    half = whole >> 1
    y = y * number((half + 1023) << 52) * number((whole - half + 1023) << 52)
    y = y if x < 709.782712893384 else np.inf
    y = y if x > -745.2 else 0.0
    return y if x == x else x


FUNCTIONS = {"exp": exp}
"""What replaces functions of :mod:`gradfit._native.special` in compiled code."""
