"""Shapes, signs and finite numbers: what every fit may rely on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from gradfit._data.arrays import constant, is_finite, to_device, to_rows, to_tensor
from gradfit._data.checks import (
    CLEAN,
    check_covariance,
    refuse_negative,
    refuse_nonfinite,
    refuse_where,
    shown,
)
from gradfit._data.frames import kind_of, take_columns
from gradfit._data.groups import number_groups
from gradfit._data.missing import decouple, find_missing, spread_of
from gradfit._frozen import freeze
from gradfit.errors import InputError

POLICIES = ("raise", "omit")
ONE_RESPONSE = "Clean the data, or give such responses an `sy` of inf, or leave them out with"
LAST_RESPONSE = "A point needs one response at least; leave such points out with"


@dataclass(frozen=True, eq=False, kw_only=True)
class Data:
    """Points that passed the gate: float64, points last.

    Attributes
    ----------
    x : Tensor (m, N)
        Observed x.
    y : Tensor (q, N) or None
        Observed y, NaN where ``missing``; None for an implicit model.
    missing : Tensor (q, N) of bool or None
        Responses that were not measured; None where all were.
    sx, sy : Tensor (m, N|1), (q, N|1) or None
        Standard deviations; None where not given.
    rho : Tensor (N|1,) or None
        Correlation of the errors of x and y.
    cov : Tensor (m+q, m+q, N|1) or None
        Joint covariance of (x, y).
    group : Tensor (N,) or None
        Number of each point's group, ascending from 0.
    keys : sequence
        Label of each group in order of first appearance; empty without groups.
    sizes : Tensor (G,) or None
        Number of points of each group.
    kept : Tensor (N,) or None
        Row of the user's data that each point came from; None where every row is in its place.
    n_rows : int
        Rows that the user gave.
    vector_x, vector_y : bool
        Whether x (y) came with shape (N,).
    as_torch : bool
        Whether x or y came as a tensor.
    x_names, y_names : tuple of str
        Names of columns, or ``x``, ``x[0]``, ...
    finite : bool
        Whether all numbers are finite; groups may hold others.
    definite : bool
        Whether the standard deviations that are given are known to be above 0, and correlations
        between -1 and 1.
    kind : str
        Library whose table or columns came: ``"pandas"``, ``"polars"``, ``"pyarrow"`` or none.
    """

    x: Tensor
    y: Tensor | None
    missing: Tensor | None
    sx: Tensor | None
    sy: Tensor | None
    rho: Tensor | None
    cov: Tensor | None
    group: Tensor | None
    keys: Sequence[Any]
    sizes: Tensor | None
    kept: Tensor | None
    n_rows: int
    vector_x: bool
    vector_y: bool
    as_torch: bool
    x_names: tuple[str, ...]
    y_names: tuple[str, ...]
    finite: bool
    definite: bool
    kind: str = ""

    @cached_property
    def index(self) -> Tensor:
        """Row of the user's data (N,) that each point came from."""
        return (
            torch.arange(self.n_rows, device=self.x.device, dtype=torch.int64)
            if self.kept is None
            else self.kept
        )

    @cached_property
    def n_missing(self) -> int:
        """Number of responses that were not measured."""
        return 0 if self.missing is None else int(self.missing.sum())

    @cached_property
    def filled(self) -> "Data":
        """The same with numbers of no meaning for what was not measured: y is 0, its error 1."""
        gone = self.missing
        if gone is None or self.y is None:
            return self
        return replace(
            self,
            y=torch.where(gone, 0.0, self.y),
            missing=None,
            sy=None if self.sy is None else torch.where(gone, 1.0, self.sy),
            cov=None if self.cov is None else decouple(self.cov, gone),
        )


def gather(  # noqa: PLR0917 - the order at the door
    x: Any,
    y: Any = None,
    sx: Any = None,
    sy: Any = None,
    rho: Any = None,
    cov: Any = None,
    groups: Any = None,
    *,
    data: Any = None,
    nan_policy: str = "raise",
    device: Any = None,
) -> Data:
    """Bring all that describes the points through the gate.

    Parameters
    ----------
    x : array (N,) or (m, N), or names of columns
        Observed x.
    y : array (N,) or (q, N), or names of columns, optional
        Observed y.
    sx, sy : number, (N,), (m,) and (q,), or (m, N) and (q, N), optional
        Standard deviations. With as many variables as points, one axis means points. Where that
        of one of several responses is inf, the response was not measured there.
    rho : number or (N,), optional
        Correlation of the errors of x and y at each point.
    cov : (m+q, m+q) or (N, m+q, m+q), optional
        Joint covariance of (x, y), instead of ``sx``, ``sy`` and ``rho``.
    groups : (N,), optional
        Labels; points of one label make one fit.
    data : data frame, dict of arrays or structured array, optional
        Where names are looked up.
    nan_policy : "raise" or "omit"
        What to do with rows that hold NaN or inf. With ``groups`` "raise" keeps them: the fit
        of that group ends with its own status. Of several responses "omit" leaves out only those
        that, or whose errors, are NaN or inf, and the row if none is left.
    device : device, optional
        Where the tensors go; by default where the first given tensor is.

    Raises
    ------
    InputError
        Anything that cannot be fitted; the message names argument, expectation, value and place.
    """
    if not (isinstance(cast(object, nan_policy), str) and nan_policy in POLICIES):
        raise InputError(f'`nan_policy` must be "raise" or "omit", got {shown(nan_policy)}.')
    asked = {"x": x, "y": y, "sx": sx, "sy": sy, "rho": rho, "cov": cov, "groups": groups}
    names: Mapping[str, tuple[str, ...]] = {}
    if data is not None:
        asked, names = take_columns(data, asked)
    else:
        refuse_text(asked)
    points = _Gate(asked, names, device, kind_of(data, x, y, groups)).points()
    return _clean(points, asked["groups"], nan_policy, names)


def refuse_text(asked: Mapping[str, Any]) -> None:
    """Raise where a name was given, but no table that could have such a column."""
    for key, value in asked.items():
        if isinstance(value, str):
            raise InputError(
                f"`{key}` is the text {value!r}. Names of columns need a table: data=..."
            )


class _Gate:
    """Converts the arguments one by one; knows the names to complain with.

    Every number is looked at once, for its sign and for whether it is finite.
    """

    def __init__(
        self, asked: Mapping[str, Any], names: Mapping[str, tuple[str, ...]], device: Any, kind: str
    ) -> None:
        self.kind = kind
        self.asked = asked
        self.names = names
        tensors = [v for v in asked.values() if v is not None and isinstance(v, Tensor)]
        self.as_torch = bool(tensors) and any(t is asked["x"] or t is asked["y"] for t in tensors)
        self.device = to_device(device)
        if device is None and tensors:
            self.device = tensors[0].device
        self.finite = self.definite = True

    def points(self) -> Data:
        """Return the data with shapes and signs checked; numbers may still be NaN."""
        x, vector_x = self.variables("x")
        m, n = x.shape
        y, vector_y, q = None, True, 0
        if self.asked["y"] is not None:
            y, vector_y = self.variables("y")
            q = y.shape[0]
            if y.shape[1] != n:
                self.refuse_lengths(n, y.shape[1])
        known = self.names.get
        fields: dict[str, Any] = {
            "x": x,
            "y": y,
            "missing": None,
            "cov": self.covariance(m, q, n),
            "sx": self.sigma("sx", m, n),
            "sy": self.sigma("sy", q, n),
            "rho": self.correlation(m, q, n),
            "group": None,
            "keys": (),
            "sizes": None,
            "kept": None,
            "n_rows": n,
            "vector_x": vector_x,
            "vector_y": vector_y,
            "as_torch": self.as_torch,
            "x_names": known("x") or _labels("x", vector_x, m),
            "y_names": known("y") or (_labels("y", vector_y, q) if q else ()),
            # When all of them have been looked at.
            "finite": self.finite,
            "definite": self.definite,
            "kind": self.kind,
        }
        return freeze(Data, fields)

    def title(self, key: str) -> str:
        return title(key, self.names)

    def tensor(self, key: str) -> Tensor:
        return to_tensor(self.title(key), self.asked[key], self.device)

    def variables(self, key: str) -> tuple[Tensor, bool]:
        value = self.asked[key]
        if value is None:
            raise InputError(f"`{key}` is missing.")
        t, vector, finite = to_rows(self.title(key), value, self.device)
        self.finite = self.finite and finite
        return t, vector

    def refuse_lengths(self, n_x: int, n_y: int) -> NoReturn:
        raise InputError(
            f"`x` and `y` must have the same number of points: {n_x} in `x`, {n_y} in `y`. "
            "Points are the last axis; transpose if they came first."
        )

    def sigma(self, key: str, k: int, n: int) -> Tensor | None:
        """Return standard deviations (k, n) or (k, 1) of k variables."""
        value = self.asked[key]
        if value is None:
            return None
        if k == 0:
            raise InputError(f"`{key}` is given, but `y` is not.")
        if isinstance(value, float) and value >= 0:
            self.finite = self.finite and value < math.inf
            self.definite = self.definite and value > 0
            return constant(value, k, self.device)
        t = self.tensor(key)
        shape = tuple(t.shape)
        if shape == ():
            t = t.expand(k, 1)
        elif shape == (n,):
            t = t.expand(k, n)
        elif shape == (k,):
            t = t[:, None]
        elif shape not in ((k, n), (k, 1), (1, n)):
            wanted = f"({n},)" if k == 1 else f"({n},), ({k},) or ({k}, {n})"
            raise InputError(
                f"{self.title(key)} must be a number or have shape {wanted}, got {shape}."
            )
        t = t.expand(k, -1).contiguous()
        low = self.range(t)[0]
        self.definite = self.definite and low > 0
        if not low >= 0:
            refuse_negative(self.title(key), t)
        return t

    def range(self, t: Tensor) -> tuple[float, float]:
        """Return the least and the largest number, and note whether all are finite."""
        low, high = (v.item() for v in t.aminmax())
        self.finite = self.finite and low - low == 0 and high - high == 0
        return low, high

    def correlation(self, m: int, q: int, n: int) -> Tensor | None:
        if self.asked["rho"] is None:
            return None
        if (m, q) != (1, 1):
            raise InputError(
                "`rho` needs one x and one y, "
                f"got {m} and {q or 'no'}. Give the joint covariance `cov` instead."
            )
        missing = [k for k in ("sx", "sy") if self.asked[k] is None]
        if missing:
            raise InputError(f"`rho` needs `sx` and `sy`; `{missing[0]}` is not given.")
        t = self.tensor("rho")
        if tuple(t.shape) not in ((), (n,), (1,)):
            raise InputError(
                f"{self.title('rho')} must be a number or have shape ({n},), got {tuple(t.shape)}."
            )
        t = t.reshape(-1).contiguous()
        low, high = self.range(t)
        self.definite = self.definite and low > -1 and high < 1
        if not (low >= -1 and high <= 1):
            refuse_where(
                t.abs() > 1,
                t,
                f"{self.title('rho')} must lie between -1 and 1",
                "Give correlations, not covariances.",
            )
        return t

    def covariance(self, m: int, q: int, n: int) -> Tensor | None:
        k = m + q
        if self.asked["cov"] is None:
            return None
        other = [key for key in ("sx", "sy", "rho") if self.asked[key] is not None]
        if other:
            raise InputError(f"`cov` takes the place of `{other[0]}`; give one of them.")
        t = self.tensor("cov")
        if tuple(t.shape) not in ((k, k), (n, k, k)):
            raise InputError(
                f"`cov` must have shape ({k}, {k}) or ({n}, {k}, {k}), got {tuple(t.shape)}."
            )
        t = t.reshape(-1, k, k).permute(1, 2, 0)
        finite = is_finite(t)
        self.finite = self.finite and finite
        # What stands beside a response of which nothing is known is not looked at.
        known = t if finite else decouple(t, ~torch.isfinite(spread_of(t, q)))
        check_covariance(known.permute(2, 0, 1))
        return t.contiguous()


def title(key: str, names: Mapping[str, tuple[str, ...]]) -> str:
    """Return an argument as an error calls it, with its column."""
    if not names:
        return f"`{key}`"
    known = names.get(key, ())
    return f"`{key}` (column {shown(known[0])})" if len(known) == 1 else f"`{key}`"


def _labels(name: str, vector: bool, k: int) -> tuple[str, ...]:
    return (name,) if vector else tuple(f"{name}[{i}]" for i in range(k))


def _clean(
    points: Data, groups: Any, nan_policy: str, names: Mapping[str, tuple[str, ...]]
) -> Data:
    """Bring groups together; drop or refuse rows that are not finite."""
    order = keep = None
    if groups is not None:
        found = number_groups(groups, points.n_rows)
        number, sizes, order = (
            None if a is None else torch.from_numpy(a).to(points.x.device)
            for a in (found.number, found.sizes, found.order)
        )
        points = replace(points, group=number, keys=found.keys, sizes=sizes)
    if not points.finite:
        points = _mark_missing(points, nan_policy == "omit")
        keep = finite_rows(points)
        if nan_policy == "raise" and groups is None:
            _refuse_nonfinite(points, names)
        if bool(keep.all()) or nan_policy == "omit":
            points = replace(points, finite=True)
        if nan_policy == "raise" or bool(keep.all()):
            keep = None
        elif not bool(keep.any()):
            raise InputError("every row holds NaN or inf: nothing is left to fit.")
    if order is not None:
        keep = order if keep is None else order[keep[order]]
    elif keep is not None:
        keep = keep.nonzero()[:, 0]
    return points if keep is None else _take(points, keep)


def _mark_missing(points: Data, omit: bool) -> Data:
    """Write NaN for responses that were not measured, and inf for their errors where unknown."""
    if points.y is None:
        return points
    spread = points.sy if points.cov is None else spread_of(points.cov, points.y.shape[0])
    gone = find_missing(points.y, spread, omit)
    if gone is None:
        return points
    sy = points.sy
    if sy is not None:
        sy = torch.where(gone & sy.isnan(), torch.inf, sy) if bool(sy.isnan().any()) else sy
    return replace(points, y=torch.where(gone, torch.nan, points.y), missing=gone, sy=sy)


def _numbers(points: Data) -> dict[str, Tensor]:
    """Return what has to be finite."""
    found = {k: getattr(points.filled, k) for k in ("x", "y", "sx", "sy", "rho", "cov")}
    return {k: t for k, t in found.items() if t is not None}


def finite_rows(points: Data) -> Tensor:
    """Return the rows (N,) that hold neither NaN nor inf, but where nothing was measured."""
    rows = torch.ones(points.x.shape[1], dtype=torch.bool, device=points.x.device)
    for t in _numbers(points).values():
        rows = rows & torch.isfinite(t).reshape(-1, t.shape[-1]).all(0)
    return rows


def _refuse_nonfinite(points: Data, names: Mapping[str, tuple[str, ...]]) -> None:
    several = points.y is not None and points.y.shape[0] > 1
    for key, t in _numbers(points).items():
        advice = CLEAN
        if several and key in ("y", "sy"):
            # A point may go on without some of its responses, but not without all.
            alone = bool((~torch.isfinite(t)).all(0).any())
            advice = f'{LAST_RESPONSE if alone else ONE_RESPONSE} nan_policy="omit".'
        if len(columns := names.get(key, ())) > 1:
            for name, row in zip(columns, t, strict=True):
                refuse_nonfinite(f"`{key}` (column {shown(name)})", row, advice)
        refuse_nonfinite(title(key, names), t, advice)


def _take(points: Data, rows: Tensor) -> Data:
    def pick(t: Tensor | None) -> Tensor | None:
        if t is None or t.shape[-1] != points.n_rows or points.n_rows == 1:
            return t
        return t[..., rows].contiguous()

    group = pick(points.group)
    return replace(
        points,
        x=points.x[:, rows].contiguous(),
        y=pick(points.y),
        missing=pick(points.missing),
        sx=pick(points.sx),
        sy=pick(points.sy),
        rho=pick(points.rho),
        cov=pick(points.cov),
        group=group,
        sizes=None if group is None else torch.bincount(group, minlength=len(points.keys)),
        kept=points.index[rows],
    )
