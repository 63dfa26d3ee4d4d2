"""Fit any formula to data with errors in every variable, and open up the graph that did it.

Every name is loaded on first use, so that ``import gradfit`` costs nothing and pulls in nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradfit import errors as errors
    from gradfit._types import Status as Status

__version__ = "0.1.0"

__all__ = ["Status", "__version__", "errors"]

# Where each public name lives: a module, or a module and the name inside it.
_HOMES: dict[str, tuple[str, str | None]] = {
    "Status": ("_types", "Status"),
    "errors": ("errors", None),
}


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'gradfit' has no attribute {name!r}") from None
    home = import_module(f"gradfit.{module}")
    value = home if attribute is None else getattr(home, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
