"""Coordinates one by one or as rows of one array: the points of a shape, brought to the gate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gradfit._data import Data, gather
from gradfit._data.arrays import from_array, to_array, to_tensor
from gradfit._data.checks import refuse_negative, refuse_nonfinite, refuse_where
from gradfit._data.frames import kind_of, take_columns
from gradfit._data.gate import refuse_text, title
from gradfit._types import FloatArray
from gradfit._whitening import refuse_exact
from gradfit.errors import InputError

CovType: TypeAlias = Literal["expected", "observed", "propagated", "sandwich", "HC0", "HC3"]
NanPolicy: TypeAlias = Literal["raise", "omit"]
Titles: TypeAlias = Mapping[str, tuple[str, ...]]
"""Names of the columns that an argument was taken from."""
AXES = ("x", "y", "z")
LARGEST = 1e300
"""Size of coordinates up to which the sum of some is a number."""


def gather_points(
    coordinates: Sequence[Any],
    sigmas: Sequence[Any],
    *,
    data: Any,
    cov: Any,
    groups: Any,
    nan_policy: str,
    equations: int = 1,
) -> Data:
    """Return the points; ``coordinates`` are m arrays, or one of shape (m, N) and None.

    ``equations`` are those of the shape at every point, so many coordinates must have an error.
    """
    m, kind = len(coordinates), kind_of(data, *coordinates)
    apart = any(c is not None for c in coordinates[1:])
    titles: Titles = {}
    named: list[str] = []
    if apart:
        missing = [a for a, c in zip(AXES, coordinates, strict=False) if c is None]
        if missing:
            raise InputError(f"`{missing[0]}` is missing: give {m} coordinates, or all in `x`.")
        asked = _by_axis(coordinates, sigmas) | {"cov": cov, "groups": groups}
        if data is None:
            refuse_text(asked)
        else:
            asked, titles = take_columns(data, asked)
        # As the gate does, which would call all of them `x`.
        strict = nan_policy == "raise" and groups is None
        points = _stack([asked[a] for a in AXES[:m]], titles, strict)
        sx = _sigma([asked[f"s{a}"] for a in AXES[:m]], titles, points.shape[1], strict)
        named = [f"s{a}" for a, s in zip(AXES, sigmas, strict=False) if s is not None]
        cov, groups, data = asked["cov"], asked["groups"], None
    else:
        _refuse_sigmas(sigmas)
        points, sx = coordinates[0], sigmas[0]
    found = gather(points, None, sx, None, None, cov, groups, data=data, nan_policy=nan_policy)
    if found.x.shape[0] != m:
        raise InputError(
            f"`x` alone must hold all coordinates, ({m}, N), got "
            f"{'(N,)' if found.vector_x else tuple(found.x.shape)}. Give {', '.join(AXES[:m])}, "
            "or transpose if points came first."
        )
    refuse_exact(found, None, equations, named, "a straight line in space")
    for axis, row in zip(AXES, found.x, strict=False):
        refuse_where(
            row.abs() > LARGEST,
            row,
            f"{title(axis if apart else 'x', titles)} must be smaller than {LARGEST:g}",
            "Choose a larger unit.",
        )
    if data is not None:
        return found
    return replace(found, kind=kind, x_names=tuple(titles.get(a, (a,))[0] for a in AXES[:m]))


def _by_axis(coordinates: Sequence[Any], sigmas: Sequence[Any]) -> dict[str, Any]:
    """Return coordinates and standard deviations by the names of their arguments."""
    asked = dict(zip(AXES, coordinates, strict=False))
    return asked | {f"s{a}": s for a, s in zip(AXES, sigmas, strict=False)}


def _refuse_sigmas(sigmas: Sequence[Any]) -> None:
    for axis, sigma in zip(AXES[1:], sigmas[1:], strict=False):
        if sigma is not None:
            raise InputError(f"`s{axis}` is given, but `{axis}` is not.")


def _stack(columns: Sequence[Any], titles: Titles, strict: bool) -> Any:
    """Return columns of equal length as rows of one array, or of a tensor if one of them is."""
    called = [title(axis, titles) for axis in AXES[: len(columns)]]
    if any(isinstance(c, Tensor) for c in columns):
        rows: Any = [to_tensor(t, c, None) for t, c in zip(called, columns, strict=True)]
    else:
        rows = [to_array(t, c) for t, c in zip(called, columns, strict=True)]
    for this, row in zip(called, rows, strict=True):
        if row.ndim != 1:
            raise InputError(f"{this} must have shape (N,), got {tuple(row.shape)}.")
        if row.shape != rows[0].shape:
            raise InputError(
                f"{called[0]} and {this} must have the same number of points: {len(rows[0])} in "
                f"{called[0]}, {len(row)} in {this}."
            )
        if strict:
            refuse_nonfinite(this, row if isinstance(row, Tensor) else from_array(row, None))
    return torch.stack(rows) if isinstance(rows[0], Tensor) else np.stack(rows)


def _sigma(sigmas: Sequence[Any], titles: Titles, n: int, strict: bool) -> Any:
    """Return standard deviations (m, N|1) of n points; 0 for a coordinate that has none."""
    if all(s is None for s in sigmas):
        return None
    rows: list[FloatArray] = []
    for axis, sigma in zip(AXES, sigmas, strict=False):
        this = title(f"s{axis}", titles)
        if isinstance(sigma, Tensor):
            sigma = sigma.detach().cpu().numpy()
        row = to_array(this, 0.0 if sigma is None else sigma)
        if row.ndim > 1 or (row.ndim and len(row) != n):
            raise InputError(f"{this} must be a number or have shape ({n},), got {row.shape}.")
        values = from_array(row.reshape(-1), None)
        refuse_negative(this, values)
        if strict:
            refuse_nonfinite(this, values)
        rows.append(row.reshape(-1))
    return np.stack(np.broadcast_arrays(*rows))
