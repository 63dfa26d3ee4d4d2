"""A model's promise: the shape that is wanted, pointwise, and with a graph that is whole."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gradfit._model import PER_POINT, order_advice, wrong_shape
from gradfit._problem import Problem
from gradfit._whitening import refuse_exact
from gradfit.errors import ModelError

_Shape = tuple[int, int, bool, bool]
_CHECKED: "WeakKeyDictionary[Any, dict[_Shape, frozenset[str]]]" = WeakKeyDictionary()
"""Parameters for which a function kept its promise, by the shape of x and of what is wanted.

Testing it again would teach nothing; another number of variables or responses would.
"""
SAMPLE = 8
"""Points at which a model function is tested."""


def check_model(problem: Problem, beta0: Tensor) -> Problem:
    """Test once that the model returns the right shape, is pointwise, and keeps its graph.

    Returns the problem, which now knows how many equations an implicit model has; each of them
    needs a coordinate with an error.
    """
    fn = problem.model.fn
    if problem.data.y is None:
        with torch.no_grad():
            one = _call(problem, problem.data.x[:, :1], [c[:1] for c in beta0.mT])
        problem = replace(problem, implicit_equations=1 if one.ndim < 2 else one.shape[0])
        refuse_exact(problem.data, problem.fix_x, problem.n_equations)
    shape = _shape(problem)
    known = _remembered(fn).get(shape)
    if known is not None and known.issuperset(problem.free):
        return problem
    n = problem.data.x.shape[1]
    take = (
        torch.linspace(0, n - 1, min(SAMPLE, n), device=beta0.device, dtype=torch.float64)
        .round()
        .long()
    )
    x = problem.data.x[:, take]
    group = problem.data.group
    beta = [c[group[take]] if group is not None else c.expand(len(take)) for c in beta0.mT]
    _check_shape(problem, x, beta)
    _check_pointwise(problem, x, beta)
    # The derivative of a formula cannot be cut.
    if problem.model.formula is None:
        _check_graph(problem, x, beta)
    kept = {**_remembered(fn), shape: (known or frozenset()).union(problem.free)}
    with suppress(TypeError):
        _CHECKED[fn] = kept
    return problem


def _shape(problem: Problem) -> _Shape:
    """Return how many variables and equations there are, and whether x is a vector, y is there."""
    data = problem.data
    return data.x.shape[0], problem.n_equations, data.vector_x, data.y is None


def _remembered(fn: Any) -> dict[_Shape, frozenset[str]]:
    """Return what is known of a function; nothing of one that cannot be remembered."""
    try:
        return _CHECKED.get(fn, {})
    except TypeError:
        return {}


def _call(problem: Problem, x: Tensor, beta: Sequence[Tensor]) -> Tensor:
    """Call the user's model; whatever goes wrong in it is told in one line."""
    given = dict(zip(problem.free, beta, strict=True))
    params = [
        given[n] if n in given else x.new_full(x.shape[-1:], problem.fixed[n])
        for n in problem.model.names
    ]
    return problem.model.call(x[0] if problem.data.vector_x else x, params)


def _check_shape(problem: Problem, x: Tensor, beta: Sequence[Tensor]) -> None:
    value = _call(problem, x, [b.detach().requires_grad_() for b in beta])
    n, q = x.shape[1], problem.n_equations
    implicit = problem.data.y is None
    fine = value.shape in ((n,), ()) if q == 1 and not implicit else value.shape == (q, n)
    if q == 1:
        fine = fine or value.shape in ((1, n), (n,))
    if implicit:
        fine = value.shape == (n,) or (value.ndim == 2 and value.shape[1] == n)
    if not fine:
        raise wrong_shape(problem.model, problem.data.y_names, tuple(value.shape), n)


def _check_pointwise(problem: Problem, x: Tensor, beta: Sequence[Tensor]) -> None:
    n, model = x.shape[1], problem.model
    if n < 2:
        return
    half = n // 2
    with torch.no_grad():
        whole = _call(problem, x, beta)
        try:
            part = _call(problem, x[:, half:], [b[half:] for b in beta])
        except ModelError as e:
            raise ModelError(
                f"the model {model.label!r} can be called for all points, but not for some of them "
                f"alone. Each value may depend on its own x and the parameters alone.{PER_POINT}"
            ) from e
        wanted = whole[..., half:]
        same = part.ndim <= wanted.ndim and part.shape[-1:] in ((), (1,), wanted.shape[-1:])
        same = same and torch.allclose(wanted, part.expand(wanted.shape), 1e-7, 1e-300, True)
    if not same:
        raise ModelError(
            f"the model {model.label!r} mixes points: its value at one point changes when "
            "others are left out. Each value may depend on its own x and the parameters alone."
            f"{order_advice(model)}"
        )


def _check_graph(problem: Problem, x: Tensor, beta: Sequence[Tensor]) -> None:
    """Hold every derivative of the graph against a difference; tell which argument is cut off."""
    leaves = [x.detach().clone(), *(b.detach().clone() for b in beta)]
    slopes = _slopes(problem, leaves)
    for k, name in enumerate(("x", *problem.free)):
        found = slopes[k]
        verdict = _verdict(problem, leaves, k, found)
        if verdict == "" and found is None and k and _is_unused(problem, leaves, k):
            raise ModelError(
                f"the model {problem.model.label!r} does not use its parameter {name!r}. "
                "Remove it, or fix it with `fixed`."
            )
        if verdict == "cut":
            raise ModelError(
                f"the model {problem.model.label!r} breaks its graph: its value depends on "
                f"{name!r}, but no gradient arrives there. Look for .detach(), .item(), .data, "
                "torch.no_grad() or NumPy in it."
            )
        if verdict == "wrong":
            raise ModelError(
                f"the model {problem.model.label!r} gives a derivative with respect to "
                f"{name!r} that differences contradict. Look for .detach(), NumPy or a custom "
                "backward in it."
            )


def _slopes(problem: Problem, values: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradient of the sum of the model by each argument, None where none arrives."""
    leaves = [t.detach().clone().requires_grad_() for t in values]
    with torch.enable_grad():
        value = _call(problem, leaves[0], leaves[1:]).sum()
    if not value.requires_grad:
        return [None] * len(leaves)
    return torch.autograd.grad(value, leaves, allow_unused=True)


def _is_unused(problem: Problem, leaves: list[Tensor], k: int) -> bool:
    """Return whether the value stays the same when argument ``k`` changes a lot."""
    with torch.no_grad():
        before = _call(problem, leaves[0], leaves[1:])
        moved = list(leaves)
        moved[k] = moved[k] * 1.37 + 0.73
        after = _call(problem, moved[0], moved[1:])
    return torch.equal(before.nan_to_num(), after.nan_to_num())


class Difference(NamedTuple):
    """Central differences (N,) of one step length.

    Attributes
    ----------
    slope, noise : Tensor (N,)
        The difference quotient, and the size of its rounding error.
    bend : Tensor (N,)
        By how much it differs to both sides.
    step : Tensor
        How the argument was moved.
    """

    slope: Tensor
    noise: Tensor
    bend: Tensor
    step: Tensor


QUICK = 1e-4, 1e-5
"""Steps, in parts of an argument, that tell of most derivatives that they are right."""
STEPS = tuple(10.0 ** (-k / 2) for k in range(2, 27))
"""Steps by which a derivative that is right is found to be so before it is called wrong."""
CLOSE, STEADY, SURE, MANY = 1e-2, 1e-3, 0.05, 0.75
"""Relative gap that is none; gap of differences that agree among themselves; rounding error up to
which a difference tells anything; share of the points that tell which have to agree on a fault."""


def _verdict(problem: Problem, leaves: list[Tensor], k: int, found: Tensor | None) -> str:
    """Return "cut" (no gradient although the value moves), "wrong", or "" where none is sure.

    A difference means nothing where the step is longer than what the model does, nor where it is
    rounding error. So the step shrinks until differences agree among themselves, and they are
    believed where the derivative of the graph does not change along the step, which it does where
    the model oscillates within. What is wrong has to be so at nearly all points that tell.
    """
    graph = torch.zeros_like(leaves[k]) if found is None else found
    rows = range(graph.shape[0]) if graph.ndim == 2 else [None]
    worst = ""
    for row in rows:
        slope = graph if row is None else graph[row]
        if _is_wrong(problem, leaves, k, row, slope):
            if not bool(slope.any()):
                return "cut"
            worst = "wrong"
    return worst


def _is_wrong(
    problem: Problem, leaves: list[Tensor], k: int, row: int | None, slope: Tensor
) -> bool:
    """Return whether differences by one argument, or one row of x, contradict ``slope`` (N,)."""
    for share in QUICK:
        d = _difference(problem, leaves, k, row, share)
        doubtful = (d.slope - slope).abs() > CLOSE * _larger(d.slope, slope) + d.noise
        if bool(_is_right(d, slope).any() & ~doubtful.any()):
            return False
    tried = [_difference(problem, leaves, k, row, share) for share in STEPS]
    wrong = torch.zeros_like(slope, dtype=torch.bool)
    step = torch.zeros_like(tried[0].step)
    right = torch.stack([_is_right(d, slope) for d in tried]).any(0)
    for a, b, c in zip(tried, tried[1:], tried[2:], strict=False):
        size = _larger(b.slope, slope)
        steady = _agree(a, b) & _agree(b, c) & (b.bend <= 0.1 * b.slope.abs() + b.noise)
        off = (b.slope - slope).abs() > 2 * CLOSE * size + 3 * b.noise
        now = steady & (c.noise <= SURE * size) & off & ~right
        wrong |= now
        step = torch.where(now, b.step, step)
    moved = list(leaves)
    moved[k] = leaves[k] + step
    beyond = _slopes(problem, moved)[k]
    beyond = torch.zeros_like(leaves[k]) if beyond is None else beyond
    beyond = beyond if row is None else beyond[row]
    wrong &= (beyond - slope).abs() <= 0.1 * slope.abs()
    silent = (slope == 0) & torch.stack([d.slope == 0 for d in tried]).all(0)
    telling = int((~silent & torch.isfinite(slope)).sum())
    return bool(wrong.any()) and int(wrong.sum()) >= MANY * telling


def _is_right(d: Difference, slope: Tensor) -> Tensor:
    """Return where (N,) a difference that tells something confirms the slope."""
    size = _larger(d.slope, slope)
    near = (d.slope - slope).abs() <= CLOSE * size
    return near & (size > 0) & (d.noise <= SURE * size)


def _larger(a: Tensor, b: Tensor) -> Tensor:
    return torch.maximum(a.abs(), b.abs())


def _agree(a: Difference, b: Difference) -> Tensor:
    return (a.slope - b.slope).abs() <= STEADY * _larger(a.slope, b.slope) + b.noise


def _difference(
    problem: Problem, plain: list[Tensor], k: int, row: int | None, share: float
) -> Difference:
    """Return differences along one argument, in steps of a share of its size.

    Of an argument that is 0 the size is not known: the step is a share of the largest at other
    points, or of 1, and shrinks faster.
    """
    value = plain[k] if row is None else plain[k][row]
    size, largest = value.abs(), float(value.abs().max())
    zero = (largest or 1.0) * share * share
    step = torch.where(size > 0, share * size, zero)
    if row is not None:
        step = (
            torch.zeros_like(plain[k]).index_fill_(
                0, torch.tensor([row], dtype=torch.int64, device=plain[k].device), 1.0
            )
            * step
        )
    ends: list[Tensor] = []
    values: list[Tensor] = []
    with torch.no_grad():
        for sign in (1, 0, -1):
            moved = list(plain)
            moved[k] = plain[k] + sign * step
            found = _call(problem, moved[0], moved[1:])
            ends.append(moved[k] if row is None else moved[k][row])
            values.append(found if found.ndim < 2 else found.sum(0))
    up, down = ends[0] - ends[1], ends[1] - ends[2]
    width = up + down
    high, here, low = values
    slope = (high - low) / width
    eps = torch.finfo(width.dtype).eps
    noise = 1e3 * eps * (high.abs() + low.abs()) / width
    noise = noise + 64 * eps * slope.abs() * size / width
    return Difference(slope, noise, ((high - here) / up - (here - low) / down).abs(), step)
