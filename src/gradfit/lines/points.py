"""The points of a line of a trade, brought to the gate: plain arrays, or one clear line."""

import math
from typing import Any

import numpy as np

from gradfit._data.arrays import to_tensor
from gradfit._data.checks import to_number
from gradfit._types import FloatArray
from gradfit.errors import InputError


def to_plain(name: str, value: Any) -> FloatArray:
    """Return numbers as an array of its own, wherever they came from."""
    return to_tensor(f"`{name}`", value, None).detach().cpu().numpy().copy()


def plain_points(x: Any, y: Any, least: int) -> tuple[FloatArray, FloatArray]:
    """Return two arrays of finite numbers of one length, at least so many.

    Raises
    ------
    InputError
        Whatever is not so.
    """
    a, b = to_plain("x", x), to_plain("y", y)
    for name, v in (("x", a), ("y", b)):
        if v.ndim != 1:
            raise InputError(f"`{name}` must have one value per point, got shape {v.shape}.")
        if not np.isfinite(v).all():
            i = int(np.flatnonzero(~np.isfinite(v))[0])
            raise InputError(
                f"`{name}` must be finite; the first bad value is {v[i]} at index {i}."
            )
    if len(a) != len(b):
        raise InputError(f"`x` has {len(a)} values and `y` has {len(b)}; give one y for each x.")
    if len(a) < least:
        raise InputError(f"{len(a)} points are too few; this line needs at least {least}.")
    for name, v in (("x", a), ("y", b)):
        size = float(np.abs(v).max(initial=0.0))
        wide = float(np.ptp(v)) if size < LARGEST else math.inf
        if size > LARGEST or 0 < wide < SMALLEST:
            raise InputError(
                f"`{name}` spans {wide:.3g} around {size:.3g}, where squares are no numbers any "
                "more; choose another unit."
            )
    return a, b


LARGEST, SMALLEST = 1e100, 1e-100
"""Sizes within which products of four differences are numbers."""


def refuse_one_value(x: FloatArray) -> None:
    """Raise where all points have the same x."""
    if not np.ptp(x) > 0:
        raise InputError("`x` has one value only; a line of y needs two.")


def positive_number(name: str, value: Any) -> float:
    """Return one finite number above 0.

    Raises
    ------
    InputError
        It is none.
    """
    found = to_number(f"`{name}`", value)
    if not (found > 0 and math.isfinite(found)):
        raise InputError(f"`{name}` must be a positive number, got {value!r}.")
    return found
