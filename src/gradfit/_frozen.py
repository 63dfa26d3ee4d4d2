"""Frozen values of many fields, made at once."""

from typing import Any, TypeVar

Value = TypeVar("Value")


def freeze(kind: type[Value], fields: dict[str, Any]) -> Value:
    """Return a frozen dataclass that has these fields, all that it declares.

    Its constructor writes one field after the other through ``object.__setattr__``, which for the
    result of a small fit takes longer than the fit itself.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Point:
    ...     x: float
    ...     y: float
    >>> freeze(Point, {"x": 1.0, "y": 2.0})
    Point(x=1.0, y=2.0)
    """
    value = object.__new__(kind)
    vars(value).update(fields)
    return value
