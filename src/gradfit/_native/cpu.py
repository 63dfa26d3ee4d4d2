"""Fits on the processor: what machine code is told, where it may write, and threads.

Fits of a batch are shared out among threads; the points of one large fit are. Machine code runs
without Python's lock. Sums over points are taken in parts of fixed size, so that answers do not
depend on the number of threads.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit._engine.covariance import Spread
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

_FIT = (INTEGER,) * 6 + (POINTER,) * 14 + (INTEGER,) * 2
_WALK = (INTEGER,) * 5 + (POINTER,) * 12 + (INTEGER,) * 3
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
    rules = here.parent / "_engine" / "control.py"
    texts = [(here / f"{t}.py").read_text("utf-8") for t in _TEXTS]
    return machine.digest(name, rules.read_text("utf-8"), *texts)


def _solver(name: str) -> Code:
    kinds, function = (_FIT, entry.fit_many) if name == "fit" else (_WALK, entry.walk_part)
    return machine.code(_digest(name, machine.enabled()), kinds, lambda: function, vectors=False)


def is_solver_ready() -> bool:
    """Return whether the solver can be had without compiling it."""
    return machine.is_ready(_digest("fit", machine.enabled()))


@dataclass(frozen=True, eq=False)
class Kernels:
    """The five kernels of one model and one layout."""

    pointwise: Pointwise

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

    def functions(self) -> tuple[Any, ...]:
        """Return addresses, or functions where they are Python."""
        codes = [k.code for k in self.all]
        return tuple(c.address if machine.enabled() else c.call for c in codes)

    @cached_property
    def compiled(self) -> tuple[Any, ...]:
        """Addresses, found once."""
        return self.functions()


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


def spec_of(kernels: Kernels, points: Points, options: Options, loss: Loss | None) -> Spec:
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
        trials=len(_trials(mu)[0]),
        around=len(_trials(mu)[1]),
        bounded=False,
        alone=points.group is None,
        asks=False,
        rounds=5,
        gtol=options.gtol,
        ftol=options.ftol,
        xtol=options.xtol,
        max_steps=options.max_steps,
    )


@lru_cache(maxsize=16)
def _trials(mu: int) -> tuple[Array, Array]:
    from gradfit._engine.feet import around, offsets

    if not mu:
        return np.zeros((0, 0)), np.zeros((0, 0))
    like = torch.zeros((), dtype=torch.float64)
    return offsets(mu, like).numpy(), around(mu, like).numpy()


def head_of(
    s: Spec,
    where: Sequence[int],
    rows: Sequence[int],
    limits: Bounds | None,
    values: Sequence[float],
    loss: Loss | None,
) -> Array:
    """Write down what all fits have in common, in the order in which the solver reads it."""
    low, high = [-np.inf] * s.p, [np.inf] * s.p
    if limits is not None:
        low, high = limits.lower[0].tolist(), limits.upper[0].tolist()
    scale = 1.0 if loss is None else loss.scale**2
    numbers = [*s, *where, *rows, *low, *high, *values, *[0.0] * s.p, scale]
    return np.array([*numbers, *(float(t) for part in _trials(s.mu) for t in part.ravel())])


def fit(  # noqa: PLR0917 - what the solver takes
    kernels: Kernels,
    head: Array,
    s: Spec,
    points: Points,
    firsts: Array,
    starts: Array,
    ended: Array | None = None,
) -> Fitted:
    """Run fits of the points from ``firsts[k]`` to ``firsts[k + 1]``, from ``starts`` (G, p).

    ``head`` comes from :func:`head_of`; ``ended`` (G,) holds the status of fits that are not to be
    run, 0 for the others.
    """
    count = len(starts)
    told = np.empty((count, TOLD + 3 * s.p + s.p * s.p))
    told[:, 0] = 0.0 if ended is None else ended
    u, v = np.empty((s.mu, s.n)), np.empty((s.mu, s.n))
    value = np.empty((s.q, s.n))
    weights = np.empty(s.n) if s.robust else None
    given = [points.x, points.y, points.scale_x, points.weight_y, points.cross]
    arrays = [_EMPTY if t is None else t.contiguous().numpy() for t in given]
    made = [u, v, value, _EMPTY if weights is None else weights]
    threads = min(torch.get_num_threads(), max(1, s.n // TOGETHER), count)
    if machine.enabled() and count == 1 and s.n >= SHARED:
        _fit_large(kernels, head, s, [*arrays, *made], (firsts, starts, told))
    else:
        run = _runner(kernels, head, s, [*arrays, *made], (firsts, starts, told))
        if threads == 1:
            run(0, count)
        else:
            edges = np.linspace(0, count, 4 * threads + 1).astype(int).tolist()
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, edges[:-1], edges[1:]))
    return Fitted(told, s.p, u, v, value, weights)


class Prepared:
    """One fit that is run again and again with other data of the same shape."""

    def __init__(
        self, kernels: Kernels, head: Array, spec: Spec, points: Points, starts: Array
    ) -> None:
        self.kernels, self.head, self.spec = kernels, head, spec
        self._points = points
        self._fixed = [
            _EMPTY if t is None else t.contiguous().numpy()
            for t in (points.scale_x, points.weight_y, points.cross)
        ]
        self._around = np.array([0.0, spec.n]), starts

    def run(self, data: tuple[Array, Array | None]) -> Fitted:
        """Fit other x (m, N) and y (q, N)."""
        s, y = self.spec, _EMPTY if data[1] is None else data[1]
        if s.n >= SHARED:
            y_rows = None if data[1] is None else torch.from_numpy(np.atleast_2d(y))
            points = self._points._replace(x=torch.from_numpy(data[0]), y=y_rows)
            return fit(self.kernels, self.head, s, points, *self._around)
        told = np.zeros((1, TOLD + 3 * s.p + s.p * s.p))
        uv, value = np.empty((2, s.mu, s.n)), np.empty((s.q, s.n))
        weights = np.empty(s.n) if s.robust else None
        made = [uv[0], uv[1], value, _EMPTY if weights is None else weights]
        arrays = [data[0], y, *self._fixed, *made]
        _runner(self.kernels, self.head, s, arrays, (*self._around, told))(0, 1)
        return Fitted(told, s.p, uv[0], uv[1], value, weights)


_EMPTY = np.zeros(1)


def _room(s: Spec) -> Array:
    return np.empty(shared_room(s) + own_room(s) + fit_room(s.p))


def _runner(
    kernels: Kernels, head: Array, s: Spec, arrays: list[Any], rest: tuple[Any, ...]
) -> Callable[[int, int], None]:
    """Return a function that runs the fits from one to another, in room of its own."""
    code = _solver("fit")
    if machine.enabled():
        addresses = [*kernels.compiled, 0, *map(_address, (*arrays, *rest, head))]

        def run(lo: int, hi: int) -> None:
            room = _room(s)
            code.call(*addresses, _address(room), lo, hi)

        return run
    flat = [a.reshape(-1) for a in (*arrays, *rest, head)]
    functions = kernels.functions()

    def interpret(lo: int, hi: int) -> None:
        with np.errstate(all="ignore"):
            code.call(*functions, 0, *flat, _room(s), lo, hi)

    return interpret


def _address(array: Any) -> int:
    return array.__array_interface__["data"][0]


def _factor(parts: list[Array]) -> Array:
    """Return the triangular factor of several, row by row."""
    found: Any = np.linalg.qr(np.concatenate(parts), "r")
    return found.ravel()


def _fit_large(
    kernels: Kernels, head: Array, s: Spec, arrays: list[Any], rest: tuple[Any, ...]
) -> None:
    """Run one fit whose walks over the points are shared out among threads."""
    room, head = _room(s), head.copy()
    head[Spec._fields.index("asks")] = 1.0
    part, code = _solver("walk"), _solver("fit")
    functions, given = kernels.compiled, list(map(_address, arrays))
    total = room[2 * (s.everything + s.p + 1) :]

    def walk(task: int, start: int, stop: int) -> Array:
        own = np.empty(shared_room(s) + own_room(s))
        fixed = _address(head), _address(room), _address(own)
        part.call(*functions, *given, *fixed, task, start, stop)
        begin = 2 * (s.everything + s.p + 1)
        return own[begin : begin + added_by(s, task)].copy()

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
        code.call(*functions, where, *given, *map(_address, (*rest, head, room)), 0, 1)
