"""Fit any formula to data with errors in every variable, and open up the graph that did it.

Every name is loaded on first use, so that ``import gradfit`` costs nothing and pulls in nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradfit import datasets as datasets
    from gradfit import errors as errors
    from gradfit import lines as lines
    from gradfit import models as models
    from gradfit import shapes as shapes
    from gradfit._descend import descend as descend
    from gradfit._descend import sweep_lr as sweep_lr
    from gradfit._differentiable import differentiable as differentiable
    from gradfit._fit import fit as fit
    from gradfit._marginal import mnr as mnr
    from gradfit._prepare import prepare as prepare
    from gradfit._result import FitResult as FitResult
    from gradfit._result import FitTable as FitTable
    from gradfit._simulate import simulate as simulate
    from gradfit._types import Status as Status
    from gradfit.graph import trace as trace
    from gradfit.graph import why as why
    from gradfit.lines import line as line

__version__ = "0.1.0"

__all__ = [
    "FitResult",
    "FitTable",
    "Status",
    "__version__",
    "datasets",
    "descend",
    "differentiable",
    "errors",
    "fit",
    "line",
    "lines",
    "mnr",
    "models",
    "prepare",
    "shapes",
    "simulate",
    "sweep_lr",
    "trace",
    "why",
]

# Where each public name lives: a module, or a module and the name inside it.
_HOMES: dict[str, tuple[str, str | None]] = {
    "FitResult": ("_result", "FitResult"),
    "FitTable": ("_result", "FitTable"),
    "Status": ("_types", "Status"),
    "datasets": ("datasets", None),
    "descend": ("_descend", "descend"),
    "differentiable": ("_differentiable", "differentiable"),
    "errors": ("errors", None),
    "fit": ("_fit", "fit"),
    "line": ("lines", "line"),
    "lines": ("lines", None),
    "mnr": ("_marginal", "mnr"),
    "models": ("models", None),
    "shapes": ("shapes", None),
    "prepare": ("_prepare", "prepare"),
    "simulate": ("_simulate", "simulate"),
    "sweep_lr": ("_descend", "sweep_lr"),
    "trace": ("graph", "trace"),
    "why": ("graph", "why"),
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
