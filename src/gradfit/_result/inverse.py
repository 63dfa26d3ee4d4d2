"""Inverse prediction: the x at which a fitted curve has a given y, with its uncertainty."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._data.arrays import to_tensor
from gradfit._data.checks import shown, to_finite, to_list
from gradfit._format import number
from gradfit._model import Model
from gradfit._result.observed import Observed
from gradfit._tangent import evaluate, tangent
from gradfit._types import FloatArray
from gradfit._views.fitted import as_array
from gradfit.errors import InputError

SCAN = 1024
"""Pieces of the range in each of which a root is looked for."""
HALVINGS = 80
"""Bisections: more than the digits of a double."""


class Inverse(NamedTuple):
    """x where the curve has a given y, and its standard error."""

    x: Any
    stderr: Any


def find_roots(
    model: Model,
    params: Mapping[str, float],
    y: FloatArray,
    between: tuple[float, float],
    near: float | None,
) -> FloatArray:
    """Return x (K,) where the model is y (K,), between two ends.

    Raises
    ------
    InputError
        No root for some y, or several and no ``near`` to choose by.
    """
    grid = torch.linspace(between[0], between[1], SCAN + 1, dtype=torch.float64, device="cpu")
    values = list(params.values())
    curve = evaluate(model, values, grid).reshape(-1)
    gap = curve[None] - torch.from_numpy(y)[:, None]
    below, above = gap[:, :-1], gap[:, 1:]
    crossed = (below * above < 0) | (below == 0)
    crossed[:, -1] |= above[:, -1] == 0
    chosen = torch.empty(len(y), dtype=torch.int64, device="cpu")
    for k, row in enumerate(crossed):
        places = torch.nonzero(row)[:, 0]
        if not len(places):
            ends = f"{number(between[0])} and {number(between[1])}"
            raise InputError(
                f"the curve is nowhere y = {number(y[k])} for x between {ends}. "
                "Give `between` to look elsewhere."
            )
        if len(places) > 1 and near is None:
            found = ", ".join(number(x, 4) for x in grid[places].tolist())
            raise InputError(
                f"the curve is y = {number(y[k])} at {len(places)} x, near {found}. "
                "Choose one with `near`, or narrow the range with `between`."
            )
        middle = (grid[places] + grid[places + 1]) / 2
        chosen[k] = places[0 if near is None else int((middle - near).abs().argmin())]
    return _bisect(model, values, torch.from_numpy(y), grid, chosen).numpy()


def _bisect(model: Model, values: list[float], y: Tensor, grid: Tensor, chosen: Tensor) -> Tensor:
    """Halve brackets until nothing is left of them."""
    low, high = grid[chosen].clone(), grid[chosen + 1].clone()
    rising = evaluate(model, values, low).reshape(-1) - y < 0
    exact = evaluate(model, values, high).reshape(-1) == y
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        under = (evaluate(model, values, middle).reshape(-1) - y < 0) == rising
        low, high = torch.where(under, middle, low), torch.where(under, high, middle)
    start = evaluate(model, values, grid[chosen]).reshape(-1) == y
    x = torch.where(exact, grid[chosen + 1], (low + high) / 2)
    return torch.where(start, grid[chosen], x)


def spread_of(
    model: Model, params: Mapping[str, float], cov: Any, x: FloatArray, sy: FloatArray
) -> FloatArray:
    r"""Return the standard error of x: by the implicit function, ``dx = (dy - f_b db) / f_x``."""
    here = tangent(model, list(params.values()), torch.from_numpy(x))
    J, slope = here.J_beta[0].numpy(), here.J_x[0, 0].numpy()
    variance = np.einsum("pn,pr,rn->n", J, as_array(cov), J) + sy**2
    with np.errstate(divide="ignore"):
        return np.sqrt(variance) / np.abs(slope)


def readings(y: Any, observed: Observed) -> tuple[FloatArray, bool, bool]:
    """Return measured y (K,), whether it was one number, and whether it was a tensor.

    Raises
    ------
    InputError
        The model is implicit, or has several variables or responses.
    """
    if observed.y is None or observed.y.ndim != 1 or observed.x.ndim != 1:
        raise InputError("invert() needs a model with one x and one y.")
    at = to_tensor("`y`", y, None).detach().cpu().to(torch.float64)
    if at.ndim > 1 or not bool(torch.isfinite(at).all()):
        raise InputError(f"`y` must be a finite number or have shape (K,), got {tuple(at.shape)}.")
    return at.reshape(-1).numpy(), at.ndim == 0, isinstance(y, Tensor)


def range_of(
    observed: Observed, x_hat: Any, between: tuple[float, float] | None
) -> tuple[float, float]:
    """Return where to look: where the data and their foot points lie, unless told."""
    if between is None:
        everywhere = np.concatenate([observed.x, as_array(x_hat)])
        return float(np.nanmin(everywhere)), float(np.nanmax(everywhere))
    ends = to_list("`between`", between, "(0.0, 10.0)")
    if len(ends) != 2:
        raise InputError(f"`between` must be two numbers; got {shown(between)}.")
    low, high = (to_finite("`between`: an end", end) for end in ends)
    if not low < high:
        raise InputError(f"`between` must rise; got ({low!r}, {high!r}).")
    return low, high
