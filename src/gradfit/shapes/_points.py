"""Coordinates one by one or as rows of one array: the points of a shape, brought to the gate."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gradfit._data import Data, gather
from gradfit._data.arrays import from_array, to_array, to_tensor
from gradfit._data.checks import refuse_negative, refuse_nonfinite, refuse_where
from gradfit._types import FloatArray
from gradfit._whitening import refuse_exact
from gradfit.errors import InputError

CovType: TypeAlias = Literal["expected", "observed", "propagated", "sandwich"]
NanPolicy: TypeAlias = Literal["raise", "omit"]
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
) -> Data:
    """Return the points; ``coordinates`` are m arrays, or one of shape (m, N) and None."""
    m = len(coordinates)
    first, rest = coordinates[0], coordinates[1:]
    # As the gate does, which would call all of them `x`.
    strict = nan_policy == "raise" and groups is None
    named: list[str] = []
    if all(c is None for c in rest):
        _refuse_sigmas(sigmas)
        points, sx = first, sigmas[0]
    else:
        missing = [a for a, c in zip(AXES, coordinates, strict=False) if c is None]
        if missing:
            raise InputError(f"`{missing[0]}` is missing: give {m} coordinates, or all in `x`.")
        if _texts(coordinates):
            points, sx = list(coordinates), _by_name(sigmas)
        else:
            points = _stack(coordinates, strict)
            sx = _sigma(sigmas, points.shape[1], strict)
        named = [f"s{a}" for a, s in zip(AXES, sigmas, strict=False) if s is not None]
    found = gather(points, None, sx, None, None, cov, groups, data=data, nan_policy=nan_policy)
    if found.x.shape[0] != m:
        raise InputError(
            f"`x` alone must hold all coordinates, ({m}, N), got "
            f"{'(N,)' if found.vector_x else tuple(found.x.shape)}. Give {', '.join(AXES[:m])}, "
            "or transpose if points came first."
        )
    refuse_exact(found, None, named=named)
    for i, row in enumerate(found.x):
        title = f"`{'x' if first is None or all(c is None for c in rest) else AXES[i]}`"
        refuse_where(
            row.abs() > LARGEST,
            row,
            f"{title} must be smaller than {LARGEST:g}",
            "Choose a larger unit.",
        )
    return found if data is not None else replace(found, x_names=AXES[:m])


def _refuse_sigmas(sigmas: Sequence[Any]) -> None:
    for axis, sigma in zip(AXES[1:], sigmas[1:], strict=False):
        if sigma is not None:
            raise InputError(f"`s{axis}` is given, but `{axis}` is not.")


def _texts(values: Sequence[Any]) -> bool:
    return any(isinstance(v, str) for v in values)


def _stack(columns: Sequence[Any], strict: bool) -> Any:
    """Return columns of equal length as rows of one array, or of a tensor if one of them is."""
    titles = [f"`{a}`" for a in AXES[: len(columns)]]
    if any(isinstance(c, Tensor) for c in columns):
        rows: Any = [to_tensor(t, c, None) for t, c in zip(titles, columns, strict=True)]
    else:
        rows = [to_array(t, c) for t, c in zip(titles, columns, strict=True)]
    for title, row in zip(titles, rows, strict=True):
        if row.ndim != 1:
            raise InputError(f"{title} must have shape (N,), got {tuple(row.shape)}.")
        if row.shape != rows[0].shape:
            raise InputError(
                f"`x` and {title} must have the same number of points: {len(rows[0])} in `x`, "
                f"{len(row)} in {title}."
            )
        if strict:
            refuse_nonfinite(title, row if isinstance(row, Tensor) else from_array(row, None))
    return torch.stack(rows) if isinstance(rows[0], Tensor) else np.stack(rows)


def _by_name(sigmas: Sequence[Any]) -> Any:
    """Return standard deviations among which are names of columns."""
    if all(s is None for s in sigmas):
        return None
    given = [0.0 if s is None else s for s in sigmas]
    return given if _texts(given) else _sigma(sigmas, None, False)


def _sigma(sigmas: Sequence[Any], n: int | None, strict: bool) -> Any:
    """Return standard deviations (m, N|1) of n points; 0 for a coordinate that has none."""
    if all(s is None for s in sigmas):
        return None
    rows: list[FloatArray] = []
    for axis, sigma in zip(AXES, sigmas, strict=False):
        title = f"`s{axis}`"
        if isinstance(sigma, Tensor):
            sigma = sigma.detach().cpu().numpy()
        row = to_array(title, 0.0 if sigma is None else sigma)
        if row.ndim > 1 or (row.ndim and n is not None and len(row) != n):
            raise InputError(
                f"{title} must be a number or have shape ({'N' if n is None else n},), "
                f"got {row.shape}."
            )
        values = from_array(row.reshape(-1), None)
        refuse_negative(title, values)
        if strict:
            refuse_nonfinite(title, values)
        rows.append(row.reshape(-1))
    return np.stack(np.broadcast_arrays(*rows))
