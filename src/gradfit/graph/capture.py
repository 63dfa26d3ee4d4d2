"""Run a traced function again: as it is, exported, or compiled."""

import copy
import logging
import re
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradfit.errors import TraceError
from gradfit.graph import autograd_private as private
from gradfit.graph import replay
from gradfit.graph.graph import Graph
from gradfit.graph.operations import alike, outputs
from gradfit.graph.place import is_library
from gradfit.graph.record import Ref

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True)
class Break:
    """A place where capture stops: the line, and what stood in the way."""

    line: int | None
    reason: str


WITHOUT = "aot_eager"
"""Captures forward and backward like the compiler, and needs none."""

Answer = tuple[list[Tensor], dict[str, Tensor]]
"""The results of one run, and its gradients by name."""


@dataclass(frozen=True)
class Run:
    """The traced function, with fresh copies of its arguments, and its leaves by name."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    leaves: Mapping[str, Tensor]
    state: NDArray[np.uint8] | None

    @classmethod
    def of(cls, graph: Graph) -> "Run":
        """Make fresh copies of what a function was traced with."""
        call = graph.call
        if call is None or call.func is None:
            raise TraceError("a loaded graph has no function to run; trace it again to compare")
        leaves: dict[str, Tensor] = {}

        def fresh(value: Any) -> Any:
            if isinstance(value, Ref):
                node = graph[value.node]
                made = replay.tensor(node.value, wide=False)
                made = made if node.value is None else made.to(node.value.device)
                if node.requires_grad:
                    leaves[node.label] = made.requires_grad_()
                return made
            if isinstance(value, (list, tuple)):
                return alike(value, [fresh(each) for each in value])
            if isinstance(value, dict):
                return {key: fresh(each) for key, each in value.items()}
            return value

        # Running a module may change its buffers.
        function = copy.deepcopy(call.func) if isinstance(call.func, nn.Module) else call.func
        arguments, keywords = tuple(map(fresh, call.args)), fresh(dict(call.kwargs))
        return cls(function, arguments, keywords, leaves, call.random_state)

    def gradients(self, run: Callable[..., Any]) -> Answer:
        """Run forward and backward; return the results, and the gradients by name."""
        leaves = dict(self.leaves)
        if isinstance(run, nn.Module):
            for path, parameter in run.named_parameters():
                name = path.removeprefix("_orig_mod.").removeprefix("function.")
                leaves.setdefault(name, parameter)
        if self.state is not None:
            torch.set_rng_state(torch.from_numpy(self.state.copy()))
        results = [tensor for _, tensor in outputs(run(*self.arguments, **self.keywords))]
        roots = [result for result in results if result.requires_grad]
        if not roots or not leaves:
            return results, {}
        weights = [torch.ones_like(root) for root in roots]
        found = torch.autograd.grad(roots, list(leaves.values()), weights, allow_unused=True)
        pairs = zip(leaves, cast(Sequence[Tensor | None], found), strict=True)
        return results, {name: gradient for name, gradient in pairs if gradient is not None}

    def seconds(self, run: Callable[..., Any]) -> float:
        """Time one forward and backward."""
        times: list[float] = []
        end = time.perf_counter() + 0.2
        while not times or (len(times) < 50 and time.perf_counter() < end):
            started = time.perf_counter()
            self.gradients(run)
            times.append(time.perf_counter() - started)
        return median(times)


@dataclass(frozen=True)
class Captured:
    """A captured program.

    Attributes
    ----------
    run : callable
        The program, with the arguments of the function.
    operations : list of (line, name)
    n_graphs : int
        Pieces that the capture fell into.
    breaks : tuple of Break
        Where and why.
    n_kernels : int or None
        Pieces of machine code that forward and backward became, where a compiler tells.
    remark : str
        What was done in place of what was asked for, and why.
    """

    run: Callable[..., Any]
    operations: list[tuple[int | None, str]]
    n_graphs: int = 1
    breaks: tuple[Break, ...] = ()
    n_kernels: int | None = None
    remark: str = ""


class _AsModule(nn.Module):
    """Export takes modules only."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        return self.function(*arguments, **keywords)


def exported(run: Run) -> Captured:
    """Capture with ``torch.export``."""
    function = run.function
    module = function if isinstance(function, nn.Module) else _AsModule(function)
    try:  # strict capture knows the user's lines
        program = torch.export.export(module, run.arguments, dict(run.keywords), strict=True)
    except KeyError:  # it cannot find parameters in a closure; the other way can
        program = torch.export.export(module, run.arguments, dict(run.keywords), strict=False)
    return Captured(program.module(), _captured_operations([program.graph_module]))


def compiled(run: Run, backend: str) -> Captured:
    """Capture with ``torch.compile``; without a C++ compiler as far as that goes."""
    graphs, breaks = private.dynamo_graphs(run.function, run.arguments, run.keywords)
    run_compiled = torch.compile(run.function, backend=backend)
    remark = ""
    with private.kernels_made() as kernels:
        try:
            run.gradients(run_compiled)  # the first call compiles forward and backward
        except Exception as error:  # what a backend raises is its own affair
            if not private.lacks_compiler(error):
                raise
            remark = f"{backend} found no working C++ compiler; captured with {WITHOUT} instead"
            run_compiled = torch.compile(run.function, backend=WITHOUT)
            run.gradients(run_compiled)
    operations = _captured_operations(graphs)
    found = tuple(Break(line, reason) for line, reason in breaks)
    n_kernels = kernels[0] if kernels and kernels[0] else None
    return Captured(run_compiled, operations, len(graphs), found, n_kernels, remark)


def _captured_operations(graphs: Sequence[Any]) -> list[tuple[int | None, str]]:
    found: list[tuple[int | None, str]] = []
    for module in graphs:
        for node in module.graph.nodes:
            if node.op.startswith("call"):
                name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
                found.append((_user_line(str(node.meta.get("stack_trace") or "")), name))
    return found


def _user_line(stack: str) -> int | None:
    """Return the innermost line of a stack trace that is not inside a library."""
    own = [int(line) for file, line in _FRAME.findall(stack) if not is_library(file)]
    return own[-1] if own else None


def broken(error: Exception) -> Break:
    """Say where and why nothing could be captured."""
    return Break(_user_line(str(error)), f"{type(error).__name__}: {str(error).splitlines()[0]}")


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Keep capture from writing to the terminal: what failed is in the comparison."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
