r"""How far the errors of the data, carried through the fit, exceed what the curve's slopes promise.

The expected information :math:`A` takes the foot points as known. Where errors of x are large
beside the spread of x they are not, and the estimate scatters more, even of a straight line: its
covariance to first order in the errors is :math:`H^{-1} M H^{-1}`
(:mod:`gradfit._engine.covariance`), whose ratio to :math:`A^{-1}` does not shrink with more points
(Fuller, Measurement Error Models (1987), section 1.3).
"""

import torch

from gradfit._engine.covariance import spread
from gradfit._uncertainty.restate import Case, restate
from gradfit._views.fitted import Fitted
from gradfit.errors import GradfitError


def carried_of(fit: Fitted) -> dict[str, float]:
    """Return the same of a result; empty where nothing can be said."""
    if fit.loss != "linear" or not fit.success:
        return {}
    try:
        return carried(restate(fit, "carried"))
    except GradfitError:
        return {}


def carried(case: Case) -> dict[str, float]:
    """Return, by name, propagated over expected standard errors; only where x has errors."""
    work, limits = case.work, case.problem.limits()
    if not case.problem.points.rows:
        return {}
    with torch.enable_grad():
        kinds = [spread(work, kind, limits).cov[0] for kind in ("expected", "propagated")]
        J = case.jacobian
    expected, propagated = (((J @ C[: case.p, : case.p]) * J).sum(1).sqrt().tolist() for C in kinds)
    return {
        name: more / plain
        for name, plain, more in zip(case.problem.model.names, expected, propagated, strict=True)
        if 0 < plain < torch.inf and 0 < more < torch.inf
    }
