"""Fits on the processor: where machine code may write, and threads.

Fits of a batch are shared out among threads; the points of one large fit are. Machine code runs
without Python's lock. Sums over points are taken in parts of fixed size, so that answers do not
depend on the number of threads.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit._engine.points import Points
from gradfit._native import eights, entry, machine
from gradfit._native.carry import fit_room
from gradfit._native.fingerprint import fingerprint
from gradfit._native.kind import kind_of, specialise
from gradfit._native.lower import LANES
from gradfit._native.machine import INTEGER, POINTER, Code
from gradfit._native.place import Spec, own_room, shared_room, told
from gradfit._native.plan import Fitted, Kernels, Plan, room_for
from gradfit._native.sweep import FACTOR, added_by

PART = 1 << 15
"""Points that one thread walks over at a time, where threads share a fit."""
SHARED = 4 * PART
"""Points from which threads share a fit."""
TOGETHER = 1 << 12
"""Points of a batch that are worth a thread of their own."""

_FIT = (INTEGER,) * 8 + (POINTER,) * 11 + (INTEGER,) * 2
_EIGHTS = (INTEGER,) * 13 + (POINTER,) * 11 + (INTEGER,) * 2
_EIGHT = (INTEGER,) * 5 + (POINTER,) * 13 + (INTEGER,) * 2
_WALK = (INTEGER,) * 7 + (POINTER,) * 9 + (INTEGER,) * 3
Array = NDArray[np.float64]


_CODES: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "fit": (_FIT, entry.fit_many),
    "walk": (_WALK, entry.walk_part),
    "eights": (_EIGHTS, eights.fit_in_eights),
}


@lru_cache(maxsize=8)
def _digest(name: str, compiled: bool) -> str:
    return machine.digest(name, fingerprint(_CODES[name][1]))


def _solver(name: str, compiled: bool) -> Code:
    # Asked for again each time: of what a process remembers, what is used last goes last.
    kinds, function = _CODES[name]
    return machine.code(_digest(name, compiled), kinds, lambda: function, vectors=False)


def _eight(s: Spec, compiled: bool) -> Code:
    """Return the solver for fits abreast of a kind, with loops as long as they are for it."""
    kind = kind_of(s)
    name = _eight_digest(kind, compiled)
    return machine.code(name, _EIGHT, lambda: specialise(eights.fit_eight, kind))


@lru_cache(maxsize=64)
def _eight_digest(kind: Spec, compiled: bool) -> str:
    return machine.digest("eight", fingerprint(specialise(eights.fit_eight, kind)))


def is_solver_ready(count: int = 1) -> bool:
    """Return whether the solver for so many fits can be had without compiling it."""
    return machine.is_ready(_digest("eights" if count >= LANES else "fit", machine.enabled()))


def is_ready(kernels: Kernels, count: int = 1) -> bool:
    """Return whether so many fits can run without anything of note being compiled."""
    return is_solver_ready(count) and kernels.are_ready(count >= LANES)


def fit(
    plan: Plan, points: Points, firsts: Tensor, starts: Tensor, ended: Tensor | None = None
) -> Fitted:
    """Run fits of the points from ``firsts[k]`` to ``firsts[k + 1]``, from ``starts`` (G, p).

    ``ended`` (G,) holds the status of fits that are not to be run, 0 for the others.
    """
    s, count = plan.spec, starts.shape[0]
    fitted = room_for(plan, count, ended)
    if count == 1 and s.n >= SHARED and machine.enabled():
        _fit_large(plan, *_arrays(points, firsts, starts, fitted))
        return fitted
    threads = min(torch.get_num_threads(), max(1, s.n // TOGETHER), count)
    run = runner(plan, points, firsts, starts, fitted)
    if threads == 1:
        run(0, count)
    else:
        edges = np.linspace(0, count, 4 * threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, edges[:-1], edges[1:]))
    return fitted


def _arrays(
    points: Points, firsts: Tensor, starts: Tensor, fitted: Fitted
) -> tuple[list[Tensor], list[Tensor]]:
    """Return what machine code is given, point by point and fit by fit."""
    given = (points.x, points.y, points.scale_x, points.weight_y, points.cross, fitted.made)
    arrays = [_EMPTY if t is None else t.contiguous() for t in given]
    return arrays, [firsts, starts.contiguous(), fitted.told]


def _numbers(count: int) -> Tensor:
    return torch.empty(count, dtype=torch.float64, device="cpu")


_EMPTY = torch.zeros(1, dtype=torch.float64, device="cpu")


@lru_cache(maxsize=64)
def _size(s: Spec, lanes: bool) -> int:
    single = shared_room(s) + own_room(s) + fit_room(s.p)
    return single + (eights.lanes_room(s) if lanes else 0)


def _room(s: Spec, lanes: bool = False) -> Tensor:
    return _numbers(_size(s, lanes))


def _goes_abreast(s: Spec, count: int) -> bool:
    """Return whether small fits of this kind go eight at a time."""
    return count >= LANES and s.n <= eights.MOST * count and s.explicit and not s.bounded


def runner(
    plan: Plan, points: Points, firsts: Tensor, starts: Tensor, fitted: Fitted
) -> Callable[[int, int], None]:
    """Return a function that runs the fits from one to another, in room of its own.

    It may be called again and again, whatever has been written into the memory that it is given;
    ``fitted.told`` begins with the status of fits that are not to be run, or 0.
    """
    compiled, kernels, s = machine.enabled(), plan.kernels, plan.spec
    lanes = _goes_abreast(s, len(starts))
    code = _solver("eights" if lanes else "fit", compiled)
    other = _eight(s, compiled) if lanes else None
    by_point, by_fit = _arrays(points, firsts, starts, fitted)
    arrays = [*by_point, *by_fit, plan.head]
    if compiled:
        more = (other.address, *kernels.addresses_abreast) if other else (0,)
        addresses = [*kernels.addresses, *more, *(t.data_ptr() for t in arrays)]

        def run(lo: int, hi: int, held: list[Tensor] = arrays) -> None:
            room = _room(s, lanes)
            code.call(*addresses, room.data_ptr(), lo, hi)

        return run
    flat = [t.numpy().reshape(-1) for t in arrays]
    functions: list[Any] = [k.function() for k in kernels.all]
    functions += [other.call, *(k.function() for k in kernels.abreast)] if other else [0]

    def interpret(lo: int, hi: int) -> None:
        with np.errstate(all="ignore"):
            code.call(*functions, *flat, _room(s, lanes).numpy(), lo, hi)

    return interpret


def _factor(parts: list[Array]) -> Array:
    """Return the triangular factor of several, row by row."""
    found: Any = np.linalg.qr(np.concatenate(parts), "r")
    return found.ravel()


def _fit_large(plan: Plan, arrays: list[Tensor], rest: list[Tensor]) -> None:
    """Run one fit whose walks over the points are shared out among threads."""
    s, head = plan.spec, plan.head.clone()
    head[Spec._fields.index("asks")] = 1.0
    part, code, room = _solver("walk", True), _solver("fit", True), _room(s)
    functions, given = plan.kernels.addresses, [t.data_ptr() for t in arrays]
    total = room.numpy()[2 * told(s) :]

    def walk(task: int, start: int, stop: int) -> Array:
        own = _numbers(shared_room(s) + own_room(s))
        fixed = head.data_ptr(), room.data_ptr(), own.data_ptr()
        part.call(*functions, *given, *fixed, task, start, stop)
        begin = 2 * told(s)
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
