"""The trace's own work on what the function does: it may fail, and never stops the function."""

from collections.abc import Callable
from typing import Any, TypeVar

from gradfit.errors import TraceError

_T = TypeVar("_T")


class Guard:
    """Runs bookkeeping; where that fails, notes what could not be written down and why.

    Attributes
    ----------
    missed : dict
        Operations that could not be written down, each with the reason.
    """

    def __init__(self) -> None:
        self.missed: dict[str, str] = {}

    def __call__(self, name: str, work: Callable[..., _T], *args: Any) -> _T | None:
        """Do the work; return None where it failed. That the graph is too big comes through."""
        try:
            return work(*args)
        except TraceError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever torch makes of a rare tensor
            first = (str(error).splitlines() or [""])[0]
            self.missed.setdefault(name, f"{type(error).__name__}: {first}")
            return None
