"""Anything that holds numbers, as a float64 tensor."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np
import torch
from torch import Tensor

from gradfit._types import FloatArray
from gradfit.errors import InputError

FEW = 4096
"""Numbers up to which NumPy has looked at all of them before torch has begun."""


_DOUBLE = np.dtype(np.float64)


def to_tensor(title: str, value: Any, device: torch.device | None) -> Tensor:
    """Return ``value`` as a float64 tensor, a view where possible.

    Raises
    ------
    InputError
        Text, dates, complex numbers, ragged lists; the message begins with ``title``.
    """
    if isinstance(value, Tensor):
        if value.dtype == torch.bool or value.dtype.is_complex:
            raise InputError(f"{title} must hold real numbers, got {value.dtype}.")
        return value.detach().to(device=device, dtype=torch.float64)
    return from_array(to_array(title, value), device)


def from_array(array: FloatArray, device: torch.device | None) -> Tensor:
    """Return a float64 array as a contiguous tensor, a view where possible."""
    tensor = torch.from_numpy(_writable(array))
    return tensor if device is None else tensor.to(device)


class Rows(NamedTuple):
    """Values of several variables at all points.

    Attributes
    ----------
    values : Tensor (k, N)
        Contiguous.
    vector : bool
        Whether they came with shape (N,).
    finite : bool
        Whether all numbers are finite; False may be an overflow.
    """

    values: Tensor
    vector: bool
    finite: bool


def to_rows(title: str, value: Any, device: torch.device | None) -> Rows:
    """Return what came as (N,) or (k, N); whatever else it is, the message begins with ``title``.

    Until the last moment it is NumPy's, which takes a tenth of the time for a small array.
    """
    as_torch = isinstance(value, Tensor)
    given = to_tensor(title, value, device) if as_torch else to_array(title, value)
    if given.ndim not in (1, 2):
        raise InputError(
            f"{title} must have shape (N,) or (variables, N), got {tuple(given.shape)}."
        )
    if 0 in given.shape:
        raise InputError(f"{title} is empty.")
    vector = given.ndim == 1
    rows = given[None] if vector else given
    if isinstance(rows, Tensor):
        values = rows.contiguous()
        return Rows(values, vector, is_finite(values))
    values = from_array(rows, device)
    if rows.size > FEW:
        return Rows(values, vector, is_finite(values))
    return Rows(values, vector, np.count_nonzero(np.isfinite(rows)) == rows.size)


def is_finite(t: Tensor) -> bool:
    """Return whether all numbers are finite, by one sum; False may be an overflow."""
    total = t.sum().item()
    return total - total == 0


@lru_cache(maxsize=64)
def constant(value: float, k: int, device: torch.device | None) -> Tensor:
    """Return one number for all points of k variables (k, 1), the same tensor every time."""
    return torch.full((k, 1), value, dtype=torch.float64, device=device)


def to_array(title: str, value: Any) -> FloatArray:
    """Return ``value`` as a float64 array, itself where possible."""
    if type(value) is np.ndarray and value.dtype is _DOUBLE:
        return value
    if not isinstance(value, np.ndarray):
        value = _from_object(title, value)
    array = cast(np.ndarray[Any, Any], value)
    if isinstance(array, np.ma.MaskedArray):
        array = cast(Any, array).astype(np.float64).filled(np.nan)
    if array.dtype == np.float64 and array.dtype.isnative:
        return array
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    if array.dtype.kind == "O":
        return _from_mixed(title, array)
    _refuse_kind(title, array)


def _from_object(title: str, value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, int | float):
        return np.asarray(value) if not isinstance(value, bool) else np.asarray([value])
    if not isinstance(value, list | tuple):
        import narwhals as nw

        series = nw.from_native(value, series_only=True, pass_through=True)
        if isinstance(series, nw.Series):
            return series_to_array(title, series)
    try:
        return np.asarray(value)
    except ValueError:
        lengths = sorted({len(v) if isinstance(v, Sequence) else 1 for v in value})
        raise InputError(f"{title} is ragged: its rows have {lengths} values.") from None


def series_to_array(title: str, series: Any) -> np.ndarray[Any, Any]:
    """Return a Narwhals series as an array; missing values become NaN."""
    import narwhals as nw

    dtype = series.dtype
    if dtype.is_numeric():
        numbers = series if dtype == nw.Float64 else series.cast(nw.Float64)
        if numbers.null_count():
            numbers = numbers.fill_null(float("nan"))
        return numbers.to_numpy()
    if dtype == nw.Object:
        return np.asarray(series.to_numpy(), dtype=object)
    first = next((v for v in series.head(100).to_list() if v is not None), None)
    hint = _hint(dtype.is_temporal())
    raise InputError(f"{title} must hold numbers, got {dtype} (first value {first!r}).{hint}")


def _from_mixed(title: str, array: np.ndarray[Any, Any]) -> FloatArray:
    flat = array.reshape(-1)
    out = np.empty(flat.shape)
    for i, item in enumerate(flat):
        # Text that looks like a number is still a column read wrongly.
        if isinstance(item, str | bytes | bool):
            raise InputError(f"{title} must hold numbers, got {item!r} at index {i}.")
        try:
            out[i] = np.nan if item is None or str(item) in ("<NA>", "NaT") else float(item)
        except (TypeError, ValueError):
            raise InputError(
                f"{title} must hold numbers, got {type(item).__name__} at index {i}."
            ) from None
    return out.reshape(array.shape)


def _refuse_kind(title: str, array: np.ndarray[Any, Any]) -> NoReturn:
    kind = array.dtype.kind
    what = {"U": "text", "S": "text", "b": "True and False", "c": "complex numbers"}
    first = f" (first value {array.reshape(-1)[0].item()!r})" if array.size else ""
    raise InputError(
        f"{title} must hold numbers, got {what.get(kind, array.dtype)}{first}.{_hint(kind in 'mM')}"
    )


def _hint(temporal: bool) -> str:
    return " Convert times to numbers first, for example seconds since a start." if temporal else ""


class _Borrowed:
    """Memory of a read-only array, handed to NumPy as writable."""

    def __init__(self, array: FloatArray) -> None:
        self.owner = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _writable(array: FloatArray) -> FloatArray:
    """Return a view that torch takes without a warning; nothing behind the gate ever writes."""
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        return np.ascontiguousarray(array).reshape(array.shape)
    return array if flags.writeable else np.asarray(_Borrowed(array))
