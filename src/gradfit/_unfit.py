"""Fits that cannot be made: too few points, numbers that are none, no derivative to follow."""

from typing import NoReturn

import torch
from torch import Tensor

from gradfit._data import finite_rows
from gradfit._data.checks import shown
from gradfit._engine.linearize import derive
from gradfit._format import plural
from gradfit._problem import Problem
from gradfit._types import Status
from gradfit.errors import InputError


def unfit(problem: Problem) -> Tensor | None:
    """Return the status (G,) of groups, 0 for those that can be fitted; None for one fit."""
    data, p = problem.data, len(problem.free)
    group, sizes = data.group, data.sizes
    if group is None or sizes is None:
        if problem.n_seen < p:
            n = data.x.shape[1]
            some = f" with {problem.n_seen} responses in all" if data.n_missing else ""
            raise InputError(
                f"{plural(n, 'point')}{some} cannot determine {plural(p, 'parameter')} "
                f"({', '.join(problem.free)}). Add data, or fix some with `fixed`."
            )
        return None
    bad = None
    if not data.finite:
        bad = torch.zeros_like(sizes, dtype=torch.bool)
        bad[group[~finite_rows(data)]] = True
    if problem.shared:
        _refuse_unfit_group(problem, sizes, bad)
        return torch.zeros_like(sizes)
    status = torch.where(problem.seen_per_fit < p, int(Status.TOO_FEW_POINTS), 0)
    return status if bad is None else torch.where(bad, int(Status.BAD_DATA), status)


def _refuse_unfit_group(problem: Problem, sizes: Tensor, bad: Tensor | None) -> None:
    """Raise where groups cannot be fitted together: a joint fit leaves none out by itself.

    ``bad`` (G,) marks groups that hold NaN or inf, if any do. A group has to determine its own
    parameters; those that all share are up to all of them.
    """
    keys, names = problem.data.keys, ", ".join(problem.shared)
    if bad is not None and bool(bad.any()):
        raise InputError(
            f"group {keys[int(bad.int().argmax())]!r} holds NaN or inf, and the groups share "
            f'{names}. Leave such rows out with nan_policy="omit", or leave the group out.'
        )
    own = [n for n in problem.free if n not in problem.shared]
    given = problem.seen_per_fit
    if bool((given < len(own)).any()):
        short = int((given < len(own)).int().argmax())
        raise InputError(
            f"group {keys[short]!r} has {plural(int(sizes[short]), 'point')}, too few for its own "
            f"{', '.join(own)}; the groups share only {names}. Leave the group out, or add data."
        )
    total, p = int(given.sum()), len(own) * len(sizes) + len(problem.shared)
    if total < p:
        raise InputError(
            f"{plural(int(sizes.sum()), 'point')} in {plural(len(sizes), 'group')} (first "
            f"{keys[0]!r}) cannot determine {p} parameters: {len(own)} in each group, and "
            f"{names} in all. Add data, or share more."
        )


def refuse_bad_start(problem: Problem, beta: Tensor) -> NoReturn:
    """Raise for one fit that cannot begin at ``beta`` (1, p): name where it is NaN or inf."""
    with torch.no_grad():
        columns = [c.expand(problem.points.n) for c in beta.mT]
        value = problem.function()(problem.points.x, columns)
    bad = (~torch.isfinite(value)).reshape(-1, problem.points.n).any(0).nonzero()[:, 0]
    where = _parameters(problem, beta)
    if len(bad):
        raise InputError(
            f"`start` makes the model NaN or inf at {len(bad)} of {problem.points.n} points (first "
            f"at {_place(problem, int(bad[0]))}) for {where}. Choose other start values."
        )
    refuse_steep(problem, beta)
    raise InputError(
        f"`start` makes chi-square overflow for {where}. Choose start values nearer the data."
    )


def refuse_steep(problem: Problem, beta: Tensor) -> None:
    """Raise where a model that is finite has no finite derivative at ``beta`` (1, p).

    That is a matter of the point, seldom of the parameters.
    """
    points = problem.points
    with torch.enable_grad():
        u = points.x.new_zeros(len(points.rows), points.n)
        d = derive(points, problem.function(), u, problem.unknowns(beta).mT)
    seen = problem.data.x_names
    names = [seen[k] if k < len(seen) else f"variable {k}" for k in points.rows]
    names += problem.free
    bad = ~torch.isfinite(torch.cat([d.J_u, d.J_beta], 1)).all(0)[: len(names)]
    bad = bad & torch.isfinite(d.r).all(0)
    if not bool(bad.any()):
        return
    row, i = (int(k) for k in bad.nonzero()[0])
    if row < len(points.rows):
        advice = "Where x is exact it is not needed: give sx = 0 there, or `fix_x`. Else leave"
    else:
        advice = "Leave"
    raise InputError(
        f"the model {problem.model.label!r} is finite at {_place(problem, i)}, but its derivative "
        f"with respect to {names[row]} is infinite or undefined there (for "
        f"{_parameters(problem, beta)}). {advice} the point out, or write the model otherwise."
        f"{_guard(problem)}"
    )


def _guard(problem: Problem) -> str:
    """Say what a choice between two values does to derivatives, where there may be one."""
    formula = problem.model.formula
    if formula is not None and "where(" not in formula.body:
        return ""
    name = "torch.where" if formula is None else "where"
    return (
        f" {name} differentiates both of its values, so the one not chosen must be finite, too: "
        f"let z = {name}(x == 0, 1, x) stand for x in it."
    )


def _parameters(problem: Problem, beta: Tensor) -> str:
    pairs = zip(problem.free, beta[0].tolist(), strict=False)
    return ", ".join(f"{name} = {value:g}" for name, value in pairs)


def _place(problem: Problem, i: int) -> str:
    """Name a point of the engine by the row of the user."""
    x = problem.data.x[:, i].tolist()
    return f"index {int(problem.data.index[i])}, x = {shown(x[0] if len(x) == 1 else x)}"
