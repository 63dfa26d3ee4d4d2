"""Machine code: compiled by Numba, kept on disk as an object file, loaded by LLVM.

A function of pointers and numbers needs nothing of Numba's runtime, so that its object file can be
kept and, in the next process, loaded in milliseconds by llvmlite alone, where importing Numba and
starting its compiler takes a second. Files are named by a hash of everything they are made of: the
text, the functions it may call, the compiler, the processor. Where nothing can be written each
process compiles for itself. With ``NUMBA_DISABLE_JIT`` set functions stay the Python they are.
"""

import ctypes
import hashlib
import os
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

MOST = 512
"""Functions that a process remembers."""

POINTER, INTEGER, REAL = "pointer", "integer", "real"
"""What functions take: float64 in memory, int64, float64."""

_C_TYPES: dict[str, Any] = {
    POINTER: ctypes.c_void_p,
    INTEGER: ctypes.c_int64,
    REAL: ctypes.c_double,
}
_nothing = ctypes.create_string_buffer(16)
_unused = ctypes.addressof(_nothing)
_lock = threading.RLock()
_loaded: "OrderedDict[str, Code]" = OrderedDict()


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
    """Return whether functions are compiled; ``NUMBA_DISABLE_JIT=1`` keeps them Python."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")


def digest(*parts: str) -> str:
    """Return the name of the machine code that is made of these texts on this machine."""
    host = _host() if enabled() else "python"
    return hashlib.sha256("\0".join((host, *parts)).encode()).hexdigest()[:32]


def is_ready(name: str) -> bool:
    """Return whether :func:`code` has that name in memory or on disk."""
    return name in _loaded or not enabled() or (folder() / name).exists()


def code(name: str, kinds: Sequence[str], define: Callable[[], Callable[..., None]]) -> Code:
    """Return a function as machine code: from memory, from disk, or compiled.

    Parameters
    ----------
    name : str
        From :func:`digest`, of everything that ``define`` depends on.
    kinds : sequence of str
        What it takes: ``POINTER``, ``INTEGER`` or ``REAL``.
    define : callable
        Gives the Python function; called only where there is none yet.
    """
    with _lock:
        if name not in _loaded:
            _loaded[name] = _make(name, kinds, define)
            if len(_loaded) > MOST:
                _loaded.popitem(last=False)
        _loaded.move_to_end(name)
        return _loaded[name]


def _make(name: str, kinds: Sequence[str], define: Callable[[], Callable[..., None]]) -> Code:
    if not enabled():
        return Code(define(), 0)
    path = folder() / name
    stored = _read(path)
    if stored is not None:
        with suppress(RuntimeError):
            return _load(*stored, kinds)
    symbol, binary = _compile(define(), kinds)
    _write(path, symbol, binary)
    return _load(symbol, binary, kinds)


# Compile and load ---------------------------------------------------------------------------------


def _compile(function: Callable[..., None], kinds: Sequence[str]) -> tuple[str, bytes]:
    import numba
    from llvmlite import binding
    from numba import types

    known = {
        POINTER: types.CPointer(types.float64),
        INTEGER: types.int64,
        REAL: types.float64,
    }
    # The wrappers for callers from Python and C need Numba's runtime; the function itself does not.
    bare: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made: Any = numba.njit(error_model="numpy", **bare)(function)
    made.compile(tuple(known[k] for k in kinds))
    signature = made.signatures[0]
    module = binding.parse_assembly(made.inspect_llvm(signature))
    return made.overloads[signature].fndesc.llvm_func_name, _target().emit_object(module)


def _load(symbol: str, binary: bytes, kinds: Sequence[str]) -> Code:
    from llvmlite import binding

    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target())
    engine.add_object_file(binding.ObjectFileRef.from_data(binary))
    engine.finalize_object()
    address = engine.get_function_address(symbol)
    if not address:
        raise RuntimeError(f"{symbol} is not in its object file")
    # Numba's functions take two more pointers, for a result and an exception; here there are none.
    types = (ctypes.c_void_p, ctypes.c_void_p, *(_C_TYPES[k] for k in kinds))
    bare = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(address)
    return Code(partial(bare, _unused, _unused), address, engine)


def _target() -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )


@cache
def _host() -> str:
    """Return a hash of what machine code depends on beside its own text."""
    from llvmlite import __version__, binding

    here = Path(__file__).parent
    texts = [(here / f"{name}.py").read_text("utf-8") for name in ("special", "vector", "machine")]
    cpu = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    whole = "\0".join((__version__, binding.get_process_triple(), *cpu, *texts))
    return hashlib.sha256(whole.encode()).hexdigest()


# Files --------------------------------------------------------------------------------------------


def folder() -> Path:
    """Return where machine code is kept: ``NUMBA_CACHE_DIR``, or the user's cache folder."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"]) / "gradfit"
    home = Path.home()
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = home / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return root / "gradfit"


def _read(path: Path) -> tuple[str, bytes] | None:
    """Return symbol and object code; None where there is no file or it is damaged."""
    try:
        check, symbol, binary = path.read_bytes().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    if hashlib.sha256(symbol + binary).hexdigest().encode() != check:
        return None
    return symbol.decode(), binary


def _write(path: Path, symbol: str, binary: bytes) -> None:
    """Write a file whole or not at all; where it cannot be written, go without."""
    check = hashlib.sha256(symbol.encode() + binary).hexdigest()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(b"\n".join((check.encode(), symbol.encode(), binary)))
        os.replace(draft, path)
