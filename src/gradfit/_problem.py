"""A problem: data, a model and what is asked of it, put in the engine's terms.

The engine fits the *free* parameters of a function of tensors. Here fixed parameters are written
in, and names, shapes, limits and start values are checked; the model itself is not called.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradfit._data import Data
from gradfit._data.arrays import to_tensor
from gradfit._data.checks import shown, to_finite, to_flag, to_flags, to_list, to_mapping, to_number
from gradfit._data.foreign import refuse_foreign
from gradfit._engine.loop import Bounds
from gradfit._engine.points import Function, Points
from gradfit._format import plural
from gradfit._frozen import freeze
from gradfit._model import Model, order_advice
from gradfit._systematic import Systematic, gather_systematic, split_covariance
from gradfit._whitening import refuse_exact, whiten
from gradfit.errors import InputError

HUGE = 1e300
"""Start values from which one asks whether they are numbers at all."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """Everything a fit is made of, except how to run it.

    Attributes
    ----------
    data : Data
        What the user measured.
    model : Model
        What the user believes.
    points : Points
        The data as the engine sees them.
    joined : bool
        Whether y became a variable of an implicit model, because some y are exact.
    free : tuple of str
        Parameters that are fitted, in the order of the model.
    fixed : mapping of str to float
        Parameters that are not.
    bounds : Bounds or None
        Limits of the free parameters.
    absolute : bool
        Whether sigmas are taken as they are (True) or scaled by the residuals.
    systematic : Systematic or None
        Errors that points share; their unknowns follow the free parameters.
    shared : tuple of str
        Free parameters that all groups have in common.
    implicit_equations : int
        Equations per point of an implicit model, known once it has been called.
    fix_x : Tensor (m, N|1) bool or None
        Coordinates of x that were taken as exact.
    redundant : int
        Parameters that follow from others: a unit vector has one.
    """

    data: Data
    model: Model
    points: Points
    joined: bool
    free: tuple[str, ...]
    fixed: Mapping[str, float]
    bounds: Bounds | None
    absolute: bool
    systematic: Systematic | None = None
    shared: tuple[str, ...] = ()
    implicit_equations: int = 1
    fix_x: Tensor | None = None
    redundant: int = 0

    @property
    def n_groups(self) -> int:
        """Number of fits."""
        return max(1, len(self.data.keys))

    @property
    def n_equations(self) -> int:
        """Number of equations per point, ``q``."""
        return self.implicit_equations if self.data.y is None else self.data.y.shape[0]

    @property
    def n_seen(self) -> int:
        """Equations of all points together, without those of responses that nobody measured."""
        return self.points.n * self.n_equations - self.data.n_missing

    @property
    def seen_per_fit(self) -> Tensor:
        """The same (G,) of each fit."""
        data = self.data
        if data.sizes is None or data.group is None:
            return torch.tensor([self.n_seen], device=self.points.x.device, dtype=torch.int64)
        seen = data.sizes * self.n_equations
        if data.missing is None:
            return seen
        return seen.index_add(0, data.group, -data.missing.sum(0))

    @property
    def n_hidden(self) -> int:
        """Unknowns that are fitted along and not told: shared errors."""
        return 0 if self.systematic is None else self.systematic.count

    def function(self) -> Function:
        """Return the model as the engine calls it: ``fn(x (m, N), unknowns) -> (q, N)``."""
        inner, m = self.plain(), self.data.x.shape[0]
        k = m
        if self.joined and self.data.y is not None:
            explicit, k = inner, m + self.data.y.shape[0]

            def joined(z: Tensor, beta: Sequence[Tensor]) -> Tensor:
                return explicit(z[:m], beta) - z[m:]

            inner = joined

        return inner if self.systematic is None else self.systematic.wrap(inner, k)

    def prior(self) -> Tensor | None:
        """Return the weights (p,) that pull unknowns to 0: 1 for shared errors."""
        if self.systematic is None:
            return None
        weights = self.data.x.new_ones(len(self.free) + self.n_hidden)
        weights[: len(self.free)] = 0
        return weights

    def limits(self) -> Bounds | None:
        """Return the bounds of all unknowns; shared errors have none."""
        if self.bounds is None or not self.n_hidden:
            return self.bounds
        open_ = self.bounds.lower.new_full((1, self.n_hidden), torch.inf)
        return Bounds(
            torch.cat([self.bounds.lower, -open_], 1), torch.cat([self.bounds.upper, open_], 1)
        )

    def unknowns(self, beta: Tensor) -> Tensor:
        """Return starts (G, p) with 0 for shared errors behind the free parameters."""
        if not self.n_hidden:
            return beta
        return torch.cat([beta, beta.new_zeros(len(beta), self.n_hidden)], 1)

    def common(self) -> Tensor | None:
        """Return which unknowns (p,) all groups share."""
        if not self.shared or self.data.group is None:
            return None
        flags = [n in self.shared for n in self.free] + [False] * self.n_hidden
        return torch.tensor(flags, device=self.data.x.device, dtype=torch.bool)

    def plain(self) -> Function:
        """Return the model of the free parameters alone: ``fn(x (m, N), free) -> (q, N)``.

        Where there is one variable its x may also be (N,); one response is (N,) then, too.
        """
        model, vector = self.model, self.data.vector_x
        slots = [
            (self.free.index(n), None) if n in self.free else (-1, self.fixed[n])
            for n in model.names
        ]
        plain = not self.fixed

        def set_in(x: Tensor, beta: Sequence[Tensor]) -> list[Tensor]:
            n = x.shape[-1]
            return [beta[i] if v is None else x.new_full((1,), v).expand(n) for i, v in slots]

        def call(x: Tensor, beta: Sequence[Tensor]) -> Tensor:
            given, flat = beta if plain else set_in(x, beta), x.ndim == 1
            if flat is not vector:
                x = x.squeeze(0) if vector else x[None]
            value = model.fn(x, *given)
            if value.ndim == 1 and not flat:
                value = value[None]
            n = x.shape[-1]
            return value if value.shape[-1] == n else value.expand(*value.shape[:-1], n)

        return call


def state_problem(
    data: Data,
    model: Model,
    *,
    fixed: Mapping[str, float] | None,
    bounds: Mapping[str, tuple[float | None, float | None]] | None,
    fix_x: Any,
    absolute_sigma: bool | None,
    shared: Sequence[str] | str | None = None,
    systematic: Any = None,
    cov_joint: Any = None,
    table: Any = None,
) -> Problem:
    """Put data and model together; check names and shapes, not yet the model itself.

    ``table`` is where ``systematic`` may name columns.
    """
    held, free = _held(fixed, model), model.names
    if held:
        free = tuple([n for n in free if n not in held])
    if cov_joint is not None and systematic is not None:
        raise InputError("`cov_joint` holds all errors; leave `systematic` out.")
    errors = gather_systematic(systematic, data, table)
    if cov_joint is not None:
        data, errors = split_covariance(cov_joint, data)
    exact = _exact_x(fix_x, data)
    refuse_exact(data, exact, named=() if cov_joint is None else ("cov_joint",))
    points, joined = to_points(data, exact, errors)
    given = not (data.sx is data.sy is data.rho is data.cov is None)
    fields = {
        "data": data,
        "model": model,
        "points": points,
        "joined": joined,
        "free": free,
        "fixed": held,
        "bounds": None if bounds is None else _limits(bounds, model, free, held, data),
        "absolute": given
        if absolute_sigma is None
        else to_flag("`absolute_sigma`", absolute_sigma),
        "systematic": errors,
        "shared": () if shared is None else _common(shared, model, free, data),
        "implicit_equations": 1,
        "fix_x": exact,
        "redundant": 0,
    }
    return freeze(Problem, fields)


def to_points(data: Data, exact: Tensor | None, errors: Systematic | None) -> tuple[Points, bool]:
    """Return the engine's points, and whether y became a variable of an implicit model."""
    points, joined = whiten(data, exact)
    if errors is not None:
        points = points._replace(x=torch.cat([points.x, errors.sizes]))
    return points, joined


def _held(fixed: Any, model: Model) -> dict[str, float]:
    """Return the value of each fixed parameter."""
    held = to_mapping("`fixed`", fixed, '{"a": 1.0}')
    for name, value in held.items():
        _known(name, model, "fixed")
        held[name] = to_finite(f"`fixed` of {name!r}", value)
    return held


def _common(shared: Any, model: Model, free: tuple[str, ...], data: Data) -> tuple[str, ...]:
    names = [shared] if isinstance(shared, str) else to_list("`shared`", shared, '["a"]')
    for name in names:
        _known(name, model, "shared")
    if names and data.group is None:
        raise InputError("`shared` names parameters that groups have in common; give `groups`.")
    return tuple(n for n in free if n in names)


def _known(name: Any, model: Model, argument: str) -> None:
    if not (isinstance(name, str) and name in model.names):
        raise InputError(
            f"`{argument}` names {shown(name)}, which is no parameter of {model.label!r}. "
            f"Its parameters are {', '.join(model.names)}."
        )


def _exact_x(fix_x: Any, data: Data) -> Tensor | None:
    if fix_x is None:
        return None
    fixed = to_flags("`fix_x`", fix_x, data.x.device)
    m, n = data.x.shape
    if fixed.ndim == 1 and fixed.shape[0] == data.n_rows and (m == 1 or fixed.shape[0] != m):
        fixed = fixed[None, data.index]
    elif fixed.ndim == 1 and fixed.shape[0] == m:
        fixed = fixed[:, None]
    elif fixed.ndim == 2 and fixed.shape == (m, data.n_rows):
        fixed = fixed[:, data.index]
    elif fixed.ndim == 0:
        fixed = fixed.expand(m, 1)
    else:
        raise InputError(
            f"`fix_x` must have shape ({n},), ({m},) or ({m}, {n}), got {tuple(fixed.shape)}."
        )
    return fixed.expand(m, -1)


def _limits(
    bounds: Any, model: Model, free: tuple[str, ...], held: Mapping[str, float], data: Data
) -> Bounds | None:
    pairs = to_mapping("`bounds`", bounds, '{"a": (0, None)}')
    if not pairs:
        return None
    lower = data.x.new_full((1, len(free)), -torch.inf)
    upper = data.x.new_full((1, len(free)), torch.inf)
    for name, pair in pairs.items():
        _known(name, model, "bounds")
        low, high = _pair(name, pair)
        if name in held and not low <= held[name] <= high:
            raise InputError(
                f"`fixed` of {name!r} is {held[name]:g}, outside its bounds ({low:g}, {high:g})."
            )
        if name in free:
            lower[0, free.index(name)] = low
            upper[0, free.index(name)] = high
    return Bounds(lower, upper)


def _pair(name: str, pair: Any) -> tuple[float, float]:
    """Return the limits of a parameter, infinite where there are none."""
    try:
        low, high = pair
        if isinstance(pair, str | Mapping):
            raise TypeError
    except Exception:  # noqa: BLE001 - what can be gone through fails as it likes
        raise InputError(
            f"`bounds` of {name!r} must be a pair (lower, upper), None for no limit; "
            f"got {shown(pair)}."
        ) from None
    title = f"`bounds` of {name!r}: a limit"
    low = -torch.inf if low is None else to_number(title, low)
    high = torch.inf if high is None else to_number(title, high)
    if not low < high:
        raise InputError(f"`bounds` of {name!r} must rise; got ({low:g}, {high:g}).")
    return low, high


def _by_name(model: Model, start: Any) -> Mapping[str, Any]:
    """Return start values by name; a sequence has them in the order of the parameters."""
    names = model.names
    if not isinstance(start, Mapping):
        try:
            refuse_foreign("`start`", start)
            values = list(start)
        except InputError:
            raise
        except Exception:  # noqa: BLE001 - what can be gone through fails as it likes
            raise InputError(
                f"`start` must give a number for each of {', '.join(names)}, by name or in this "
                f"order; got {shown(start)}."
            ) from None
        if len(values) != len(names):
            raise InputError(
                f"`start` has {len(values)} values, but {model.label!r} has "
                f"{plural(len(names), 'parameter')}: {', '.join(names)}."
                f"{order_advice(model)}"
            )
        start = dict(zip(names, values, strict=True))
    for name in start:
        if name not in names:
            _known(name, model, "start")
    return start


def start_of(problem: Problem, start: Any) -> Tensor | None:
    """Return the start (G, p) that the user gave, or None; every free parameter must be there."""
    if start is None:
        return None
    start = _by_name(problem.model, start)
    missing = [n for n in problem.free if n not in start]
    if missing:
        raise InputError(
            f"`start` gives no value for {', '.join(missing)}. "
            "Give all of them, or leave `start` out to have them searched."
        )
    if not problem.free:
        return problem.data.x.new_zeros(problem.n_groups, 0)
    values = [start[n] for n in problem.free]
    if problem.bounds is None and problem.data.x.is_cpu and _are_plain(values):
        row = torch.from_numpy(np.array([values], dtype=np.float64))
        return row if problem.data.group is None else row.expand(problem.n_groups, -1)
    return torch.stack([_column(problem, n, start[n]) for n in problem.free], 1)


def _are_plain(values: Sequence[Any]) -> bool:
    """Return whether all are Python's numbers and not huge, so that nothing can be wrong."""
    kinds = (float, int)
    return all(
        isinstance(v, kinds) and not isinstance(v, bool) and -HUGE < v < HUGE for v in values
    )


def _column(problem: Problem, name: str, value: Any) -> Tensor:
    x = problem.data.x
    title = f"`start` of {name!r}"
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        column = to_tensor(title, value, x.device).reshape(-1)
    else:
        column = x.new_tensor([to_number(title, value)])
    if column.shape[0] not in (1, problem.n_groups):
        raise InputError(
            f"`start` of {name!r} must be one number or one per group ({problem.n_groups}), "
            f"got {column.shape[0]}."
        )
    if not bool(torch.isfinite(column).all()):
        raise InputError(f"{title} must be finite, got {shown(value)}.")
    if name in problem.shared:
        _refuse_unlike(problem, name, column)
    if problem.bounds is not None:
        j = problem.free.index(name)
        low, high = problem.bounds.lower[0, j], problem.bounds.upper[0, j]
        if bool(((column < low) | (column > high)).any()):
            raise InputError(
                f"{title} is {shown(value)}, outside its bounds ({float(low):g}, {float(high):g})."
            )
    return column.detach().expand(problem.n_groups)


def _refuse_unlike(problem: Problem, name: str, column: Tensor) -> None:
    """Raise where groups start from different values of a parameter that they share.

    A joint step moves the parameter by the same amount in every group, so that it would never
    become one.
    """
    unlike = torch.nonzero(column != column[0])[:, 0].tolist()
    if unlike:
        keys = problem.data.keys
        told = ", ".join(f"{float(column[i]):g} for group {keys[i]!r}" for i in unlike[:3])
        more = f" and {len(unlike) - 3} more" if len(unlike) > 3 else ""
        raise InputError(
            f"`start` of {name!r} must be one number, because the groups share it; got "
            f"{float(column[0]):g} for group {keys[0]!r}, but {told}{more}."
        )
