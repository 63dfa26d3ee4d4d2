"""Fits on the processor: what machine code is told, where it may write, and threads.

Fits of a batch are shared out among threads; the points of one large fit are. Machine code runs
without Python's lock. Sums over points are taken in parts of fixed size, so that answers do not
depend on the number of threads.
"""

import ctypes
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit._engine.covariance import Spread
from gradfit._engine.feet import around, offsets
from gradfit._engine.loss import Loss
from gradfit._engine.points import Points
from gradfit._engine.state import Bounds, Options
from gradfit._native import entry, machine
from gradfit._native.carry import fit_room
from gradfit._native.ending import TOLD
from gradfit._native.kernel import Kernel
from gradfit._native.machine import INTEGER, POINTER, Code
from gradfit._native.place import Spec, own_room, shared_room
from gradfit._native.pointwise import Pointwise
from gradfit._native.sweep import FACTOR, added_by

PART = 1 << 15
"""Points that one thread walks over at a time, where threads share a fit."""
SHARED = 4 * PART
"""Points from which threads share a fit."""
TOGETHER = 1 << 12
"""Points of a batch that are worth a thread of their own."""
PLANS = 64
"""Plans that kernels remember."""

_FIT = (INTEGER,) * 6 + (POINTER,) * 11 + (INTEGER,) * 2
_WALK = (INTEGER,) * 5 + (POINTER,) * 9 + (INTEGER,) * 3
_RULES = "control", "feet"
_TEXTS = (
    "carry",
    "emit",
    "ending",
    "entry",
    "feet",
    "matrix",
    "newton",
    "place",
    "pointer",
    "proposal",
    "solver",
    "sweep",
    "translate",
)

Array = NDArray[np.float64]


@lru_cache(maxsize=4)
def _digest(name: str, compiled: bool) -> str:
    here = Path(__file__).parent
    paths = [here.parent / "_engine" / f"{t}.py" for t in _RULES]
    paths += [here / f"{t}.py" for t in _TEXTS]
    return machine.digest(name, *(path.read_text("utf-8") for path in paths))


@lru_cache(maxsize=4)
def _solver(name: str, compiled: bool) -> Code:
    kinds, function = (_FIT, entry.fit_many) if name == "fit" else (_WALK, entry.walk_part)
    return machine.code(_digest(name, compiled), kinds, lambda: function, vectors=False)


def is_solver_ready() -> bool:
    """Return whether the solver can be had without compiling it."""
    return machine.is_ready(_digest("fit", machine.enabled()))


@dataclass(frozen=True, eq=False)
class Kernels:
    """The five kernels of one model and one layout, and plans that were made with them."""

    pointwise: Pointwise
    plans: "dict[Any, Plan]" = field(default_factory=dict[Any, "Plan"], repr=False)

    @cached_property
    def all(self) -> tuple[Kernel, ...]:
        """``probe``, ``linear``, ``look``, ``advance``, ``exact``."""
        point = self.pointwise
        given = point.rows, point.pars
        return (
            Kernel("probe", *given, point.probe),
            Kernel("linear", *given, point.linear),
            Kernel("look", *given, point.look, adds=True),
            Kernel("advance", *given, point.advance),
            Kernel("exact", *given, point.exact),
        )

    @property
    def is_ready(self) -> bool:
        """Whether all can run without being compiled, and the solver too."""
        return is_solver_ready() and all(k.is_ready for k in self.all)

    @cached_property
    def _codes(self) -> tuple[Code, ...]:
        """Machine code, held here: what nobody holds is unloaded, and its addresses with it."""
        return tuple(k.code for k in self.all)

    @cached_property
    def addresses(self) -> tuple[int, ...]:
        """Where the machine code lies, for as long as this object lives."""
        return tuple(c.address for c in self._codes)

    def functions(self) -> tuple[Any, ...]:
        """Return the functions as Python."""
        return tuple(k.code.call for k in self.all)


@dataclass(frozen=True)
class Fitted:
    """What came out of G fits of N points.

    Attributes
    ----------
    status, n_steps, n_eval, moved, rank : array (G,) of int
    cost, condition : array (G,)
    beta : array (G, p)
    cov : array (G, p, p)
    weakest : array (G, p)
    free : array (G, p) of bool
    delta, u : array (mu, N)
        Corrections in the units of x, and whitened.
    value : array (q, N)
        The model at the foot points.
    weights : array (N,) or None
        Of a robust loss.
    """

    told: Array
    p: int
    delta: Array
    u: Array
    value: Array
    weights: Array | None

    @property
    def first(self) -> list[float]:
        """All numbers of the first fit."""
        return self.told[0].tolist()

    def column(self, k: int) -> Array:
        """Return one of the numbers in front of the vectors."""
        return self.told[:, k]

    def vector(self, k: int) -> Array:
        """Return parameters (0), covariance rows (1 to p), weakest (p + 1), free (p + 2)."""
        start = TOLD + k * self.p
        return self.told[:, start : start + self.p]

    @property
    def cov(self) -> Array:
        """Covariance (G, p, p)."""
        p = self.p
        return self.told[:, TOLD + p : TOLD + p + p * p].reshape(-1, p, p)


def spread_of(fitted: Fitted) -> Spread:
    """Return covariance, rank and condition as the engine tells them."""
    p = fitted.p
    return Spread(
        torch.from_numpy(fitted.cov),
        torch.from_numpy(fitted.column(6)).to(torch.int64),
        torch.from_numpy(fitted.column(5)),
        torch.from_numpy(fitted.vector(p + 1)),
        torch.from_numpy(fitted.vector(p + 2)) > 0,
    )


class Plan(NamedTuple):
    """What is the same for all fits of one kind, written down once.

    Attributes
    ----------
    kernels : Kernels
        The model.
    spec : Spec
        Sizes and kinds.
    head : Tensor
        Both of these, and all numbers that fits have in common, as the solver reads them.
    """

    kernels: Kernels
    spec: Spec
    head: Tensor


def plan_of(
    kernels: Kernels,
    points: Points,
    options: Options,
    loss: Loss | None,
    values: tuple[float, ...],
    limits: Bounds | None,
    *,
    feet: int,
) -> Plan:
    """Plan fits of points of one kind.

    ``values`` are those of all parameters, where fixed; ``feet`` is how often nearer ones are
    searched, at most.
    """
    shapes = [None if t is None else t.shape for t in (*points[:2], *points[3:])]
    key = *shapes, options, values, loss, feet
    found = kernels.plans.get(key)
    if found is None or limits is not None:
        spec = _spec_of(kernels, points, options, loss)
        spec = spec._replace(bounded=limits is not None, rounds=feet)
        found = Plan(kernels, spec, _head_of(spec, kernels, limits, values, loss))
    if limits is None:
        if len(kernels.plans) >= PLANS:
            kernels.plans.clear()
        kernels.plans[key] = found
    return found


def _spec_of(kernels: Kernels, points: Points, options: Options, loss: Loss | None) -> Spec:
    """Say what is the same for all fits."""
    layout, program = kernels.pointwise.layout, kernels.pointwise.program
    n, mu = points.n, len(points.rows)

    def wide(t: Tensor | None) -> bool:
        return t is not None and t.shape[-1] == n and n > 1

    return Spec(
        n=n,
        m=points.x.shape[0],
        q=len(program.value),
        mu=mu,
        p=len(layout.free),
        everything=len(program.beta),
        explicit=layout.explicit,
        robust=loss is not None,
        full_x=layout.full_x,
        full_y=layout.full_y,
        cross=layout.cross,
        wide_x=wide(points.scale_x),
        wide_y=wide(points.weight_y),
        wide_cross=wide(points.cross),
        trials=len(_trials(mu)[0]) // max(1, mu),
        around=len(_trials(mu)[1]) // max(1, mu),
        bounded=False,
        alone=points.group is None,
        asks=False,
        rounds=0,
        gtol=options.gtol,
        ftol=options.ftol,
        xtol=options.xtol,
        max_steps=options.max_steps,
    )


@lru_cache(maxsize=16)
def _trials(mu: int) -> tuple[Tensor, Tensor]:
    """Return trial points, and places around a foot, row after row."""
    like = torch.zeros((), dtype=torch.float64)
    if not mu:
        return like[None][:0], like[None][:0]
    return offsets(mu, like).ravel(), around(mu, like.dtype, like.device).ravel()


def _head_of(
    s: Spec,
    kernels: Kernels,
    limits: Bounds | None,
    values: tuple[float, ...],
    loss: Loss | None,
) -> Tensor:
    """Write down what all fits have in common, in the order in which the solver reads it."""
    low, high = [-math.inf] * s.p, [math.inf] * s.p
    if limits is not None:
        low, high = limits.lower[0].tolist(), limits.upper[0].tolist()
    layout, scale = kernels.pointwise.layout, 1.0 if loss is None else loss.scale**2
    numbers = [*s, *layout.free, *layout.rows, *low, *high, *values, *[0.0] * s.p, scale]
    return torch.cat([torch.tensor(numbers, dtype=torch.float64), *_trials(s.mu)])


def fit(
    plan: Plan, points: Points, firsts: Tensor, starts: Tensor, ended: Tensor | None = None
) -> Fitted:
    """Run fits of the points from ``firsts[k]`` to ``firsts[k + 1]``, from ``starts`` (G, p).

    ``ended`` (G,) holds the status of fits that are not to be run, 0 for the others.
    """
    s, count = plan.spec, starts.shape[0]
    width = TOLD + 3 * s.p + s.p * s.p
    rows = 2 * s.mu + s.q + s.robust
    told, made = _numbers(count * width), _numbers(rows * s.n)
    table, found = told.numpy().reshape(count, width), made.numpy().reshape(rows, s.n)
    table[:, 0] = 0.0 if ended is None else ended.numpy()
    given = (points.x, points.y, points.scale_x, points.weight_y, points.cross, made)
    arrays = [_EMPTY if t is None else t.contiguous() for t in given]
    rest = firsts, starts.contiguous(), told
    if count == 1 and s.n >= SHARED and machine.enabled():
        _fit_large(plan, arrays, rest)
    else:
        threads = min(torch.get_num_threads(), max(1, s.n // TOGETHER), count)
        run = _runner(plan, [*arrays, *rest, plan.head])
        if threads == 1:
            run(0, count)
        else:
            edges = np.linspace(0, count, 4 * threads + 1).astype(int).tolist()
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, edges[:-1], edges[1:]))
    mu, value = s.mu, 2 * s.mu
    kept = found[-1] if s.robust else None
    return Fitted(table, s.p, found[:mu], found[mu:value], found[value : value + s.q], kept)


def _numbers(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.float64)


_EMPTY = torch.zeros(1, dtype=torch.float64)


def _room(s: Spec) -> Tensor:
    return _numbers(shared_room(s) + own_room(s) + fit_room(s.p))


def _runner(plan: Plan, arrays: list[Tensor]) -> Callable[[int, int], None]:
    """Return a function that runs the fits from one to another, in room of its own."""
    compiled, kernels, s = machine.enabled(), plan.kernels, plan.spec
    code = _solver("fit", compiled)
    if compiled:
        addresses = [*kernels.addresses, 0, *(t.data_ptr() for t in arrays)]

        def run(lo: int, hi: int) -> None:
            room = _room(s)
            code.call(*addresses, room.data_ptr(), lo, hi)

        return run
    flat = [t.numpy().reshape(-1) for t in arrays]
    functions = kernels.functions()

    def interpret(lo: int, hi: int) -> None:
        with np.errstate(all="ignore"):
            code.call(*functions, 0, *flat, _room(s).numpy(), lo, hi)

    return interpret


def _factor(parts: list[Array]) -> Array:
    """Return the triangular factor of several, row by row."""
    found: Any = np.linalg.qr(np.concatenate(parts), "r")
    return found.ravel()


def _fit_large(plan: Plan, arrays: list[Tensor], rest: tuple[Tensor, ...]) -> None:
    """Run one fit whose walks over the points are shared out among threads."""
    s, head = plan.spec, plan.head.clone()
    head[Spec._fields.index("asks")] = 1.0
    part, code, room = _solver("walk", True), _solver("fit", True), _room(s)
    functions, given = plan.kernels.addresses, [t.data_ptr() for t in arrays]
    total = room.numpy()[2 * (s.everything + s.p + 1) :]

    def walk(task: int, start: int, stop: int) -> Array:
        own = _numbers(shared_room(s) + own_room(s))
        fixed = head.data_ptr(), room.data_ptr(), own.data_ptr()
        part.call(*functions, *given, *fixed, task, start, stop)
        begin = 2 * (s.everything + s.p + 1)
        return own.numpy()[begin : begin + added_by(s, task)].copy()

    with ThreadPoolExecutor(max(1, min(torch.get_num_threads(), os.cpu_count() or 1))) as pool:

        def ask(task: int, start: int, stop: int) -> None:
            edges = range(start, stop, PART)
            sums = list(pool.map(lambda a: walk(task, a, min(a + PART, stop)), edges))
            if task == FACTOR:
                k = s.p + 1
                found = _factor([t.reshape(k, k) for t in sums])
            else:
                found = np.sum(sums, axis=0)
            total[: len(found)] = found

        call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(ask)
        where = ctypes.cast(call, ctypes.c_void_p).value
        fixed = [t.data_ptr() for t in (*rest, head, room)]
        code.call(*functions, where, *given, *fixed, 0, 1)
