"""A model's promise: the shape that is wanted, pointwise, and with a graph that is whole."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gradfit._model import wrong_shape
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
    take = torch.arange(min(SAMPLE, problem.data.x.shape[1]), device=beta0.device)
    x = problem.data.x[:, take]
    group = problem.data.group
    beta = [c[group[take]] if group is not None else c.expand(len(take)) for c in beta0.mT]
    _check_shape(problem, x, beta)
    _check_pointwise(problem, x, beta)
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
    n = x.shape[1]
    if n < 2:
        return
    half = n // 2
    with torch.no_grad():
        whole = _call(problem, x, beta)
        try:
            part = _call(problem, x[:, half:], [b[half:] for b in beta])
            same = torch.allclose(
                whole[..., half:], part.expand(whole[..., half:].shape), 1e-7, 1e-300, True
            )
        except (ModelError, RuntimeError):
            same = False
    if not same:
        raise ModelError(
            f"the model {problem.model.label!r} mixes points: its value at one point changes when "
            "others are left out. Each value may depend on its own x and the parameters alone."
        )


def _check_graph(problem: Problem, x: Tensor, beta: Sequence[Tensor]) -> None:
    """Hold every derivative of the graph against a difference; tell which argument is cut off."""
    leaves = [
        x.detach().clone().requires_grad_(),
        *(b.detach().clone().requires_grad_() for b in beta),
    ]
    with torch.enable_grad():
        value = _call(problem, leaves[0], leaves[1:]).sum()
    if value.requires_grad:
        grads = torch.autograd.grad(value, leaves, allow_unused=True)
    else:
        grads = [None] * len(leaves)
    for k, name in enumerate(("x", *problem.free)):
        found = grads[k]
        graph = torch.zeros_like(leaves[k]) if found is None else found
        verdict = _disagrees(problem, leaves, k, graph)
        if verdict == "agrees" and found is None and k and verdict_of_use(problem, leaves, k):
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
                f"{name!r} that differences contradict at every point. Look for .detach() or a "
                "custom backward."
            )


def verdict_of_use(problem: Problem, leaves: list[Tensor], k: int) -> bool:
    """Return whether the value stays the same when argument ``k`` changes a lot."""
    with torch.no_grad():
        moved = [t.detach() for t in leaves]
        before = _call(problem, moved[0], moved[1:])
        moved[k] = moved[k] * 1.37 + 0.73
        after = _call(problem, moved[0], moved[1:])
    return torch.equal(before.nan_to_num(), after.nan_to_num())


def _disagrees(problem: Problem, leaves: list[Tensor], k: int, graph: Tensor) -> str:
    """Return "agrees", "cut" (no gradient although the value moves) or "wrong"."""
    plain = [t.detach() for t in leaves]
    if k == 0 and problem.data.x.shape[0] > 1:
        directions = [torch.zeros_like(plain[0]) for _ in range(plain[0].shape[0])]
        for row, d in enumerate(directions):
            d[row] = 1.0
    else:
        directions = [torch.ones_like(plain[k])]
    worst = "agrees"
    for direction in directions:
        analytic = (graph * direction).sum(0) if graph.ndim == 2 else graph * direction
        bad = torch.ones_like(analytic, dtype=torch.bool)
        for h in (1e-4, 1e-5):
            numeric, noise = _difference(problem, plain, k, direction * h)
            gap = (numeric - analytic).abs()
            bad &= gap > 1e-2 * torch.maximum(numeric.abs(), analytic.abs()) + noise
        if bool(bad.all()):
            worst = "cut" if not bool(analytic.any()) else "wrong"
            if worst == "cut":
                return worst
    return worst


def _difference(
    problem: Problem, plain: list[Tensor], k: int, relative: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the central difference along ``relative`` and the size of its rounding error."""
    size = plain[k].abs()
    step = relative * torch.where(size > 0, size, torch.ones_like(size))
    with torch.no_grad():
        sums: list[Tensor] = []
        for sign in (1, -1):
            moved = list(plain)
            moved[k] = plain[k] + sign * step
            value = _call(problem, moved[0], moved[1:])
            sums.append(value if value.ndim == 1 else value.sum(0))
    width = 2 * (step.sum(0) if step.ndim == 2 else step)
    eps = torch.finfo(width.dtype).eps
    noise = 1e3 * eps * (sums[0].abs() + sums[1].abs()) / width
    return (sums[0] - sums[1]) / width, noise
