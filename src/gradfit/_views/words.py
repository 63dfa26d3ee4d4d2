"""What a fit assumed and what to beware of, in words."""

import math
from typing import Any

import numpy as np

from gradfit._format import enumerated, number, plural, printable, probability
from gradfit._types import Status
from gradfit._views.fitted import Fitted, Observations, as_array, free, rows
from gradfit._views.residuals import listed, outliers, sigmas

INFORMATION = {
    "expected": "expected information (Gauss-Newton)",
    "observed": "observed information (exact second derivatives)",
    "propagated": "errors of the data carried through the fit, to first order",
    "sandwich": "sandwich (HC0): the residuals themselves, whatever their distribution",
    "HC3": "sandwich (HC3): what each residual would be without its own point",
    "jackknife": "jackknife: each point left out in turn",
    "bootstrap": "bootstrap: points drawn again and again",
    "ranks": "ranks of the slopes of all pairs of points",
}
"""Where a covariance came from, by ``cov_type``."""
OWN_SIZE = "sandwich", "HC3", "jackknife", "bootstrap", "ranks"
"""Covariances that the residuals alone have made, which no sigma scales."""

ILL_CONDITIONED = 1e6
"""Condition from which a third of the digits of the data no longer reach the parameters."""
TIED = 0.999
"""Correlation from which parameters of an unfinished fit may be running away together."""
UNFINISHED = (Status.MAX_STEPS, Status.STALLED, Status.NONFINITE)
FAR = 10.0
"""Distance of x from 0, over its span, from which parameters that belong to x = 0 may be lost."""
STEEP = 1e3
"""Span of y over that of x from which distances in equal units are distances in x."""
PLENTY = 50
"""Points from which the scatter of the points themselves is well known."""
LIGHT = 0.5
"""Weight from which a point is believed by a robust loss."""
QUARTER = 0.25
"""Share of a standard error up to which a bias may be ignored (Efron and Tibshirani 1993)."""
MANY = 100_000
"""Points up to which a summary tells biases."""
TOO_GOOD, TOO_BAD = 0.999, 0.001
NOTICED = 1.08
"""Propagated over expected errors from which intervals of 95 % hold the truth in less than 93 %."""
SHOWN = 6
"""Outliers that are named."""


def points_given(data: Observations) -> str:
    """Say how many points there are, what of them is missing, and what has errors."""
    return f"{plural(data.n_points, 'point')}, {seen(data)}"


def seen(data: Observations) -> str:
    """Say what of the points is missing, if anything is, and what has errors."""
    gone = data.n_missing
    missing = f"{plural(gone, 'response')} not measured, " if gone else ""
    return f"{missing}{errors_given(data)}"


def errors_given(data: Observations) -> str:
    """Say which coordinates have errors."""
    if all(each is None for each in (data.sx, data.sy, data.rho, data.cov)):
        return "no errors given: every coordinate counts the same"
    sx, sy = sigmas(data)
    if data.y is None:
        rows = np.broadcast_to(sx, (len(data.x_names), sx.shape[-1]))
        known = [printable(n) for n, s in zip(data.x_names, rows, strict=True) if (s > 0).any()]
        said = f"errors in {enumerated(known)}" + " only" * (len(known) < len(rows))
        apart = data.cov is None or not (data.cov.sum((0, 1)) - data.cov.trace()).any()
        return said if apart else f"{said}, correlated"
    x, y = bool((sx > 0).any()), bool((sy > 0).any())
    said = "errors in x and y" if x and y else "errors in x only" if x else "errors in y only"
    linked = (data.rho is not None and np.any(data.rho)) or (data.cov is not None and x and y)
    return f"{said}, correlated" if linked else said


def convention(fit: Fitted) -> str:
    """Say whether the sigmas were taken as they are."""
    data = fit.observed
    if fit.cov_type in OWN_SIZE:
        return "as large as the residuals say, whatever the sigmas"
    if fit.loss != "linear":
        return "as large as the points scatter, far ones counting less"
    if fit.absolute_sigma:
        return "sigmas taken as given, not scaled by the scatter"
    if all(each is None for each in (data.sx, data.sy, data.rho, data.cov)):
        return "scaled by the scatter of the points (MSWD)"
    return "sigmas taken as relative, scaled by the scatter (MSWD)"


def weightless(loss: str, loss_scale: float, weights: Any) -> str:
    """Say so where a loss has given up every point; "" where it has not."""
    if loss == "linear" or bool(np.any(as_array(weights) > 0)):
        return ""
    return (
        f"no point has any weight: all lie beyond {number(loss_scale, 4)} sigmas, where "
        f'loss="{loss}" gives up; the sigmas are too small or the model is wrong: '
        'give larger ones, absolute_sigma=False, or loss="huber"'
    )


def unit(fit: Fitted) -> str:
    """Say in what a robust loss measures distances."""
    if fit.absolute_sigma:
        return "sigmas"
    return f"times the scale {number(fit.scale, 4)}"


def information(fit: Fitted) -> str:
    """Say where the covariance came from."""
    return INFORMATION.get(fit.cov_type, fit.cov_type)


def warnings(fit: Fitted) -> list[str]:
    """Say what a reader should beware of; empty for a sound fit."""
    if not all(math.isfinite(value) for value in (*fit.params.values(), fit.chi2)):
        return []
    asked = (
        _units,
        _far,
        _runaway,
        _condition,
        _bounds,
        _freedom,
        _sandwich,
        short,
        _bias,
        _agreement,
        _believed,
        _outliers,
    )
    found = (ask(fit) for ask in asked)
    return [text for text in found if text]


def _units(fit: Fitted) -> str:
    """Say where no errors were given and the units leave distances to x alone."""
    data = fit.observed
    if data.y is None or any(each is not None for each in (data.sx, data.sy, data.rho, data.cov)):
        return ""
    wide, high = (float(np.nanmax(np.ptp(rows(each), 1))) for each in (data.x, data.y))
    if not high > STEEP * wide > 0:
        return ""
    return (
        f"no errors given, and y spans {number(high / wide, 1)} times as much as x: nearly all of "
        "a distance counts along x; give sx and sy, or sy alone where x is exact"
    )


def _far(fit: Fitted) -> str:
    """Say where a fit failed and x is counted from too far away."""
    if fit.status not in (*UNFINISHED, Status.SINGULAR):
        return ""
    centred = centre(fit.observed)
    if not centred:
        return ""
    return (
        "x lies far from 0 for the width that it spans, and what the parameters say of x = 0 is "
        f"lost there: fit {centred}"
    )


def centre(data: Observations) -> str:
    """Say which numbers to take off x so that 0 lies among the points, where it is far from them.

    Of as many digits as tell points apart.
    """
    said: list[str] = []
    for name, row in zip(map(printable, data.x_names), rows(data.x), strict=True):
        low, high = float(np.nanmin(row)), float(np.nanmax(row))
        wide = high - low
        if not (0 < wide < math.inf and max(abs(low), abs(high)) > FAR * wide):
            continue
        digits = 1 - math.floor(math.log10(wide))
        middle = round((low + high) / 2, digits)
        sign = "-" if middle > 0 else "+"
        said.append(f"{name} {sign} {abs(middle):.{max(0, digits)}f}")
    return (
        enumerated([f"{each} in the place of {each.split()[0]}" for each in said]) if said else ""
    )


def _runaway(fit: Fitted) -> str:
    """Name parameters of an unfinished fit that make up for each other, which may grow for ever."""
    if fit.status not in UNFINISHED or _far(fit):
        return ""
    names = free(fit)
    at = [fit.names.index(name) for name in names]
    tied = (np.abs(as_array(fit.corr)[at][:, at]) > TIED).sum(1) > 1
    named = [name for name, is_tied in zip(names, tied, strict=True) if is_tied]
    if not named:
        return ""
    return (
        f"{enumerated(named)} make up for each other, and the best fit may lie at infinity: if "
        "they keep running away, take the simpler formula that this one becomes there, set bounds, "
        "or fix one of them"
    )


def _condition(fit: Fitted) -> str:
    if not ILL_CONDITIONED < fit.condition < math.inf:
        return ""
    told = f"ill-conditioned ({number(fit.condition, 2)}): parameters nearly make up for each other"
    centred = centre(fit.observed)
    if not centred:
        return f"{told}; rescale, write the model otherwise, or fix one"
    left = max(0, math.floor(math.log10(1 / (np.finfo(float).eps * fit.condition))))
    return f"{told}, and of 16 digits {left} are left, for x lies far from 0: fit {centred}"


def _bounds(fit: Fitted) -> str:
    if not fit.at_bound:
        return ""
    names = ", ".join(fit.at_bound)
    return f"{names} ended at a bound: the other errors hold for {names} kept there"


def _freedom(fit: Fitted) -> str:
    if fit.dof == 0:
        return "as many parameters as points: the fit cannot tell whether the model is right"
    if fit.dof >= 3 or fit.dof < 0:
        return ""
    known = fit.absolute_sigma and fit.loss == "linear"
    rough = "" if known else "; the errors are rough, use interval()"
    return f"only {plural(fit.dof, 'degree')} of freedom{rough}"


def _sandwich(fit: Fitted) -> str:
    if fit.cov_type != "sandwich" or fit.observed.n_points >= PLENTY:
        return ""
    return (
        f"sandwich errors of {plural(fit.observed.n_points, 'point')} come out too small: of 10 "
        "points their 95 % intervals hold the truth in 69 to 87 %, of 30 points in 87 to 93 %"
    )


def short(fit: Fitted) -> str:
    """Say where intervals of 95 % hold the truth in less than 93 %, for errors of x are large."""
    if fit.cov_type != "expected" or fit.observed.n_points > MANY or fit.correction:
        return ""
    more = {n: ratio for n, ratio in fit.carried.items() if ratio > NOTICED}
    if not more:
        return ""
    largest = max(more.values())
    share = math.floor(100 * math.erf(1.96 / largest / math.sqrt(2)))
    noun = "error" if len(more) == 1 else "errors"
    come = "comes" if len(more) == 1 else "come"
    return (
        f"errors of x are large beside what x spans: carried through the fit, the {noun} of "
        f"{enumerated(list(more))} {come} out up to {largest:.2f} times as large, and intervals of "
        f"95\u00a0% hold the truth in about {share}\u00a0%; "
        'cov_type="propagated" is the better choice'
    )


def noticeable(fit: Fitted) -> dict[str, float]:
    """Return the biases that are more than a quarter of a standard error, by name.

    Empty where there are so many points that telling them takes longer than a look at a summary.
    The mean of unit vectors is shorter than one, which tells nothing about their direction.
    """
    if fit.correction or not fit.success or fit.observed.n_points > MANY:
        return {}
    bias = {n: b for n, b in fit.bias.items() if abs(b) > QUARTER * fit.stderr[n] > 0}
    tied = () if fit.model.ties is None else fit.model.ties.of
    return {n: b for n, b in bias.items() if n not in tied}


def _bias(fit: Fitted) -> str:
    if fit.correction:
        taken = ", ".join(f"{n} {number(b, 2)}" for n, b in fit.correction.items() if b)
        return f"corrected for bias of second order, taken off: {taken}" if taken else ""
    far = [n for n, b in noticeable(fit).items() if abs(b) > fit.stderr[n]]
    if not far:
        return ""
    names, verb = ", ".join(far), "is" if len(far) == 1 else "are"
    advice = (
        "use bias_correction=True, and see what is left by"
        if fit.model.correctable
        else "see how far by"
    )
    return (
        f"{names} {verb} off by more than a standard error on average, for the curve bends over "
        f"the length of an error bar: intervals miss the truth too often; {advice} "
        'bootstrap(kind="parametric")'
    )


def _agreement(fit: Fitted) -> str:
    p = fit.p_value
    if p < TOO_BAD:
        return (
            f"the points scatter more than their sigmas allow (p {_p(p)}): the model is wrong or "
            f"the sigmas are too small; with sigmas {math.sqrt(fit.mswd):.2g} times as large "
            "they would agree"
        )
    if p > TOO_GOOD:
        return (
            f"the points agree better than their sigmas allow (p = {p:.4f}): "
            "the sigmas look too large"
        )
    return ""


def _believed(fit: Fitted) -> str:
    """Say where a robust loss holds most of the points for outliers."""
    weights = as_array(fit.weights)
    seen = weights[np.isfinite(weights)]
    some = int((seen >= LIGHT).sum())
    if fit.loss == "linear" or 2 * some > seen.size:
        return ""
    return (
        f"only {some:,} of {plural(seen.size, 'point')} count by more than half: the sigmas are "
        "too small for this loss, or the model is wrong"
    )


def _p(p: float) -> str:
    said = probability(p)
    return said if said.startswith("<") else f"= {said}"


def _outliers(fit: Fitted) -> str:
    out = outliers(fit)
    if not out.size:
        return ""
    verb = "lies" if out.size == 1 else "lie"
    said = f"{listed(out, SHOWN)} {verb} farther from the curve than errors explain"
    if fit.loss == "linear":
        return said
    some = ", ".join(f"{w:.2g}" for w in as_array(fit.weights)[out[:SHOWN]])
    told = some if out.size <= SHOWN else f"{some}, ..."
    return f"{said}, and {verb.replace('lie', 'count')} less (weight {told})"


GENERAL = 3
"""Sentences of :func:`assumptions` that speak of models, errors and curves of any kind."""


def assumptions(fit: Fitted) -> list[str]:
    """Say what the numbers rest on, one sentence each."""
    said = [
        "The model is right: a point lies off the curve by its errors and by nothing else.",
        _sizes(fit.observed),
        "The curve is nearly straight over the length of an error bar: standard errors, intervals "
        "and bands are first order in the errors.",
        f"Standard errors: {convention(fit)}; from the {information(fit)}.",
    ]
    if fit.loss != "linear":
        said.append(
            f"Points far from the curve count less than their errors say ({fit.loss} loss, from "
            f"{number(fit.loss_scale, 4)} {unit(fit)} on); they err to both sides alike."
        )
    if fit.fixed:
        said.append(f"{', '.join(fit.fixed)} held as given, without error.")
    return said


def _sizes(data: Observations) -> str:
    given = errors_given(data)
    if given.startswith("no errors"):
        return (
            "No errors were given: distances count the same in every direction, so the result "
            "depends on the units in which x and y are written."
        )
    return (
        f"There are {given}: normal, independent from point to point, as large as stated; "
        "what has no error is exact."
    )
