r"""How every parameter moves with every datum, standard deviation and correlation.

To first order, and exactly at the solution: the conditions that it fulfils are differentiated
implicitly (:mod:`gradfit._engine.implicit`), through the model's graph and through the whitening,
so that nothing is refitted and nothing is a finite difference. One backward pass per parameter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradfit._data import Data
from gradfit._engine.covariance import spread
from gradfit._engine.implicit import coupling, pull
from gradfit._engine.points import Points
from gradfit._engine.robust import scaled
from gradfit._engine.taylor import tame
from gradfit._problem import to_points
from gradfit._uncertainty.restate import Case

SOURCES = ("x", "y", "sx", "sy", "rho", "cov")


@dataclass(frozen=True, kw_only=True, eq=False)
class Influence:
    """Derivatives of the parameters, each by name, in the user's rows; NaN in rows left out.

    Attributes
    ----------
    x, y : mapping of str to (N,), (m, N) or (q, N)
        How a parameter moves with each observation, 0 for a response that was not measured; ``y``
        is None for an implicit model.
    sx, sy : mapping of str to (N,), (m, N) or (q, N), or None
        With the standard deviation at each point; None where none was given.
    rho : mapping of str to (N,), or None
        With the correlation at each point.
    cov : mapping of str to (N, k, k), or None
        With the joint covariance of each point: a change ``E`` of it moves a parameter by
        ``sum(cov * E)``.
    """

    x: Mapping[str, Any]
    y: Mapping[str, Any] | None
    sx: Mapping[str, Any] | None
    sy: Mapping[str, Any] | None
    rho: Mapping[str, Any] | None
    cov: Mapping[str, Any] | None


def influence(case: Case, as_torch: bool) -> Influence:
    """Return the derivatives of all parameters of a fit; 0 for fixed ones."""
    response = Response(case)
    data, names = case.problem.data, case.problem.model.names
    moved = {name: response.backward(_unit(case, j)) for j, name in enumerate(names)}

    def of(source: str, give: Callable[[Tensor], Tensor]) -> dict[str, Any] | None:
        if getattr(data, source) is None:
            return None
        found = {name: give(moved[name][source]) for name in names}
        return found if as_torch else {name: t.numpy() for name, t in found.items()}

    def like(vector: bool) -> Callable[[Tensor], Tensor]:
        return lambda t: in_rows(data, t)[0] if vector else in_rows(data, t)

    x = of("x", like(data.vector_x))
    return Influence(
        x={} if x is None else x,
        y=of("y", like(data.vector_y)),
        sx=of("sx", like(data.vector_x)),
        sy=of("sy", like(data.vector_y)),
        rho=of("rho", like(True)),
        cov=of("cov", lambda t: in_rows(data, t).permute(2, 0, 1)),
    )


def in_rows(data: Data, values: Tensor) -> Tensor:
    """Return per-point values (..., N) in the rows of the user, NaN where one was left out."""
    out = values.new_full((*values.shape[:-1], data.n_rows), torch.nan)
    out[..., data.index] = values
    return out


def _unit(case: Case, j: int) -> Tensor:
    unit = torch.zeros(len(case.problem.model.names), dtype=torch.float64, device="cpu")
    unit[j] = 1.0
    return unit


class Response:
    """The derivative of the parameters, ready to be contracted with any direction of theirs."""

    def __init__(self, case: Case) -> None:
        problem, work = case.problem, case.work
        self.case = case
        with torch.enable_grad():
            self.inverse = spread(work, "observed", problem.limits()).cov[0]
            n = problem.data.x.shape[1]
            data = problem.data
            self.leaves = {
                name: _spread_out(t, n)
                for name in SOURCES
                if (t := getattr(data, name)) is not None
            }
            changed = dict(self.leaves)
            if "rho" in changed:
                changed["rho"] = changed["rho"][0]
            points, _ = to_points(replace(data, **changed), None, problem.systematic)
            points = scaled(points, case.scale)
            self.m, self.steep = self._pull(points)

    def _pull(self, points: Points) -> tuple[Tensor, Tensor | None]:
        """Return what parameters follow, and which x (m, N) have an infinite slope, if any."""
        work, beta = self.case.work, self.case.beta
        m: list[Tensor] = []
        steep: list[Tensor] = []
        for s, linear in work.field.linears(beta, work.u, work.kept):
            nu, X = coupling(work.field, s, linear, beta)
            model = tame(s.points, work.field.fn, linear.u, beta.mT)
            at = linear.u, nu, X, beta.mT
            m.append(pull(_part(points, s.start, s.stop), model.fn, at, self.case.loss))
            found = model.steep
            steep.append(torch.zeros_like(s.points.x) > 0 if found is None else found)
        marked = torch.cat(steep, -1)
        return torch.cat(m, -1), marked if bool(marked.any()) else None

    def backward(self, weights: Tensor) -> dict[str, Tensor]:
        """Return the gradient of ``weights @ params`` (all p) by every number at every point."""
        free = weights @ self.case.jacobian
        along = -(free @ self.inverse[: len(free)])
        with torch.enable_grad():
            total = (along[:, None] * self.m).sum()
            grads = torch.autograd.grad(
                total, list(self.leaves.values()), retain_graph=True, materialize_grads=True
            )
        found = {name: g.detach() for name, g in zip(self.leaves, grads, strict=True)}
        if self.steep is not None:
            # Not 0: no number tells how an infinite slope carries a change of x on.
            found["x"] = torch.where(self.steep[: len(found["x"])], torch.nan, found["x"])
        if "cov" in found:  # a covariance can only change as a symmetric matrix does
            found["cov"] = (found["cov"] + found["cov"].transpose(0, 1)) / 2
        return found


def _spread_out(t: Tensor, n: int) -> Tensor:
    """Give every point a number of its own, so that each can be differentiated by."""
    wide = t if t.ndim > 1 else t[None]
    return wide.expand(*wide.shape[:-1], n).clone().requires_grad_()


def _part(points: Points, start: int, stop: int) -> Points:
    return points if stop - start == points.n else points.part(start, stop)
