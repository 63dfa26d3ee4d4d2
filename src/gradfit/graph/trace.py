"""Run a function once and write down what autograd did."""

from collections.abc import Callable
from typing import Any

from gradfit.errors import TraceError
from gradfit.graph.graph import Graph


def trace(fn: Callable[..., Any], *inputs: Any) -> Graph:
    """Run ``fn(*inputs)`` once and return its graph."""
    raise TraceError("not recorded yet")
