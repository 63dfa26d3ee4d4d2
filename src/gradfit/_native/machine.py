"""Machine code: compiled by LLVM, kept on disk as an object file, loaded again in milliseconds.

Files are named by a hash of everything they are made of: the
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
from functools import cache, cached_property
from pathlib import Path
from types import FunctionType
from typing import Any, cast

from gradfit._engine.control import ARRAYS, NUMBERS, Ops

MOST = 512
"""Functions that a process remembers."""

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
    """Return whether functions are compiled; ``NUMBA_DISABLE_JIT=1`` keeps them Python."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")


def digest(*parts: str) -> str:
    """Return the name of the machine code that is made of these texts on this machine."""
    host = _host() if enabled() else "python"
    return hashlib.sha256("\0".join((host, *parts)).encode()).hexdigest()[:32]


def is_ready(name: str) -> bool:
    """Return whether :func:`code` has that name in memory or on disk."""
    return name in _loaded or not enabled() or os.path.exists(folder() / name)


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
    path = folder() / name
    stored = _read(path)
    if stored is not None:
        with suppress(RuntimeError):
            return _load(stored, kinds)
    binary = _compile(define(), kinds, vectors)
    _write(path, binary)
    return _load(binary, kinds)


# Compile and load ---------------------------------------------------------------------------------


def _compile(function: Callable[..., None], kinds: Sequence[str], vectors: bool) -> bytes:
    from llvmlite import binding

    from gradfit._native import emit, operations, pointer, vector
    from gradfit._native.translate import translate

    types = {POINTER: emit.POINTER, WIDE: emit.WIDE_POINTER, INTEGER: emit.WORD}
    known: dict[Any, str] = {
        pointer.at: "at",
        pointer.call: "call",
        pointer.copy: "copy",
        pointer.ask: "call",
        pointer.hand_over: "call",
        pointer.wide: "wide",
        pointer.pick: "pick",
        pointer.stream: "stream",
        pointer.drain: "drain",
        pointer.turn: "turn",
        pointer.where: "where",
        pointer.some: "some",
        pointer.opposite: "negate",
        operations.gather: "gather",
        vector.bits: "bits",
        vector.number: "number",
        vector.fma: "fma",
        **_words(),
    }
    takes = [types[k] for k in kinds]
    text = translate(cast(FunctionType, function), takes, known, vector.FUNCTIONS, vectors)
    target = _target(3 if vectors else 2)
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    tuning = binding.create_pipeline_tuning_options(speed_level=3 if vectors else 2)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = vectors
    builder = binding.create_pass_builder(target, tuning)
    builder.getModulePassManager().run(module, builder)
    return target.emit_object(module)


def _words() -> dict[Any, str]:
    """Return what the rules of the loop are made of, by the names of their machine code."""
    found: dict[Any, str] = {}
    for rule in (*NUMBERS, *ARRAYS):
        cells = zip(rule.__code__.co_freevars, rule.__closure__ or (), strict=True)
        found.update((c.cell_contents, name) for name, c in cells if name in Ops._fields)
    return found


def _load(binary: bytes, kinds: Sequence[str]) -> Code:
    from llvmlite import binding

    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target())
    engine.add_object_file(binding.ObjectFileRef.from_data(binary))
    engine.finalize_object()
    address = engine.get_function_address("main")
    if not address:
        raise RuntimeError("the object file does not hold what it should")
    return Code(ctypes.CFUNCTYPE(None, *(_C_TYPES[k] for k in kinds))(address), address, engine)


def _target(level: int = 2) -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        # Long loops of arithmetic gain more by the widest registers than the clock loses.
        features["prefer-256-bit"] = False
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=features.flatten(),
        opt=level,
        codemodel="jitdefault",
        jit=True,
    )


@cache
def _host() -> str:
    """Return a hash of what machine code depends on beside its own text."""
    from llvmlite import __version__, binding

    here = Path(__file__).parent
    texts = [
        (here / f"{name}.py").read_text("utf-8")
        for name in ("special", "vector", "emit", "evaluate", "record", "translate")
    ]
    cpu = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    whole = "\0".join((__version__, binding.get_process_triple(), *cpu, *texts))
    return hashlib.sha256(whole.encode()).hexdigest()


# Files --------------------------------------------------------------------------------------------


def folder() -> Path:
    """Return where machine code is kept: ``NUMBA_CACHE_DIR``, or the user's cache folder."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"]) / "gradfit"
    try:
        home = Path.home()
    except RuntimeError:
        # A user without a home, as in a container: nothing is found here, and nothing written.
        home = Path(os.devnull)
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = home / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return root / "gradfit"


def _read(path: Path) -> bytes | None:
    """Return object code; None where there is no file or it is damaged."""
    try:
        check, binary = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return binary if hashlib.sha256(binary).hexdigest().encode() == check else None


def _write(path: Path, binary: bytes) -> None:
    """Write a file whole or not at all; where it cannot be written, go without."""
    check = hashlib.sha256(binary).hexdigest()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(b"\n".join((check.encode(), binary)))
            os.replace(draft, path)
        except OSError:
            os.unlink(draft)
