"""Run anything, and say what is wrong with its gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gradfit.graph.graph import Graph
from gradfit.graph.problem import Problems
from gradfit.graph.problems import problems
from gradfit.graph.trace import trace


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What one run had to show; prints one line for each problem: place, cause, remedy.

    Attributes
    ----------
    problems : Problems
        A tuple, empty when all is well.
    graph : Graph
        The run, opened up.
    result : object
        What the function returned, with tensors detached.
    """

    problems: Problems
    graph: Graph
    result: Any

    def __bool__(self) -> bool:
        return bool(self.problems)

    def __str__(self) -> str:
        return str(self.problems)

    __repr__ = __str__


def why(fn: Callable[..., Any], *inputs: Any, **keywords: Any) -> Diagnosis:
    """Run ``fn(*inputs, **keywords)`` once and say what broke, where, and what to write instead.

    ``fn`` may be anything that runs torch: a loss, a module, a whole training step with its own
    ``backward()`` and ``optimizer.step()``, which then takes place. For gradients that are None,
    zero, NaN or inf, the place where that begins is named.

    Parameters
    ----------
    fn : callable
    *inputs, **keywords : object
        Its arguments.

    Returns
    -------
    Diagnosis
        True when there is a problem; ``graph`` has the run.

    Raises
    ------
    Exception
        What ``fn`` raises comes through unchanged; the diagnosis is its note, which the traceback
        shows (PEP 678), and its attribute ``graph`` has the run up to there.

    Examples
    --------
    >>> import torch
    >>> import gradfit as gf
    >>> w = torch.tensor([0.0, 4.0], requires_grad=True)
    >>> gf.why(lambda w: torch.sqrt(w).sum(), w)
    line 1: inf in the gradient begins in the backward of `torch.sqrt(w)`. The slope of sqrt at ...
    """
    graph = trace(fn, *inputs, **keywords)
    return Diagnosis(problems(graph), graph, graph.result)
