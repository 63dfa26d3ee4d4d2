"""Numbers that carry more than numbers: units, errors of their own, masks.

Turned into an array they would lose it without a word, so that 50 mV would count as 50 V. They are
refused by name here, the one place where foreign data enter.
"""

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from torch import Tensor

from gradfit.errors import InputError

PLAIN = frozenset({float, int, str, bool, bytes, type(None), np.ndarray, Tensor})
"""Types that carry nothing beside their values."""


def refuse_foreign(title: str, value: Any) -> None:
    """Raise if ``value`` carries a unit or an error of its own; the message begins with ``title``.

    Examples
    --------
    >>> class Quantity:
    ...     unit = "mV"
    >>> refuse_foreign("`sy`", Quantity())
    Traceback (most recent call last):
    ...
    gradfit.errors.InputError: `sy` has the unit 'mV' (Quantity), ...
    """
    kind = type(value)
    if kind in PLAIN or isinstance(value, np.generic):
        return
    if _has(value, "nominal_value") or _has(value, "nominal_values"):
        raise InputError(
            f"{title} holds values with errors of their own ({kind.__name__}), which would be "
            "lost. Give the nominal values, and the standard deviations as `sx` or `sy`."
        )
    unit = _unit(value)
    if unit is not None:
        _refuse_unit(title, unit, kind.__name__)


def refuse_foreign_items(title: str, values: Iterable[Any]) -> None:
    """Raise if one of many values does; each kind is looked at once."""
    kinds: dict[type, Any] = {}
    for value in values:
        kinds.setdefault(type(value), value)
    for kind, value in kinds.items():
        if kind not in PLAIN:
            refuse_foreign(title, value)


def _refuse_unit(title: str, unit: Any, kind: str) -> NoReturn:
    said = " ".join(str(unit).split())[:40]
    raise InputError(
        f"{title} has the unit {said!r} ({kind}), which would be lost. Give plain numbers, those "
        "of one variable and of its errors in the same unit: `.to_value(unit)` of astropy, "
        "`.m_as(unit)` of pint, `.values` of xarray."
    )


def _unit(value: Any) -> Any:
    """Return the unit that an array, a number or the type of a column carries; None if none."""
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "") in ("m", "M"):
        return None  # times are refused as such
    for owner in (value, dtype):
        for name in ("unit", "units"):
            if _has(owner, name):
                unit = getattr(owner, name, None)
                if unit is not None and not callable(unit):
                    return unit
    return None


def _has(value: Any, name: str) -> bool:
    try:
        return hasattr(value, name)
    except Exception:  # noqa: BLE001 - attributes of foreign objects may do what they like
        return False
