"""Which machinery runs a fit: torch's, or machine code made from the model."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import CodeType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from gradfit import models
from gradfit._engine.feet import FOOT_ROUNDS
from gradfit._engine.loss import Loss
from gradfit._engine.state import Options
from gradfit._native import cpu, cuda, machine
from gradfit._native.expression import CaptureError
from gradfit._native.functions import RULES
from gradfit._native.lower import BLOCK
from gradfit._native.plan import Fitted, Kernels, Plan, plan_of
from gradfit._native.point import Layout
from gradfit._native.pointwise import Pointwise
from gradfit._native.program import Function, Program, checked, record
from gradfit._problem import Problem
from gradfit._verdict import look_again
from gradfit.errors import BackendError, GradfitError, InputError

PER_FIT, PER_POINT = 5e-3, 2.5e-6
"""Seconds that torch takes for a fit, roughly."""
LOOKING, COMPILING, COMPILING_SOLVER, COMPILING_DEVICE = 0.02, 1.0, 4.0, 60.0
"""Seconds that it takes to write a model down, to compile it, and to compile the solver; and both
for a GPU."""


MOST = 256
"""Programs that a process remembers."""
LIBRARIES = torch, math, np
"""Modules that a function may read and still is the same the next time."""
_FOUND_THERE = """
    special pi e nn functional linalg shape dtype device float64 tensor as_tensor linspace logspace
    arange zeros ones full eye
"""
KNOWN_NAMES = {*RULES, *_FOUND_THERE.split(), *(m.__name__ for m in LIBRARIES)}
"""What such a function may find there, and of tensors."""
UNDEFINED = "it is NaN or inf at the start"
"""Why a model is not captured for now; from another start it may be."""


@dataclass(frozen=True, eq=False)
class Captured:
    """A model that was captured.

    Attributes
    ----------
    program : Program
        Its expressions.
    sample : tuple of Tensor
        Two points (m, 2), and parameters there (p, 2).
    written : hashable
        What it writes down.
    kernels : dict
        Kernels by layout and block.
    """

    program: Program
    sample: tuple[Tensor, Tensor]
    written: Any
    kernels: dict[Any, Kernels] = field(default_factory=dict[Any, Kernels])


@dataclass
class Known:
    """What is known of a model function from earlier fits.

    Attributes
    ----------
    captured : dict
        What it was when it was last looked at, or why it cannot be captured, by the kind of
        problem.
    spent : float
        Seconds that fits took without machine code.
    worth : float
        Seconds from which on it is worth looking whether there is machine code.
    failure : str
        Why nothing is tried again by itself, if something went wrong.
    methods : dict
        The same for each method of an object.
    """

    captured: dict[Any, Captured | str] = field(default_factory=dict[Any, Captured | str])
    spent: float = 0.0
    worth: float = LOOKING
    failure: str = ""
    methods: "dict[Any, Known]" = field(default_factory=dict[Any, "Known"])


_KNOWN: "WeakKeyDictionary[Any, Known]" = WeakKeyDictionary()
"""Model functions, and objects with methods that are, which have been looked at."""
_CAPTURED: dict[Any, Captured] = {}
"""Models by what they write down: the same formula is captured and compiled once, whatever function
it stands in, and a function whose constants have changed is another one."""


class Failure(str):
    """Why machine code failed that was not asked for by name; a fit says so, once in a process."""

    __slots__ = ()


_FAILURES: list[Failure] = []
"""Why nothing can be compiled in this process, once that has turned out."""
_SAID: set[str] = set()
"""Failures that a message has told."""


def attempt(problem: Problem, backend: str, run: Callable[[], Any]) -> Any:
    """Return what machine code gives, or a :class:`Failure` if it was taken by itself and failed.

    What fails once is not tried again by itself: where nothing can be compiled, in this process;
    else for this model.
    """
    try:
        return run()
    except Exception as error:
        if backend != "auto":
            raise error if isinstance(error, GradfitError) else machine.refusal(error) from error
        cause = error.__cause__ if isinstance(error, BackendError) else None
        failure = Failure(f"{machine.reason(cause or error)}; this process goes on in PyTorch")
        if isinstance(error, BackendError):
            _FAILURES.append(failure)
        else:
            known_of(problem).failure = failure
        return failure


def note_of(why: str, backend: str, alone: bool = True) -> str:
    """Return what the message of a fit ``alone`` says of why torch ran it, if anything."""
    if isinstance(why, Failure):
        if why in _SAID or not alone:
            return ""
        _SAID.add(why)
    elif backend not in ("native", "cuda"):
        return ""
    return f"not run as machine code: {why}"


def known_of(problem: Problem) -> Known:
    """Return what is known of the model; nothing lasting for one that cannot be a key."""
    fn = problem.model.fn
    # A bound method is a new object each time it is asked for.
    owner, method = (fn.__self__, fn.__func__) if isinstance(fn, MethodType) else (fn, None)
    try:
        known = _KNOWN.get(owner)
        known = _KNOWN.setdefault(owner, Known()) if known is None else known
    except TypeError:
        return Known()
    return known if method is None else known.methods.setdefault(method, Known())


def choose(
    problem: Problem,
    beta0: Tensor,
    loss: Loss | None,
    backend: str,
    on_step: Any,
    times: int = 1,
    *,
    n: int = 0,
    count: int = 0,
) -> Kernels | str:
    """Return the kernels that shall run a fit, or why torch does: in half a sentence, or nothing.

    By itself machine code is looked for once torch has spent, with this fit, about as long on a
    model as that takes: so nobody waits for a small fit, and nobody more than twice as long as with
    the better choice. ``times`` fits of this kind are to come; they are ``count`` fits of ``n``
    points in all if those are not the fits and points of the problem. Whatever goes wrong while it
    looks by itself is a :class:`Failure`.
    """
    if backend == "eager":
        return ""
    if backend == "auto":
        failed = _FAILURES[0] if _FAILURES else known_of(problem).failure
        if failed:
            return failed

    def look() -> Kernels | str:
        return _choose(problem, beta0, loss, backend, on_step, (times, n, count))

    return attempt(problem, backend, look)


def _choose(
    problem: Problem,
    beta0: Tensor,
    loss: Loss | None,
    backend: str,
    on_step: Any,
    sizes: tuple[int, int, int],
) -> Kernels | str:
    times, n, count = sizes
    gpu = backend == "cuda" or (backend == "auto" and problem.points.x.is_cuda)
    reason = obstacle(problem, on_step) or (_not_for_gpu(problem) if gpu else _not_here(problem))
    if reason is not None:
        return reason
    known, block = known_of(problem), 1 if gpu else BLOCK
    if backend != "auto":
        known.worth = LOOKING
        return kernels_for(problem, beta0, loss, block, known)
    if not gpu and not machine.enabled():
        # As plain Python it is there to be looked at, not to be fast.
        return ""
    due = known.spent + times * (PER_FIT + PER_POINT * (n or problem.points.n))
    if due < known.worth:
        return ""
    kernels = kernels_for(problem, beta0, loss, block, known)
    count = max(times, count or len(beta0))
    if isinstance(kernels, str) or _is_there(kernels, count):
        return kernels
    known.worth = _price(kernels, count)
    return kernels if due > known.worth else ""


def _is_there(kernels: Kernels, count: int) -> bool:
    return bool(kernels.plans) if kernels.backend == "cuda" else cpu.is_ready(kernels, count)


def _price(kernels: Kernels, count: int) -> float:
    """Return the seconds that compiling for so many fits takes."""
    if kernels.backend == "cuda":
        return COMPILING_DEVICE
    return COMPILING if cpu.is_solver_ready(count) else COMPILING + COMPILING_SOLVER


def device_for(backend: str, device: Any, x: Any) -> Any:
    """Return where to compute: on a GPU if that is asked for, else what was given."""
    if backend != "cuda":
        return device
    reason = cuda.obstacle()
    if reason is not None:
        raise InputError(f'`backend="cuda"` cannot be used: {reason}.')
    if device is not None or (isinstance(x, Tensor) and x.is_cuda):
        return device
    return cuda.device()


def note_time(problem: Problem, seconds: float) -> None:
    """Remember how long torch took over a fit."""
    known_of(problem).spent += seconds


def obstacle(problem: Problem, on_step: Any) -> str | None:
    """Return why a problem is none for machine code, if it is not."""
    if not problem.free:
        return "nothing is left to fit"
    if problem.systematic is not None:
        return "errors that points share"
    if problem.shared:
        return "parameters that groups share"
    if on_step is not None:
        return "`on_step` looks at every step"
    return None


def _not_here(problem: Problem) -> str | None:
    x = problem.points.x
    return None if x.is_cpu else f"the data are on {x.device}"


def _not_for_gpu(problem: Problem) -> str | None:
    # Torch's operations fill a device with the points of one fit; fits fill it otherwise.
    return cuda.obstacle() or ("it is one fit" if problem.data.group is None else None)


def kernels_for(
    problem: Problem,
    beta0: Tensor,
    loss: Loss | None,
    block: int = BLOCK,
    known: Known | None = None,
) -> Kernels | str:
    """Return the kernels of a problem, not yet compiled, or why there are none."""
    captured = _captured(problem, beta0, known_of(problem) if known is None else known)
    if isinstance(captured, str):
        return captured
    layout = _layout(problem, loss)
    kernels = captured.kernels.get((layout, block))
    if kernels is None:
        kernels = Kernels(Pointwise(captured.program, layout), block)
        captured.kernels[layout, block] = kernels
    return kernels


def _captured(problem: Problem, beta0: Tensor, known: Known) -> Captured | str:
    """Return a model as it is now, or why it cannot be captured.

    A function that may read what has changed since is written down again each time, which takes a
    fraction of what capturing takes.
    """
    data, fn = problem.data, problem.model.fn
    kind = problem.joined, problem.points.x.shape[0], data.y is None, data.vector_x
    # Code may be exchanged in place, as notebooks do when a module is loaded again.
    key = *kind, getattr(fn, "__code__", None), torch.get_default_dtype()
    found = known.captured.get(key)
    if found is not None and (isinstance(found, str) or _lasts(problem) or _is(problem, found)):
        return found
    found = _capture(problem, beta0)
    if found is not UNDEFINED:
        known.captured[key] = found
    return found


def _is(problem: Problem, found: Captured) -> bool:
    """Return whether a model still is what was captured."""
    try:
        return record(_whole(problem), *found.sample).written == found.written
    except CaptureError:
        return False


def _whole(problem: Problem) -> Function:
    """Return the model of all its parameters."""
    return replace(problem, free=problem.model.names, fixed={}).function()


def _lasts(problem: Problem) -> bool:
    """Return whether a model is what it is for good: nothing that it reads can change.

    That holds for formulas, built-in models, and functions of nothing but their arguments that call
    operations by their own names.
    """
    model = problem.model
    if model.formula is not None or models.known(model.label):
        return True
    fn: Any = model.fn
    if not isinstance(fn, FunctionType) or fn.__closure__ or fn.__kwdefaults__:
        return False
    code, scope = fn.__code__, fn.__globals__
    return not any(isinstance(c, CodeType) for c in code.co_consts) and all(
        any(scope[name] is m for m in LIBRARIES) if name in scope else name in KNOWN_NAMES
        for name in code.co_names
    )


def _layout(problem: Problem, loss: Loss | None) -> Layout:
    points, names = problem.points, problem.model.names
    return Layout(
        points.rows,
        tuple([names.index(n) for n in problem.free] if problem.fixed else range(len(names))),
        points.y is not None,
        points.scale_x.ndim == 3,
        points.weight_y is not None and points.weight_y.ndim == 3,
        points.cross is not None and len(points.rows) > 0,
        "linear" if loss is None else loss.name,
    )


def _everything(problem: Problem, beta0: Tensor) -> dict[str, Tensor]:
    """Return all parameters, the fixed ones too, of the first fit."""
    free = dict(zip(problem.free, beta0[0], strict=True))
    return {n: free[n] if n in free else beta0.new_tensor(problem.fixed[n]) for n in
            problem.model.names}  # fmt: skip


def _sample(problem: Problem, beta0: Tensor) -> tuple[Tensor, Tensor]:
    """Return two points (m, 2) of the first fit, and parameters there (p, 2)."""
    x = problem.points.x
    last = x.shape[1] if problem.data.group is None else int((problem.data.group == 0).sum())
    beta = torch.stack(list(_everything(problem, beta0).values()))
    other = beta * 1.0625 + torch.where(beta == 0, 0.0625, 0.0)
    return x[:, [0, last // 2]], torch.stack([beta, other], 1)


def _capture(problem: Problem, beta0: Tensor) -> Captured | str:
    function, sample = _whole(problem), _sample(problem, beta0)
    try:
        first = record(function, *sample)
        found = _CAPTURED.get(first.written)
        if found is not None:
            return found
        if not torch.isfinite(first.value[:, 0]).all():
            return UNDEFINED
        found = Captured(checked(function, first), sample, first.written)
    except CaptureError as error:
        return str(error)
    if len(_CAPTURED) >= MOST:
        _CAPTURED.clear()
    return _CAPTURED.setdefault(found.written, found)


def run(
    kernels: Kernels,
    problem: Problem,
    beta0: Tensor,
    options: Options,
    loss: Loss | None,
    ended: Tensor | None = None,
    *,
    feet: int = FOOT_ROUNDS,
) -> Fitted:
    """Fit by machine code; ``feet`` is how often nearer ones are searched, at most."""
    plan = make_plan(kernels, problem, options, loss, feet)
    fit = cuda.fit if kernels.backend == "cuda" else cpu.fit
    firsts = _firsts(problem, beta0.shape[0])
    fitted = fit(plan, problem.points, firsts, beta0, ended)
    return look_again(fitted, problem, loss, firsts.diff())


def make_plan(
    kernels: Kernels,
    problem: Problem,
    options: Options,
    loss: Loss | None,
    feet: int = FOOT_ROUNDS,
) -> Plan:
    """Return what all fits of this kind have in common."""
    fixed, names = problem.fixed, problem.model.names
    values = tuple([fixed.get(n, 0.0) for n in names]) if fixed else (0.0,) * len(names)
    return plan_of(kernels, problem.points, options, loss, values, problem.bounds, feet=feet)


@lru_cache(maxsize=64)
def alone(n: int) -> Tensor:
    """Return where the points of the only fit begin and end."""
    return torch.tensor([0.0, n], dtype=torch.float64, device="cpu")


def _firsts(problem: Problem, count: int) -> Tensor:
    """Return where the points of each fit begin, and where those of the last end."""
    points, data = problem.points, problem.data
    if points.group is None:
        return alone(points.n)
    if points.group is data.group and data.sizes is not None:
        sizes = data.sizes
    else:
        sizes = torch.bincount(points.group, minlength=count)
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]).double()
