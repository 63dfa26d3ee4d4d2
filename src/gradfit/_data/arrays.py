"""Anything that holds numbers, as a float64 tensor."""

from collections.abc import Iterable, Sequence
from datetime import date, time, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np
import torch
from torch import Tensor

from gradfit._data.foreign import refuse_foreign, refuse_foreign_items
from gradfit._format import shown
from gradfit._types import FloatArray
from gradfit.errors import InputError
from gradfit.graph.surroundings import plain

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
        _refuse_tensor(title, value)
        return plain(value).detach().to(device=device, dtype=torch.float64)
    return from_array(to_array(title, value), device)


def _refuse_tensor(title: str, value: Tensor) -> None:
    """Raise for tensors that hold no real numbers, or none at all."""
    if type(value) is not Tensor:
        refuse_foreign(title, value)
        if type(value).__name__ == "MaskedTensor":
            raise InputError(f"{title} is a MaskedTensor: give NaN where values are missing.")
    if value.dtype == torch.bool or value.dtype.is_complex:
        raise InputError(f"{title} must hold real numbers, got {value.dtype}.")
    if value.is_meta:
        raise InputError(f"{title} is on the device meta, where tensors hold no numbers.")
    if value.layout != torch.strided or value.is_nested or value.is_quantized:
        kind = value.dtype if value.is_quantized else value.layout
        raise InputError(f"{title} must be a dense tensor of numbers, got {kind}.")


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


def to_device(device: Any) -> torch.device | None:
    """Return a device that exists; None stays None."""
    if device is None:
        return None
    try:
        found = torch.device(device)
        if found.type != "cpu":
            torch.empty(0, device=found, dtype=torch.float64)
    except Exception as error:  # noqa: BLE001 - torch has many ways to say that there is none
        reason = (" ".join(str(error).split()) or type(error).__name__).partition(". ")[0][:120]
        raise InputError(f"`device` {shown(device)} cannot be used: {reason}.") from None
    if found.type == "meta":
        raise InputError("`device` meta holds no numbers; choose cpu or cuda.")
    return found


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
    if type(value) is not np.ndarray:
        refuse_foreign(title, value)
    if not isinstance(value, np.ndarray):
        value = _from_object(title, value)
    array = cast(np.ndarray[Any, Any], value)
    if isinstance(array, np.ma.MaskedArray):
        return _from_masked(title, array)
    if array.dtype == np.float64 and array.dtype.isnative:
        return array
    if array.dtype.kind in "iuf":
        with np.errstate(over="ignore"):  # what is too large becomes inf, and is told as such
            return array.astype(np.float64)
    if array.dtype.kind == "O":
        return _from_mixed(title, array)
    _refuse_kind(title, array)


def _from_masked(title: str, array: Any) -> FloatArray:
    """Return a masked array with NaN where it is masked."""
    mask = np.ma.getmaskarray(array)
    if array.dtype.kind not in "iufO":
        return to_array(title, np.asarray(array.data))
    if array.dtype.kind == "O":
        return to_array(title, np.where(mask, np.nan, array.data))
    with np.errstate(over="ignore"):
        return np.where(mask, np.nan, np.asarray(array.data).astype(np.float64))


def _from_object(title: str, value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, int | float):
        return np.asarray(value) if not isinstance(value, bool) else np.asarray([value])
    if isinstance(value, list | tuple):
        value = _plain_items(title, cast("Sequence[Any]", value))
    else:
        import narwhals as nw

        series = nw.from_native(value, series_only=True, pass_through=True)
        if isinstance(series, nw.Series):
            return series_to_array(title, series)
    try:
        return np.asarray(value)
    except Exception as error:  # noqa: BLE001 - objects make arrays of themselves as they like
        raise InputError(_no_array(title, value, error)) from None


def _plain_items(title: str, values: Sequence[Any]) -> Sequence[Any]:
    """Return the items of a list, tensors among them as arrays.

    Raises
    ------
    InputError
        Items carry units or errors of their own, or are a mixture of numbers with True and False.
    """
    kinds = set(map(type, values))
    if kinds <= {float, int}:
        return values
    refuse_foreign_items(title, values)
    if bool in kinds and len(kinds) > 1:
        at = next(i for i, v in enumerate(values) if isinstance(v, bool))
        raise InputError(f"{title} must hold numbers, got {values[at]!r} at index {at}.")
    if any(issubclass(kind, list | tuple | Tensor | np.ma.MaskedArray) for kind in kinds):
        return [_plain_item(title, v) for v in values]
    return values


def _plain_item(title: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        return to_tensor(title, value, None).cpu().numpy()
    if isinstance(value, np.ma.MaskedArray):
        return to_array(title, value)
    return _plain_items(title, value) if isinstance(value, list | tuple) else value


def _no_array(title: str, value: Any, error: Exception) -> str:
    """Say why there is no array of something."""
    if isinstance(value, list | tuple) and isinstance(error, ValueError):
        rows = cast("Sequence[Any]", value)
        lengths = sorted({len(v) if isinstance(v, Sequence) else np.size(v) for v in rows})
        return f"{title} is ragged: its rows have {lengths} values."
    kind = type(value).__name__
    return f"{title} must hold numbers, but {kind} makes no array ({type(error).__name__})."


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
    refuse_foreign_items(title, flat)
    out = np.empty(flat.shape)
    for i, item in enumerate(flat):
        at = f" at index {i}" if array.ndim else ""
        # Text that looks like a number is still a column read wrongly.
        if isinstance(item, str | bytes | bool | np.bool_):
            raise InputError(f"{title} must hold numbers, got {shown(item)}{at}.")
        if not array.ndim and isinstance(item, Iterable):
            raise InputError(
                f"{title} must hold numbers, got a {type(item).__name__}. Give a list or an array."
            )
        out[i] = _one_number(title, item, at)
    return out.reshape(array.shape)


def _one_number(title: str, item: Any, at: str) -> float:
    if item is None or type(item).__name__ in ("NAType", "NaTType"):
        return np.nan
    try:
        if isinstance(item, complex | np.complexfloating | np.datetime64 | np.timedelta64):
            raise TypeError
        return float(item.detach() if isinstance(item, Tensor) else item)
    except OverflowError:
        raise InputError(f"{title} holds a number that is too large{at}: above 1.8e308.") from None
    except Exception:  # noqa: BLE001 - objects make numbers of themselves as they like
        raise InputError(
            f"{title} must hold numbers, got {type(item).__name__}{at}."
            f"{_hint(isinstance(item, date | timedelta | time))}"
        ) from None


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
    if any(step < 0 for step in array.strides):  # an axis of one value, reversed
        return array.copy()
    return array if flags.writeable else np.asarray(_Borrowed(array))
