"""Many lines by machine code, piece by piece while their points are in the processor's cache.

Each piece is centred, turned, whitened, fitted and turned back before the next, as
:mod:`gradfit.lines.frames` and :mod:`gradfit._whitening` do with all points at once; of millions of
points that would be forty walks through memory. :func:`enter` and :func:`leave` are written in the
part of Python that becomes machine code.
"""

import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._answer import end_of
from gradfit._conclude import End, PointArrays
from gradfit._data import Data
from gradfit._dispatch import make_plan
from gradfit._engine.covariance import Spread
from gradfit._engine.points import Points
from gradfit._engine.state import Options
from gradfit._native import cpu, machine
from gradfit._native.ending import TOLD, answer_room
from gradfit._native.fingerprint import fingerprint
from gradfit._native.lower import LANES
from gradfit._native.machine import INTEGER, POINTER, Code
from gradfit._native.memory import large
from gradfit._native.operations import gather
from gradfit._native.place import full
from gradfit._native.plan import Fitted, Kernels, Plan, room_for
from gradfit._native.pointer import at, drain, stream, wide
from gradfit._problem import Problem
from gradfit._types import Status
from gradfit.lines.frames import ROUNDING

PIECE = 1 << 13
"""Points of a piece, and those of one line more: they stay in the cache."""
DEGENERATE = float(Status.DEGENERATE)
FEW = 64
"""Points that tell what kind of problem it is."""


def first_points(data: Data) -> Data:
    """Return the first points, as those of one line."""
    n = min(FEW, data.x.shape[1])

    def first(t: Tensor | None) -> Tensor | None:
        return t if t is None or t.shape[-1] == 1 else t[..., :n]

    group = torch.zeros(n, dtype=torch.int64, device="cpu")
    rest = {name: first(getattr(data, name)) for name in ("y", "sx", "sy", "rho")}
    return replace(
        data,
        x=data.x[:, :n],
        group=group,
        sizes=torch.tensor([n], dtype=torch.int64, device="cpu"),
        **rest,
    )


# What becomes machine code ------------------------------------------------------------------------


def enter(  # noqa: C901, PLR0917 - machine code takes one thing after the other
    x: Any,
    y: Any,
    sx: Any,
    sy: Any,
    rho: Any,
    firsts: Any,
    dx: Any,
    dy: Any,
    scale: Any,
    weight: Any,
    cross: Any,
    view: Any,
    starts: Any,
    begins: Any,
    ended: Any,
    told: Any,
    lo: int,
    hi: int,
    size: int,
    fixed_x: int,
    fixed_y: int,
    correlated: int,
) -> None:
    """Write the points of the lines from ``lo`` to ``hi`` as their frames show them, whitened.

    ``view`` (G, 4) gets steepness, centre and the slope of rounding errors, ``starts`` slopes and
    intercepts to begin with, ``begins`` where the points of each line begin, and ``told``, in rows
    of that ``size``, the status of lines that are not to be fitted.
    ``fixed_x`` and ``fixed_y`` say that sigmas are one number, given for as many points as a piece
    has; ``correlated`` is 0 without correlations, 1 with one number, 2 with one for each point.
    """
    base = int(firsts[lo])
    width = int(firsts[hi]) - base
    shift_x = base if fixed_x > 0 else 0
    shift_y = base if fixed_y > 0 else 0
    for g in range(lo, hi):
        first, last = int(firsts[g]), int(firsts[g + 1])
        count = np.float64(last - first)
        mx, my, vx, vy = 0.0, 0.0, 0.0, 0.0
        for i in range(first, last):
            mx = gather(mx, x[i])
            my = gather(my, y[i])
            vx = gather(vx, sx[i - shift_x] * sx[i - shift_x])
            vy = gather(vy, sy[i - shift_y] * sy[i - shift_y])
        mx, my, vx, vy = mx / count, my / count, vx / count, vy / count
        sxx, syy, sxy = 0.0, 0.0, 0.0
        for i in range(first, last):
            u, v = x[i] - mx, y[i] - my
            sxx = gather(sxx, u * u)
            syy = gather(syy, v * v)
            sxy = gather(sxy, u * v)
        sxx, syy, sxy = sxx / count, syy / count, sxy / count
        steep, slope = _direction(vx, vy, sxx, syy, sxy)
        told[(g - lo) * size] = ended[g]
        view[4 * g] = 1.0 if steep else 0.0
        view[4 * g + 1] = mx
        view[4 * g + 2] = my
        along, across = sxx, abs(my) + np.sqrt(syy / count)
        if steep:
            along, across = syy, abs(mx) + np.sqrt(sxx / count)
        view[4 * g + 3] = ROUNDING * across / np.sqrt(along / count)
        starts[2 * (g - lo)] = slope if slope - slope == 0.0 else 0.0
        starts[2 * (g - lo) + 1] = 0.0
        begins[g - lo] = np.float64(first - base)
        if steep:
            for i in range(first, last):
                dx[i - base] = y[i] - my
                dy[i - base] = x[i] - mx
                scale[i - base] = sy[i - shift_y]
                weight[i - base] = sx[i - shift_x]
        else:
            for i in range(first, last):
                dx[i - base] = x[i] - mx
                dy[i - base] = y[i] - my
                scale[i - base] = sx[i - shift_x]
                weight[i - base] = sy[i - shift_y]
    begins[hi - lo] = np.float64(width)
    # Over all lines at once, so that whole registers are divided and few numbers alone.
    if correlated > 1:
        for i in range(width):
            inverse = 1.0 / np.sqrt(1.0 - rho[base + i] * rho[base + i])
            weight[i] = inverse / weight[i]
            cross[i] = rho[base + i] * inverse
    elif correlated > 0:
        inverse = 1.0 / np.sqrt(1.0 - rho[0] * rho[0])
        for i in range(width):
            weight[i] = inverse / weight[i]
            cross[i] = rho[0] * inverse
    else:
        for i in range(width):
            weight[i] = 1.0 / weight[i]


def _direction(vx: float, vy: float, sxx: float, syy: float, sxy: float) -> tuple[bool, float]:
    """Return whether a line is steep, and its slope in its frame, from mean variances and moments.

    See :func:`gradfit.lines.frames.frame_of`.
    """
    steep = vy == 0.0 and vx > 0.0
    slope = sxy / (syy if steep else sxx)
    if vx > 0.0 and vy > 0.0:
        ratio = np.sqrt(vx / vy)
        along, across = 2.0 * sxy * ratio, sxx - syy * ratio * ratio
        steep = across < 0.0
        size = max(abs(along), abs(across))
        along, across = along / size, abs(across) / size
        slope = along / (across + np.sqrt(along * along + across * across))
        slope = slope * ratio if steep else slope / ratio
    return steep, slope


def leave(  # noqa: PLR0917
    x: Any,
    y: Any,
    firsts: Any,
    view: Any,
    dy: Any,
    delta: Any,
    eps: Any,
    x_hat: Any,
    y_hat: Any,
    columns: Any,
    made: Any,
    told: Any,
    lo: int,
    hi: int,
    width: int,
    count: int,
    size: int,
) -> None:
    """Write what came of the lines from ``lo`` to ``hi`` as the user sees them.

    ``made`` holds corrections of the first coordinate and, behind twice ``width``, the second; it
    is used up.
    What is ``told`` of each line, in rows of that ``size``, goes into ``columns`` of ``count``.
    """
    for g in range(lo, hi):
        _tell(at(told, (g - lo) * size), at(view, 4 * g))
        for k in range(size):
            columns[k * count + g] = told[(g - lo) * size + k]
    base, end, other = int(firsts[lo]), int(firsts[hi]), at(made, 2 * width)
    for g in range(lo, hi):
        first, last = int(firsts[g]) - base, int(firsts[g + 1]) - base
        if view[4 * g] > 0.0:
            for i in range(first, last):
                made[i], other[i] = other[i] - dy[i], made[i]
        else:
            for i in range(first, last):
                other[i] -= dy[i]
    start, stop = min(full(base), end), end // LANES * LANES
    for i in range(base, start):
        delta[i], eps[i] = made[i - base], other[i - base]
        x_hat[i], y_hat[i] = x[i] + delta[i], y[i] + eps[i]
    # Nobody reads these soon: they go by the cache, whose lines need not be fetched before.
    for k in range(start // LANES, stop // LANES):
        i = k * LANES
        d, e = wide(at(made, i - base))[0], wide(at(other, i - base))[0]
        stream(delta, i, d)
        stream(eps, i, e)
        stream(x_hat, i, wide(at(x, i))[0] + d)
        stream(y_hat, i, wide(at(y, i))[0] + e)
    for i in range(max(start, stop), end):
        delta[i], eps[i] = made[i - base], other[i - base]
        x_hat[i], y_hat[i] = x[i] + delta[i], y[i] + eps[i]
    drain()


def _tell(told: Any, view: Any) -> None:
    """Say a line and its covariance in the user's coordinates.

    See :func:`gradfit.lines.frames.tell`.
    """
    beta, cov = at(told, TOLD), at(told, TOLD + 2)
    t, c, x0, y0 = beta[0], beta[1], view[1], view[2]
    beta[1] = y0 + c - t * x0
    a, d, e = 1.0, -x0, 1.0
    if view[0] > 0.0:
        inverse = 1.0 / t
        beta[0], beta[1] = inverse, y0 - (x0 + c) * inverse
        a, d, e = -inverse * inverse, (x0 + c) * inverse * inverse, -inverse
    vertical = view[0] > 0.0 and abs(t) <= view[3]
    tt, tc, cc = cov[0], cov[1], cov[3]
    cov[0] = a * a * tt
    cov[1] = a * (d * tt + e * tc)
    cov[3] = d * (d * tt + e * tc) + e * (d * tc + e * cc)
    if vertical:
        beta[0], beta[1], cov[0], cov[1], cov[3] = np.inf, np.nan, np.inf, np.nan, np.inf
        if told[0] < 10.0:
            told[0] = DEGENERATE
    cov[2] = cov[1]


@lru_cache(maxsize=4)
def _code(function: Callable[..., None], compiled: bool) -> Code:
    kinds = [
        INTEGER if p.annotation is int else POINTER
        for p in inspect.signature(function).parameters.values()
    ]
    return machine.code(machine.digest(fingerprint(function)), kinds, lambda: function)


# Pieces -------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """What pieces have in common.

    Attributes
    ----------
    problem : Problem
    plan : Plan
        Of fits of as many points as the largest piece has.
    firsts : Tensor (G + 1,)
        Where the points of each line begin.
    ended : Tensor (G,)
        Status of lines that are not to be fitted, 0 for the others.
    view : Tensor (G, 4)
        Steepness and centre of each line, and the slope that rounding errors can make.
    arrays : PointArrays
        Room for what there is at each point.
    columns : Tensor (k, G)
        Room for what there is of each line.
    """

    problem: Problem
    plan: Plan
    firsts: Tensor
    ended: Tensor
    view: Tensor
    arrays: PointArrays
    columns: Tensor


def fit_many(
    problem: Problem, kernels: Kernels, options: Options, ended: Tensor | None
) -> tuple[End, Spread, PointArrays]:
    """Fit the lines through all points, in as many threads as torch has.

    Returns where they ended, what the data say there, and what there is at each point, all in the
    user's coordinates.
    """
    data = problem.data
    sizes = torch.empty(0, dtype=torch.float64, device="cpu") if data.sizes is None else data.sizes
    count, width = len(sizes), full(PIECE + int(sizes.max()))
    firsts = large(count + 1)
    firsts[0] = 0
    torch.cumsum(sizes.double(), 0, out=firsts[1:])
    plan = make_plan(kernels, replace(problem, points=_room(data, width)), options, None, feet=0)
    view = torch.empty(count, 4, dtype=torch.float64, device="cpu")
    arrays = PointArrays(*(large(1, data.x.shape[1]) for _ in range(4)))
    known = (
        torch.zeros(count, dtype=torch.float64, device="cpu").double()
        if ended is None
        else ended.double()
    )
    columns = large(answer_room(plan.spec.p), count)
    task = Task(problem, plan, firsts, known, view, arrays, columns)
    edges = _edges(firsts.numpy())
    threads = torch.get_num_threads()
    shares = np.linspace(0, len(edges) - 1, min(4 * threads, len(edges) - 1) + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda a, b: _run(task, edges[a : b + 1]), shares[:-1], shares[1:]))
    # What there is at each point has been written already.
    whole = Fitted(plan.spec, columns.mT, columns[:0])
    return *end_of(whole, problem, None, "expected"), arrays


def _edges(firsts: Any) -> list[int]:
    """Return the lines with which pieces begin; the last line of each may go beyond it."""
    begins = np.arange(0.0, firsts[-1], PIECE)
    return np.unique([*np.searchsorted(firsts, begins), len(firsts) - 1]).tolist()


def _room(data: Data, width: int) -> Points:
    """Return room for the points of a piece, as their frame shows them."""
    x, y, scale, weight = torch.empty(4, 1, width, dtype=torch.float64, device="cpu")
    cross = (
        None if data.rho is None else torch.empty(1, 1, width, dtype=torch.float64, device="cpu")
    )
    return Points(
        x, y, (0,), scale, weight, cross, torch.zeros(width, dtype=torch.int64, device="cpu")
    )


def _run(task: Task, edges: list[int]) -> None:
    """Fit one piece after the other, in the same room."""
    plan, data, out, width = task.plan, task.problem.data, task.arrays, task.plan.spec.n
    points, fixed = _room(data, width), []
    sigmas: list[Tensor] = []
    for s in (data.sx, data.sy):
        fixed.append(int(s is None or s.shape[1] == 1))
        s = data.x.new_ones(1, 1) if s is None else s
        sigmas.append(s.expand(1, width).contiguous() if fixed[-1] else s)
    correlated = 0 if data.rho is None else 1 if len(data.rho) == 1 else 2
    most, (size, lines) = max(b - a for a, b in pairwise(edges)), task.columns.shape
    starts, begins = data.x.new_empty(most, 2), data.x.new_empty(most + 1)
    fitted = room_for(plan, most, None)
    room = points.x, points.y, points.scale_x, points.weight_y, points.cross
    seen = data.x, data.y, *sigmas, data.rho, task.firsts
    begun = task.view, starts, begins, task.ended, fitted.told
    to_enter = _caller(enter, *seen, *room, *begun)
    fit = cpu.runner(plan, points, begins, starts, fitted)
    found = out.delta, out.eps, out.x_hat, out.y_hat, task.columns, fitted.made, fitted.told
    to_leave = _caller(leave, data.x, data.y, task.firsts, task.view, points.y, *found)
    for lo, hi in pairwise(edges):
        to_enter(lo, hi, size, *fixed, correlated)
        fit(0, hi - lo)
        to_leave(lo, hi, width, lines, size)


def _caller(function: Callable[..., None], *given: Tensor | None) -> Callable[..., None]:
    """Return a function of whole numbers; the memory is given."""
    compiled = machine.enabled()
    code = _code(function, compiled)
    if compiled:
        fixed = [0 if t is None else t.data_ptr() for t in given]
    else:
        fixed = [None if t is None else t.numpy().reshape(-1) for t in given]

    def run(*numbers: int, held: Sequence[Tensor | None] = given) -> None:
        code.call(*fixed, *numbers)

    return run if compiled else np.errstate(all="ignore")(run)
