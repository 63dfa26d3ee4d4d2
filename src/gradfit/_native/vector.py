"""Elementary functions without a branch, so that loops over points fill vector registers.

A call of the C library ends vectorisation of the loop around it. These are polynomials after an
argument reduction, right to one unit in the last place.
"""

import struct

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
    # Beyond these it is inf, and 0; NaN is neither.
    x = 710.0 if x > 710.0 else x
    x = -746.0 if x < -746.0 else x
    shifted = x * _LOG2E + _ROUND
    k = shifted - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
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
    y = 1.0 + (r + r2 * (a + r4 * (b + r4 * c)))
    # In two factors, since 2**k alone is out of range where y*2**k is not.
    whole = bits(shifted) - bits(_ROUND)
    half = whole >> 1
    return number(bits(y) + (half << 52)) * number((whole - half + 1023) << 52)


FUNCTIONS = {"exp": exp}
"""What replaces functions of :mod:`gradfit._native.special` in compiled code."""
