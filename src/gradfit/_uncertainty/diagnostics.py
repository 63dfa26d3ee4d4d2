"""What every point does to a fit, and which parameters the data leave open."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradfit._engine.covariance import Spread, spread
from gradfit._format import columns, number, percent
from gradfit._types import FloatArray
from gradfit._uncertainty.influence import in_rows
from gradfit._uncertainty.restate import Case
from gradfit._views.fitted import Fitted, rows
from gradfit._views.residuals import farthest_expected, listed, standardised

EXACT_RUNS = 1000
"""Points up to which the distribution of runs is added up; beyond it is normal to five digits."""
LOOSE = 30.0
"""Condition from which the least determined combination is worth a word (Belsley et al. 1980)."""
FEW = 0.01
"""Probability below which runs are called too few."""
NAMED = 0.05
"""Share of a combination below which a parameter is left out of it."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Diagnostics:
    r"""Leverage, influence and residuals point by point, and what is determined.

    Per-point arrays are in the user's rows, NaN where a row was left out.

    Attributes
    ----------
    residual : (N,) or (q, N)
        Standardised perpendicular residuals: distance from the curve in standard deviations,
        positive above it.
    studentised : (N,) or (q, N)
        The same over :math:`\sqrt{1 - h}`, which all have unit variance.
    leverage : (N,)
        :math:`h_i = \mathrm{tr}\,\tilde J_i A^{-1} \tilde J_i^T`, how much a point pulls the curve
        to itself; they add up to the number of free parameters.
    cook : (N,)
        Cook's distance: how far the parameters move without the point, squared, in units of their
        covariance, per parameter.
    runs, runs_expected : int, float
        Runs of residuals of one sign along x, and how many there would be without a trend.
    runs_p_value : float
        Probability of as few runs or fewer; NaN with several variables, responses or no residuals.
    rank, condition : int, float
        As in the fit.
    weakest : str
        The combination of parameters, each in its own scale, that the data determine least.
    """

    residual: Any
    studentised: Any
    leverage: Any
    cook: Any
    runs: int
    runs_expected: float
    runs_p_value: float
    rank: int
    condition: float
    weakest: str
    text: str

    def summary(self) -> str:
        """Return what there is to beware of, in words; ``print(...)`` shows the same."""
        return self.text

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def diagnose(fit: Fitted, case: Case, as_torch: bool) -> Diagnostics:
    """Return the diagnostics of a fit."""
    with torch.enable_grad():
        found = spread(case.work, "expected", case.problem.limits())
        leverage, cook = _pull_of_points(case, found, case.size(fit, "expected"))
    r = standardised(fit)
    h = in_rows(case.problem.data, leverage).numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = r / np.sqrt(1 - h)
    d = in_rows(case.problem.data, cook).numpy()
    runs = count_runs(fit, r)
    weakest = combination(case, found)
    vector = r.shape[0] == 1

    def give(values: FloatArray) -> Any:
        return torch.from_numpy(values) if as_torch else values

    return Diagnostics(
        residual=give(r[0] if vector else r),
        studentised=give(studentised[0] if vector else studentised),
        leverage=give(h),
        cook=give(d),
        runs=runs[0],
        runs_expected=runs[1],
        runs_p_value=runs[2],
        rank=fit.rank,
        condition=fit.condition,
        weakest=weakest,
        text="\n".join(_words(fit, case, r, h, d, runs, weakest)),
    )


def _pull_of_points(case: Case, found: Spread, scale: float) -> tuple[Tensor, Tensor]:
    """Return leverage (N,) and Cook's distance (N,).

    Without point ``i`` the parameters move by ``A^-1 J_i^T (1 - H_i)^-1 h_i``, to first order.
    """
    C = found.cov[0]
    if not bool(torch.isfinite(C).all()):
        # What is left open moves no point: leave it out.
        D = case.work.state.sums.A[0].diagonal().clamp(min=0).sqrt()
        D = torch.where(D > 0, D, 1.0)
        size = D[:, None] * D
        C = torch.linalg.pinv(case.work.state.sums.A[0] / size, rtol=1e-10, hermitian=True) / size
    leverage: list[Tensor] = []
    cook: list[Tensor] = []
    for _, linear in case.work.field.linears(case.beta, case.work.u, case.work.kept):
        root = 1.0 if case.loss is None else case.loss.weight(linear.phi).sqrt()
        J, h = linear.J * root, linear.h * root
        H = torch.einsum("apn,pr,brn->nab", J, C, J)
        rest = torch.eye(H.shape[1], dtype=torch.float64, device="cpu").to(H) - H
        pushed = torch.linalg.solve_ex(rest, h.mT[..., None])[0][..., 0]
        leverage.append(H.diagonal(dim1=1, dim2=2).sum(-1))
        moved = torch.einsum("apn,na->np", J, pushed)
        cook.append(torch.einsum("np,pr,nr->n", moved, C, moved) / (case.p * scale))
    return torch.cat(leverage), torch.cat(cook)


def combination(case: Case, found: Spread) -> str:
    """Name the combination of parameters, each in units of its own scale, determined least."""
    names = case.problem.free
    pairs = zip(names, found.weakest[0, : len(names)].tolist(), strict=True)
    shown = [(n, w) for n, w in pairs if abs(w) > NAMED]
    # Of two parameters both count the same, so that only rounding would tell which is the larger.
    sign = -1 if shown and max(shown, key=lambda pair: round(abs(pair[1]), 9))[1] < 0 else 1
    return " ".join(f"{sign * w:+.2g}*{n}" for n, w in shown).removeprefix("+")


def count_runs(fit: Fitted, r: FloatArray) -> tuple[int, float, float]:
    """Count runs of one sign along x; return them, their expectation and P(as few or fewer)."""
    if r.shape[0] > 1 or np.ndim(fit.observed.x) > 1:
        return 0, math.nan, math.nan
    along = np.argsort(rows(fit.observed.x)[0], kind="stable")
    signs = np.sign(r[0][along])
    signs = signs[np.isfinite(signs) & (signs != 0)]
    above, below = int((signs > 0).sum()), int((signs < 0).sum())
    if not above or not below:
        return int(signs.size > 0), math.nan, math.nan
    runs = 1 + int((signs[1:] != signs[:-1]).sum())
    return runs, 1 + 2 * above * below / (above + below), few_runs(runs, above, below)


def few_runs(runs: int, above: int, below: int) -> float:
    """Return the probability of at most ``runs`` runs in a random order (Wald and Wolfowitz 1940).

    Examples
    --------
    >>> few_runs(2, 2, 2) == 2 / 6
    True
    """
    n = above + below
    if n > EXACT_RUNS:
        mean = 1 + 2 * above * below / n
        z = (runs + 0.5 - mean) / math.sqrt((mean - 1) * (mean - 2) / (n - 1))
        return 0.5 * math.erfc(-z / math.sqrt(2))
    total = 0
    for k in range(2, runs + 1):
        more, less = (k - 1) // 2, k // 2 - 1
        total += math.comb(above - 1, more) * math.comb(below - 1, less)
        total += math.comb(above - 1, less) * math.comb(below - 1, more)
    return total / math.comb(n, above)


def _words(  # noqa: PLR0917 - all that there is to say something about
    fit: Fitted,
    case: Case,
    r: FloatArray,
    leverage: FloatArray,
    cook: FloatArray,
    runs: tuple[int, float, float],
    weakest: str,
) -> list[str]:
    return columns(
        [
            ("determined", _determined(fit, case.p, weakest)),
            ("leverage", _leverage(leverage, min(case.p, fit.rank))),
            ("influence", _influence(cook)),
            ("residuals", _residuals(r)),
            ("runs", _runs(*runs)),
        ],
        "ll",
    )


def _determined(fit: Fitted, p: int, weakest: str) -> str:
    if not p:
        return "nothing to determine: every parameter is fixed"
    if fit.status.name == "SINGULAR":
        return f"{fit.rank} of {p} combinations; undetermined: {weakest}, each in its own scale"
    said = f"all {p} parameters, condition {number(fit.condition, 2)}"
    return f"{said}; least: {weakest}, each in its own scale" if fit.condition > LOOSE else said


def _leverage(h: FloatArray, p: int) -> str:
    usual = p / np.isfinite(h).sum()
    high = np.flatnonzero(np.nan_to_num(h) > min(3 * usual, 0.99))
    top = f"at most {percent(float(np.nanmax(h)))}, on average {percent(float(usual))}"
    return f"{top}; far more than others: {listed(high)}" if high.size else top


def _influence(cook: FloatArray) -> str:
    far = np.flatnonzero(np.nan_to_num(cook, nan=0.0) > 1)
    if far.size:
        return f"without {listed(far)} the parameters would leave their error ellipsoid"
    if not np.isfinite(cook).any():
        return "none: no parameter can move"
    worst = int(np.nanargmax(cook))
    return f"Cook's distance at most {number(float(cook[worst]), 2)}, {listed([worst])}"


def _residuals(r: FloatArray) -> str:
    size = np.nan_to_num(np.abs(r), nan=0.0).max(0)
    limit = farthest_expected(int(np.isfinite(r).sum()))
    far = np.flatnonzero(size > limit)
    if far.size:
        return f"beyond {limit:.1f} sigma: {listed(far)}"
    return f"none beyond {limit:.1f} sigma"


def _runs(runs: int, expected: float, p_value: float) -> str:
    if not math.isfinite(p_value):
        return "one x, one y and residuals of both signs are needed"
    said = f"{runs:,} of one sign, {expected:,.1f} expected"
    if p_value < FEW:
        return f"{said}: too few (p = {number(p_value, 2)}), the model misses a trend"
    return said
