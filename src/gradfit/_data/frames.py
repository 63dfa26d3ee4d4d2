"""Columns by name from a data frame of any make, a dict of arrays or a structured array."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gradfit._data.arrays import series_to_array, to_array
from gradfit._format import shown
from gradfit.errors import InputError

KINDS = ("pandas", "polars", "pyarrow")
"""Libraries whose tables go out as they came in."""


@dataclass(frozen=True, eq=False)
class Frame:
    """What the gate asks of a table."""

    columns: tuple[str, ...]
    raw: Callable[[str], Any]

    def numbers(self, argument: str, name: str) -> np.ndarray[Any, Any]:
        """Return column ``name`` as a float64 array, missing values as NaN."""
        self.check(argument, name)
        values = self.raw(name)
        title = f"`{argument}` (column {shown(name)})"
        if hasattr(values, "to_native"):
            values = series_to_array(title, values)
        return to_array(title, values)

    def take(self, argument: str, value: Any) -> tuple[Any, tuple[str, ...]]:
        """Return the column that ``value`` names, or several as rows of one array, and their names.

        Among names there may be numbers; what holds no name comes back as it is.
        """
        if isinstance(value, str):
            return self.numbers(argument, value), (value,)
        if not (isinstance(value, list | tuple) and _has_text(value)):
            return value, ()
        rows = [
            self.numbers(argument, v) if isinstance(v, str) else to_array(f"`{argument}`", v)
            for v in value
        ]
        try:
            table = np.stack(np.broadcast_arrays(*rows))
        except ValueError:
            told = ", ".join(f"{shown(v)} {np.shape(r)}" for v, r in zip(value, rows, strict=True))
            raise InputError(f"`{argument}`: columns must be equally long; got {told}.") from None
        return table, tuple(str(v) for v in value)

    def labels(self, argument: str, name: str) -> Any:
        """Return column ``name`` as it is, for the labels of groups."""
        self.check(argument, name)
        values = self.raw(name)
        return values.to_numpy() if hasattr(values, "to_native") else values

    def check(self, argument: str, name: str) -> None:
        """Raise unless there is such a column; suggest the nearest."""
        if name in self.columns:
            return
        by_case = {c.casefold(): c for c in self.columns if isinstance(cast(Any, c), str)}
        close = difflib.get_close_matches(name[:80].casefold(), by_case, 1)
        hint = f" Did you mean {shown(by_case[close[0]])}?" if close else ""
        some = [c if c.isprintable() else shown(c) for c in map(str, self.columns[:20])]
        listed = ", ".join(some) + (", ..." if len(self.columns) > 20 else "")
        raise InputError(
            f"`{argument}` names column {shown(name)}, which `data` has not.{hint} "
            f"Its columns are {listed or 'none'}."
        )


def kind_of(*values: Any) -> str:
    """Return which library's tables or columns came: ``"pandas"``, ``"polars"``, ``"pyarrow"``."""
    for value in values:
        package = type(value).__module__.partition(".")[0]
        if package in KINDS:
            return package
    return ""


def open_frame(data: Any) -> Frame:
    """Return the columns of ``data``.

    Raises
    ------
    InputError
        ``data`` is no table.
    """
    if isinstance(data, Mapping):
        table = cast(Mapping[str, Any], data)
        return Frame(tuple(table), table.__getitem__)
    if isinstance(data, np.ndarray) and data.dtype.names:
        return Frame(data.dtype.names, data.__getitem__)
    import narwhals as nw

    frame = nw.from_native(data, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, nw.DataFrame):
        raise InputError(
            f"`data` must be a data frame or a dict of arrays, got {type(data).__name__}. "
            "Arrays are given as `x` and `y` themselves."
        )
    return Frame(tuple(frame.columns), frame.__getitem__)


def take_columns(
    data: Any, asked: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """Replace names by columns; also return the names of the columns of x and y."""
    frame = open_frame(data)
    names: dict[str, tuple[str, ...]] = {}
    given: dict[str, Any] = {}
    if asked.get("x") is None:
        raise InputError("`x` must name a column of `data`, got None.")
    for key, value in asked.items():
        if key == "groups":
            given[key] = frame.labels(key, value) if isinstance(value, str) else value
            continue
        given[key], named = frame.take(key, value)
        if named:
            names[key] = named
    return given, names


def _has_text(values: Sequence[Any]) -> bool:
    return any(isinstance(v, str) for v in values)
