"""What there is at each point, in the user's rows: first of all what was measured."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradfit._data import Data
from gradfit._frozen import freeze
from gradfit._problem import Problem
from gradfit._result import Observed
from gradfit._systematic import Systematic
from gradfit._types import FloatArray


def give_tensor(data: Data, values: Tensor, vector: bool) -> Tensor:
    """Return values (k, N) per point in the user's order and shape, NaN in rows left out."""
    if data.kept is not None:
        whole = values.new_full((values.shape[0], data.n_rows), torch.nan)
        whole[:, data.kept] = values
        values = whole
    return (values[0] if vector else values).detach()


def give_array(data: Data, values: Tensor, vector: bool) -> FloatArray:
    """Return the same for NumPy, a view where every row is in its place."""
    if data.kept is not None:
        return as_numpy(give_tensor(data, values, vector))
    found = as_numpy(values)
    return found[0] if vector else found


def as_numpy(t: Tensor) -> Any:
    """Return a tensor as an array, a view where possible; nothing is asked for in vain."""
    if t.requires_grad or not t.is_cpu:
        t = t.detach().cpu()
    return t.numpy()


def _held_exact(data: Data, exact: Tensor) -> Data:
    """Write 0 for the errors of the coordinates that ``fix_x`` made exact."""
    if data.cov is not None:
        held = torch.zeros(data.cov.shape[0], exact.shape[1], dtype=torch.bool, device="cpu")
        held[: len(exact)] = exact.cpu()
        held = held.to(data.cov.device)
        return replace(data, cov=torch.where(held[None] | held[:, None], 0.0, data.cov))
    none = data.sx is None and data.sy is None
    sx = data.x.new_full((data.x.shape[0], 1), 1.0 if none else 0.0)
    sx = torch.where(exact, 0.0, sx if data.sx is None else data.sx)
    ones = None if data.y is None else data.y.new_ones(data.y.shape[0], 1)
    return replace(data, sx=sx, sy=ones if none else data.sy)


def observe(problem: Problem) -> Observed:
    """Return the data as NumPy arrays in the user's rows."""
    data = problem.data
    if problem.fix_x is not None:
        data = _held_exact(data, problem.fix_x)
    sx, sy, rho, cov = data.sx, data.sy, data.rho, data.cov
    fields = {
        "x": _own(give_array(data, data.x, data.vector_x)),
        "y": None if data.y is None else _own(give_array(data, data.y, data.vector_y)),
        "sx": None if sx is None else _sigma(data, sx, data.vector_x),
        "sy": None if sy is None else _sigma(data, sy, data.vector_y),
        "rho": None if rho is None else _sigma(data, rho[None], True),
        "cov": None if cov is None else _own(_matrices(data, cov)),
        "systematic": None if problem.systematic is None else _shifts(data, problem.systematic),
        "x_names": data.x_names,
        "y_names": data.y_names,
        "kind": data.kind,
    }
    return freeze(Observed, fields)


def _own(values: FloatArray) -> FloatArray:
    """Return numbers that nobody else holds: a result does not change with the user's arrays."""
    return values.copy()


def _sigma(data: Data, values: Tensor, vector: bool) -> Any:
    """Return one number where there is only one, else an array."""
    if values.numel() == 1 and data.x.shape[1] != 1:
        return values.item()
    if values.shape[-1] == 1 and data.x.shape[1] != 1:
        return _own(as_numpy(values))
    return _own(give_array(data, values, vector))


def _matrices(data: Data, cov: Tensor) -> FloatArray:
    k, _, n = cov.shape
    if n == 1:
        return as_numpy(cov)
    return give_array(data, cov.reshape(k * k, n), False).reshape(k, k, -1)


def _shifts(data: Data, errors: Systematic) -> FloatArray:
    """Return what each of the errors that points share does to x and y (K, k, N)."""
    k = data.x.shape[0] + (0 if data.y is None else data.y.shape[0])
    unit = torch.eye(errors.count, dtype=torch.float64, device="cpu").to(data.x)[..., None]
    return np.stack([give_array(data, errors.shift(t, k), False) for t in unit])
