"""Custom ``autograd.Function``: calls go past torch's own hooks, so ``apply`` is watched.

``Function.apply`` is replaced while at least one trace runs, in any thread, and put back when the
last one ends. Threads that do not trace go straight through. An alias saved before the trace
(``cube = Cube.apply``) is not replaced; the recorder finds those by their frame on the stack.
"""

import inspect
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, Protocol

from torch.autograd import Function

from gradfit.graph.record import Custom


class Watcher(Protocol):
    """Who is told of a custom Function."""

    def custom(self, cls: type, run: "partial[Any]") -> Any:
        """Run a custom Function and write it down."""
        ...


class _Current(threading.local):
    watcher: Watcher | None = None


current = _Current()
"""The trace that runs in this thread."""

_lock = threading.Lock()
_original: Any = None
_n_watching = 0


@contextmanager
def watched(watcher: Watcher) -> Generator[None, None, None]:
    """Tell ``watcher`` of every custom Function that this thread applies."""
    global _original, _n_watching
    with _lock:
        if _n_watching == 0:
            _original = Function.__dict__["apply"]
            Function.apply = classmethod(_apply)  # type: ignore[assignment]
        _n_watching += 1
    current.watcher = watcher
    try:
        yield
    finally:
        current.watcher = None
        with _lock:
            _n_watching -= 1
            if _n_watching == 0:
                Function.apply = _original


def _apply(cls: type, *args: Any, **kwargs: Any) -> Any:
    run = partial(_original.__get__(None, cls), *args, **kwargs)
    watcher = current.watcher
    return run() if watcher is None else watcher.custom(cls, run)


@lru_cache(maxsize=256)
def described(cls: type) -> Custom:
    """Return the name of a custom Function, with its forward and backward as written."""
    forward, file, forward_line = _written(cls, "forward")
    backward, _, backward_line = _written(cls, "backward")
    return Custom(cls.__name__, forward, backward, file, forward_line, backward_line)


def _written(cls: type, name: str) -> tuple[str, str | None, int | None]:
    method = getattr(cls, name, None)
    try:
        lines, line = inspect.getsourcelines(method)  # type: ignore[arg-type]
        return inspect.cleandoc("".join(lines)), inspect.getsourcefile(method), line  # type: ignore[arg-type]
    except (OSError, TypeError):
        return "", None, None
