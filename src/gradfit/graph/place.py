"""Where in the user's code an operation was called: line, call, module, custom Function."""

import sysconfig
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch

from gradfit.graph import autograd_private as private
from gradfit.graph.names import Names
from gradfit.graph.source import Site, site

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)
_STDLIB = sysconfig.get_path("stdlib")
HIDDEN = "__tracebackhide__"
"""What a function sets that shall not be shown as a place, as in tracebacks of pytest."""


class Place(NamedTuple):
    """Where an operation was called.

    Attributes
    ----------
    site : Site or None
        The user's sub-expression; ``None`` when only library code is on the stack.
    caller : FrameType or None
        The user's frame.
    number : int
        Number of that frame: another call of the same function is another frame.
    library_call : FrameType or None
        The library function that the user called and that called the operation. Operations that
        share it make up one expression of the user.
    module : str or None
    apply : FrameType or None
        The frame of a custom Function whose forward is running.
    is_transform : bool
        Whether it is a step of ``vmap``, ``torch.func.jacrev`` and the like.
    """

    site: Site | None
    caller: FrameType | None
    number: int
    library_call: FrameType | None
    module: str | None
    apply: FrameType | None
    is_transform: bool = False


class Places:
    """Reads the stack, from an operation down to the trace itself."""

    def __init__(self, stop: FrameType | None, names: Names) -> None:
        self._stop = stop
        self._names = names
        self._numbers: dict[FrameType, int] = {}  # keeps frames alive, so none is mistaken

    def forget(self) -> None:
        """Let go of all frames: they hold on to everything that the function made."""
        self._stop = None
        self._numbers.clear()

    def at(self, frame: FrameType | None) -> Place:
        """Return where the operation that ``frame`` just called was written."""
        caller: FrameType | None = None
        inner: FrameType | None = None
        module: Any = None
        apply: FrameType | None = None
        is_transform = False
        while frame is not None and frame is not self._stop:
            code = frame.f_code
            if code is private.APPLY_CODE:
                apply = frame
            elif code is private.MODULE_CALL_CODE and module is None:
                module = frame.f_locals.get("self")
            elif code.co_filename in private.TRANSFORM_FILES:
                is_transform = True
            if caller is None:
                if is_library(code.co_filename) or HIDDEN in code.co_varnames:
                    inner = frame
                else:
                    caller = frame
            frame = frame.f_back
        path = None if module is None else self._names.module(module)
        if caller is None:
            return Place(None, None, 0, inner, path, apply, is_transform)
        number = self._numbers.setdefault(caller, len(self._numbers) + 1)
        return Place(site(caller), caller, number, inner, path, apply, is_transform)

    def is_inside(self, frame: FrameType | None, call: FrameType) -> bool:
        """Whether a call is still running: a module of the library may run code of the user."""
        while frame is not None and frame is not call and frame is not self._stop:
            frame = frame.f_back
        return frame is call


@lru_cache(maxsize=1024)
def is_library(file: str) -> bool:
    """Whether a file belongs to torch, to Python, or to the tracer itself."""
    if file.startswith((_TORCH, _HERE, "<frozen")):
        return True
    return file.startswith(_STDLIB) and "-packages" not in file[len(_STDLIB) :]
