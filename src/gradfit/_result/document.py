"""Whether what was read back hangs together: every shape and every name, before it is a result."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradfit._format import shown
from gradfit._result.observed import Observed
from gradfit._types import Status
from gradfit.errors import InputError


class Damaged(Exception):  # noqa: N818 - becomes an InputError that names the document
    """Says which field cannot be what was written."""


def check(fields: Mapping[str, Any], kind: str) -> None:
    """Raise an InputError unless the fields of a result belong together.

    Parameters
    ----------
    fields : mapping
        Arrays, numbers and texts by the names of the fields, with ``observed`` and ``model``.
    kind : str
        ``"table"`` for one row per fit; anything else is a single fit.
    """
    try:
        names = _names("names", fields["names"])
        _observed(fields["observed"])
        groups: tuple[int, ...] = ()
        if kind == "table":
            groups = (_keys(fields["keys"]),)
            _group(fields, groups[0])
        _parameters(fields, names, groups)
        _points(fields, fields["observed"])
        _sizes(fields)
        if tuple(fields["model"].names) != names:
            raise Damaged("the parameters of `model` are not `names`")
    except Damaged as error:
        raise InputError(f"this {kind} is damaged: {error}.") from None


def _names(field: str, values: Any) -> tuple[str, ...]:
    if not values or not all(isinstance(v, str) for v in values) or len(set(values)) < len(values):
        raise Damaged(f"`{field}` must be different texts, got {shown(values)}")
    return tuple(values)


def _shape(field: str, value: Any, *allowed: tuple[int, ...]) -> None:
    shape = np.shape(value)
    if shape not in allowed:
        wanted = " or ".join(dict.fromkeys(map(str, allowed)))
        raise Damaged(f"`{field}` must have shape {wanted}, got {shape}")


def _observed(data: Observed) -> None:
    x, y = np.asarray(data.x), None if data.y is None else np.asarray(data.y)
    if x.ndim not in (1, 2) or 0 in x.shape:
        raise Damaged(f"`observed.x` must have shape (N,) or (m, N), got {x.shape}")
    n, m = x.shape[-1], 1 if x.ndim == 1 else x.shape[0]
    q = 0
    if y is not None:
        if y.ndim not in (1, 2) or y.shape[-1] != n or 0 in y.shape:
            raise Damaged(f"`observed.y` must have {n} points as x, got shape {y.shape}")
        q = 1 if y.ndim == 1 else y.shape[0]
    for field, names, count in (("x", data.x_names, m), ("y", data.y_names, q)):
        if len(names) != count:
            raise Damaged(f"`observed.{field}_names` must be {count} texts, got {shown(names)}")
    for field, k, value in (("sx", m, data.sx), ("sy", q, data.sy), ("rho", 1, data.rho)):
        if value is not None:
            _shape(f"observed.{field}", value, (), (n,), (k, n), (k, 1))
    k = m + q
    if data.cov is not None:
        _shape("observed.cov", data.cov, (k, k, n), (k, k, 1))
    if data.systematic is not None and np.shape(data.systematic)[1:] != (k, n):
        raise Damaged(f"`observed.systematic` must have shape (K, {k}, {n})")


def _keys(keys: Sequence[Any]) -> int:
    if not all(isinstance(k, str | int | float | bool) for k in keys) or not keys:
        raise Damaged(f"`keys` must be labels, got {shown(keys)}")
    if len(set(keys)) < len(keys):
        raise Damaged("`keys` holds a label twice")
    return len(keys)


def _group(fields: Mapping[str, Any], n_groups: int) -> None:
    n = np.shape(fields["observed"].x)[-1]
    group = np.asarray(fields["group"])
    _shape("group", group, (n,))
    if group.min() < -1 or group.max() >= n_groups:
        raise Damaged(f"`group` must hold numbers from -1 to {n_groups - 1}")


def _parameters(fields: Mapping[str, Any], names: tuple[str, ...], groups: tuple[int, ...]) -> None:
    p = len(names)
    for field in ("params", "stderr"):
        if tuple(fields[field]) != names:
            raise Damaged(f"`{field}` must give a number for each of {', '.join(names)}")
        for value in fields[field].values():
            _shape(field, value, groups)
    _shape("cov", fields["cov"], (*groups, p, p))
    if groups:
        _shape("at_bound", fields["at_bound"], (*groups, p))
        for field in ("chi2", "dof", "mswd", "p_value", "status", "success", "n_steps", "n_eval"):
            _shape(field, fields[field], groups)
        _shape("condition", fields["condition"], groups)
        _shape("rank", fields["rank"], groups)
    some = ("fixed", "shared", "bounds", "correction", *(() if groups else ("at_bound",)))
    for field in some:
        unknown = [v for v in fields[field] if v not in names]
        if unknown:
            raise Damaged(f"`{field}` names {shown(unknown[0])}, which is no parameter")


def _sizes(fields: Mapping[str, Any]) -> None:
    """Raise where a number has a sign or a size that no fit has."""
    for field in ("chi2", "mswd", "n_steps", "n_eval", "condition", "rank", "seconds"):
        if (np.asarray(fields[field], dtype=np.float64) < 0).any():
            raise Damaged(f"`{field}` must not be negative, got {shown(fields[field])}")
    if not fields["seconds"] < math.inf:
        raise Damaged(f"`seconds` must be finite, got {shown(fields['seconds'])}")
    for name, error in fields["stderr"].items():
        if (np.asarray(error) < 0).any():
            raise Damaged(f"`stderr` of {name} must not be negative")
    p_value = np.asarray(fields["p_value"])
    if ((p_value < 0) | (p_value > 1)).any():
        raise Damaged("`p_value` must lie between 0 and 1")
    known = {int(s) for s in Status}
    status = np.asarray(fields["status"])
    if not set(status.reshape(-1).tolist()) <= known:
        raise Damaged("`status` holds a number that is no status")
    good = (status > 0) & (status < 10)
    if (good != np.asarray(fields["success"])).any():
        raise Damaged("`success` does not agree with `status`")


def _points(fields: Mapping[str, Any], data: Observed) -> None:
    n = np.shape(data.x)[-1]
    for field in ("delta", "x_hat"):
        _shape(field, fields[field], np.shape(data.x))
    for field in ("eps", "y_hat"):
        if (fields[field] is None) is not (data.y is None):
            raise Damaged(f"`{field}` must be there if, and only if, y is")
        if data.y is not None:
            _shape(field, fields[field], np.shape(data.y))
    _shape("weights", fields["weights"], (n,))
    moved = np.asarray(fields["moved"])
    if moved.ndim != 1 or (moved.size and not (moved.min() >= 0 and moved.max() < n)):
        raise Damaged(f"`moved` must hold rows from 0 to {n - 1}")
