"""Memory as machine code sees it: a pointer and an offset; and calls through addresses.

Uncompiled, pointers are NumPy arrays, addresses are functions, and both do as arrays and functions
do, so that everything written on top of them is plain Python as well.
"""

from typing import Any


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
