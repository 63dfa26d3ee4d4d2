"""Fits that cannot be made: too few points, or numbers that are none."""

import torch
from torch import Tensor

from gradfit._data import finite_rows
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
