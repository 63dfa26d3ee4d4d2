"""Machine code: compiled by LLVM, kept on disk as an object file, loaded again in milliseconds.

Files are named by a hash of everything they are made of: the text or the function with all that it
reads, the compiler, the processor. With ``GRADFIT_JIT=0`` functions stay the Python they are.
"""

import ctypes
import hashlib
import importlib
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from gradfit._native import store
from gradfit.errors import BackendError

MOST = 512
"""Functions that a process remembers."""
SWITCH = "GRADFIT_JIT"
"""Environment variable: 0 keeps functions the Python they are."""

POINTER, WIDE, INTEGER = "pointer", "wide", "integer"
"""What functions take: float64 in memory, the same lane by lane, and int64."""

_C_TYPES: dict[str, Any] = {
    POINTER: ctypes.c_void_p,
    WIDE: ctypes.c_void_p,
    INTEGER: ctypes.c_int64,
}
_lock = threading.RLock()
_loaded: "OrderedDict[str, Code]" = OrderedDict()


def _unlock() -> None:
    """Let a forked process go on, which has none of the threads that were at work.

    Before Python 3.12 a cached property is locked while it is computed, and stays so.
    """
    _lock.release()
    if sys.version_info < (3, 12):
        for name in [n for n in sys.modules if n.startswith("gradfit.")]:
            kinds = [k for k in vars(sys.modules[name]).values() if isinstance(k, type)]
            for found in (v for kind in kinds for v in vars(kind).values()):
                if isinstance(found, cached_property):
                    cast(Any, found).lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    # The compiler has locks of its own, so that a fork waits until it is done.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_unlock)


@dataclass(frozen=True, eq=False)
class Code:
    """A function that can be called.

    Attributes
    ----------
    call : callable
        Takes addresses (machine code) or arrays (Python) for pointers.
    address : int
        Where it lies, for other machine code; 0 where it is Python.
    """

    call: Callable[..., Any]
    address: int
    _engine: Any = None


def enabled() -> bool:
    """Return whether functions are compiled; ``GRADFIT_JIT=0`` keeps them Python."""
    return os.environ.get(SWITCH, "1").strip().lower() not in ("0", "off", "false", "no")


def digest(*parts: str) -> str:
    """Return the name of the machine code that is made of these texts on this machine."""
    host = _compiler().identity() if enabled() else "python"
    return hashlib.sha256("\0".join((host, *parts)).encode()).hexdigest()[:32]


def is_ready(name: str) -> bool:
    """Return whether :func:`code` has that name in memory or on disk."""
    return name in _loaded or not enabled() or store.holds(name)


def code(
    name: str,
    kinds: Sequence[str],
    define: Callable[[], Callable[..., None]],
    vectors: bool = True,
) -> Code:
    """Return a function as machine code: from memory, from disk, or compiled.

    Parameters
    ----------
    name : str
        From :func:`digest`, of everything that ``define`` depends on.
    kinds : sequence of str
        What it takes: ``POINTER``, ``WIDE`` or ``INTEGER``.
    define : callable
        Gives the Python function; called only where there is none yet.
    vectors : bool
        Whether loops are worth vector registers; it takes four times as long to compile.
    """
    found = _loaded.get(name)
    if found is None:
        with _lock:
            found = _loaded.get(name) or _make(name, kinds, define, vectors)
            _loaded[name] = found
            if len(_loaded) > MOST:
                _loaded.popitem(last=False)
    with suppress(KeyError):
        # Another thread may just have dropped it; whoever has it can still use it.
        _loaded.move_to_end(name)
    return found


def _make(
    name: str, kinds: Sequence[str], define: Callable[[], Callable[..., None]], vectors: bool
) -> Code:
    if not enabled():
        return Code(define(), 0)
    stored = store.read(name)
    if stored is not None:
        with suppress(Exception):
            return _load(stored, kinds)
    try:
        binary = _compile(define(), kinds, vectors)
        made = _load(binary, kinds)
    except Exception as error:
        raise refusal(error) from error
    store.write(name, binary)
    return made


def refusal(error: Exception) -> BackendError:
    """Return the error that says in a line that there is no machine code, and why."""
    return (
        error
        if isinstance(error, BackendError)
        else BackendError(
            f"machine code cannot be made in this process ({reason(error)}). "
            'Use backend="auto" or backend="eager".'
        )
    )


def reason(error: BaseException) -> str:
    """Return the first line of an error."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}".removesuffix(": ")


def _compiler() -> Any:
    """Return the compiler, which may be missing; it takes time to import."""
    try:
        return importlib.import_module("gradfit._native.compiler")
    except Exception as error:
        raise refusal(error) from error


def _compile(function: Callable[..., None], kinds: Sequence[str], vectors: bool) -> bytes:
    return _compiler().compiled(function, kinds, vectors)


def _load(binary: bytes, kinds: Sequence[str]) -> Code:
    engine, address = _compiler().load(binary)
    if not address:
        raise RuntimeError("the object file does not hold what it should")
    return Code(ctypes.CFUNCTYPE(None, *(_C_TYPES[k] for k in kinds))(address), address, engine)
