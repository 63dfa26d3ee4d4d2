"""Memory as machine code sees it: a pointer and an offset; and calls through addresses.

Uncompiled, pointers are NumPy arrays, addresses are functions, and both do as arrays and functions
do, so that everything written on top of them is plain Python as well.
"""

from typing import Any

import numpy as np

from gradfit._native.lower import LANES


def at(memory: Any, offset: int) -> Any:
    """Return the memory behind ``offset`` numbers."""
    return memory[offset:]


def copy(source: Any, target: Any, n: int) -> None:
    """Copy ``n`` numbers to other memory."""
    target[:n] = source[:n]


def call(function: Any, rows: Any, pars: Any, out: Any, total: Any, n: int) -> None:
    """Call a kernel on a block of points."""
    function(rows, pars, out, total, n)


def ask(function: Any, task: int, start: int, stop: int) -> None:
    """Have a walk over points done elsewhere."""
    function(task, start, stop)


def hand_over(function: Any, *given: Any) -> None:
    """Have fits done abreast."""
    function(*given)


# Lanes --------------------------------------------------------------------------------------------


class Lanes:
    """Memory that holds, at each place, one number for each lane; what is read is a copy."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers

    def __getitem__(self, key: Any) -> Any:
        found = self.numbers[key]
        return Lanes(found) if isinstance(key, slice) else found.copy()

    def __setitem__(self, key: int, value: Any) -> None:
        self.numbers[key] = value


def wide(memory: Any) -> Any:
    """Return the same memory, with :data:`~gradfit._native.lower.LANES` numbers to each place."""
    return Lanes(memory[: len(memory) // LANES * LANES].reshape(-1, LANES))


def pick(memory: Any, places: Any) -> Any:
    """Return the number at a place for each lane; places are whole."""
    return memory[places.astype(np.int64)]


def turn(memory: Any, places: Any, rows: Any, ahead: Any, row: int) -> None:
    """Write what lies from a place on, for each lane: as many numbers as lanes, a ``row`` apart."""
    for j in range(LANES):
        rows[j * row] = pick(memory, places + j)
        ahead[j * row] = rows[j * row]


def stream(memory: Any, place: int, value: Any) -> None:
    """Write a number for each lane to where a line of the cache begins, but not into the cache."""
    memory[place : place + LANES] = value


def drain() -> None:
    """Have other threads see what was streamed."""


def where(test: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where the test holds and ``b`` elsewhere, lane by lane if there are any."""
    if isinstance(test, np.ndarray):
        return np.where(test, a, b)
    return a if test else b


def some(test: Any) -> bool:
    """Return whether something is true of a lane."""
    return bool(np.any(test))


def opposite(test: Any) -> Any:
    """Return what is true where the test fails, lane by lane."""
    return np.logical_not(test)
